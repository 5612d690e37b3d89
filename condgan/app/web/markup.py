"""The page's own pieces of HTML: pictures are within them as PNG, so that nothing is kept on the disk to be shown.

Texts from elsewhere are escaped. Axes: h × w pixels, c channels.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from condgan.app.web.progress import Progress, since
from condgan.utils.console import origin
from condgan.utils.figures import png

SMALL = 96
"""Pixels of height below which an image is enlarged without blur."""

CSS = """
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)); gap: 6px; }
.images button { padding: 3px; border: 1px solid var(--border-color-primary); border-radius: 6px; cursor: pointer;
  background: var(--background-fill-primary); min-width: 0; font: inherit; color: var(--body-text-color); }
.images button:hover { border-color: var(--color-accent); }
.images button[aria-pressed=true] { outline: 3px solid var(--color-accent); }
.images button:focus-visible, .pair input:focus-visible, .save:focus-visible {
  outline: 3px solid var(--color-accent); outline-offset: 2px; }
.images img { width: 100%; display: block; }
.images span { display: block; font-size: 12px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sharp { image-rendering: pixelated; }
.large { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; margin: 0; }
.large img { width: min(100%, 256px); border: 1px solid var(--border-color-primary); }
.large figcaption { overflow-wrap: anywhere; }
.save { display: inline-block; margin-top: 6px; text-decoration: underline; }
.picked, .beside { display: flex; flex-wrap: wrap; gap: 12px; }
.picked figure, .beside figure { margin: 0; font-size: 12px; }
.picked img, .beside img { width: 64px; }
.beside figure { width: 84px; overflow-wrap: anywhere; }
.pair { display: grid; max-width: 384px; }
.pair img { width: 100%; grid-row: 1; grid-column: 1; }
.pair .after { clip-path: inset(0 0 0 var(--at, 50%)); }
.pair input { width: 100%; accent-color: var(--color-accent); min-height: 32px; }
.note, .empty { opacity: 0.85; margin: 4px 0; }
.command code { overflow-wrap: anywhere; white-space: pre-wrap; }
.progress progress { width: 100%; accent-color: var(--color-accent); }
.progress img { max-width: 100%; }
@media (max-width: 700px) { .result { order: -1; } }
.report iframe { width: 100%; height: 80vh; border: 1px solid var(--border-color-primary); background: white; }
"""

PICKS = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-number]');
  if (!button) return;
  element.querySelectorAll('button').forEach(one => one.setAttribute('aria-pressed', one === button));
  trigger('click', {number: Number(button.dataset.number)});
});
"""
"""Runs where a grid is shown: a click on an image tells its number."""


def png_url(image: UInt8[np.ndarray, "h w *c"]) -> str:
    """An image as a PNG in an address of its own."""
    return data_url("image/png", png(Image.fromarray(image)))


def data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(image: UInt8[np.ndarray, "h w *c"], said: str, kind: str = "") -> str:
    """An image as it is, enlarged by whoever shows it."""
    kinds = f"{kind} {'sharp' if image.shape[0] <= SMALL else ''}".strip()
    return f'<img class="{kinds}" src="{png_url(image)}" alt="{escape(said)}">'


def image_buttons(images: Iterable[UInt8[np.ndarray, "h w *c"]], captions: Sequence[str]) -> str:
    """A grid of images, each of them a button."""
    buttons = [
        f'<button type="button" data-number="{number}" aria-pressed="false" title="{escape(caption)}">'
        f"{picture(image, caption)}<span>{escape(caption)}</span></button>"
        for number, (image, caption) in enumerate(zip(images, captions, strict=True))
    ]
    return f'<div class="images">{"".join(buttons)}</div>'


def large(image: UInt8[np.ndarray, "h w *c"], caption: str, file: str) -> str:
    """One image, large, with what it is and a link that saves it as it is."""
    height, width = image.shape[:2]
    return (
        f'<figure class="large">{picture(image, caption)}<figcaption><strong>{escape(caption)}</strong><br>'
        f"{width} × {height} pixels<br>{_save(image, file)}</figcaption></figure>"
    )


def pair(before: UInt8[np.ndarray, "h w *c"], after: UInt8[np.ndarray, "h w *c"], file: str) -> str:
    """Two images, one over the other, and a slider that says where the second one begins."""
    slide = "this.parentNode.style.setProperty('--at', this.value + '%')"
    return (
        f'<div class="pair">{picture(before, "before")}{picture(after, "after", "after")}'
        f'<input type="range" min="0" max="100" value="50" aria-label="Before and after" oninput="{slide}"></div>'
        f"{_save(after, file)}"
    )


def _save(image: UInt8[np.ndarray, "h w *c"], file: str) -> str:
    return f'<a class="save" download="{escape(file)}" href="{png_url(image)}">Download this image (PNG)</a>'


def picked_images(picks: Sequence[tuple[UInt8[np.ndarray, "h w *c"], str]]) -> str:
    """The last images that were clicked on, small."""
    return figures([image for image, _ in picks], [caption for _, caption in picks], "picked")


def figures(images: Iterable[UInt8[np.ndarray, "h w *c"]], captions: Sequence[str], kind: str = "beside") -> str:
    """Images with captions, small."""
    every = [
        f"<figure>{picture(image, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for image, caption in zip(images, captions, strict=True)
    ]
    return f'<div class="{kind}">{"".join(every)}</div>'


def command(line: str) -> str:
    """A command line, to be unfolded."""
    return (
        f'<details class="command"><summary>The same on the command line</summary><code>{escape(line)}</code></details>'
    )


def remark(text: str) -> str:
    """A line beside the matter."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def progress_bar(progress: Progress) -> str:
    """How far a run is, and its newest samples."""
    if progress.total is None:
        return remark(f"There is no log here. The last checkpoint is of {origin(progress.images)}.")
    done = f"{progress.images:,} of {progress.total:,} images of training"
    facts = [done, *([progress.facts] if progress.facts else [])]
    facts += [] if progress.logged is None else [f"last line of the log {since(progress.logged)}"]
    samples = progress.samples
    sheet = (
        f'<figure><figcaption>{escape(samples.caption)}</figcaption><img width="{samples.width}" '
        f'src="data:image/png;base64,{samples.data}" alt="{escape(samples.caption)}"></figure>'
        if samples
        else '<p class="empty">No samples yet.</p>'
    )
    return (
        f'<div class="progress"><p>{escape(", ".join(facts))}</p>'
        f'<progress value="{progress.images}" max="{progress.total}" aria-label="Progress of training"></progress>'
        f"{sheet}</div>"
    )


def report_frame(page: str) -> str:
    """A page within the page, which may run nothing."""
    return f'<div class="report"><iframe title="Report" sandbox srcdoc="{escape(page)}"></iframe></div>'
