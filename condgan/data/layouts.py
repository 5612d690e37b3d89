"""What the files of a tree are labeled with: class folders, lists of files and labels, shards of samples."""

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from condgan.data.attributes import attribute_file, list_attributes, locate
from condgan.data.listing import UNLABELED, Listing, listed
from condgan.data.tree import Files, Tree, is_image, parent
from condgan.errors import UserError, repeated
from condgan.labels import Field, LabelSpec, LabelTable

SPLITS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2}
"""Names of splits: 0 train, 1 validation, 2 test; the last of them that there is, is held out."""
FILE_COLUMNS = ("file_name", "filename", "file", "image_path", "path", "image", "img", "image_id", "name", "id")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "tag", "tags", "attributes")
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
TRUTH = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "-1": 0, "-1.0": 0, "false": 0}
EXPECTED = (
    "give a folder of class folders or of images, images with a CSV, metadata.jsonl, dataset.json or list_attr….txt, "
    "tar shards, or a zip of one of these"
)

Label = str | tuple[str, ...] | Mapping[str, int] | None
"""A class, the attributes that hold, whether each attribute holds, or nothing."""


def list_tree(tree: Tree, share: float | None, paired: bool) -> Listing:
    """The labeled images of a tree, whatever its layout. Raises UserError where it has none that is known."""
    if not tree.files and len(tree.folders) == 1:
        raise UserError(f"data '{tree.source}' is empty: {EXPECTED}")
    if (table := attribute_file(tree)) is not None:
        return list_attributes(tree, table, share)
    for layout in (_listed_in_json, _listed_in_tables, _samples):
        if (listing := layout(tree, share)) is not None:
            return listing
    return _class_folders(tree, share, paired)


def natural(name: str) -> tuple:
    """A key that sorts numbers as numbers."""
    return (0, int(name), name) if name.isdecimal() and len(name) < 20 else (1, 0, name)


def table_of(labels: Sequence[Label], source: str, origins: Sequence[str]) -> LabelTable:
    """A table of what single images are labeled with; classes in natural order, attributes in that of appearance.

    Raises UserError where some have none or are labeled otherwise than the rest.
    """
    kinds = {type(label) for label in labels}
    if len(kinds) > 1:
        first, other = (next(i for i, label in enumerate(labels) if type(label) is kind) for kind in kinds)
        lacking = next((i for i, label in enumerate(labels) if label is None), None)
        if lacking is not None:
            raise UserError(f"{origins[lacking]}: no label given, others have one; label all images, or none")
        raise UserError(
            f"data '{source}': a class given in {origins[first]}, several labels in {origins[other]}; expected either"
        )
    kind = kinds.pop() if kinds else type(None)
    if kind is type(None):
        return LabelTable.from_index(LabelSpec.of_classes([UNLABELED]), torch.zeros(len(labels), dtype=torch.int64))
    if kind is str:
        names = [str(label) for label in labels]
        classes = sorted(set(names), key=natural)
        number = {name: i for i, name in enumerate(classes)}
        index = torch.tensor([number[name] for name in names])
        return LabelTable.from_index(LabelSpec.of_classes(classes), index)
    names = tuple(dict.fromkeys(name for label in labels for name in label or ()))
    place = {name: i for i, name in enumerate(names)}
    holds = torch.zeros(len(labels), len(names), dtype=torch.bool)
    for row, label in enumerate(labels):
        for name in label or ():
            holds[row, place[name]] = bool(label[name]) if isinstance(label, Mapping) else True
    return LabelTable.from_values(LabelSpec((Field("attributes", names, exclusive=False),)), holds)


