"""Look at a few images of a listing, small and all of one size, for what numbers can tell of them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from condgan.data.listing import Listing
from condgan.data.preprocessing import Preprocessing, pixels
from condgan.labels import LabelTable

AT_MOST = 2_000
"""Images that are looked at, evenly spread."""
SIDE = 32
"""Pixels that they are brought to."""


class Glance(NamedTuple):
    """Some training images, of 0 … 255, and their labels."""

    images: UInt8[Tensor, "n c h w"]
    labels: LabelTable


def glance(listing: Listing, channels: int) -> Glance:
    """Read training images evenly spread over a listing; what cannot be read is left out."""
    places = np.unique(np.linspace(0, listing.train - 1, min(AT_MOST, listing.train)).round().astype(int))
    preprocessing = Preprocessing(SIDE, SIDE, channels)

    def read(place: int) -> UInt8[np.ndarray, "c h w"] | None:
        with suppress(Exception):  # decoders raise whatever they like
            return pixels(listing.read(place), preprocessing)
        return None

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(read, places.tolist()))
    good = [number for number, image in enumerate(found) if image is not None]
    images = [image[None] for image in found if image is not None]
    nothing = np.empty((0, channels, SIDE, SIDE), np.uint8)
    return Glance(
        torch.from_numpy(np.concatenate([nothing, *images])), listing.labels.at(torch.from_numpy(places[good]))
    )


def share_in_place(images: UInt8[Tensor, "n c h w"]) -> float:
    """How much of the pixels' variance is that of the mean image over its places, without what chance gives.

    1 where all images are the same, 0 where nothing has a place of its own: 0.02 of CIFAR-10, 0.1 of photographs of
    waste, 0.3 of MNIST, 0.8 of drawn characters. 1 for a single image.
    """
    if len(images) < 2:
        return 1.0
    pixels = images.double()
    pixels = pixels - pixels.mean((0, 2, 3), keepdim=True)
    whole = float(pixels.square().mean())
    if whole == 0:
        return 1.0
    share, count = float(pixels.mean(0).square().mean()) / whole, len(images)
    return max(0.0, (count * share - 1) / (count - 1))
