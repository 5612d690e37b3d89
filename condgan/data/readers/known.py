"""The data sets of the field, by name: where their files are looked for, what downloads them, how they are read."""

import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import UInt8

from condgan.data.listing import Arrays, Chain, Listing, listed, require_images
from condgan.data.readers.lmdb import is_lmdb, list_lmdb
from condgan.data.readers.names import is_image
from condgan.data.readers.tree import Files, open_tree
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.choices import EMNIST, LSUN, VGGFACE2
from condgan.utils.errors import UserError, unknown
from condgan.utils.files import TEMPORARY, cache_directory, new_directory

Reader = Callable[[str, Path, float | None], Listing | Path]
"""Of a name, where to look, and the share to hold out; a path is to be read like a user's folder."""
Make = Callable[[Path, bool], Any]
"""Reads a data set in a folder, downloaded to it or not. Raises RuntimeError, saying 'not found', where it does not."""

SECONDS = 10
"""How long a server may say nothing."""
DIGITS = tuple("0123456789")
EXPRESSIONS = ("angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
_RAFD = re.compile(
    rf"Rafd(?P<camera>045|090|135)_(?P<person>\d+)_\w+_(?P<expression>{'|'.join(EXPRESSIONS)})_(?P<gaze>\w+)\."
)


def list_known(name: str, root: Path | None, share: float | None) -> Listing | Path:
    """A data set of `KNOWN`, looked for in `root` (the cache by default), and downloaded to it where that is possible.

    A path is to be read like a user's folder. Raises UserError where there is none.
    """
    if name not in KNOWN:
        raise unknown("data set", name, KNOWN)
    return KNOWN[name](name, downloads() if root is None else root.expanduser(), share)


def _datasets() -> Any:
    """torchvision's, whose import takes as long as PyTorch's."""
    from torchvision import datasets

    return datasets


def downloads() -> Path:
    """Where data sets are looked for, and downloaded to, by default."""
    return cache_directory() / "downloads"


@dataclass(frozen=True)
class _Kept:
    """How a data set is kept in a folder."""

    folders: tuple[str, ...]
    """Where it may be below the root; the first is made for it."""
    example: str
    """One of its files."""
    archives: Mapping[str, str | None] = field(default_factory=dict)
    """Archives unpacked where they lie, never downloaded; with the MD5 where torchvision would overwrite another."""
    by_hand: str = ""
    """How to get what no program may download."""

    def find(self, name: str, root: Path, make: Make) -> Any:
        """Read it below a root by `make`. Raises UserError where it is damaged, or absent and not to be had."""
        if (found := self._made(name, root, make)) is not None:
            return found
        try:
            if self.by_hand:
                raise RuntimeError(self.by_hand)
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f"{TEMPORARY}{self.folders[0]}.lock"):  # several runs may start together
                if (found := self._made(name, root, make)) is None:
                    self._download(root, make)
                    found = self._made(name, root, make)
            return found
        except UserError:
            raise
        except Exception as error:  # torchvision raises whatever it likes
            raise UserError(
                f"data '{name}' is not in '{root}', where e.g. '{self.example}' was looked for, and could not be "
                f"downloaded ({_line(error)}): put it there, or in training give --root FOLDER that holds it, e.g. "
                f"FOLDER/{self.example}"
            ) from None

    def _download(self, root: Path, make: Make) -> None:
        """Have it made in a folder that appears when it is complete, of archives that are there already."""
        bases = [root, *(root / folder for folder in self.folders)]
        source = next((base for base in bases if any((base / one).is_file() for one in self.archives)), root)
        own = source / self.folders[0]
        target = own / self.folders[0] if own.exists() else own
        if target.exists():
            raise RuntimeError(f"'{target}' is there already; complete or remove it")
        with new_directory(target) as stage, _impatient():
            for archive, md5 in self.archives.items():
                if _datasets().utils.check_integrity(source / archive, md5):
                    (stage / archive).parent.mkdir(parents=True, exist_ok=True)
                    (stage / archive).symlink_to((source / archive).resolve())
            make(stage, True)

    def _made(self, name: str, root: Path, make: Make) -> Any:
        bases = [root, *(root / folder for folder in self.folders)]
        for place in (*bases, *(base / self.folders[0] for base in bases)):
            try:
                return make(place, False)
            except UserError:
                raise
            except Exception as error:  # torchvision raises whatever it likes
                if "not found" not in str(error):
                    raise UserError(
                        f"data '{name}' in '{place}' cannot be read ({_line(error)}): remove it there, and download it "
                        "anew"
                    ) from None
        return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# Of pickles, torchvision opens those of CIFAR only, and these only if they are the published ones by their MD5.
