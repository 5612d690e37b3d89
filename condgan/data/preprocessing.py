"""From a picture of any kind to the pixels that a network sees."""

import hashlib
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import get_args

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageColor, ImageOps, UnidentifiedImageError

from condgan.utils.choices import Crop
from condgan.utils.errors import Note, UserError, shown, unknown
from condgan.utils.limits import DECODED, ENCODED, require_at_most

RULE = 2
"""Part of caches' keys: change it with what the rule below gives."""
REDUCING_GAP = 3
"""JPEGs are decoded at an eighth, quarter or half of their size where that is still so many times the one asked for."""

STRIP = 1 << 20
"""Pixels that are converted at once."""
DECODERS = {"JPEG": 5, "MPO": 5, "WEBP": 20, "AVIF": 16, "JPEG2000": 28}
"""Bytes that a pixel takes at most, as measured; of other formats 8: two pictures of four channels."""

SIGNATURES = {b"\xff\xd8\xff": ("JPEG",), b"\x89PNG\r\n\x1a\n": ("PNG",)}
"""How files begin of which the format need not be tried out."""

DARK = "16 bits, of values of 8"
"""What is known of an image that was made of one with 16 bits, in its `info`."""

NO_PIXELS = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow knows by name, but of which it can read no pixels, or only by starting other programs."""


_SWITCHING = Lock()
_QUIET: list[warnings.catch_warnings] = []
"""How warnings were shown before, once for all and once for each that decodes just now."""


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's formats whose pixels it can read; HEIC among them where pi_heif or pillow_heif is installed.

    Pillow's log is silenced: what it cannot read, it raises.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    Image.init()
    for module in ("pillow_heif", "pi_heif"):
        with suppress(ImportError):
            import_module(module).register_heif_opener()
    return tuple(name for name in Image.ID if name not in NO_PIXELS)


@cache
def readable() -> frozenset[str]:
    """The endings of files whose pixels can be read, in lower case, with their dots."""
    formats = {*_formats(), "MPO"}  # which JPEG's reader opens
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


@contextmanager
def quietly() -> Iterator[None]:
    """Have no decoder's warnings printed: of damaged EXIF, of transparency in palettes, of many pixels.

    All threads share it: the first one of several switches warnings off, and the last one on again.
    """
    with _SWITCHING:
        if not _QUIET:
            before = warnings.catch_warnings()
            before.__enter__()
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", Note)  # which are no decoder's
            _QUIET.append(before)
        _QUIET.append(_QUIET[0])
    try:
        yield
    finally:
        with _SWITCHING:
            _QUIET.pop()
            if len(_QUIET) == 1:
                _QUIET.pop().__exit__(None, None, None)


def color(name: str) -> tuple[int, int, int]:
    """Red, green and blue of a color such as white or #ffcc00. Raises UserError for one that is none."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(str(name))
    except ValueError:
        raise UserError(f"data.background '{shown(name)}' given: expected a color such as white or #ffcc00") from None
    return red, green, blue


def height_and_width(size: int | str) -> tuple[int, int]:
    """Parse a size such as 64, or 96x64 (width × height). Raises UserError for anything else."""
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(size))
    both = (int(found[2] or found[1]), int(found[1])) if found else (0, 0)
    if not all(1 <= one <= 4096 for one in both):
        raise UserError(
            f"size '{shown(size)}' given: expected pixels such as 64, or WIDTHxHEIGHT such as 96x64, up to 4096"
        )
    return both


@dataclass(frozen=True)
class Preprocessing:
    """How pictures of any size and mode become images of one size.

    Upright by the EXIF tag; 16 bits rounded to 8; put on `background` where transparent (but for 4 channels, where
    transparent pixels get its color); gray (1 channel), RGB (3) or RGBA (4), CMYK and others by Pillow's conversion,
    without color profiles; then resized (bicubic, antialiased) to `height` and `width`, of which `crop` says how: the
    largest part of that shape from the center, or from somewhere on the long edge, always the same for the same
    content; or the whole, padded with `background`. Raises UserError for a crop that is none.
    """

    height: int
    width: int
    channels: int
    crop: Crop = "center"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3, 4):
            raise UserError(f"channels {shown(repr(self.channels))} given: expected 1, 3 or 4")
        if self.crop not in get_args(Crop):
            raise unknown("crop", self.crop, get_args(Crop))


def pixels(picture: Image.Image | bytes | np.ndarray, preprocessing: Preprocessing) -> UInt8[np.ndarray, "c h w"]:
    """A picture as an image. Raises whatever Pillow does where it cannot be decoded."""
    with quietly():
        if isinstance(picture, Image.Image):
            return _preprocessed(_plain(picture, preprocessing), preprocessing, picture.tobytes)
        if not isinstance(picture, bytes):
            return _preprocessed(_plain(Image.fromarray(picture), preprocessing), preprocessing, picture.tobytes)
        return _preprocessed(_plain(opened(picture), preprocessing), preprocessing, lambda: picture)


def opened(picture: bytes) -> Image.Image:
    """An encoded picture, not decoded yet. Raises as Pillow does, and TooLarge for one that takes too much memory."""
    require_at_most(len(picture), ENCODED, "the file")
    with quietly():
        known = next((kind for start, kind in SIGNATURES.items() if picture.startswith(start)), _formats())
        image = Image.open(io.BytesIO(picture), formats=known)
    _require_small(image)
    raw = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
    if raw.endswith(";16B") and not image.mode.startswith("I"):
        return _deep(picture, raw)
    if isinstance(clear := image.info.get("transparency"), int):
        image.info["transparency"] = clear * {"L;2": 85, "L;4": 17}.get(raw, 1)  # as the grays themselves
    return image


