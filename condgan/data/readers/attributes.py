"""Attributes: files of them in CelebA's layout, and which of them are learned.

The layout: a count, a line of names, then a line per image: its name and ±1 for each, or ? where it is not known.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32

from condgan.data.listing import Listing, listed
from condgan.data.readers.labels import require_few, split_of, unlisted
from condgan.data.readers.names import is_image
from condgan.data.readers.tree import Files, Tree, parent
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError, repeated, shown, unknown
from condgan.utils.limits import DEPTH, LIST, PATH

_TABLE = re.compile(r"(^|/)list_attr[^/]*\.txt$")
_PARTITION = re.compile(r"(^|/)list_eval_partition[^/]*\.(txt|csv)$")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
_VALUES = {"1": 1, "-1": 0, "0": 0, "?": -1}
"""±1, 0 for −1, and ? for what is not known."""


def attribute_file(tree: Tree, pattern: re.Pattern[str] = _TABLE) -> str | None:
    """The attribute file of a tree, the outermost one, if it has any. Raises UserError for two."""
    found = sorted((file for file in tree.files if pattern.search(file)), key=lambda file: file.count("/"))
    if len(found) > 1 and found[0].count("/") == found[1].count("/"):
        raise UserError(f"two such files found, '{found[0]}' and '{found[1]}': leave one of them")
    return found[0] if found else None


def list_attributes(tree: Tree, file: str, share: float | None) -> Listing:
    """Images and their attributes. Raises UserError, with the line's number, for a line that does not fit."""
    lines = tree.text(file, LIST).split("\n")
    if len(lines) < 2 or not re.fullmatch(r"\s*\d{1,12}\s*", lines[0]):
        raise UserError(
            f"attribute file '{file}', line 1: '{lines[0][:40]}' given, expected the number of "
            "images, then a line of attributes' names, then a line per image"
        )
    names = tuple(lines[1].split())
    if not names:
        raise UserError(f"attribute file '{file}', line 2: nothing given, expected the attributes' names")
    require_few(names, f"attribute file '{file}', line 2")
    if twice := repeated(names):
        raise UserError(f"attribute file '{file}', line 2: '{twice}' given twice, expected different names")
    images: dict[str, int] = {}
    holds = []
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        image, *values = line.split()
        where = f"attribute file '{file}', line {number}"
        if len(values) != len(names):
            raise UserError(
                f"{where}: {len(values)} values given for '{image}', expected {len(names)}, one per attribute of line 2"
            )
        if (wrong := next((value for value in values if value not in _VALUES), None)) is not None:
            raise UserError(f"{where}: '{wrong}' given for '{image}', expected 1, -1 or 0, or ? where it is not known")
        if image in images:
            raise UserError(f"{where}: '{image}' stands on line {images[image]} already, expected each image once")
        images[image] = number
        holds.append([_VALUES[value] for value in values])
    if len(images) != int(lines[0]):
        raise UserError(
            f"attribute file '{file}', line 1: {int(lines[0]):,} images announced, {len(images):,} follow; mend the "
            "number, or complete the file"
        )
    if not images:
        raise UserError(f"attribute file '{file}' lists no image")
    origins = {image: f"'{file}', line {line}" for image, line in images.items()}
    located = locate(tree, file, {image: f"attribute file {origin}" for image, origin in origins.items()})
    return listed(
        tree.source,
        Files(tree, located),
        list(images),
        LabelTable(LabelSpec((Field("attributes", names, exclusive=False),)), torch.tensor(holds, dtype=torch.int32)),
        _partition(tree, file, list(images)),
        share,
        origins=list(origins.values()),
        notes=(f"labels from the attribute file '{file}'", *unlisted(tree, file, located)),
    )


def locate(tree: Tree, file: str, images: Mapping[str, str]) -> list[str]:
    """The path of each image that a file lists, with where it does so.

    Raises UserError for one that is missing or in several places, and for two that are the same.
    """
    return only_places(images, places(tree, file, images))


