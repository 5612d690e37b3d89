"""Images in npz files."""

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from condgan.data.listing import UNLABELED, Arrays, Listing, listed
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError

if TYPE_CHECKING:
    pass


def is_npz(path: Path) -> bool:
    """Whether a path is named like an npz file."""
    return path.suffix.lower() == ".npz" and path.is_file()


def npz_keys(path: Path) -> list[str]:
    """The names of an npz file's arrays. Raises UserError for a file that is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except zipfile.BadZipFile as error:
        raise UserError(f"'{path}' cannot be read as an npz file ({error}): make it anew") from None


def npz_array(path: Path, key: str) -> np.ndarray:
    """One of them. Raises UserError where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"array {key} of '{path}' cannot be read ({error}): make it anew") from None


def list_npz(path: Path, share: float | None) -> Listing:
    """The images of a file with `x`, uint8 of N×C×H×W or N×H×W(×C), and where it has them `y`, N numbers of classes.

    `classes` may name what the numbers stand for: so `condgan sample` writes it, and BigGAN-PyTorch without names.
    Guided diffusion's `arr_0` and `arr_1` are read too. Raises UserError for any other file.
    """
    keys = npz_keys(path)
    image, label = next((pair for pair in (("x", "y"), ("arr_0", "arr_1")) if pair[0] in keys), ("", ""))
    if not image:
        raise UserError(
            f"'{path}' holds the arrays {', '.join(keys) or 'none'}: expected x, images of uint8, and y, their classes"
        )
    x = npz_array(path, image)
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and x.shape[3] not in (1, 3, 4):
        x = x.transpose(0, 2, 3, 1)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)) or not x.size:
        given = ", NaN among them" if x.dtype.kind == "f" and bool(np.isnan(x).any()) else ""
        raise UserError(
            f"'{path}' holds {image} of {x.dtype}{given}, of shape {'×'.join(map(str, x.shape))}: expected images of "
            "0 … 255 as uint8, N×C×H×W or N×H×W×C with 1, 3 or 4 channels"
        )
    x = x[..., 0] if x.ndim == 4 and x.shape[3] == 1 else x
    y, names = np.zeros(len(x), np.int64), [UNLABELED]
    if label in keys:
        y = npz_array(path, label)
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or (len(y) and y.min() < 0):
            raise UserError(
                f"'{path}' holds {len(x)} images and {label} of {y.dtype}, of shape {'×'.join(map(str, y.shape))}: "
                "expected a class number for each image"
            )
        if "classes" in keys:
            names = [str(name) for name in npz_array(path, "classes")]
            if y.max() >= len(names):
                raise UserError(
                    f"'{path}' holds class number {y.max()} and {len(names)} classes: expected a name for each"
                )
        else:
            there, y = np.unique(y, return_inverse=True)
            names = [str(number) for number in there]
    labels = LabelTable.from_index(LabelSpec.of_classes(names), torch.from_numpy(y.astype(np.int64)))
    places = [f"{number:0{len(str(len(x)))}}" for number in range(len(x))]
    return listed(str(path), Arrays(x), places, labels, None, share)
