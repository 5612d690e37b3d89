"""Images in a folder per class, or without labels, in folders of splits or not."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from condgan.data.listing import UNLABELED, Listing, class_is, listed
from condgan.data.readers.labels import EXPECTED, SPLIT_WORDS, natural
from condgan.data.readers.names import PICTURE_ENDINGS, ending, is_image, is_leftover, left_out
from condgan.data.readers.splits import Splits, find_splits, folders_of, is_split
from condgan.data.readers.tree import Files, Tree, images_in, parent
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError, shown

_COMPANION = re.compile(
    r"([._ -](masks?|segs?|segmentations?|segmaps?|depths?|gts?|groundtruth|alphas?|mattes?|annotations?|annot|labels?"
    r"|instances?|normals?|trimaps?|edges?))+$",
    re.IGNORECASE,
)
"""What is added to an image's name to call what goes with it."""


UNKNOWN = ("unlabeled", "unlabelled")
"""Folders beside those of classes, of images whose class is not known."""


class Found(NamedTuple):
    """An image, its split and class, and its path within the class."""

    label: str
    split: int
    file: str
    rest: str


def list_class_folders(tree: Tree, share: float | None, paired: bool, told: Collection[str] = ()) -> Listing:
    """A folder per class, with folders of splits around or in them or not; or a folder of images without labels.

    `told`: files that are no images, of which other notes tell.
    """
    images, notes = images_in(tree, told)
    if not images:
        raise UserError(f"data '{tree.source}' holds no images{_why_none(notes)}: {EXPECTED}")
    other = _of_other_files(tree)
    root = _root(tree, images, other)
    splits = find_splits(tree, root, images)
    found, more = _labeled_files(tree, root, splits, images)
    _require_images(tree, root, splits, found, other)
    notes += [*_of_one_split(root, splits), *splits.notes, *more, *companions(images)]
    held = max((one.split for one in splits.folders.values()), default=0)
    stated = held > 0 and share is None
    if held and share is not None:
        others = sum(one.split > 0 for one in found)
        left_out = f"{others:,} image{'s' * (others != 1)} of other splits left out"
        notes.append(f"{left_out}: a share of the training images is held out")
        found = [one for one in found if one.split == 0]
    learned = _learned_classes(tree, found, held)
    unknown = {name for name in learned if name.lower() in UNKNOWN and len(learned) > 1}
    classes = sorted(learned - unknown, key=natural)
    number = {name: i for i, name in enumerate(classes)} | dict.fromkeys(unknown, -1)
    notes += [f"images of folder '{shown(name, 40)}' are of no known class" for name in sorted(unknown)]
    found = sorted((one for one in found if one.label in number), key=lambda one: (one.split, number[one.label]))
    names = [one.file for one in found]
    return listed(
        tree.source,
        Files(tree, names),
        names,
        LabelTable.from_index(LabelSpec.of_classes(classes), torch.tensor([number[one.label] for one in found])),
        np.array([one.split for one in found]) if stated else None,
        share,
        pairs=_pairs([one.rest for one in found]) if paired else None,
        paired=paired,
        notes=tuple(notes),
    )


def neighbors_with_images(source: str) -> list[str]:
    """The folders beside one that hold images, as it does: it may be a class of theirs, and the data a folder above."""
    path = Path(source).expanduser().resolve()
    if not path.is_dir() or path.parent == path:
        return []
    beside = [one for one in sorted(path.parent.iterdir())[:200] if one.is_dir() and not is_leftover(f"{one.name}/")]
    return [one.name for one in beside if one != path and any(is_image(file.name) for file in one.iterdir())]


def _why_none(notes: Sequence[str]) -> str:
    return f" that can be read ({'; '.join(notes)})" if notes else ""


def _of_other_files(tree: Tree) -> set[str]:
    """The folders of files none of which is a picture, such as annotations/: they are no classes."""
    pictures = [file for file in tree.files if is_image(file) or not ending(file) or ending(file) in PICTURE_ENDINGS]
    return folders_of(tree.files) - folders_of(pictures)


def _root(tree: Tree, images: Sequence[str], other: set[str]) -> str:
    """The folder that holds the class folders, or those of splits."""
    holding = {parent(image) for image in images}
    root = ""
    while len(inside := [one for one in tree.inside(root) if one not in other]) == 1 and root not in holding:
        if inside[0] in holding and not is_split(inside[0]):
            break
        root = inside[0]
    return root


