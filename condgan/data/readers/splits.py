"""Folders that are splits, by their names: train/ and test/, trainA and testA, cat/train and cat/test."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from condgan.data.readers.labels import SPLIT_WORDS
from condgan.data.readers.tree import Tree, parent
from condgan.utils.errors import UserError, shown

FILLERS = ("set", "sets", "data", "dataset", "image", "images", "img", "imgs", "split", "samples", "")
"""Words beside that of a split that say nothing."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W_]")


class Named(NamedTuple):
    """What a folder's name says: 0 train, 1 validation, 2 test; and of what."""

    split: int
    of: str


class Splits(NamedTuple):
    """The folders of splits, all of one depth, below a folder of a tree."""

    folders: Mapping[str, Named]
    depth: int
    """How many folders are around each: 0 for train/ and test/, 1 for cat/train and cat/test."""
    notes: tuple[str, ...] = ()
    skipped: int = 0
    """How many folders are between each and those of classes, such as images/ in train/images/cat."""


def split_in(name: str) -> Named | None:
    """The split that a folder's name tells with one of its words: train, train_summer, summer-train, trainA, TRAINA."""
    words = [(word[0], *word.span()) for word in _WORDS.finditer(name)]
    if len(words) == 1 and name[:-1].lower() in SPLIT_WORDS and name[-1].lower() in "abcd":
        words = [(name[:-1], 0, len(name) - 1), (name[-1], len(name) - 1, len(name))]
    said = [word for word in words if _split(word[0]) is not None]
    if not said:
        return None
    word, start, stop = next((word for word in (words[0], words[-1]) if word in said), said[0])
    rest = "" if len(said) == len(words) else re.sub(r"^[\W_]+|[\W_]+$", "", name[:start] + name[stop:])
    split = _split(said[0][0] if not rest else word)
    assert split is not None
    return Named(split, "" if rest.lower() in FILLERS else rest)


def is_split(folder: str) -> bool:
    """Whether a folder's name says that it is a split, and nothing else."""
    named = split_in(_name(folder))
    return named is not None and not named.of


def _split(word: str) -> int | None:
    """Of a word such as Train, or trainset."""
    word = word.lower()
    return next((SPLIT_WORDS[known] for end in FILLERS if (known := word.removesuffix(end)) in SPLIT_WORDS), None)


def find_splits(tree: Tree, root: str, images: Sequence[str]) -> Splits:
    """The folders of splits below a folder, if there are any.

    Neighbors are splits where two of their names differ in nothing but the split, as train/ and test/ or trainA and
    testA do. A single name such as train/ is a class among classes, unless it holds folders that are named like its
    neighbors, or like theirs. Raises UserError for splits among folders that are none.
    """
    holding = folders_of(images)
    relevant: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(tree.folders - {""}):
        if folder in holding or is_split(folder):
            relevant[parent(folder)].append(folder)
    level, depth = [root], 0
    while level:
        inside = {folder: relevant[folder] for folder in level}
        if any(map(_are_splits, inside.values())) or (not depth and _holds_others(relevant, root)):
            splits = _understood(tree, root, inside, depth, images)
            return splits if depth else splits._replace(skipped=_skipped(splits, relevant, {*map(parent, images)}))
        level, depth = [one for some in inside.values() for one in some], depth + 1
    named = [shown(_name(folder), 40) for folder in relevant[root] if split_in(_name(folder))]
    return Splits({}, 0, tuple(f"folder '{name}' is read as a class, as no other split is beside it" for name in named))


def _skipped(splits: Splits, relevant: Mapping[str, Sequence[str]], holding: set[str]) -> int:
    """How many times each split holds nothing but one folder, which holds no images but those of its folders."""
    level, skipped = list(splits.folders), 0
    while not any(named.of for named in splits.folders.values()):
        inside = [relevant.get(folder, ()) for folder in level]
        if not all(len(one) == 1 and one[0] not in holding for one in inside) or holding & {*level}:
            break
        level, skipped = [one[0] for one in inside], skipped + 1
    return skipped


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]


def folders_of(images: Iterable[str]) -> set[str]:
    """All folders that images are in."""
    folders: set[str] = set()
    for folder in {parent(image) for image in images}:
        while folder and folder not in folders:
            folders.add(folder)
            folder = parent(folder)
    return folders


def _are_splits(folders: Sequence[str]) -> bool:
    """Whether two of the names differ in the split alone."""
    splits = defaultdict(set)
    for folder in folders:
        if (named := split_in(_name(folder))) is not None:
            splits[named.of].add(named.split)
    return any(len(some) > 1 for some in splits.values())


def _holds_others(relevant: Mapping[str, Sequence[str]], root: str) -> bool:
    """Whether a folder that is called train or test holds folders named as its neighbors, or those in them, are."""
    inside = {folder: set(map(_name, relevant.get(folder, ()))) for folder in relevant[root]}
    return any(
        is_split(folder)
        and own & {name for other in inside if other != folder for name in (_name(other), *inside[other])}
        for folder, own in inside.items()
    )


def _understood(
    tree: Tree, root: str, inside: Mapping[str, Sequence[str]], depth: int, images: Sequence[str]
) -> Splits:
    """The splits in some folders of one depth, or why they cannot be: a UserError."""
    found: dict[str, Named] = {}
    for folder, inner in inside.items():
        named = {one: split_in(_name(one)) for one in inner}
        known = {one: what for one, what in named.items() if what is not None}
        if len(known) < len(inner) or len(set(known.values())) < len(inner):
            raise _refused(tree, folder, inner)
        found |= known
    where = next(folder for folder, inner in inside.items() if _are_splits(inner) or not depth)
    of = {named.of for named in found.values()}
    if 0 not in {named.split for named in found.values()} or (not depth and len(of) > 1 and "" in of):
        raise _refused(tree, where, inside[where])
    level = root.count("/") + bool(root) + depth + 1
    outside = [image for image in images if "/".join(image.split("/")[:level]) not in found]
    if deep := next((image for image in outside if parent(image) != root), None):
        raise UserError(
            f"data '{tree.source}': '{shown(deep)}' is in no split, while '{shown(where)}' holds "
            f"{_listed(inside[where])}: give all class folders the same, or move it elsewhere"
        )
    notes = (f"{len(outside):,} images beside the splits' folders are left out",) if outside else ()
    if len(of) == 1 or depth:
        found = {folder: Named(named.split, "") for folder, named in found.items()}
    else:
        notes = (*notes, f"folders {_listed(list(found))} are read as splits of the classes {_listed(sorted(of))}")
    if depth:
        notes = (*notes, f"{_listed(inside[where])} in class folders such as '{shown(where)}' are read as splits")
    return Splits(found, depth, notes)


def _listed(folders: Sequence[str]) -> str:
    return ", ".join(shown(_name(folder), 40) for folder in folders[:8]) + ", …" * (len(folders) > 8)


def _refused(tree: Tree, where: str, folders: Sequence[str]) -> UserError:
    inside = f" in '{shown(where)}'" if where else ""
    return UserError(
        f"data '{tree.source}' holds the folders {_listed(folders)}{inside}: expected train/ with test/ or val/, each "
        "once and with nothing beside them, or class folders; move or rename the others"
    )
