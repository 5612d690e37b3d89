"""Pictures inside a page."""

import base64
import io
import math
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from condgan.data.preprocessing import quietly
from condgan.utils.errors import UserError, said_of, shown
from condgan.utils.figures import png, spread
from condgan.utils.files import entries, found, read_bytes
from condgan.utils.limits import DECODED, ENCODED, TooLarge, require_at_most

SHEETS = 8
"""Pictures of samples over time."""
PIXELS, PIXELS_OF_MANY = 1_500_000, 150_000
"""Pixels that larger pictures are reduced to, alone and among others."""


class EmbeddedPicture(NamedTuple):
    """A PNG file in base64, and its size in pixels."""

    data: str
    width: int
    height: int
    caption: str


def embedded_picture(path: Path, caption: str, pixels: int = PIXELS) -> EmbeddedPicture | None:
    """A picture if it exists, reduced to so many pixels where this makes the file smaller."""
    if not found(path):
        return None
    with said_of(f"'{path}'", "make it anew, or remove it", TooLarge, OSError):
        content = read_bytes(path, ENCODED)
    picture = _decoded(path, content)
    size = picture.size
    if (scale := math.sqrt(pixels / math.prod(size))) < 1:
        fewer = picture.convert("RGB").resize([max(1, int(side * scale)) for side in size], Image.Resampling.LANCZOS)
        content, size = min((content, size), (png(fewer), fewer.size), key=lambda one: len(one[0]))
    return EmbeddedPicture(base64.b64encode(content).decode(), *size, caption)


def _decoded(path: Path, content: bytes) -> Image.Image:
    """The picture in a file's content."""
    try:
        with quietly():  # of its size, which is looked at here
            picture = Image.open(io.BytesIO(content))
            require_at_most(4 * math.prod(picture.size), DECODED)
            picture.load()
    except Exception as error:  # decoders raise whatever they like
        raise UserError(f"'{path}' is no whole picture ({shown(error)}): make it anew, or remove it") from None
    return picture


def pictures_over_time(samples: Path) -> list[EmbeddedPicture]:
    """Sheets of samples, evenly spread over the training, and the real images'."""
    names = [path.stem for path in entries(samples) if path.suffix == ".png"]
    numbers = sorted(int(name) for name in names if name.isdecimal() and name.isascii())
    shown = [numbers[position] for position in spread(len(numbers), SHEETS)]
    pictures = [embedded_picture(samples / f"{images}.png", f"{images:,} images", PIXELS_OF_MANY) for images in shown]
    real = embedded_picture(samples / "real.png", "real images", PIXELS_OF_MANY)
    return [picture for picture in (*pictures, real) if picture]
