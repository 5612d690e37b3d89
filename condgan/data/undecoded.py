"""Images that are decoded only when they are seen, so that they take neither memory nor disk."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils._pytree import tree_map_only

from condgan.data.listing import Listing
from condgan.data.order import MIXED_AT_ONCE, epoch_order, near_order
from condgan.data.packed import Prepared
from condgan.data.prepare import chunked, cores, enough
from condgan.data.preprocessing import RULE, Preprocessing, pixels, reason
from condgan.data.readers.tree import Files
from condgan.utils.console import say
from condgan.utils.device import fits, free_memory
from condgan.utils.distributed import neighbors
from condgan.utils.errors import UserError

CHOSEN = 1 << 28
"""Bytes of images that are decoded when they are chosen; of more it is remembered which they are."""
ITERATED_AT_ONCE = 256
"""Pictures."""
NAMED = 5
"""Bad pictures whose substitutes are told."""


class LostPicture(UserError):
    """A picture that is needed now cannot be read."""


@dataclass(frozen=True)
class Decoder:
    """Decodes the pictures of a listing, by their places, in threads.

    `skip_bad_images`: for one that cannot be decoded another of the same part and labels is taken, always the same.
    """

    listing: Listing
    preprocessing: Preprocessing
    skip_bad_images: bool
    instead: dict[int, int] = field(default_factory=dict)
    """The places of those that were taken for others, so far."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        return self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width

    @cached_property
    def _threads(self) -> int:
        return max(1, cores() // neighbors())

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "decode")

    def decode(self, places: Sequence[int]) -> UInt8[Tensor, "n c h w"]:
        """Raises LostPicture for the first that cannot be read."""
        images = np.empty((len(places), *self.shape), np.uint8)

        def fill(rows: range) -> None:
            for row in rows:
                images[row] = self._image(places[row])

        for _ in self._pool.map(fill, chunked(0, len(places), -(-len(places) // (4 * self._threads)) or 1)):
            pass
        return torch.from_numpy(images)

    def _image(self, place: int) -> UInt8[np.ndarray, "c h w"]:
        place = self.instead.get(place, place)
        try:
            return pixels(self.listing.read(place), self.preprocessing)
        except Exception as error:  # decoders raise whatever they like
            told = self._told(place, error)
        if not self.skip_bad_images:
            raise LostPicture(f"{told}: to go on with another of its labels in its place, add --skip-bad-images")
        for other in self._alike(place):
            try:
                image = pixels(self.listing.read(other), self.preprocessing)
            except Exception as error:
                self._told(other, error)
                continue
            self.instead[place] = other
            if len(self.instead) <= NAMED:
                more = "; more are not named" if len(self.instead) == NAMED else ""
                say(f"{told}: {self.listing.call(other)} is seen in its place{more}")
            return image
        raise LostPicture(f"{told}, and none of the same labels to take its place: leave it out of the data")

    def _told(self, place: int, error: Exception) -> str:
        """What is wrong with a picture. Raises LostPicture where it is not there, rather than damaged."""
        told = f"unreadable image {self.listing.call(place)} ({reason(error)}) in '{self.listing.source}'"
        if isinstance(error, OSError) and error.errno is not None:
            raise LostPicture(f"{told}: give back the data, and repeat the command to go on") from None
        return told

    def _alike(self, place: int) -> list[int]:
        """The other places of the same part and labels: those after it, then those before."""
        codes, train = self.listing.labels.codes, self.listing.train
        part = slice(0, train) if place < train else slice(train, None)
        same = (torch.nonzero((codes[part] == codes[place]).all(1)).flatten() + part.start).tolist()
        return [other for other in same if other > place] + [other for other in same if other < place]


class Undecoded(Tensor):
    """Images of 0 … 255 of which nothing is in memory: they are decoded when some are chosen, or looked at.

    Many that are chosen stay undecoded, as do parts by `split`. What computes with them decodes all; where these do
    not fit into memory it raises UserError.
    """

    decoder: Decoder
    places: Int64[Tensor, " n"]

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls: type["Undecoded"], decoder: Decoder, places: Int64[Tensor, " n"]) -> "Undecoded":
        images = Tensor._make_wrapper_subclass(cls, (len(places), *decoder.shape), dtype=torch.uint8)
        images.decoder, images.places = decoder, places
        return images

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Undecoded, Undecoded._whole, (args, kwargs or {}))
        return function(*args, **kwargs)

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, tuple) or index is None or index is ...:
            return self._whole()[index]
        places = self.places[index]
        if places.ndim == 1 and len(places) * math.prod(self.shape[1:]) > CHOSEN:
            return Undecoded(self.decoder, places)
        return self.decoder.decode(places.flatten().tolist()).reshape(*places.shape, *self.shape[1:])

    def __iter__(self) -> Iterator[Tensor]:
        for numbers in torch.arange(len(self)).split(ITERATED_AT_ONCE):
            yield from self.decoded(numbers)

    def __repr__(self, **_: Any) -> str:
        return f"Undecoded({' × '.join(map(str, self.shape))})"

    def split(self, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        if dim != 0:
            return self._whole().split(split_size, dim)
        return tuple(Undecoded(self.decoder, places) for places in self.places.split(split_size))

    def numpy(self, *, force: bool = False) -> np.ndarray:
        return self._whole().numpy(force=force)

    def decoded(self, numbers: Int64[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        """Some of them, however many."""
        return self.decoder.decode(self.places[numbers].tolist())

    def _whole(self) -> Tensor:
        if not fits(self.nbytes, free_memory(self.device)):
            raise UserError(
                f"{len(self):,} images of '{self.decoder.listing.source}' are needed at once, {self.nbytes / 1e6:,.1f} "
                "MB of them decoded, which memory does not hold: leave out data.stream=true, or give a smaller size"
            )
        return self.decoder.decode(self.places.tolist())


def streamed(listing: Listing, preprocessing: Preprocessing, skip_bad_images: bool) -> Prepared:
    """The images of a listing, none of which is read before it is seen.

    Its copies are not looked for. Raises UserError for a source whose pictures are no files, and where too few are to
    train on or to hold out.
    """
    pictures = listing.pictures
    if not isinstance(pictures, Files):
        raise no_files(listing.source)
    listing = enough(listing, (np.arange(listing.train), np.arange(len(listing) - listing.train)))
    numbers = listing.numbers.tolist()
    index = hashlib.sha256(f"{RULE} {preprocessing}".encode())
    for name, number in zip(listing.names, numbers, strict=True):
        index.update(f"{name} {pictures.size(number)}\n".encode(errors="surrogateescape"))
    places = [place for number in numbers if (place := pictures.where(number)) is not None]
    where = torch.tensor(places) if places else None
    said = [] if listing.share is None else ["copies of pictures are not looked for, since data.stream=true reads none"]
    if where is not None:
        said += said_of_shards(listing, where)
    listing = replace(listing, notes=(*listing.notes, *said))
    decoder = Decoder(listing, preprocessing, skip_bad_images)
    train, held_out = torch.arange(len(listing)).tensor_split([listing.train])
    return Prepared(
        listing, Undecoded(decoder, train), Undecoded(decoder, held_out), (), None, preprocessing, where,
        index.hexdigest(),
    )  # fmt: skip


def no_files(source: str) -> UserError:
    """What is said of data that cannot be streamed."""
    return UserError(
        f"data.stream=true given with data '{source}', whose images are no picture files: expected tar shards, a "
        "folder or a zip; leave it out"
    )


def said_of_shards(listing: Listing, where: Int64[Tensor, "n 2"]) -> list[str]:
    """Tell of shards whose neighbors are so much alike that batches of them lack most classes."""
    if not listing.labels.spec.exclusive or listing.train <= MIXED_AT_ONCE:
        return []
    index = listing.labels.index()[: listing.train]

    def classes(order: Int64[Tensor, " n"]) -> float:
        seen = [len(window.unique()) for window in index[order].split(MIXED_AT_ONCE)[:-1]]
        return sum(seen) / len(seen)

    there, mixed = classes(near_order(where[: listing.train], 0, 0)), classes(epoch_order(listing.train, 0, 0))
    if 2 * there > mixed:
        return []
    return [
        f"shards hold few classes each: {MIXED_AT_ONCE:,} images that are seen one after another are of {there:,.0f} "
        f"classes, {mixed:,.0f} if all were mixed; mix the samples before shards are written"
    ]
