"""Pictures as people give them: PIL images, arrays of pixels, files; one, or several.

Axes: n pictures, h × w pixels, c channels."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from condgan.data.preprocessing import Preprocessing, pixels, reason
from condgan.utils.errors import UserError, shown
from condgan.utils.files import path_of

_EXPECTED = "expected PIL images, arrays of uint8 of h × w or h × w × 1, 3 or 4, or files of images"


def given_pictures(given: Any) -> list[Any]:
    """What was given as a list, also of a single picture. Raises UserError for what is no list of any."""
    if isinstance(given, Image.Image | str | os.PathLike) or (hasattr(given, "shape") and _is_one(given.shape)):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise UserError(f"pictures {shown(repr(given))} given: {_EXPECTED}")
    return list(given)


def images_of(given: Any, preprocessing: Preprocessing) -> UInt8[Tensor, "n c h w"]:
    """The images that one or several pictures become. Raises UserError for what is none."""
    chosen = given_pictures(given)
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    images = torch.empty(len(chosen), *shape, dtype=torch.uint8)
    for image, picture in zip(images, chosen, strict=True):
        image.copy_(torch.from_numpy(given_pixels(picture, preprocessing).copy()))
    return images


def given_pixels(given: Any, preprocessing: Preprocessing) -> UInt8[np.ndarray, "c h w"]:
    """The image that a picture becomes. Raises UserError for what is none, or cannot be decoded."""
    what, picture = _picture(given)
    if not isinstance(picture, bytes) and 0 in (picture.size if isinstance(picture, Image.Image) else picture.shape):
        raise UserError(f"picture {what} given, which has no pixels: {_EXPECTED}")
    try:
        return pixels(picture, preprocessing)
    except Exception as error:  # decoders raise whatever they like
        raise UserError(f"picture {what} is unreadable ({reason(error)}): mend it or leave it out") from None


def _picture(given: Any) -> tuple[str, Image.Image | bytes | np.ndarray]:
    """What a picture is called in a message, and itself, its file's bytes or its pixels."""
    if isinstance(given, Image.Image):
        return f"of mode {given.mode} and {given.width} × {given.height} pixels", given
    if isinstance(given, str | os.PathLike):
        path = path_of(given, "picture")
        return f"'{path}'", path.read_bytes()
    if not hasattr(given, "shape"):
        raise UserError(f"picture {shown(repr(given))} given: {_EXPECTED}")
    array = np.asarray(given)
    what = f"of {' × '.join(map(str, array.shape))} {array.dtype}"
    if array.dtype != np.uint8 or not _is_one(array.shape):
        raise UserError(f"picture {what} given: {_EXPECTED}")
    return what, array[..., 0] if array.shape[2:] == (1,) else array


def _is_one(shape: Any) -> bool:
    """Whether an array of this shape is one picture: several have one axis more, before the others."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
