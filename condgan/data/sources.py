"""Readers: any labelled images, read once into uint8, training and held-out images apart."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from condgan.data.attributes import choose, find, locate, partition, read_table
from condgan.data.dataset import Dataset, Exact, Split, hold_out, join
from condgan.data.digits import digits, tinted_digits
from condgan.data.pixels import color, pixels
from condgan.data.tree import Tree, open_tree
from condgan.errors import UserError, repeated
from condgan.labels import Field, Labels, LabelSpec, LabelTable

HELD_OUT = {"test", "testing", "val", "valid", "validation"}
TRAIN = {"train", "training"}
SOURCES: dict[str, Callable[[int, int], Dataset]] = {"digits": digits, "tinted-digits": tinted_digits}
EXPECTED = (
    "give a folder of class folders (with or without train/ and test/), one of images with a list_attr….txt, or a zip "
    "of either"
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How pictures become pixels and labels; see `read`."""

    size: int
    channels: int
    attributes: Sequence[str] | None
    exclusive: Sequence[Sequence[str]] | None
    paired: bool
    background: tuple[int, int, int]
    skip_bad_images: bool


def read(
    source: str | Sequence[str],
    size: int,
    channels: int,
    *,
    attributes: Sequence[str] | None = None,
    exclusive: Sequence[Sequence[str]] | None = None,
    paired: bool = False,
    background: str = "white",
    skip_bad_images: bool = False,
) -> Dataset:
    """Read a data set by name, or from a folder or zip, at size × size pixels; or several as one.

    It holds a folder of images per class, or images and a list_attr….txt in CelebA's layout, of which `attributes` are
    chosen (all by default). `exclusive`: groups of attributes of which an image has one at most; by default neighbors
    of which every image has exactly one; of several such data sets, each must have all that are named. `paired`:
    images that differ in nothing but labels are there, to compare translations with: files of the same name in all
    class folders, or the same other attributes.

    Every image is turned upright, put on `background` where it is transparent (but for 4 channels), made gray, RGB or
    RGBA, cropped to its central square and resized (bicubic, antialiased).
    """
    sources = [source] if isinstance(source, str) else list(source)
    if twice := repeated(sources):
        raise UserError(f"data '{twice}' given twice: expected different data sets")
    how = _Reading(size, channels, attributes, exclusive, paired, color(background), skip_bad_images)
    parts = [SOURCES[one](size, channels) if one in SOURCES else _read_path(Path(one), how) for one in sources]
    chosen_from = [one for one, part in zip(sources, parts, strict=True) if not part.spec.fields[0].exclusive]
    if (attributes or exclusive) and not set(chosen_from) - set(SOURCES):
        names = ", ".join(attributes or [name for group in exclusive or () for name in group])
        raise UserError(f"attributes {names} given with data '{', '.join(sources)}', which has no list_attr….txt file")
    if len(parts) == 1:
        return parts[0]
    return join(dict(zip(_different([Path(one).stem for one in sources]), parts, strict=True)))


def _different(names: Sequence[str]) -> list[str]:
    """Names with numbers after them where they would not be different."""
    made: list[str] = []
    for name in names:
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        made.append(next(one for one in numbered if one not in made))
    return made


def _read_path(path: Path, how: _Reading) -> Dataset:
    path = path.expanduser()
    tree = open_tree(path, EXPECTED)
    if (table := find(tree)) is not None:
        return _read_attributes(tree, table, path, how)
    return _read_classes(tree, path, how)


