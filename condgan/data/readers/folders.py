"""Images in a folder per class, or without labels, below folders of the splits or not."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from condgan.data.listing import UNLABELED, Listing, listed
from condgan.data.readers.labels import EXPECTED, SPLIT_WORDS, natural
from condgan.data.readers.tree import Files, Tree, is_image, parent
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError


def list_class_folders(tree: Tree, share: float | None, paired: bool) -> Listing:
    """A folder per class, below folders of the splits or not; or a single folder of images without labels."""
    images = {parent(file) for file in tree.files if is_image(file)}
    root = ""
    while len(inside := tree.inside(root)) == 1 and tree.inside(inside[0]) and not images & {root, inside[0]}:
        root = inside[0]
    roots = _split_roots(tree, root)
    found, notes = _labeled_files(tree, roots)
    learned = _learned_classes(tree, found, held=max(roots.values()))
    classes = sorted(learned, key=natural)
    number = {name: i for i, name in enumerate(classes)}
    found = sorted((one for one in found if one[0] in number), key=lambda one: (one[1], number[one[0]]))
    names = [file for _, _, file in found]
    depth = {split: folder.count("/") + bool(folder) + (len(classes) > 1 or classes[0] != UNLABELED)
             for folder, split in roots.items()}  # fmt: skip
    return listed(
        tree.source,
        Files(tree, names),
        names,
        LabelTable.from_index(LabelSpec.of_classes(classes), torch.tensor([number[name] for name, _, _ in found])),
        np.array([split for _, split, _ in found]) if len(roots) > 1 else None,
        share,
        pairs=_pairs(["/".join(file.split("/")[depth[split] :]) for _, split, file in found]) if paired else None,
        paired=paired,
        notes=tuple(notes),
    )


def _labeled_files(tree: Tree, roots: dict[str, int]) -> tuple[list[tuple[str, int, str]], list[str]]:
    """Each image's class, split and file, and notes of what is left out.

    Raises UserError for a folder without images, and for splits of which one has class folders and one has not.
    """
    found: list[tuple[str, int, str]] = []
    notes: list[str] = []
    for folder, split in sorted(roots.items(), key=lambda root: root[1]):
        classes, beside = _files_by_class(tree, folder)
        if classes and beside:
            notes.append(f"{len(beside):,} images beside the class folders of '{folder or '.'}' are left out")
        if not classes:
            if not beside:
                raise UserError(f"data '{tree.source}' holds no images in '{folder or '.'}': {EXPECTED}")
            classes = {UNLABELED: beside}
            if found and found[0][0] != UNLABELED:
                raise UserError(
                    f"data '{tree.source}': '{folder}' has no class folders, other splits have; give it the same, or "
                    "move it elsewhere"
                )
        for name, files in classes.items():
            if not files:
                raise UserError(
                    f"class folder '{f'{folder}/' * bool(folder)}{name}' of '{tree.source}' has no image: add some or "
                    "remove the folder"
                )
            found += [(name, split, file) for file in files]
    return found, notes


def _learned_classes(tree: Tree, found: Sequence[tuple[str, int, str]], held: int) -> set[str]:
    """The classes of the training split. Raises UserError for one that the held-out split alone has."""
    learned = {name for name, split, _ in found if split == 0}
    for name, split, _ in found:
        if split == held and name not in learned:
            raise UserError(
                f"data '{tree.source}': class '{name}' is in the held-out split only; give both splits the same classes"
            )
    return learned


def _pairs(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _split_roots(tree: Tree, root: str) -> dict[str, int]:
    """The folders that hold the class folders of each split, and which split it is."""
    inside = tree.inside(root)
    splits = {
        folder: SPLIT_WORDS[name] for folder in inside if (name := folder.rpartition("/")[2].lower()) in SPLIT_WORDS
    }
    if 0 not in splits.values():
        return {root: 0}
    twice = [number for number, count in Counter(splits.values()).items() if count > 1]
    if twice or len(splits) < len(inside):
        names = ", ".join(folder.rpartition("/")[2] for folder in inside)
        raise UserError(
            f"data '{tree.source}' holds the folders {names}: expected train/ with test/ or val/, or class folders"
        )
    return splits


def _files_by_class(tree: Tree, root: str) -> tuple[dict[str, list[str]], list[str]]:
    """The files of each class folder, and the images beside them."""
    start = f"{root}/" if root else ""
    classes: dict[str, list[str]] = {folder[len(start) :]: [] for folder in tree.inside(root)}
    beside = []
    for file in tree.files:
        if file.startswith(start):
            name, slash, _ = file[len(start) :].partition("/")
            if slash:
                classes[name].append(file)
            elif is_image(file):
                beside.append(file)
    return classes, beside