class _Rows:
    """What files list of images: label, split, and where it says so."""

    def __init__(self, tree: Tree, file: str) -> None:
        self.tree, self.file = tree, file
        self.label: dict[str, Label] = {}
        self.split: dict[str, int] = {}
        self.origin: dict[str, str] = {}

    def add(self, image: str, label: Label, split: int, origin: str) -> None:
        if image in self.origin:
            same = self.label[image] == label
            raise UserError(
                f"{origin}: '{image}' stands {'' if same else 'with another label '}in {self.origin[image]} already, "
                "expected each image once"
            )
        self.label[image], self.split[image], self.origin[image] = label, split, origin

    def listing(self, files: Sequence[str], share: float | None) -> Listing:
        if not self.label:
            raise UserError(f"'{self.file}' of '{self.tree.source}' lists no image: expected a file and a label each")
        origins, known = list(self.origin.values()), set(files)
        others = sum(is_image(file) and file not in known for file in self.tree.files)
        note = f"{others:,} images that '{self.file}' does not list are left out"
        splits = np.array(list(self.split.values()))
        return listed(
            self.tree.source,
            Files(self.tree, files),
            list(self.label),
            table_of(list(self.label.values()), self.tree.source, origins),
            None if (splits < 0).all() else splits,
            share,
            origins=origins,
            notes=(note,) if others else (),
        )


def _listed_in_json(tree: Tree, share: float | None) -> Listing | None:
    """StyleGAN's and EDM's data sets: dataset.json with pairs of a file and its class number, or none at all."""
    found = [file for file in tree.files if file.rpartition("/")[2] == "dataset.json"]
    if not found:
        return None
    file = min(found, key=lambda file: file.count("/"))
    root = parent(file)
    try:
        pairs = _json(tree.text(file)).get("labels")
        pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
        pairs = None if pairs is None else [(str(image), label) for image, label in pairs]
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"'{file}' of '{tree.source}' is no dataset.json ({error}): expected labels in it") from None
    rows = _Rows(tree, file)
    inside = f"{root}/" if root else ""
    if not pairs:
        for image in (one for one in tree.files if one.startswith(inside) and is_image(one)):
            rows.add(image, None, -1, f"'{file}'")
        return rows.listing(list(rows.label), share)
    for number, (image, label) in enumerate(pairs, start=1):
        origin = f"'{file}', label {number:,}"
        rows.add(_plain(image), _json_label(label, origin), -1, origin)
    vectors = [label for label in rows.label.values() if isinstance(label, Mapping)]
    if len(vectors) == len(rows.label) and all(sum(vector.values()) == 1 for vector in vectors):  # one-hot classes
        rows.label = {
            image: next(name for name, holds in vector.items() if holds)
            for image, vector in zip(rows.label, vectors, strict=True)
        }
    return rows.listing(locate(tree, file, rows.origin), share)