def _require_small(image: Image.Image) -> None:
    """Raises TooLarge for a picture whose pixels take too much memory."""
    taken = image.width * image.height * DECODERS.get(image.format or "", 8)
    require_at_most(taken, DECODED, f"decoding {image.width:,} × {image.height:,} pixels", "takes")


def reason(error: Exception) -> str:
    """Why a picture cannot be decoded, in a line."""
    if isinstance(error, UnidentifiedImageError):
        return "of no known image format"
    return shown(error)


def _deep(picture: bytes, raw: str) -> Image.Image:
    """A PNG of 16 bits and several channels, in 8. Of two bytes Pillow unpacks one: first the high, then the low."""
    with quietly(), Image.open(io.BytesIO(picture)) as image:
        turned, clear = image.getexif(), image.info.get("transparency")

    def unpacked(how: str) -> Image.Image:
        with quietly(), Image.open(io.BytesIO(picture)) as image:
            image.tile = [tile._replace(args=how) for tile in image.tile]  # pyright: ignore[reportAttributeAccessIssue]
            image.load()
            return image

    pairs = raw.startswith("LA")  # of which it can give all four bytes
    first = unpacked("RGBA" if pairs else raw)
    second = first if pairs else unpacked(raw.replace("16B", "16L"))
    made = first if not pairs and clear is None else Image.new("LA" if pairs else "RGBA", first.size)
    bright = some = False
    for box in _strips(first):
        high, low = (np.asarray(one.crop(box)) for one in (first, second))
        if pairs:
            high, low = high[..., ::2], high[..., 1::2]
        bright, some = bright or bool(high.any()), some or bool(low.any())
        made.paste(_in_8_bits(high.astype(np.uint16) * 256 + low, clear), box)
    made.info.clear()
    made.info |= {DARK: some and not bright} | ({"exif": turned.tobytes()} if turned else {})
    return made


def _in_8_bits(deep: np.ndarray, clear: object) -> Image.Image:
    """16 bits rounded to 8, of which no value lies halfway; transparent where they are of the gray or color `clear`."""
    image = Image.fromarray(((deep.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if isinstance(clear, int | tuple):
        same = deep == np.array(clear)
        image.putalpha(Image.fromarray(np.where(same if same.ndim == 2 else same.all(2), 0, 255).astype(np.uint8)))
    return image


def is_dark(image: Image.Image) -> bool:
    """Whether an opened picture of 16 bits has values of 0 … 255 only."""
    if image.mode.startswith("I"):
        return 0 < int(np.asarray(image).max()) < 256
    if image.format == "TIFF" and 16 in getattr(image, "tag_v2", {}).get(258, ()):  # bits per sample
        return not np.asarray(image).any()  # Pillow gives the high bytes
    return bool(image.info.get(DARK))


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of few pixels, from the top to the bottom of a picture."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _by_strips(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """A picture made of another's pixels, for which memory holds both, and little else."""
    made = Image.new(mode, image.size)
    for box in _strips(image):
        made.paste(change(image.crop(box)), box)
    return made


def _plain(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Upright, in 8 bits, of the framing's channels."""
    if image.format in ("JPEG", "MPO") and min(image.size) > REDUCING_GAP * max(
        preprocessing.height, preprocessing.width
    ):
        share = REDUCING_GAP * max(preprocessing.height, preprocessing.width) / min(image.size)
        image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
    image.load()
    _require_small(image)  # what is inside may be larger than it says, such as in an icon
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise ValueError("its pixels are real numbers of no known range; save it with 8 or 16 bits")
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[preprocessing.channels]
    clear = image.has_transparency_data and mode != "RGBA"
    if image.mode == mode and not clear:
        return image

    def changed(strip: Image.Image) -> Image.Image:
        if strip.mode.startswith("I"):  # 16 bits of gray
            strip = _in_8_bits(np.asarray(strip).clip(0, 65_535), image.info.get("transparency"))
        if clear:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, preprocessing.background), strip)
        return strip.convert(mode)

    return _by_strips(image, mode, changed)


def _preprocessed(
    image: Image.Image, preprocessing: Preprocessing, content: Callable[[], bytes]
) -> UInt8[np.ndarray, "c h w"]:
    size, cubic = (preprocessing.width, preprocessing.height), Image.Resampling.BICUBIC
    if preprocessing.crop == "pad":
        ground = Image.new("RGB", (1, 1), preprocessing.background).convert(image.mode)
        image = ImageOps.pad(image, size, cubic, tuple(np.asarray(ground).ravel().tolist()))
    else:
        where = 0.5 if preprocessing.crop == "center" else _somewhere(content())
        image = ImageOps.fit(image, size, cubic, centering=(where, where))
    array = np.array(image).reshape(preprocessing.height, preprocessing.width, preprocessing.channels)
    if preprocessing.channels == 4:
        array[array[..., 3] == 0] = (*preprocessing.background, 0)
    return array.transpose(2, 0, 1)


def _somewhere(content: bytes) -> float:
    """A number of 0 … 1 for each content, both ends included."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest()) / 0xFFFFFFFF
