"""From pictures of any kind to pixels: depths, transparency, and what decoders print."""

import io
import logging
import struct
import warnings as python_warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from condgan.data.open import list_source
from condgan.data.preprocessing import Preprocessing, is_dark, opened, pixels, quietly
from condgan.data.survey import survey, warnings
from tests.helpers import condgan

RGB, RGBA = Preprocessing(8, 8, 3), Preprocessing(8, 8, 4)


def png(bits: int, kind: int, row: bytes, clear: tuple[int, ...] | None = None, exif: bytes = b"") -> bytes:
    """A PNG of 8 × 8 whose rows are all the same; `clear` is the gray or color that is transparent."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", 8, 8, bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head)]
    parts += [chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))] if clear else []
    parts += [chunk(b"eXIf", exif)] if exif else []
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [*parts, chunk(b"IDAT", zlib.compress((b"\0" + row) * 8)), chunk(b"IEND", b"")]
    )


def halves(left: tuple[int, ...], right: tuple[int, ...]) -> bytes:
    """A row of 16 bits."""
    return struct.pack(f">{8 * len(left)}H", *left * 4, *right * 4)


def packed(bits: int, left: int, right: int) -> bytes:
    """A row of few bits."""
    row = 0
    for value in [left] * 4 + [right] * 4:
        row = row << bits | value
    return row.to_bytes(bits)


WHITE, BLACK, RED = [255] * 3, [0] * 3, [200, 30, 30]
GRAY_16, RGB_16 = halves((0,), (40_000,)), halves((0, 0, 0), (51_400, 7_710, 7_710))
CASES = {
    "16 bits of gray": (png(16, 0, GRAY_16), BLACK, [156] * 3),
    "16 bits of gray, black transparent": (png(16, 0, GRAY_16, (0,)), WHITE, [156] * 3),
    "16 bits of gray, gray transparent": (png(16, 0, GRAY_16, (40_000,)), BLACK, WHITE),
    "16 bits of gray, nearly gray transparent": (png(16, 0, GRAY_16, (40_001,)), BLACK, [156] * 3),
    "16 bits of color": (png(16, 2, RGB_16), BLACK, RED),
    "16 bits of color, black transparent": (png(16, 2, RGB_16, (0, 0, 0)), WHITE, RED),
    "16 bits of color, red transparent": (png(16, 2, RGB_16, (51_400, 7_710, 7_710)), BLACK, WHITE),
    "16 bits of color, nearly red transparent": (png(16, 2, RGB_16, (51_400, 7_710, 7_711)), BLACK, RED),
    "16 bits with alpha": (png(16, 6, halves((0, 0, 0, 0), (51_400, 7_710, 7_710, 65_535))), WHITE, RED),
    "8 bits of color, black transparent": (png(8, 2, bytes([0] * 12 + RED * 4), (0, 0, 0)), WHITE, RED),
    "8 bits of gray, black transparent": (png(8, 0, bytes([0] * 4 + [9] * 4), (0,)), WHITE, [9] * 3),
    "4 bits of gray, dark transparent": (png(4, 0, packed(4, 0, 1), (1,)), BLACK, WHITE),
    "2 bits of gray, dark transparent": (png(2, 0, packed(2, 0, 1), (1,)), BLACK, WHITE),
    "1 bit, black transparent": (png(1, 0, packed(1, 0, 1), (0,)), WHITE, WHITE),
}


@pytest.mark.parametrize("name", CASES)
def test_depths_and_transparent_colors_become_right_pixels(name: str) -> None:
    picture, left, right = CASES[name]
    image = pixels(picture, RGB)
    assert image[:, 0, 0].tolist() == left
    assert image[:, -1, -1].tolist() == right
    alpha = pixels(picture, RGBA)[3, 0, [0, -1]].tolist()
    if "transparent" in name:
        assert alpha == [255 * (left != WHITE or "nearly" in name), 255 * (right != WHITE or "bit, black" in name)]


def test_16_bits_of_color_are_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = png(16, 2, RGB_16, exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    assert pixels(picture, RGB)[:, 0, 0].tolist() == RED


def saved(array: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("picture", "dark"),
    [
        (saved(np.full((8, 8), 200, np.uint16), "PNG"), True),
        (saved(np.full((8, 8), 200, np.uint16), "TIFF"), True),
        (saved(np.full((8, 8), 200, np.int32), "TIFF"), True),
        (png(16, 2, halves((0, 0, 0), (200, 30, 30))), True),
        (saved(np.full((8, 8), 256, np.uint16), "PNG"), False),
        (saved(np.zeros((8, 8), np.uint16), "PNG"), False),
        (png(16, 2, RGB_16), False),
        (saved(np.full((8, 8), 200, np.uint8), "PNG"), False),
        (saved(np.zeros((8, 8), np.uint8), "TIFF"), False),
    ],
)
def test_16_bits_that_hold_values_of_8_are_known(picture: bytes, dark: bool) -> None:
    assert is_dark(opened(picture)) == dark


def test_16_bits_that_hold_values_of_8_are_warned_of(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{i}.png").write_bytes(saved(np.full((8, 8), 200 + i, np.uint16), "PNG"))
    look = survey(list_source(str(tmp_path / "data")))
    assert any("3 pictures of 16 bits have values of 0 … 255 only, and will be black" in one for one in warnings(look))


def test_decoders_print_nothing_beside_our_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    def loud(self: Image.Image, *arguments: object, **options: object) -> Image.Image:
        python_warnings.warn("Palette images with Transparency should be converted", stacklevel=2)
        logging.getLogger("PIL.TiffImagePlugin").warning("More samples per pixel than can be decoded")
        return convert(self, *arguments, **options)

    convert = Image.Image.convert
    (tmp_path / "data").mkdir()
    damaged = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"
    for i in range(3):
        Image.new("RGB", (60 + i, 60)).save(tmp_path / "data" / f"{i}.jpg", exif=damaged)
        Image.new("RGB", (60 + i, 61)).save(
            tmp_path / "data" / f"{i}.tif", tiffinfo=TiffImagePlugin.ImageFileDirectory_v2()
        )
    monkeypatch.setattr(Image.Image, "convert", loud)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3_000)
    done = condgan(capsys, "data", tmp_path / "data")
    assert done.code == 0
    assert done.err == ""
    assert not recwarn.list


def test_warnings_are_shown_again_whichever_thread_is_done_last() -> None:
    before = list(python_warnings.filters)
    first, last = quietly(), quietly()
    first.__enter__()
    last.__enter__()
    first.__exit__(None, None, None)
    with python_warnings.catch_warnings(record=True) as seen:
        python_warnings.warn("that nobody shall see", UserWarning, stacklevel=1)
    assert not seen
    last.__exit__(None, None, None)
    assert python_warnings.filters == before
