"""From a name or path to a listing, and to a data set."""

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgan.data.dataset import Dataset, Exact, Split, join, with_vicinity
from condgan.data.listing import Arrays, Listing, hold_out
from condgan.data.packed import Prepared, is_packed, open_packed
from condgan.data.prepare import decoded
from condgan.data.preprocessing import Preprocessing, color, height_and_width
from condgan.data.readers.attributes import attribute_file, choose, list_attributes
from condgan.data.readers.digits import digits, tinted_digits
from condgan.data.readers.folders import list_class_folders
from condgan.data.readers.hdf5 import is_hdf5, list_hdf5
from condgan.data.readers.huggingface import is_saved, list_saved
from condgan.data.readers.known import KNOWN, list_known
from condgan.data.readers.labels import EXPECTED
from condgan.data.readers.lmdb import is_lmdb, list_lmdb
from condgan.data.readers.npz import is_npz, list_npz
from condgan.data.readers.tables import beside_tables, list_json, list_tables, of_labels, read_tables
from condgan.data.readers.tree import Tree, open_tree, require_there
from condgan.data.readers.webdataset import list_samples
from condgan.data.undecoded import no_files, streamed
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.utils.arguments import several
from condgan.utils.choices import Crop
from condgan.utils.errors import UserError, repeated, shown
from condgan.utils.files import different, path_of

EMBEDDED: dict[str, Callable[[Preprocessing], Dataset]] = {"digits": digits, "tinted-digits": tinted_digits}
"""Makers of the data sets that come with the package."""


def read(
    source: str | Sequence[str],
    size: int | str,
    channels: int,
    *,
    attributes: Sequence[str] | None = None,
    exclusive: Sequence[Sequence[str]] | None = None,
    number: str | None = None,
    vicinity: float | None = None,
    hard_vicinity: bool = False,
    paired: bool = False,
    background: str = "white",
    crop: Crop = "center",
    held_out: float | None = None,
    root: str | None = None,
    skip_bad_images: bool = False,
    stream: bool = False,
) -> Dataset:
    """Read a data set by name, or from a path, at a size (64, or 96x64, width × height); or several as one.

    A path is one of what `EXPECTED` tells, an HDF5 file, an LMDB, a saved Hugging Face data set, or a folder that
    `condgan prepare` wrote. `root`: where data sets known by name are looked for, and downloaded to. Of attributes,
    `attributes` are chosen (all by default). `exclusive`: groups of attributes of which an image has one at most; by
    default neighbors of which every image has exactly one; of several such data sets, each must have all that are
    named. `number`: the column of a table whose numbers label the images, `vicinity` and `hard_vicinity` how near ones
    count as the same, see `Range`; by default such that half of the images have 50 in theirs. `paired`: images that
    differ in nothing but labels are there, to compare translations with: files of the same name in all class folders,
    or the same other attributes. `held_out`: the share of the training images of each class
    that is held out, instead of the data's own test split, or of a tenth where it has none.

    How a picture becomes an image, `Preprocessing` says. Decoded images are kept in the cache, mapped into memory; with
    `stream` they are decoded each time that they are seen, and `skip_bad_images` takes others of the same labels.
    """
    sources = several("data", source)
    if not sources or not all(isinstance(one, str | os.PathLike) for one in sources):
        raise UserError(f"data {shown(repr(source))} given: expected a known name or a path, or several")
    sources = [str(one) for one in sources]
    attributes = None if attributes is None else several("attributes", attributes)
    if not all(isinstance(one, str) for one in attributes or ()):
        raise UserError(f"attributes {shown(repr(attributes))} given: expected names")
    _require_share(held_out)
    if twice := repeated(sources):
        raise UserError(f"data '{twice}' given twice: expected different data sets")
    if stream and len(sources) > 1:
        raise UserError(f"data.stream=true given with {len(sources)} data sets: expected one; leave it out")
    if stream and sources[0] in EMBEDDED:
        raise no_files(sources[0])
    preprocessing = Preprocessing(*height_and_width(size), channels, crop, color(background))
    parts = [
        _read_embedded(one, preprocessing, held_out)
        if one in EMBEDDED
        else _read(one, preprocessing, root, held_out, attributes, exclusive, number, paired, skip_bad_images, stream)
        for one in sources
    ]
    for one, part in zip(sources, parts, strict=True):
        _require_number(number, part.spec, one)
    parts = [with_vicinity(part, vicinity, hard_vicinity) for part in parts]
    chosen_from = [
        one
        for one, part in zip(sources, parts, strict=True)
        if not part.spec.fields[0].exclusive and part.spec.range is None
    ]
    if (attributes or exclusive) and not set(chosen_from) - set(EMBEDDED):
        names = ", ".join(attributes or [name for group in exclusive or () for name in group])
        raise UserError(f"attributes {names} given with data '{', '.join(sources)}', which has none")
    if len(parts) == 1:
        return parts[0]
    return join(dict(zip(different([Path(one).stem for one in sources]), parts, strict=True)))