def only_places(images: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> list[str]:
    """The same of images whose `places` are known."""
    missing = [image for image in images if image not in found]
    if missing:
        more = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
        raise UserError(
            f"{images[missing[0]]}: image '{shown(missing[0])}'{more} missing; give them back, or remove their lines"
        )
    for image, origin in images.items():
        if len(found[image]) > 1:
            first, second = found[image][:2]
            raise UserError(f"{origin}: both '{first}' and '{second}' are an image '{image}'; leave one of them")
    paths = [found[image][0] for image in images]
    if twice := repeated(paths):
        first, second = [image for image in images if found[image][0] == twice][:2]
        raise UserError(
            f"{images[second]}: '{second}' stands in {images[first]} already, as '{first}'; expected each image once"
        )
    return paths


def places(tree: Tree, file: str, images: Collection[str]) -> dict[str, list[str]]:
    """Where images are that a file lists, those that are: beside the file, else wherever in the tree.

    First folders that are not here are left out: those that all images share, else any of a path of another machine.
    Of several images of a name a file such as train.csv means those in a folder such as train/.
    """
    beside, known = parent(file), set(tree.files)
    images = [image for image in images if len(image) <= PATH and image.count("/") <= DEPTH]  # as any file's is
    found = {image: [path] for image in images if (path := f"{beside}/{image}" if beside else image) in known}
    if len(found) == len(images) or not images:
        return found
    by_end = _by_end(tree, bare=any(not is_image(image) for image in images))
    ends = _ends(images, by_end)
    split = split_of(file)
    return {image: _of_split(by_end[ends[image]], split) for image in images if ends[image] in by_end} | found


def _of_split(paths: list[str], split: int) -> list[str]:
    """Of several images of a name, that in the folder of a split."""
    own = [path for path in paths if split >= 0 and split_of(parent(path)) == split]
    return own if len(paths) > 1 and own else paths


def _ends(images: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """The end of each image's path by which it may be known: without first folders that all have, or the longest."""
    parts = {image: image.strip("/").split("/") for image in images}
    for dropped in range(_shared([one[:-1] for one in parts.values()]) + 1):
        ends = {image: "/".join(one[dropped:]) for image, one in parts.items()}
        if any(end in known for end in ends.values()):
            return ends
    tails = {image: ["/".join(one[dropped:]) for dropped in range(len(one))] for image, one in parts.items()}
    return {
        image: next((tail for tail in tails[image] if tail in known), image) if _ABSOLUTE.match(image) else image
        for image in parts
    }


def _shared(folders: Collection[list[str]]) -> int:
    """How many first folders all paths have in common."""
    both = zip(min(folders), max(folders), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], both)))


def _by_end(tree: Tree, bare: bool) -> dict[str, list[str]]:
    """The files of a tree by all ends of their paths; if `bare`, images without their endings, too."""
    by_end: dict[str, list[str]] = defaultdict(list)
    for path in tree.files:
        end, stem = path, bare and is_image(path)
        while end:
            by_end[end].append(path)
            if stem:
                by_end[end.rpartition(".")[0]].append(path)
            end = end.partition("/")[2]
    return by_end


def _partition(tree: Tree, table: str, images: Sequence[str]) -> np.ndarray | None:
    """The official split where there is a file of it: 0 train, 1 validation, 2 test, of each image."""
    file = attribute_file(tree, _PARTITION)
    if file is None:
        return None
    of_image = {}
    for number, line in enumerate(tree.text(file, LIST).split("\n"), start=1):
        words = re.split(r"[\s,;]+", line.strip())
        if not line.strip() or (number == 1 and file.endswith(".csv")):
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2") or words[0] in of_image:
            raise UserError(
                f"partition file '{file}', line {number}: '{shown(line, 60)}' given, expected NAME and 0, 1 or 2, each "
                "once"
            )
        of_image[words[0]] = int(words[1])
    if missing := next((image for image in images if image not in of_image), None):
        raise UserError(f"partition file '{file}' lacks image '{missing}' of '{table}'; complete or remove it")
    return np.array([of_image[image] for image in images])


