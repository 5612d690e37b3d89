"""Pictures to look at: grids of images with names, heat maps, curves.

Axes: n images, r rows, k columns (steps of a way), c channels, h × w pixels, p positions, i × j attended positions.
"""

import bisect
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from condgan.utils.errors import shown
from condgan.utils.files import write

WIDEST = 2_000
"""Pixels after which a sheet's columns go on in another band."""
HEADER, LINE = 18, 13
"""Pixels of a line of names above columns, and of each further line."""
LONGEST_LINE = 100
"""Characters of a name that are shown."""
CELL_GAP = 2
CLASSES_PER_SHEET = 100


def spread(count: int, at_most: int) -> list[int]:
    """Numbers below `count`, at most so many, evenly spread, with both ends."""
    return torch.linspace(0, count - 1, min(count, at_most)).round().int().tolist()


def sheet(images: UInt8[Tensor, "n c h w"], columns: Sequence[str], rows: Sequence[str] = ()) -> Image.Image:
    """Images, row by row, in a grid with the columns' names above and any rows' on the left; small ones are enlarged.

    Columns beyond 2,000 pixels go on in further bands below, as equal as can be.
    """
    grid = enlarged(_opaque(images), 48).unflatten(0, (-1, len(columns)))
    bands = math.ceil(len(columns) / max(1, WIDEST // (grid.shape[4] + CELL_GAP)))
    width = math.ceil(len(columns) / bands)
    parts = [_band(grid[:, i : i + width], columns[i : i + width], rows) for i in range(0, len(columns), width)]
    picture = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    for i, part in enumerate(parts):
        picture.paste(part, (0, i * parts[0].height))
    return picture


def sheet_names(classes: int) -> list[str]:
    """The files of `class_sheets`, of so many classes."""
    pages = math.ceil(classes / CLASSES_PER_SHEET)
    return ["sheet.png"] if pages <= 1 else [f"sheet-{page}.png" for page in range(1, pages + 1)]


def class_sheets(
    images: UInt8[np.ndarray, "n h w *c"], classes: Sequence[str], rows: int = 32
) -> dict[str, Image.Image]:
    """Sheets of what `Model.sample` returned, by file name: a column per class, of its first images.

    One sheet.png or, of more than 100 classes, sheet-1.png, sheet-2.png and so on.
    """
    by_class = channels_first(images).unflatten(0, (len(classes), -1))[:, :rows]
    starts = range(0, len(classes), CLASSES_PER_SHEET)
    pages = [slice(start, start + CLASSES_PER_SHEET) for start in starts]
    return {
        name: sheet(by_class[page].transpose(0, 1).flatten(0, 1), classes[page])
        for name, page in zip(sheet_names(len(classes)), pages, strict=True)
    }


def interpolation_sheet(images: UInt8[np.ndarray, "r k h w *c"], rows: Sequence[str]) -> Image.Image:
    """A sheet of what `Model.interpolate` returned: how far a column is on the way stands above it."""
    steps = [f"{t:.2f}" for t in np.linspace(0, 1, images.shape[1])]
    return sheet(channels_first(images.reshape(-1, *images.shape[2:])), steps, rows)


def directions_sheet(
    images: UInt8[np.ndarray, "n r k h w *c"], strengths: Sequence[float], reach: int | float
) -> Image.Image:
    """A sheet of what `Model.along` returned, direction by direction: how far a column is from the middle above it.

    On the left stand a direction's number and strength.
    """
    steps = [f"{offset:+.2g}" if abs(offset) > 1e-9 else "0" for offset in np.linspace(-reach, reach, images.shape[2])]
    by_direction = np.moveaxis(images, 0, 1).reshape(-1, *images.shape[3:])
    rows = [f"{number}  ({strength:.2f})" for number, strength in enumerate(strengths, 1) for _ in images]
    return sheet(channels_first(by_direction), steps, rows)


def attention_sheet(
    images: UInt8[np.ndarray, "n h w *c"],
    positions: Sequence[tuple[int, int]],
    maps: Float[np.ndarray, "n p i j"],
    rows: Sequence[str],
) -> Image.Image:
    """A row per image: itself with the positions (y, x) marked, then over it where each of them attends to.

    Each map is scaled to its largest value.
    """
    from matplotlib import colormaps

    pixels = enlarged(channels_first(images), 96)
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    size, scale = pixels.shape[1:3], pixels.shape[1] // images.shape[1]
    heat = F.interpolate(torch.from_numpy(maps), size=size, mode="bilinear").numpy()
    colors = colormaps["inferno"](heat / heat.max((2, 3), keepdims=True))[..., :3] * 255
    blended = (0.35 * pixels[:, None] + 0.65 * colors).round().astype(np.uint8)
    marks = [[position] for position in positions]
    cells = [
        _marked(pixels_of_cell, marked, scale)
        for image, row in zip(pixels, blended, strict=True)
        for pixels_of_cell, marked in zip([image, *row], [list(positions), *marks], strict=True)
    ]
    return sheet(channels_first(np.stack(cells)), ["image", *(f"{y}, {x}" for y, x in positions)], rows)


def curves(
    at: Sequence[float],
    values: Mapping[str, Sequence[float | None]],
    lines: Mapping[str, Mapping[str, float | None]],
    label: str,
    title: str,
) -> bytes:
    """The PNG file of a plot per name of `values`, against `at`; of each of `lines`, a level per plot, across it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(values), 3.4), layout="constrained")
    axes = np.ravel(figure.subplots(1, len(values)))
    for axis, (name, points) in zip(axes, values.items(), strict=True):
        axis.plot(at, [math.nan if point is None else point for point in points], marker="o", markersize=4)
        for (line, levels), style in zip(lines.items(), ("--", ":", "-."), strict=False):
            level = levels[name]
            axis.axhline(math.nan if level is None else level, color="black", linestyle=style, linewidth=1, label=line)
        axis.set(title=name, xlabel=label)
    axes[0].legend(fontsize="small")
    figure.suptitle(title, fontsize="medium")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_pictures(folder: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Write pictures under their names in a folder."""
    for name, picture in pictures.items():
        write(folder / name, png(picture))


def enlarged(images: UInt8[Tensor, "n c h w"], size: int) -> UInt8[Tensor, "n c hh ww"]:
    """Images with each pixel repeated so often that their height comes near a size, or as they are."""
    scale = max(1, round(size / images.shape[2]))
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def channels_last(images: UInt8[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n h w *c"]:
    """As an array for people: no channel axis where images are gray."""
    array = images.permute(0, 2, 3, 1).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def channels_first(images: UInt8[np.ndarray, "n h w *c"]) -> UInt8[Tensor, "n c h w"]:
    """The inverse of `channels_last`."""
    array = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def _band(grid: UInt8[Tensor, "r k c h w"], columns: Sequence[str], rows: Sequence[str]) -> Image.Image:
    font = ImageFont.load_default(12)
    columns, rows = ([shown(name, LONGEST_LINE) if name.split() else "" for name in names] for names in (columns, rows))
    titles = [_title(name, font, grid.shape[4] + CELL_GAP) for name in columns]
    header = HEADER + LINE * (max(map(len, titles)) - 1)
    height, width = grid.shape[3] + CELL_GAP, grid.shape[4] + CELL_GAP
    margin = math.ceil(max((font.getlength(name) + 6 for name in rows), default=0))
    cells = F.pad(grid.expand(-1, -1, 3, -1, -1), (CELL_GAP, 0, CELL_GAP, 0), value=255)
    pixels = cells.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    picture = Image.new("RGB", (margin + pixels.shape[1] + CELL_GAP, header + pixels.shape[0] + CELL_GAP), "white")
    picture.paste(Image.fromarray(pixels.contiguous().numpy()), (margin, header))
    draw = ImageDraw.Draw(picture)
    for i, lines in enumerate(titles):
        center, top = margin + CELL_GAP + i * width + grid.shape[4] / 2, header - HEADER + 3 - LINE * (len(lines) - 1)
        for j, line in enumerate(lines):
            draw.text((center, top + LINE * j), line, "black", font, anchor="ma")
    for i, name in enumerate(rows):
        draw.text((margin - 2, header + CELL_GAP + i * height + grid.shape[3] / 2), name, "black", font, anchor="rm")
    return picture


def _title(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A name in lines of a width, broken after underscores and spaces; what does not fit is cut."""
    lines = [""]
    for word in re.findall(r"[^_ ]+[_ ]*|[_ ]+", name):
        if lines[-1] and font.getlength((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [_cut(line.rstrip(), font, width) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if len(line) < 2 or font.getlength(line[:WIDEST]) <= width:
        return line
    kept = bisect.bisect_right(range(1, min(len(line), WIDEST)), width, key=lambda n: font.getlength(f"{line[:n]}…"))
    return f"{line[:kept]}…"


def _opaque(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n d h w"]:
    """Images that may be transparent on white."""
    if images.shape[1] != 4:
        return images
    color, alpha = images[:, :3].float(), images[:, 3:].float() / 255
    return (255 + alpha * (color - 255)).round().to(torch.uint8)


def _marked(
    pixels: UInt8[np.ndarray, "h w 3"], positions: Sequence[tuple[int, int]], scale: int
) -> UInt8[np.ndarray, "h w 3"]:
    """An enlarged image with squares, red on white to be seen on any ground, around some of its pixels."""
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    half = max(3, scale / 2)
    for y, x in positions:
        center_y, center_x = (y + 0.5) * scale - 0.5, (x + 0.5) * scale - 0.5
        for reach, color in ((half + 1, "white"), (half, "red")):
            draw.rectangle((center_x - reach, center_y - reach, center_x + reach, center_y + reach), outline=color)
    return np.asarray(picture)