@dataclass(frozen=True)
class _Arrays:
    """A data set that torchvision reads whole: a part to train on and one to test."""

    kept: _Kept
    make: Callable[[Path, bool, bool], Any]
    """Of (folder, train, download)."""
    pixels: Callable[[Any], UInt8[np.ndarray, "n h w *c"]]
    classes: tuple[str, ...] | None = None
    """None: torchvision's."""
    labels: str = "targets"
    first: int = 0
    """The label of the first class."""

    def __call__(self, name: str, root: Path, share: float | None) -> Listing:
        parts = self.kept.find(
            name, root, lambda place, download: [self.make(place, t, download) for t in (True, False)]
        )
        index = [np.asarray(getattr(part, self.labels)).astype(np.int64) - self.first for part in parts]
        classes = parts[0].classes if self.classes is None else self.classes
        whole = np.concatenate(index)
        if whole.min() < 0 or whole.max() >= len(classes):
            raise UserError(
                f"data '{name}' in '{root}' has a label {whole.max() + self.first}: expected its {len(classes)}"
            )
        return listed(
            name,
            Chain(tuple(Arrays(self.pixels(part)) for part in parts)),
            [
                f"{split}-{i:06}.png"
                for split, own in zip(("train", "test"), index, strict=True)
                for i in range(len(own))
            ],
            LabelTable.from_index(LabelSpec.of_classes(classes), torch.from_numpy(whole)),
            np.repeat([0, 2], [len(own) for own in index]),
            share,
        )


def _by_flag(kind: Callable[..., Any], place: Path, train: bool, download: bool) -> Any:
    return kind(place, train=train, download=download)


def _by_split(kind: Callable[..., Any], place: Path, train: bool, download: bool) -> Any:
    return kind(place, split="train" if train else "test", download=download)


def _mnist(kind: Any, classes: tuple[str, ...] | None = None) -> _Arrays:
    raw = f"{kind.__name__}/raw"
    kept = _Kept(
        (kind.__name__.lower(),),
        f"{raw}/train-images-idx3-ubyte",
        {f"{raw}/{file}": md5 for file, md5 in kind.resources},
    )
    return _Arrays(kept, partial(_by_flag, kind), lambda part: part.data.numpy(), classes or tuple(kind.classes))


def _emnist(split: str) -> _Arrays:
    classes = _datasets().EMNIST.classes_split_dict[split]
    first = int(classes[0] == "N/A")  # of letters, which are numbered from 1 on
    return _Arrays(
        _Kept(
            ("emnist",),
            f"EMNIST/raw/emnist-{split}-train-images-idx3-ubyte",
            {"EMNIST/raw/gzip.zip": _datasets().EMNIST.md5},
        ),
        partial(_by_flag, partial(_datasets().EMNIST, split=split)),
        lambda part: part.data.numpy().transpose(0, 2, 1),  # as published they lie on their side, mirrored
        tuple(classes[first:]),
        first=first,
    )


def _cifar(kind: Any) -> _Arrays:
    kept = _Kept((kind.__name__.lower(),), f"{kind.base_folder}/{kind.train_list[0][0]}", {kind.filename: kind.tgz_md5})
    return _Arrays(kept, partial(_by_flag, kind), lambda part: part.data)


def _omniglot(name: str, root: Path, share: float | None) -> Listing:
    """All characters of both halves."""
    halves = "images_background", "images_evaluation"

    def make(place: Path, download: bool) -> list[Path]:
        if download:
            for background in (True, False):
                _datasets().Omniglot(place, background=background, download=True)
        for inside in (place / "omniglot-py", place):
            for ending in ("", ".zip"):
                if all((inside / f"{half}{ending}").exists() for half in halves):
                    return [inside / f"{half}{ending}" for half in halves]
        raise RuntimeError("not found")

    parts, names = [], []
    for half in _Kept(("omniglot",), "omniglot-py/images_background.zip").find(name, root, make):
        tree = open_tree(half, "expected folders of alphabets; remove it, or unpack it anew")
        files = [file for file in tree.files if is_image(file) and file.count("/") >= 2]
        parts.append(Files(tree, files))
        names += ["/".join(file.split("/")[-3:]) for file in files]
    classes, index = np.unique([file.rpartition("/")[0] for file in names], return_inverse=True)
    labels = LabelTable.from_index(LabelSpec.of_classes(classes.tolist()), torch.from_numpy(index))
    return listed(name, Chain(tuple(parts)), names, labels, None, share)