def _json(text: str) -> Any:
    """What JSON says. Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _plain(image: str) -> str:
    """A path as trees have it."""
    return image.strip().replace("\\", "/").removeprefix("./")


def _json_label(label: Any, origin: str) -> Label:
    """A class by number or name, attributes by names, or a vector of 0 and 1 for them."""
    if label is None:
        return None
    if isinstance(label, str | int) and not isinstance(label, bool):
        return str(label)
    if isinstance(label, list) and all(isinstance(one, str) for one in label):
        return tuple(label)
    if isinstance(label, list) and all(one in (0, 1) for one in label):
        return {str(number): int(one) for number, one in enumerate(label)}
    raise UserError(f"{origin}: {json.dumps(label)[:60]} given, expected a class, names, or a vector of 0 and 1")


def _listed_in_tables(tree: Tree, share: float | None) -> Listing | None:
    """CSV, TSV and JSON lines of files and labels: all of the outermost ones that list files of the tree."""
    candidates = [file for file in tree.files if file.lower().endswith((".csv", ".tsv", ".jsonl"))]
    tables = {file: rows for file in candidates if (rows := _table(tree, file)) is not None}
    if not tables:
        return None
    depth = min(file.count("/") for file in tables)
    tables = {file: rows for file, rows in tables.items() if file.count("/") == depth}
    rows, files = _Rows(tree, next(iter(tables))), []
    others = {
        (name, str(value).strip().lower())
        for lines in tables.values()
        for _, line in lines
        for name, value in line.items()
    }
    binary = {name for name, _ in others} - {name for name, value in others if value not in TRUTH}
    for file, lines in tables.items():
        before = set(rows.origin)
        own = _split_of(file)
        for origin, line in lines:
            image = _pop(line, FILE_COLUMNS)
            split = _pop(line, SPLIT_COLUMNS)
            if image is None or not str(image).strip():
                raise UserError(f"{origin}: no file given, expected one in a column such as file_name")
            where = own if split is None else SPLITS.get(str(split).lower())
            if where is None:
                raise UserError(f"{origin}: split '{split}' given, expected train, val or test")
            image = _plain(str(image))
            prefix = f"{parent(file)}/" if len(tables) > 1 and parent(file) else ""
            rows.add(prefix + image, _row_label(line, origin, binary), where, origin)
        mine = {image: origin for image, origin in rows.origin.items() if image not in before}
        files += locate(tree, "" if len(tables) > 1 else file, mine)
    twice = repeated(files)
    if twice is not None:
        first, second = (origin for origin, one in zip(rows.origin.values(), files, strict=True) if one == twice)
        raise UserError(f"{second}: '{twice}' stands in {first} already, expected each image once")
    return rows.listing(files, share)


def _table(tree: Tree, file: str) -> list[tuple[str, dict[str, Any]]] | None:
    """The lines of a table by where they stand; None where it lists no files of the tree and is not named like one."""
    must = re.match(r"(metadata|labels?)\.", file.rpartition("/")[2], re.IGNORECASE)
    try:
        rows = _rows(file, tree.text(file), bool(must), tree)
    except UserError:
        if must:
            raise
        return None
    if rows is None or must:
        return rows
    named = {one.rpartition("/")[2] for one in tree.files}
    stems = {one.rpartition(".")[0] for one in named}
    for _, row in rows:
        image = _plain(str(_pop(dict(row), FILE_COLUMNS))).rpartition("/")[2]
        if image in named or image in stems:
            return rows
    return None


def _rows(file: str, text: str, must: bool, tree: Tree) -> list[tuple[str, dict[str, Any]]] | None:
    """The lines of a table by where they stand; None where no column names files, unless it must."""
    if file.lower().endswith(".jsonl"):
        rows = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = _json(line)
            except ValueError as error:
                if not must:
                    return None
                raise UserError(f"'{file}', line {number}: no JSON ({error}); expected an object per line") from None
            if not isinstance(row, dict) or not any(name in row for name in FILE_COLUMNS):
                if not must:
                    return None
                raise UserError(f"'{file}', line {number}: no file_name given, expected an object with one")
            rows.append((f"'{file}', line {number}", row))
        return rows
    head = text.partition("\n")[0]
    delimiter = next((one for one in ("\t", ";", ",", "|") if one in head), ",")
    lines = [(number, line) for number, line in _numbered(file, text, delimiter) if any(cell.strip() for cell in line)]
    if not lines:
        return [] if must else None
    names = [cell.strip() for cell in lines[0][1]]
    if not any(name.lower() in FILE_COLUMNS for name in names):
        beside = f"{parent(file)}/" if parent(file) else ""
        if not (is_image(names[0]) and (beside + names[0] in set(tree.files) or must)):
            if not must:
                return None
            raise UserError(
                f"'{file}', line 1: columns {', '.join(names)} given, expected one of {', '.join(FILE_COLUMNS[:4])} "
                "and one such as label"
            )
        lines, names = [(0, []), *lines], ["file_name", "label"][: len(names)]  # a table without a head
    if twice := repeated(names):
        raise UserError(f"'{file}', line 1: column '{twice}' given twice, expected different names")
    rows = []
    for number, line in lines[1:]:
        if len(line) != len(names):
            raise UserError(
                f"'{file}', line {number}: {len(line)} cells given, expected {len(names)}: {', '.join(names)}"
            )
        rows.append((f"'{file}', line {number}", dict(zip(names, line, strict=True))))
    return rows


def _numbered(file: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        return [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise UserError(f"'{file}', line {reader.line_num}: no table ({error}); close its quotes") from None


def _pop(row: dict[str, Any], columns: Sequence[str]) -> Any:
    """The first of some columns that a row has, taken out of it."""
    by_lower = {name.lower(): name for name in row}
    name = next((by_lower[column] for column in columns if column in by_lower), None)
    return None if name is None else row.pop(name)


def _row_label(row: dict[str, Any], origin: str, binary: set[str]) -> Label:
    """What is left of a row: a label, a list of them, or a column of 0 and 1 for each attribute."""
    named = next((name for name in row if name.lower() in LABEL_COLUMNS), None)
    if named is None and len(row) == 1 and not set(row) <= binary:
        named = next(iter(row))
    if named is not None:
        label = row[named]
        if isinstance(label, str):
            label = label.strip()
            if named.lower() in ("labels", "tags", "attributes"):
                return tuple(one.strip() for one in re.split(r"[|;,]", label) if one.strip())
            if not label:
                raise UserError(f"{origin}: no label given in column '{named}'; label all images, or none")
            return label
        return _json_label(label, origin)
    if not row:
        return None
    wrong = next((name for name, value in row.items() if str(value).strip().lower() not in TRUTH), None)
    if wrong is not None:
        raise UserError(
            f"{origin}: '{row[wrong]}' given in column '{wrong}', expected a column such as label, or 0 or 1 for each "
            "attribute"
        )
    return {name: TRUTH[str(value).strip().lower()] for name, value in row.items()}


def _split_of(path: str) -> int:
    """The split that a word of a path names; −1 where none does."""
    words = re.split(r"[/._\- ]+", path.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), -1)


def _samples(tree: Tree, share: float | None) -> Listing | None:
    """WebDataset's shards: files of the same name but for their endings are a sample."""
    of_key: dict[str, dict[str, str]] = defaultdict(dict)
    for file in tree.files:
        folder, _, name = file.rpartition("/")
        stem, _, ending = name.partition(".")
        of_key[f"{folder}/{stem}"][ending.lower()] = file
    labeled = [parts for parts in of_key.values() if "cls" in parts or (tree.tar and "json" in parts)]
    if not labeled:
        return None
    rows, files = _Rows(tree, "the shards"), []
    for parts in of_key.values():
        image = next((file for file in parts.values() if is_image(file)), None)
        if image is None:
            continue
        source = parts.get("cls") or parts.get("json")
        if source is None:
            raise UserError(f"sample '{image}' of '{tree.source}' has no .cls nor .json: label all images, or none")
        rows.add(image, _sample_label(tree, source), _split_of(parent(image)) if tree.tar else -1, f"'{source}'")
        files.append(image)
    return rows.listing(files, share)