def _read_classes(tree: Tree, path: Path, how: _Reading) -> Dataset:
    if not tree.inside(PurePosixPath()):
        raise UserError(f"data '{path}' {'holds no class folders' if tree.files else 'is empty'}: {EXPECTED}")
    roots = _split_roots(tree, path)
    by_split = {split: _files_by_class(tree, root, path) for split, root in roots.items()}
    classes = sorted(by_split["train"], key=_natural)
    for name in by_split.get("held-out", {}):
        if name not in classes:
            raise UserError(
                f"data '{path}': class '{name}' is in the held-out split only; give both splits the same classes"
            )
    spec = LabelSpec.of_classes(classes)

    splits: dict[str, Split] = {}
    below: dict[str, np.ndarray] = {}
    skipped: list[str] = []
    for split, files in by_split.items():
        todo = [(index, file) for index, name in enumerate(classes) for file in files.get(name, [])]
        described = [f"'{file}' of class '{classes[index]}'" for index, file in todo]
        images, kept, bad = _decode(tree, [file for _, file in todo], described, f"reading {split} images", path, how)
        skipped += bad
        index = torch.tensor([todo[i][0] for i in kept], dtype=torch.int64)
        splits[split] = Split(images, LabelTable.from_index(spec, index), tuple(str(todo[i][1]) for i in kept))
        depth = len(roots[split].parts) + 1
        below[split] = np.array(["/".join(todo[i][1].parts[depth:]) for i in kept])

    if "held-out" not in splits:
        whole, names = splits["train"], below["train"]
        _require_images(whole.labels, 2, f"data '{path}'")
        parts = _hold_out_names(names) if how.paired else hold_out(whole.labels.index().numpy(), 0.1)
        for split, part in zip(("train", "held-out"), parts, strict=True):
            splits[split], below[split] = whole.at(torch.from_numpy(part)), names[part]
    for split, one in splits.items():
        _require_images(one.labels, 1, f"the {split} split of '{path}'")
    exact = {"class": _exact(splits, {split: below[split].tolist() for split in splits}, path)} if how.paired else {}
    return Dataset(splits["train"], splits["held-out"], tuple(skipped), exact)


def _read_attributes(tree: Tree, file: PurePosixPath, path: Path, how: _Reading) -> Dataset:
    table = read_table(tree, file)
    field, holds, other, others = choose(table, how.attributes, how.exclusive)
    files = locate(tree, table)
    official = partition(tree, table)
    if official is None:
        parts = hold_out(np.zeros(len(files), int), 0.1)
    else:
        parts = np.flatnonzero(official == 0), np.flatnonzero(official == (2 if (official == 2).any() else 1))
    splits, skipped = {}, []
    for split, part in zip(("train", "held-out"), parts, strict=True):
        described = [f"'{table.images[i]}' of '{file}', line {table.lines[i]}" for i in part]
        images, kept, bad = _decode(tree, [files[i] for i in part], described, f"reading {split} images", path, how)
        if len(kept) < (2 if split == "train" else 1):
            raise UserError(
                f"data '{path}' has {len(kept)} readable image{'s' * (len(kept) != 1)} to "
                f"{'train on, at least 2' if split == 'train' else 'hold out, at least 1'} needed"
            )
        splits[split] = Split(
            images,
            _attributes(field, holds[part[kept]]),
            tuple(table.images[i] for i in part[kept]),
            None if other is None else _attributes(other, others[part[kept]]),
        )
        skipped += bad
    shares = splits["train"].labels.values.mean(0)
    for name, share in zip(field.values, shares.tolist(), strict=True):
        if share in (0, 1):
            what = "no training image has" if share == 0 else "every training image has"
            raise UserError(f"attribute '{name}' of '{path}': {what} it; choose others with --attributes")
    contents = {
        split: [()] * len(one) if one.content is None else list(map(tuple, one.content.values.tolist()))
        for split, one in splits.items()
    }
    exact = {"attributes": _exact(splits, contents, path)} if how.paired else {}
    return Dataset(splits["train"], splits["held-out"], tuple(skipped), exact)


def _attributes(field: Field, holds: Bool[np.ndarray, "n v"]) -> LabelTable:
    return LabelTable.from_values(LabelSpec((field,)), torch.from_numpy(holds))


