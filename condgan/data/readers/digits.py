"""The embedded data: scikit-learn's 1,797 handwritten digits, 8 × 8 in 17 grays; a fifth of each class is held out."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image
from torch import Tensor

from condgan.data.dataset import Dataset, Split
from condgan.data.listing import hold_out
from condgan.data.preprocessing import Preprocessing, pixels
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.utils.errors import UserError
from condgan.utils.limits import require_memory

CLASSES = LabelSpec.of_classes([str(digit) for digit in range(10)])
INKS = {"Red_Ink": (165, 20, 30), "Green_Ink": (10, 95, 40), "Blue_Ink": (30, 40, 160)}
PAPERS = {False: (250, 240, 215), True: (165, 140, 110)}
"""By whether it is dark; every ink is darker still."""
TINTS = LabelSpec((Field("attributes", (*INKS, "Dark_Paper"), exclusive=False, groups=(tuple(INKS),)),))


def digits(preprocessing: Preprocessing) -> Dataset:
    """The digits, light on dark."""
    images, index = _read(preprocessing)
    whole = Split(images, LabelTable.from_index(CLASSES, index), tuple(f"digit-{i:04}.png" for i in range(len(index))))
    train, held_out = (torch.from_numpy(part) for part in hold_out(index.numpy(), share=0.2))
    return Dataset(whole.at(train), whole.at(held_out))


def tinted_digits(preprocessing: Preprocessing) -> Dataset:
    """The digits in one of three inks on light or dark paper, drawn for each; true translations are known.

    A pixel of the gray g, 0 … 1, is paper + g · (ink − paper). Raises UserError for other than 3 channels.
    """
    if preprocessing.channels != 3:
        raise UserError(
            f"data.channels={preprocessing.channels} given with data 'tinted-digits': expected 3, they are colored"
        )
    grays, index = _read(replace(preprocessing, channels=1))
    rng = np.random.default_rng(0)
    values = torch.zeros(len(index), TINTS.width)
    values[torch.arange(len(index)), torch.from_numpy(rng.integers(len(INKS), size=len(index)))] = 1
    values[:, -1] = torch.from_numpy(rng.integers(2, size=len(index))).float()
    whole = Split(
        tint(grays, values),
        LabelTable.from_values(TINTS, values > 0.5),
        tuple(f"digit-{i:04}.png" for i in range(len(index))),
        LabelTable.from_index(CLASSES, index),
    )
    train, held_out = (torch.from_numpy(part) for part in hold_out(index.numpy(), share=0.2))
    held_out_grays = grays[held_out]

    def exact(chosen: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        return tint(held_out_grays[chosen], labels.values), torch.ones(len(chosen), dtype=torch.bool)

    return Dataset(whole.at(train), whole.at(held_out), exact={"attributes": exact})


def tint(grays: Num[Tensor, "n 1 h w"], values: Float[Tensor, "n v"]) -> UInt8[Tensor, "n 3 h w"]:
    """Grays of 0 … 255 in the colors that the attributes' values say."""
    inks = torch.tensor(list(INKS.values()), dtype=torch.float32)[values[:, : len(INKS)].argmax(1)]
    papers = torch.tensor([PAPERS[False], PAPERS[True]], dtype=torch.float32)[values[:, -1].long()]
    ink, paper = inks[..., None, None], papers[..., None, None]
    return (paper + grays / 255 * (ink - paper)).round().to(torch.uint8)


def _read(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    size = f"{preprocessing.width}×{preprocessing.height}"
    bytes_of_one = preprocessing.width * preprocessing.height * preprocessing.channels
    require_memory(8 * 1797 * bytes_of_one, f"digits of {size} pixels", "lower data.size")

    table = np.loadtxt(_file(), delimiter=",")
    grays, index = table[:, :-1], table[:, -1].astype(np.int64)
    plain = preprocessing if preprocessing.crop == "pad" else replace(preprocessing, channels=1)  # edges have colors
    images = torch.empty(
        len(grays), preprocessing.channels, preprocessing.height, preprocessing.width, dtype=torch.uint8
    )
    images[:, 3:] = 255  # of four channels the last is opacity
    for image, gray in zip(images, grays, strict=True):
        picture = Image.fromarray((gray * (255 / 16)).round().astype(np.uint8).reshape(8, 8))
        image[:3] = torch.from_numpy(pixels(picture, plain)[:3])
    return images, torch.from_numpy(index)


def _file() -> Path:
    """The digits in scikit-learn, whose import would take longer than all else that reading them does."""
    found = find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