def _celeba(name: str, root: Path, share: float | None) -> Path:
    """Its folder, which holds an attribute file."""
    tables, images = ("list_attr_celeba.txt", "list_attr_celeba.csv"), "img_align_celeba"

    def make(place: Path, download: bool) -> Path:
        if download:
            _datasets().CelebA(place, download=True)
            return place
        if not any((place / inner / table).is_file() for inner in ("", "Anno") for table in tables):
            raise RuntimeError("not found")
        if not any((place / inner / images).is_dir() for inner in ("", "Img")):
            raise UserError(f"data '{name}' in '{place}' has no folder {images}: unpack {images}.zip there")
        return place

    return _Kept(("celeba", "CelebA"), f"celeba/{tables[0]}").find(name, root, make)


def _imagenet(name: str, root: Path, share: float | None) -> Listing:
    """The folders train/ and val/, which are unpacked from the published archives where these are there."""
    archives: dict[str, str | None] = {file: None for file, _ in _datasets().imagenet.ARCHIVE_META.values()}

    def make(place: Path, download: bool) -> dict[int, Path]:
        if download:
            if missing := [archive for archive in archives if not (place / archive).exists()]:
                raise RuntimeError(f"image-net.org gives {', '.join(missing)} to those who register")
            for split in ("train", "val"):
                _datasets().ImageNet(place, split)
        train, held_out = place / "train", place / "val"
        if not any(train.glob("n" + 8 * "[0-9]")):
            raise RuntimeError("not found")
        return {0: train, 1: held_out} if held_out.is_dir() else {0: train}

    kept = _Kept(("imagenet", "ILSVRC2012"), "train/n01440764/n01440764_10026.JPEG", archives)
    return _class_folders(name, kept.find(name, root, make), share)


def _vggface2(name: str, root: Path, share: float | None, count: int | None = None) -> Listing:
    """The identities to train on, all or the first of them."""

    def make(place: Path, download: bool) -> Path:
        if not any((place / "train").glob("n" + 6 * "[0-9]")):
            raise RuntimeError("not found")
        return place / "train"

    kept = _Kept(
        ("vggface2", "VGGFace2", "VGG-Face2/data"),
        "train/n000002/0001_01.jpg",
        by_hand="its makers offer it no more",
    )
    train = kept.find(name, root, make)
    notes = ("test/ holds other people and is left out; a share of each one's train images is held out",)
    if count is not None:
        notes = (f"the first {count} identities in the order of their names, as the published lists are gone", *notes)
    return _class_folders(name, {0: train}, share, count, notes)


def _class_folders(
    name: str, parts: Mapping[int, Path], share: float | None, count: int | None = None, notes: tuple[str, ...] = ()
) -> Listing:
    """A folder per class, all or the first `count` of them, in folders of splits (0 train, 1 validation)."""
    of_split = {split: _folders(folder) for split, folder in parts.items()}
    classes = of_split[0][:count]
    if len(classes) < (count or 1):
        raise UserError(f"data '{name}': {len(classes)} class folders in '{parts[0]}', expected {count or 'some'}")
    for split, folders in of_split.items():
        if count is None and (differing := sorted(set(folders) ^ set(classes))):
            raise UserError(
                f"data '{name}': class folder '{differing[0]}' is not in both '{parts[0]}' and '{parts[split]}', "
                "expected the same in either"
            )
    pictures, names, stated = [], [], []
    for split, folder in parts.items():
        for one in classes:
            tree = open_tree(folder / one, "expected a folder of images")
            files = [file for file in tree.files if is_image(file)]
            pictures.append(Files(tree, files))
            names += [f"{folder.name}/{one}/{file}" for file in files]
            stated += [split] * len(files)
    number = {one: i for i, one in enumerate(classes)}
    index = torch.tensor([number[file.split("/")[1]] for file in names])
    labels = LabelTable.from_index(LabelSpec.of_classes(classes), index)
    return listed(name, Chain(tuple(pictures)), names, labels, np.array(stated), share, notes=notes)


