"""Sheets lose no image, of however many classes."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from condgan.labels import LabelSpec
from condgan.sampling.model import progress_sheet
from condgan.utils.figures import (
    CELL_GAP,
    HEADER,
    _cut,
    attention_sheet,
    channels_first,
    channels_last,
    class_sheets,
    curves,
    interpolation_sheet,
    sheet,
    spread,
)
from tests.helpers import tiny


def cells(picture: Image.Image, columns: int, rows: int, size: int) -> list[int]:
    """The gray values in the middle of the images of a sheet, column by column and band by band."""
    pixels = np.asarray(picture.convert("L")).astype(int)
    width, band = (picture.width - CELL_GAP) // (size + CELL_GAP), HEADER + rows * (size + CELL_GAP) + CELL_GAP
    assert picture.height == -(-columns // width) * band
    found = []
    for column in range(columns):
        top, left = column // width * band + HEADER + CELL_GAP, column % width * (size + CELL_GAP) + CELL_GAP
        found += [pixels[top + r * (size + CELL_GAP) + size // 2, left + size // 2] for r in range(rows)]
    return found


@pytest.mark.parametrize("classes", [1, 7, 39, 41, 100, 150, 201])
@pytest.mark.parametrize("shape", [(8, 8), (64, 64, 3)])
def test_sheets_show_every_class(classes: int, shape: tuple[int, ...]) -> None:
    values = np.arange(2 * classes) % 251
    images = np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (2 * classes, *shape)).astype(np.uint8)
    names = [f"class-{i}" for i in range(classes)]
    pages = class_sheets(images, names)
    assert list(pages) == (
        ["sheet.png"] if classes <= 100 else [f"sheet-{i + 1}.png" for i in range(-(-classes // 100))]
    )
    size = max(48, shape[0])
    counts = [min(100, classes - start) for start in range(0, classes, 100)]
    assert all(page.width <= 2_002 for page in pages.values())
    shown = [v for page, count in zip(pages.values(), counts, strict=True) for v in cells(page, count, 2, size)]
    assert shown == values.tolist()


def test_an_image_wider_than_a_sheet_has_a_band_of_its_own() -> None:
    assert sheet(torch.zeros(2, 1, 2100, 2100, dtype=torch.uint8), ["a", "b"]).size == (2104, 2 * (2104 + HEADER))


@pytest.mark.parametrize("name", ["9" * 50_000, "9 " * 50_000, "a\nb", "\n", "\x1b[31m"])
def test_a_name_of_any_length_is_drawn(name: str) -> None:
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    assert max(sheet(images, ["a", name], ["b", name]).size) < 2_000


@pytest.mark.parametrize("count", [1, 2, 39, 40, 41, 79, 1000])
def test_progress_sheets_spread_over_all_classes(count: int) -> None:
    shown = spread(count, 40)
    assert len(shown) == len(set(shown)) == min(count, 40)
    assert (shown[0], shown[-1]) == (0, count - 1)
    assert max(np.diff(shown), default=0) - min(np.diff(shown), default=0) <= 1
    model = tiny(spec=LabelSpec.of_classes([str(i) for i in range(count)]))
    assert progress_sheet(model.generator, model.spec, 0, rows=2).size == (
        min(count, 40) * 50 + CELL_GAP, HEADER + 2 * 50 + CELL_GAP,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 4, 3)])
def test_channels_go_last_and_come_back(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(channels_last(channels_first(images)), images)


def test_interpolations_and_attention_have_a_row_each() -> None:
    images = np.zeros((3, 4, 48, 48), np.uint8)
    rows = interpolation_sheet(images, ["a", "b", "c"])
    assert rows.height == HEADER + 3 * 50 + CELL_GAP
    assert rows.width > 4 * 50 + CELL_GAP
    maps = np.zeros((3, 1, 2, 2), np.float32)
    maps[..., 0, 0] = 1
    picture = attention_sheet(images[0, :3], [(40, 40)], maps, ["", "", ""])
    margin = picture.width - 2 * 98 - CELL_GAP
    pixels = np.asarray(picture)[HEADER + CELL_GAP :, margin + CELL_GAP :]
    assert pixels[3, 98 + 3].sum() > 300  # where it looks is bright
    assert pixels[90, 98 + 3].sum() < 20
    for left in (0, 98):
        assert (pixels[78:86, left + 78 : left + 86] == (255, 0, 0)).all(2).any()  # and from where is marked


def test_curves_are_a_picture_even_where_a_number_is_absent() -> None:
    assert curves([0.5, 1.0], {"a": [1.0, None]}, {"none": {"a": None}}, "truncation", "x").startswith(b"\x89PNG")


def test_a_long_name_is_cut_in_a_few_steps() -> None:
    class Font(ImageFont.ImageFont):
        asked = 0

        def getlength(self, text: str | bytes, *_: object, **__: object) -> int:
            self.asked += 1
            return 7 * len(text)

    font = Font()
    assert _cut("9" * 5_000, font, 70) == "9" * 9 + "…"
    assert font.asked < 20
    assert [_cut("abc", font, width) for width in (21, 20, 14, 1)] == ["abc", "a…", "a…", "…"]
    assert _cut("W", font, 1) == "W"