def _sample_label(tree: Tree, file: str) -> Label:
    text = tree.text(file).strip()
    if file.lower().endswith(".cls"):
        if not text:
            raise UserError(f"'{file}' is empty: expected a class")
        return text
    try:
        given = _json(text)
    except ValueError as error:
        raise UserError(f"'{file}' is no JSON ({error}): expected an object with a label") from None
    for name in ("label", "labels", "cls", "class", "class_name", "category"):
        if isinstance(given, dict) and name in given:
            return _json_label(given[name], f"'{file}'")
    raise UserError(f"'{file}' has no label: expected an object with one, such as {{\"label\": 3}}")


def _class_folders(tree: Tree, share: float | None, paired: bool) -> Listing:
    """A folder per class, below folders of the splits or not; or a single folder of images without labels."""
    images = {parent(file) for file in tree.files if is_image(file)}
    root = ""
    while len(inside := tree.inside(root)) == 1 and tree.inside(inside[0]) and not images & {root, inside[0]}:
        root = inside[0]
    roots = _split_roots(tree, root)
    found: list[tuple[str, int, str]] = []  # class, split, file
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
    learned = {name for name, split, _ in found if split == 0}
    held = max(roots.values())
    for name, split, _ in found:
        if split == held and name not in learned:
            raise UserError(
                f"data '{tree.source}': class '{name}' is in the held-out split only; give both splits the same classes"
            )
    classes = sorted(learned, key=natural)
    number = {name: i for i, name in enumerate(classes)}
    found = sorted((one for one in found if one[0] in number), key=lambda one: (one[1], number[one[0]]))
    if len(classes) == 1 and classes[0] == UNLABELED:
        unread = [file for file in tree.files if file.lower().endswith((".csv", ".tsv", ".jsonl"))]
        notes += [f"'{file}' is not understood: no labels are read from it" for file in unread[:3]]
    if 1 in roots.values() and 2 in roots.values():
        notes.append("validation images are left out, the test images are held out")
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


def _pairs(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _split_roots(tree: Tree, root: str) -> dict[str, int]:
    """The folders that hold the class folders of each split, and which split it is."""
    inside = tree.inside(root)
    splits = {folder: SPLITS[name] for folder in inside if (name := folder.rpartition("/")[2].lower()) in SPLITS}
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