def list_source(
    source: str,
    root: str | None = None,
    held_out: float | None = None,
    paired: bool = False,
    number: str | None = None,
) -> Listing:
    """The pictures of a source and their labels, not decoded. Raises UserError for one of no known kind."""
    listing = _list_source(source, root, held_out, paired, number)
    _require_number(number, listing.labels.spec, source)
    return listing


def _require_number(number: str | None, spec: LabelSpec, source: str) -> None:
    """Raises UserError where a number is asked for, and images have none or another one."""
    if number is not None and (spec.range is None or spec.fields[0].name != number):
        raise UserError(
            f"number '{number}' given with data '{source}', which has no such column: expected one of a CSV, TSV or "
            "JSON lines beside the images"
        )


def _list_source(source: str, root: str | None, held_out: float | None, paired: bool, number: str | None) -> Listing:
    _require_share(held_out)
    path = path_of(source, "data")
    if source in EMBEDDED:
        return _embedded(source)
    if source in KNOWN:
        found = list_known(source, None if root is None else Path(root).expanduser(), held_out)
        if isinstance(found, Listing):
            return found
        path = found
    require_there(path, EXPECTED)
    if is_packed(path):
        return _open_packed(path, held_out).listing
    if is_hdf5(path):
        return list_hdf5(path, held_out)
    if is_npz(path):
        return list_npz(path, held_out)
    if is_saved(path):
        return list_saved(path, held_out)
    if path.is_dir() and (databases := _databases(path)):
        return list_lmdb(databases, held_out)
    return list_tree(open_tree(path, EXPECTED), held_out, paired, number)


def _require_share(held_out: float | None) -> None:
    if held_out is not None and not (isinstance(held_out, int | float) and 0 < held_out < 1):
        given = f"{held_out:g}" if isinstance(held_out, int | float) else shown(held_out)
        raise UserError(f"a share of {given} to hold out given: expected one between 0 and 1, such as 0.1")


def _open_packed(path: Path, held_out: float | None) -> Prepared:
    if held_out is not None:
        raise UserError(
            f"a share to hold out given with '{path}', whose images were split when it was prepared: leave it out, or "
            "prepare it anew with it"
        )
    return open_packed(path)


def _read_embedded(source: str, preprocessing: Preprocessing, held_out: float | None) -> Dataset:
    _require_share(held_out)
    data = EMBEDDED[source](preprocessing)
    if held_out is None:
        return data
    if not data.spec.exclusive:
        raise UserError(f"a share to hold out given with '{source}', whose images are split as they are: leave it out")
    parts = hold_out(data.train.labels.index().numpy(), held_out)
    train, rest = (data.train.at(torch.from_numpy(part)) for part in parts)
    return replace(data, train=train, held_out=rest)


def _embedded(source: str) -> Listing:
    """An embedded data set as it is."""
    data = EMBEDDED[source](Preprocessing(8, 8, 3 if source == "tinted-digits" else 1))
    parts = data.train, data.held_out
    images = torch.cat([part.images for part in parts]).permute(0, 2, 3, 1).numpy()
    return Listing(
        source,
        Arrays(images[..., 0] if images.shape[3] == 1 else images),
        np.arange(len(images)),
        [name for part in parts for name in part.names],
        LabelTable(data.spec, torch.cat([part.labels.codes for part in parts])),
        len(data.train),
    )