def _decode(
    tree: Tree, files: Sequence[PurePosixPath], described: Sequence[str], what: str, path: Path, how: _Reading
) -> tuple[UInt8[Tensor, "n c h w"], list[int], list[str]]:
    """The pixels of all readable files, which these are, and what is wrong with the others.

    Raises UserError for the others, unless they are to be left out.
    """
    decoded = np.empty((len(files), how.channels, how.size, how.size), np.uint8)
    kept: list[int] = []
    bad: list[str] = []
    for number, file in enumerate(tqdm(files, desc=what, leave=False, disable=None)):
        try:
            with tree.files[file]() as stream, Image.open(stream) as image:
                decoded[len(kept)] = pixels(image, how.size, how.channels, how.background)
            kept.append(number)
        except UnidentifiedImageError:
            bad.append(f"{described[number]} (of no known image format)")
        except Exception as error:  # decoders raise whatever they like
            bad.append(f"{described[number]} ({' '.join(str(error).split()) or type(error).__name__})")
    if bad and not how.skip_bad_images:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UserError(
            f"unreadable image {bad[0]}{more} in '{path}': mend it, or go on without with --skip-bad-images"
        )
    return torch.from_numpy(decoded[: len(kept)]), kept, bad


def _hold_out_names(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All files of a tenth of the names."""
    different, of_file = np.unique(names, return_inverse=True)
    held_out = np.isin(of_file, hold_out(np.zeros(len(different), int), 0.1)[1])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _exact(splits: Mapping[str, Split], keys: Mapping[str, Sequence[Hashable]], path: Path) -> Exact:
    """True translations: the image with the same key and the labels asked for. Raises UserError where there are two."""
    found: dict[Hashable, tuple[str, int]] = {}
    for split, one in splits.items():
        for i, both in enumerate(zip(keys[split], map(tuple, one.labels.values.tolist()), strict=True)):
            if both in found:
                twin, number = found[both]
                raise UserError(
                    f"data.paired given with data '{path}', where '{one.names[i]}' and '{splits[twin].names[number]}' "
                    "have the same labels: expected images that differ in them; leave it out"
                )
            found[both] = split, i

    def exact(index: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        asked = zip((keys["held-out"][i] for i in index.tolist()), map(tuple, labels.values.tolist()), strict=True)
        places = [found.get(both) for both in asked]
        images = [splits[place[0]].images[place[1]] if place else splits["train"].images[0] for place in places]
        return torch.stack(images), torch.tensor([place is not None for place in places])

    return exact


def _split_roots(tree: Tree, path: Path) -> dict[str, PurePosixPath]:
    """The folders that hold the class folders of each split; folders that only wrap them are seen through."""
    images = {file.parent for file in tree.files if file.suffix.lower() in Image.registered_extensions()}
    root = PurePosixPath()
    while len(inside := tree.inside(root)) == 1 and tree.inside(inside[0]) and inside[0] not in images:
        root = inside[0]
    train = [folder for folder in inside if folder.name.lower() in TRAIN]
    held_out = [folder for folder in inside if folder.name.lower() in HELD_OUT]
    if not train:
        return {"train": root}
    if len(train) > 1 or len(held_out) > 1 or len(inside) > len(train) + len(held_out):
        names = ", ".join(folder.name for folder in inside)
        raise UserError(
            f"data '{path}' holds the folders {names}: expected train/ and one of test/ or val/, or class folders"
        )
    return {"train": train[0], "held-out": held_out[0]} if held_out else {"train": train[0]}


def _files_by_class(tree: Tree, root: PurePosixPath, path: Path) -> dict[str, list[PurePosixPath]]:
    classes: dict[str, list[PurePosixPath]] = {folder.name: [] for folder in tree.inside(root)}
    depth = len(root.parts)
    for file in tree.files:
        if len(file.parts) > depth + 1 and file.parts[:depth] == root.parts:
            classes[file.parts[depth]].append(file)
    if not classes:
        raise UserError(f"data '{path}': '{root}' holds no class folders; expected one folder of images per class")
    for name, files in classes.items():
        if not files:
            raise UserError(f"class folder '{root / name}' of '{path}' has no image: add some or remove the folder")
    return classes


def _natural(name: str) -> tuple:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _require_images(labels: LabelTable, least: int, where: str) -> None:
    for name, count in zip(labels.spec.classes, labels.counts().tolist(), strict=True):
        if count < least:
            raise UserError(
                f"class '{name}' has {count} readable image{'s' * (count != 1)} in {where}: at least {least} needed"
            )
