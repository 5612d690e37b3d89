"""Samples of WebDataset shards: files that share a name."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condgan.data.listing import Listing
from condgan.data.readers.columns import Chosen, named_labels
from condgan.data.readers.labels import Rows, named_splits, read_json
from condgan.data.readers.lines import LABEL_COLUMNS, key
from condgan.data.readers.names import is_image, left_out
from condgan.data.readers.tree import Tree, parent
from condgan.utils.errors import UserError, shown
from condgan.utils.limits import TEXT

IMAGE_WORDS = ("image", "img", "rgb", "photo", "picture", "input", "jpg", "jpeg", "png", "webp")
"""First words of endings that say which of a sample's images is the one, the plainest first."""


def list_samples(tree: Tree, share: float | None) -> Listing | None:
    """WebDataset's shards: files of the same name but for their endings are a sample.

    Of several images that of the plain ending, such as .png, is taken, of all samples alike. Raises UserError where it
    is not clear which, and for samples without it or without a label.
    """
    if not tree.tar and not any(file.lower().endswith(".cls") for file in tree.files):
        return None
    of_key: dict[str, dict[str, str]] = defaultdict(dict)
    for file in tree.files:
        folder, _, name = file.rpartition("/")
        stem, _, ending = name.partition(".")
        of_key[f"{folder}/{stem}"][ending.lower()] = file
    samples = [parts for parts in of_key.values() if any(is_image(file) for file in parts.values())]
    labeled = any("cls" in parts or (tree.tar and "json" in parts) for parts in samples)
    if not labeled and not _are_shards(tree, samples):
        return None
    files, notes = _images(tree, samples)
    sources = [_source(tree, parts, file) if labeled else file for parts, file in zip(samples, files, strict=True)]
    none = Chosen([None] * len(files), "no labels: the shards have neither .cls nor .json")
    chosen = _labels(tree, sources) if labeled else none
    splits = named_splits([parent(file) for file in files]) if tree.tar else [-1] * len(files)
    rows = Rows(tree, "the shards")
    for file, label, split, source in zip(files, chosen.labels, splits, sources, strict=True):
        rows.add(file, label, split, f"'{source}'")
    known = {file for parts in samples for file in parts.values() if is_image(file)} | {*sources}
    left = left_out(file for file in tree.files if file not in known)
    return rows.listing(files, share, [chosen.said, *notes, *left])


def _are_shards(tree: Tree, samples: Sequence[Mapping[str, str]]) -> bool:
    """Whether samples lie right in tars, numbered ones if there are several: not in folders or tars of classes."""
    folders = {parent(file) for parts in samples for file in parts.values()}
    numbered = all(re.search(r"\d{3,}$", one) and Path(tree.source, f"{one}.tar").is_file() for one in folders)
    return tree.tar and bool(samples) and (folders == {""} or numbered)


def _images(tree: Tree, samples: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """The image of each sample, and a note of which it is where there are several."""
    of_samples = [
        sorted((ending for ending, file in parts.items() if is_image(file)), key=_plainness) for parts in samples
    ]
    taken = sorted({endings[0] for endings in of_samples}, key=_plainness)
    for parts, endings in zip(samples, of_samples, strict=True):
        sample = f"sample '{parts[endings[0]]}' of '{tree.source}'"
        if _plainness(endings[0])[0] > _plainness(taken[0])[0]:
            raise UserError(f"{sample} has no .{taken[0]}, as others have: add it there, or remove the sample")
        if len(endings) > 1 and _plainness(endings[0]) == _plainness(endings[1]):
            raise UserError(
                f"{sample} has the images .{endings[0]} and .{endings[1]}: call the one to learn .png or .jpg"
            )
    left = sorted({ending for endings in of_samples for ending in endings[1:]})
    named, not_named = (", ".join(f".{shown(one, 40)}" for one in some[:5]) for some in (taken, left))
    note = f"of several images per sample {named} is taken, not {not_named}"
    return [parts[endings[0]] for parts, endings in zip(samples, of_samples, strict=True)], [note] * bool(left)


def _plainness(ending: str) -> tuple[int, int]:
    """How far an image's ending is from naming the one image of a sample, and a rank among the equally far."""
    words = ending.split(".")
    rank = IMAGE_WORDS.index(words[0]) if words[0] in IMAGE_WORDS else len(IMAGE_WORDS)
    if len(words) == 1:
        return 0, rank
    return (1, rank) if rank < len(IMAGE_WORDS) else (2, 0)


def _source(tree: Tree, parts: Mapping[str, str], image: str) -> str:
    """The file that labels a sample."""
    source = parts.get("cls") or parts.get("json")
    if source is None:
        raise UserError(f"sample '{image}' of '{tree.source}' has no .cls nor .json: label all images, or none")
    return source


def _labels(tree: Tree, sources: Sequence[str]) -> Chosen:
    """Labels of what names them in each sample's file; none where no file does."""
    rows = [_row(tree, file) for file in sources]
    names = dict.fromkeys(name for row in rows for name in row)
    chosen = named_labels({name: [row.get(name) for row in rows] for name in names}, [f"'{file}'" for file in sources])
    if chosen is None:
        return Chosen([None] * len(sources), 'no labels: the samples\' .json name none, such as {"label": 3}')
    text = all(file.lower().endswith(".cls") for file in sources)
    return Chosen(chosen.labels, f"labels from {'.cls' if text else f'{chosen.said} of .json'} of each sample")


def _row(tree: Tree, file: str) -> dict[str, Any]:
    """What a sample's file names like labels."""
    text = tree.text(file, TEXT).strip()
    if file.lower().endswith(".cls"):
        if not text:
            raise UserError(f"'{file}' is empty: expected a class")
        return {"cls": text}
    try:
        given = read_json(text)
    except ValueError as error:
        raise UserError(f"'{file}' is no JSON ({shown(error)}): expected an object with a label") from None
    if not isinstance(given, dict):
        raise UserError(f"'{file}' has no label: expected an object with one, such as {{\"label\": 3}}")
    return {name: cell for name, cell in given.items() if key(name) in LABEL_COLUMNS}