def _databases(path: Path) -> dict[str, Path]:
    """The LMDB that a folder is, or those that it holds, by their names."""
    if is_lmdb(path):
        return {path.name.removesuffix("_lmdb"): path}
    return {inner.name.removesuffix("_lmdb"): inner for inner in sorted(path.iterdir()) if is_lmdb(inner)}


def _read(
    source: str,
    preprocessing: Preprocessing,
    root: str | None,
    held_out: float | None,
    attributes: Sequence[str] | None,
    exclusive: Sequence[Sequence[str]] | None,
    number: str | None,
    paired: bool,
    skip_bad_images: bool,
    stream: bool,
) -> Dataset:
    path = path_of(source, "data")
    prepared = _open_packed(path, held_out) if source not in KNOWN and is_packed(path) else None
    listing = list_source(source, root, held_out, paired, number) if prepared is None else prepared.listing
    if stream:
        prepared = streamed(listing, preprocessing, skip_bad_images)
    elif prepared is None or prepared.preprocessing != preprocessing:
        if prepared is not None and (was := prepared.preprocessing) is not None:
            kind = f"{was.width}×{was.height} with {was.channels} channels, {was.crop} crop"
            listing = replace(listing, notes=(*listing.notes, f"made from images prepared at {kind}"))
        prepared = decoded(listing, preprocessing, skip_bad_images)
    listing = prepared.listing
    if not listing.labels.spec.fields[0].exclusive and listing.labels.spec.range is None:
        listing = choose(listing, attributes, exclusive)
    train, rest = slice(0, listing.train), slice(listing.train, None)
    splits = {
        name: Split(
            images,
            listing.labels.at(where),
            listing.names[where],
            None if listing.content is None else listing.content.at(where),
            None if prepared.where is None else prepared.where[where],
        )
        for name, images, where in (("train", prepared.train, train), ("held-out", prepared.held_out, rest))
    }
    exact = {}
    if paired:
        keys = _keys(listing)
        exact[listing.labels.spec.fields[0].name] = _exact(
            splits, {"train": keys[train], "held-out": keys[rest]}, source
        )
    return Dataset(
        splits["train"], splits["held-out"], prepared.skipped, exact, prepared.digest, listing.notes, prepared.index
    )


def _keys(listing: Listing) -> list[Hashable]:
    """A key for what each image shows, whatever its labels."""
    if listing.pairs is not None:
        return listing.pairs.tolist()
    if listing.content is None:
        return [()] * len(listing)
    return [tuple(codes) for codes in listing.content.codes.tolist()]


def _exact(splits: Mapping[str, Split], keys: Mapping[str, Sequence[Hashable]], source: str) -> Exact:
    """True translations: the image with the same key and the labels asked for. Raises UserError where there are two."""
    found: dict[Hashable, tuple[str, int]] = {}
    for split, one in splits.items():
        for i, both in enumerate(zip(keys[split], map(tuple, one.labels.values.tolist()), strict=True)):
            if both in found:
                twin, number = found[both]
                raise UserError(
                    f"data.paired given with data '{source}', where '{one.names[i]}' and "
                    f"'{splits[twin].names[number]}' have the same labels: expected images that differ in them; leave "
                    "it out"
                )
            found[both] = split, i

    def exact(index: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        asked = zip((keys["held-out"][i] for i in index.tolist()), map(tuple, labels.values.tolist()), strict=True)
        places = [found.get(both) for both in asked]
        images = [splits[place[0]].images[place[1]] if place else splits["train"].images[0] for place in places]
        return torch.stack(images), torch.tensor([place is not None for place in places])

    return exact


def list_tree(tree: Tree, share: float | None, paired: bool, number: str | None = None) -> Listing:
    """The labeled images of a tree, whatever its layout. Raises UserError where it has none that is known."""
    if not tree.files and len(tree.folders) == 1:
        raise UserError(f"data '{tree.source}' is empty: {EXPECTED}")
    if number is None and (table := attribute_file(tree)) is not None:
        return list_attributes(tree, table, share)
    if number is None and (listing := list_json(tree, share)) is not None:
        return listing
    tables = read_tables(tree)
    if (listing := list_tables(tree, tables, share, number) or list_samples(tree, share)) is not None:
        return listing
    return beside_tables(tree, tables, list_class_folders(tree, share, paired, of_labels(tree)), share)