def _of_one_split(root: str, splits: Splits) -> list[str]:
    """A note of images to train on that lie in a folder called test or val, the only one there is."""
    named = [part for part in root.split("/") if is_split(part) and SPLIT_WORDS.get(part.lower()) != 0]
    if not named or splits.folders:
        return []
    return [f"folder '{shown(named[0], 40)}' is trained on, as there is no other split"]


def companions(images: Sequence[str]) -> list[str]:
    """A note of images that may be masks and the like, as they are called like another one beside them and more."""
    stems = [splitext(image)[0] for image in images]
    known = dict(zip(reversed(stems), reversed(images), strict=True))  # the first of each
    found = []
    for image, stem in zip(images, stems, strict=True):
        folder, name = parent(stem), stem.rpartition("/")[2]
        plain = _COMPANION.sub("", name)
        other = known.get(f"{folder}/{plain}" if folder else plain)
        if plain and other is not None and other != image:
            found.append((image, other))
    if not found:
        return []
    image, other = (shown(one, 60) for one in found[0])
    return [
        f"{len(found):,} of the images are called like others, such as '{image}' beside '{other}': if they are masks "
        "or the like, move them elsewhere"
    ]


def _labeled_files(tree: Tree, root: str, splits: Splits, images: Sequence[str]) -> tuple[list[Found], list[str]]:
    """The images, and notes of those that are left out.

    Raises UserError for a class folder or split without images, and for splits of which one has class folders and one
    has not.
    """
    start = root.count("/") + bool(root)
    found: list[Found] = []
    beside: dict[str, list[str]] = {folder: [] for folder in splits.folders or [root]}
    for file in images:
        parts = file.split("/")
        place = "/".join(parts[: start + splits.depth + 1]) if splits.folders else root
        if place not in beside:
            continue  # of no split
        split, label = splits.folders.get(place, (0, ""))
        inner = [*parts[start : start + splits.depth], *parts[start + splits.depth + bool(splits.folders) :]]
        inner = inner[splits.skipped :]
        if label or len(inner) > 1:
            found.append(Found(label or inner[0], split, file, "/".join(inner if label else inner[1:])))
        else:
            beside[place].append(file)
    notes: list[str] = []
    labeled = {one.split for one in found}
    for place, files in sorted(beside.items(), key=lambda one: splits.folders.get(one[0], (0, ""))):
        split, label = splits.folders.get(place, (0, ""))
        if label or splits.depth:
            continue
        if split in labeled:
            notes += [f"{len(files):,} images beside the class folders of '{place or '.'}' are left out"] * bool(files)
        elif not files:
            raise UserError(f"data '{tree.source}' holds no images in '{shown(place) or '.'}': {EXPECTED}")
        elif 0 in labeled:
            raise UserError(
                f"data '{tree.source}': '{shown(place)}' has no class folders, other splits have; give it the same, or "
                "move it elsewhere"
            )
        else:
            found += [Found(UNLABELED, split, file, file[len(place) + bool(place) :]) for file in files]
    return found, notes


def _require_images(tree: Tree, root: str, splits: Splits, found: Sequence[Found], other: set[str]) -> None:
    """Raises UserError for class folders without images."""
    if all(one.label == UNLABELED for one in found):
        return
    holding = folders_of([one.file for one in found])
    around = list(splits.folders) if splits.folders and not splits.depth else [root]
    for folder in [one for place in around if not splits.folders.get(place, (0, ""))[1] for one in tree.inside(place)]:
        if folder not in holding and folder not in other:
            why = _why_none(left_out(file for file in tree.files if file.startswith(f"{folder}/")))
            raise UserError(
                f"class folder '{shown(folder)}' of '{tree.source}' has no image{why}: add some or remove the folder"
            )


def _learned_classes(tree: Tree, found: Sequence[Found], held: int) -> set[str]:
    """The classes of the training split. Raises UserError for those that the held-out split alone has."""
    learned = {one.label for one in found if one.split == 0}
    if alone := sorted({one.label for one in found if one.split == held} - learned, key=natural):
        raise UserError(
            f"data '{tree.source}': {class_is(alone)} in the held-out split only; give both splits the "
            "same classes, or hold out a share of the training images with data.held_out=0.1 (or --held-out 0.1)"
        )
    return learned


def _pairs(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
