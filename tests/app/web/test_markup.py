"""The page's own HTML: texts from elsewhere are escaped, pictures are exact, everything can be reached and is told."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condgan.app.web import markup
from condgan.app.web.progress import Progress

KNOWN = {
    "div", "button", "img", "span", "figure", "figcaption", "strong", "br", "a", "input", "p", "details", "summary",
    "code", "progress", "iframe",
}  # fmt: skip


class Seen(HTMLParser):
    """The tags and attributes of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def image(seed: int, height: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, 5, 3), dtype=np.uint8)


@given(st.text(alphabet="<>&\"'` ab=/${}", max_size=30))
def test_texts_stay_texts(text: str) -> None:
    progress = Progress(1, 2, text, None, 0.0)
    pieces = [
        markup.image_buttons([image(0)], [text]),
        markup.large(image(0), text, text),
        markup.pair(image(0), image(1), text),
        markup.picked_images([(image(0), text)]),
        markup.command(text),
        markup.remark(text),
        markup.progress_bar(progress),
        markup.report_frame(text),
    ]
    for piece in pieces:
        seen = Seen(piece)
        assert {tag for tag, _ in seen.tags} <= KNOWN
        handlers = [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
        assert handlers == (["oninput"] if piece is pieces[2] else [])
    assert Seen(pieces[7]).tags[1][1]["srcdoc"] == text
    assert Seen(pieces[0]).tags[1][1]["title"] == text


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4)])
def test_pictures_are_exact(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    kind, content = markup.png_url(pixels).split(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), pixels)


def test_every_image_is_told_and_a_button() -> None:
    seen = Seen(markup.image_buttons([image(0), image(1)], ["a", "b"]))
    assert [one["data-number"] for tag, one in seen.tags if tag == "button"] == ["0", "1"]
    assert [one["alt"] for tag, one in seen.tags if tag == "img"] == ["a", "b"]
    assert all(one["class"] == "sharp" for tag, one in seen.tags if tag == "img")
    assert "sharp" not in markup.picture(image(0, height=200), "large")
    (link,) = (one for tag, one in Seen(markup.large(image(0), "a", "3-1.png")).tags if tag == "a")
    assert (link["download"], link["href"]) == ("3-1.png", markup.png_url(image(0)))


def test_nothing_of_it_is_from_elsewhere() -> None:
    for source in Path(markup.__file__).parent.glob("*.py"):
        assert not re.search(r"https?://|//cdn|@import", source.read_text()), source