def choose(listing: Listing, names: Sequence[str] | None, exclusive: Sequence[Sequence[str]] | None) -> Listing:
    """The listing with some of its attributes (None: all) as labels, and what says nothing of them as content.

    `exclusive`: groups of which an image has one at most. None: neighbors of which every image has exactly one. Where
    one of a group holds the others do not; else all of it are unknown where one of them is.
    Raises UserError for unknown names, and for attributes that all training images have, or none.
    """
    every, codes = listing.labels.spec.classes, listing.labels.codes.numpy()
    known_names = set(every)
    for name in [*(names or ()), *(name for group in exclusive or () for name in group)]:
        if name not in known_names:
            raise unknown(f"attribute of '{Path(listing.source).name}'", name, every)
    known = listing.labels.spec.fields[0].groups or _neighbors(every, codes)
    groups = known if exclusive is None else exclusive
    chosen = every if names is None else tuple(names)
    learned = set(chosen)
    learned |= {name for group in groups if learned & set(group) for name in group}
    rest = tuple(name for name in every if name not in learned)
    place = {name: number for number, name in enumerate(every)}
    codes = _whole_groups(codes, [[place[name] for name in group] for group in groups])

    def table_of(some: tuple[str, ...], name: str) -> LabelTable:
        own = set(some)
        inside = [tuple(one for one in group if one in own) for group in groups]
        field = Field(name, some, exclusive=False, groups=tuple(group for group in inside if len(group) > 1))
        columns = torch.tensor([place[one] for one in some])
        return LabelTable(LabelSpec((field,)), torch.from_numpy(codes)[:, columns])

    labels = table_of(chosen, "attributes")
    training = labels.at(slice(0, listing.train))
    told = (training.codes >= 0).sum(0)
    for name, count, known in zip(chosen, training.counts().tolist(), told.tolist(), strict=True):
        if count in (0, known):
            which = "training image" if known == listing.train else "training image that knows it"
            what = f"no {which} has it" if count == 0 else f"every {which} has it"
            do = "choose others with --attributes" if known == listing.train else "write 0 where it does not hold"
            raise UserError(f"attribute '{name}' of '{listing.source}': {what}; {do}")
    return replace(listing, labels=labels, content=table_of(rest, "other attributes") if rest else None)


def _whole_groups(codes: Int32[np.ndarray, "n k"], groups: Sequence[Sequence[int]]) -> Int32[np.ndarray, "n k"]:
    """The same, in which all or none of a group is known."""
    codes = codes.copy()
    for group in groups:
        own = codes[:, group]
        held, lacking = (own == 1).any(1), (own < 0).any(1)
        own[held] = np.maximum(own[held], 0)
        own[lacking & ~held] = -1
        codes[:, group] = own
    return codes


def _neighbors(names: Sequence[str], codes: Int32[np.ndarray, "n k"]) -> list[tuple[str, ...]]:
    """The shortest runs of attributes of which every image has exactly one.

    Where images do not know all of them: of which none has two, so many being told two that chance would have given
    some both, and of whose shares the sum is 1 as near as chance has it.
    """
    holds, told = codes == 1, (codes >= 0).sum(0)
    whole = bool((told == len(codes)).all())
    shares = holds.sum(0) / np.maximum(1, told)
    totals = np.concatenate([[0], holds.sum(0).cumsum() if whole else (shares * len(codes)).cumsum()])
    groups, start = [], 0
    while start < len(names):
        sums = totals[start + 1 :] - totals[start]
        length = 1 + int(np.searchsorted(sums, len(codes)))  # the first run that may hold one of each image
        if not whole and length > 1:
            beyond = sums[length - 1] if length <= len(sums) else np.inf
            length -= abs(sums[length - 2] - len(codes)) < abs(beyond - len(codes))  # which is nearer
        end = start + length
        if length > 1 and end <= len(names) and _one_each(codes[:, start:end]):
            groups.append(tuple(names[start:end]))
            start = end - 1
        start += 1
    return groups


def _one_each(codes: Int32[np.ndarray, "n k"]) -> bool:
    """Whether each image has one of some attributes, as far as images know them."""
    holds, known = codes == 1, codes >= 0
    if known.all():
        return bool((holds.sum(1) == 1).all())
    if codes.shape[1] > LONGEST_GUESS or (holds.sum(1) > 1).any():
        return False
    told = np.maximum(1, known.sum(0))
    share = holds.sum(0) / told
    if abs(share.sum() - 1) > 4 * np.sqrt((share * (1 - share) / told).sum()):
        return False
    both = known.T.astype(np.float32) @ known.astype(np.float32) * np.outer(share, share)
    return bool(np.triu(both, 1).sum() > EXPECTED_BOTH)  # images that would have two by chance


LONGEST_GUESS = 100
"""Attributes of a group that is found where not all are known."""
EXPECTED_BOTH = 20