def _folders(path: Path) -> list[str]:
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _rafd(name: str, root: Path, share: float | None) -> Listing:
    """Expressions, of the cameras that StarGAN took; no person is in both parts."""

    def make(place: Path, download: bool) -> list[Path]:
        if not (files := sorted(file for file in place.glob("Rafd*") if _RAFD.match(file.name))):
            raise RuntimeError("not found")
        return files

    kept = _Kept(
        ("rafd", "RaFD"),
        "Rafd090_01_Caucasian_female_angry_frontal.jpg",
        by_hand="its makers give it to researchers who ask, at rafd.socsci.ru.nl",
    )
    files = kept.find(name, root, make)
    found = [match for file in files if (match := _RAFD.match(file.name)) is not None]
    persons = np.array([int(match["person"]) for match in found])
    shots = np.unique([f"{m['person']} {m['camera']} {m['gaze']}" for m in found], return_inverse=True)[1]
    index = torch.tensor([EXPRESSIONS.index(match["expression"]) for match in found])
    labels = LabelTable.from_index(LabelSpec.of_classes(EXPRESSIONS), index)
    require_images(labels, 2, f"data '{name}'")
    names = [file.name for file in files]
    tree = open_tree(files[0].parent, "expected a folder of images")
    listing = listed(
        name,
        Files(tree, names),
        names,
        labels,
        None,
        share,
        pairs=persons,
        paired=True,
        notes=("cameras 045, 090 and 135 only; no person is both trained on and held out",),
    )
    return replace(listing, pairs=shots[listing.numbers])  # these differ in nothing but the expression


def _lsun(name: str, root: Path, share: float | None, categories: Sequence[str]) -> Listing:
    """A database per category; the published validation images are held out."""

    def make(place: Path, download: bool) -> list[dict[str, Path]]:
        parts = [{one: place / f"{one}_{part}_lmdb" for one in categories} for part in ("train", "val")]
        train, held_out = ({one: path for one, path in part.items() if is_lmdb(path)} for part in parts)
        if not train:
            raise RuntimeError("not found")
        for part, there in ((parts[0], train), (parts[1], held_out)):
            if there and (missing := next((path for one, path in part.items() if one not in there), None)):
                raise UserError(f"data '{name}' in '{place}' lacks '{missing.name}/data.mdb': unpack it there")
        return [train, held_out]

    kept = _Kept(
        ("lsun", "LSUN"),
        f"{categories[0]}_train_lmdb/data.mdb",
        by_hand="get it with download.py of github.com/fyu/lsun, and unpack its zips",
    )
    train, held_out = kept.find(name, root, make)
    return list_lmdb(train, share, held_out)


def _svhn() -> _Arrays:
    archives = {file: md5 for _, file, md5 in _datasets().SVHN.split_list.values()}
    return _Arrays(
        _Kept(("svhn",), "train_32x32.mat", archives),
        partial(_by_split, _datasets().SVHN),
        lambda part: part.data.transpose(0, 2, 3, 1),
        DIGITS,
        "labels",
    )


def _stl10() -> _Arrays:
    kind = _datasets().STL10
    return _Arrays(
        _Kept(("stl10",), "stl10_binary/train_X.bin", {kind.filename: kind.tgz_md5}),
        partial(_by_split, kind),
        lambda part: part.data.transpose(0, 2, 3, 1),
        ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        "labels",
    )


def _lazily(make: Callable[[], Reader]) -> Reader:
    """A reader that is made, and torchvision imported, when it is asked for."""
    return lambda name, root, share: make()(name, root, share)


KNOWN: dict[str, Reader] = {
    "mnist": _lazily(lambda: _mnist(_datasets().MNIST, DIGITS)),
    "fashion-mnist": _lazily(lambda: _mnist(_datasets().FashionMNIST)),
    "kmnist": _lazily(lambda: _mnist(_datasets().KMNIST)),
    **{f"emnist-{split}": _lazily(partial(_emnist, split)) for split in EMNIST},
    "cifar10": _lazily(lambda: _cifar(_datasets().CIFAR10)),
    "cifar100": _lazily(lambda: _cifar(_datasets().CIFAR100)),
    "svhn": _lazily(_svhn),
    "stl10": _lazily(_stl10),
    "omniglot": _omniglot,
    "celeba": _celeba,
    "lsun": partial(_lsun, categories=LSUN),
    **{f"lsun-{category}": partial(_lsun, categories=(category,)) for category in LSUN},
    "imagenet": _imagenet,
    "vggface2": _vggface2,
    **{f"vggface2-{count}": partial(_vggface2, count=count) for count in VGGFACE2},
    "rafd": _rafd,
}
"""Readers of data sets by name."""
