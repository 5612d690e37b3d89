import gzip
import hashlib
import io
import multiprocessing
import os
import pickle
import shutil
import socket
import sys
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import h5py
import lmdb
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from condgan.data.listing import Listing
from condgan.data.readers.hdf5 import HDF5Pictures, is_hdf5, list_hdf5, write_hdf5
from condgan.data.readers.huggingface import is_saved, list_saved
from condgan.data.readers.known import EXPRESSIONS, KNOWN, LSUN, downloads, list_known
from condgan.data.readers.lmdb import is_lmdb, list_lmdb
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError

Facts = list[tuple[bool, str, str]]
"""Of each image: whether it is to train on, its class, and the hash of its pixels."""


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No network; the addresses that were asked for."""
    asked = []

    def urlopen(request: urllib.request.Request, *_, **__) -> None:
        asked.append(request.full_url)
        raise URLError("no network here")

    def connect(*_) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return asked


def noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def sha(pixels: np.ndarray) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def decoded(picture: bytes | np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture))) if isinstance(picture, bytes) else picture


def facts(listing: Listing) -> Facts:
    names = listing.labels.spec.classes
    return sorted(
        (place < listing.train, names[label], sha(decoded(listing.pictures.read(int(number)))))
        for place, (number, label) in enumerate(zip(listing.numbers, listing.labels.index().tolist(), strict=True))
    )


def expected(*splits: tuple[bool, np.ndarray, list[str]]) -> Facts:
    return sorted(
        (train, name, sha(image)) for train, images, of in splits for image, name in zip(images, of, strict=True)
    )


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: bool) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def save(path: Path, pixels: np.ndarray) -> None:
    """Exactly these pixels, whatever the name ends with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels))


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def found(name: str, root: Path | None, share: float | None = None) -> Listing:
    listing = list_known(name, root, share)
    assert isinstance(listing, Listing)
    return listing


# The data sets of torchvision


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def mnist(folder: Path, prefixes: tuple[str, str] = ("train", "t10k"), first: int = 0, classes: int = 10) -> tuple:
    train, test = noise(2 * classes, 28, 28), noise(classes, 28, 28, seed=1)
    for prefix, images in zip(prefixes, (train, test), strict=True):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(len(images)) % classes + first)
    return train, test


MNISTS = {
    "mnist": ("MNIST", list("0123456789")),
    "fashion-mnist": (
        "FashionMNIST",
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    ),
    "kmnist": ("KMNIST", ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]),
}


@pytest.mark.parametrize("name", MNISTS)
def test_mnist_and_its_like(name: str, tmp_path: Path, network: list[str]) -> None:
    folder, classes = MNISTS[name]
    train, test = mnist(tmp_path / folder / "raw")
    listing = found(name, tmp_path)
    assert listing.labels.spec.classes == tuple(classes)
    assert facts(listing) == expected((True, train, classes * 2), (False, test, classes))
    assert listing.call(0) == f"'train-000000.png' of class '{classes[0]}'"
    assert (len(found(name, tmp_path, 0.5)), found(name, tmp_path, 0.5).train) == (20, 10)
    assert not network


EMNISTS = {
    "byclass": (62, 0, "0", "z"), "bymerge": (47, 0, "0", "t"), "balanced": (47, 0, "0", "t"),
    "letters": (26, 1, "a", "z"), "digits": (10, 0, "0", "9"), "mnist": (10, 0, "0", "9"),
}  # fmt: skip


@pytest.mark.parametrize("split", EMNISTS)
def test_emnist_is_upright_and_has_no_empty_class(split: str, tmp_path: Path) -> None:
    count, first, a, z = EMNISTS[split]
    prefixes = f"emnist-{split}-train", f"emnist-{split}-test"
    train, test = mnist(tmp_path / "EMNIST" / "raw", prefixes, first, count)
    listing = found(f"emnist-{split}", tmp_path)
    classes = listing.labels.spec.classes
    assert (len(classes), classes[0], classes[-1]) == (count, a, z)
    upright = (train.transpose(0, 2, 1), test.transpose(0, 2, 1))
    assert facts(listing) == expected((True, upright[0], [*classes] * 2), (False, upright[1], [*classes]))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = tmp_path / name / kind.base_folder  # in a folder of its own below the root
    folder.mkdir(parents=True)
    classes = ["alpha", "beta"]
    images = noise(2 * (len(kind.train_list) + 1), 32, 32, 3)
    sums = {}
    for i, (file, _) in enumerate([*kind.train_list, *kind.test_list]):
        pixels = images[2 * i : 2 * i + 2].transpose(0, 3, 1, 2).reshape(2, -1)
        labels = {"cifar10": "labels", "cifar100": "fine_labels"}[name]
        (folder / file).write_bytes(pickle.dumps({"data": pixels, labels: [0, 1]}))
        sums[file] = md5(folder / file)
    meta = folder / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: classes}))
    monkeypatch.setattr(kind, "train_list", [[file, sums[file]] for file, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[file, sums[file]] for file, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    train, test = images[:-2], images[-2:]
    assert facts(found(name, tmp_path)) == expected((True, train, classes * (len(train) // 2)), (False, test, classes))
    with open(folder / kind.train_list[0][0], "ab") as file:
        file.write(b"!")
    with pytest.raises(UserError, match=f"data '{name}' is not in"):  # nor opened, as its MD5 is another
        list_known(name, tmp_path, None)


def test_an_archive_beside_is_unpacked_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: list[str]
) -> None:
    root = tmp_path / "root"
    train, test = mnist(tmp_path / "made")
    sums = []
    for file in sorted((tmp_path / "made").iterdir()):
        packed = root / "MNIST" / "raw" / f"{file.name}.gz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress(file.read_bytes()))
        sums.append((packed.name, md5(packed)))
    digits = list("0123456789")
    with pytest.raises(UserError, match="could not be downloaded"):  # the published ones are others
        list_known("mnist", root, None)
    assert md5(packed) == sums[-1][1]
    network.clear()
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    for _ in range(2):
        assert facts(found("mnist", root)) == expected((True, train, digits * 2), (False, test, digits))
    assert not network
    assert (root / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(30, 32, 32, 3)
    parts = {"train": slice(0, 20), "test": slice(20, 30)}
    published = dict(datasets.SVHN.split_list)
    for split, where in parts.items():
        own = images[where]
        path = tmp_path / f"{split}_32x32.mat"
        labels = (np.arange(len(own)) % 10 + 1)[:, None]  # of which 10 is the digit 0
        scipy.io.savemat(path, {"X": own.transpose(1, 2, 3, 0), "y": labels.astype(np.uint8)})
        published[split] = [published[split][0], path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", published)
    digits = list("1234567890")
    assert facts(found("svhn", tmp_path)) == expected((True, images[:20], digits * 2), (False, images[20:], digits))


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    train, test = noise(20, 96, 96, 3), noise(10, 96, 96, 3, seed=1)
    for split, images in (("train", train), ("test", test)):
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{split}_y.bin").write_bytes((np.arange(len(images)) % 10 + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")
    for which in ("train_list", "test_list"):
        files = [file for file, _ in getattr(datasets.STL10, which)]
        monkeypatch.setattr(datasets.STL10, which, [[file, md5(folder / file)] for file in files])
    classes = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    assert facts(found("stl10", tmp_path)) == expected((True, train, classes * 2), (False, test, classes))


@pytest.mark.parametrize("zipped", [False, True])
def test_omniglot_is_both_halves(zipped: bool, tmp_path: Path) -> None:
    images, characters = noise(12, 105, 105), []
    for i, image in enumerate(images):
        half, alphabet = ("images_background", "Greek") if i < 8 else ("images_evaluation", "Angelic")
        characters.append(f"{alphabet}/character{i // 4 + 1:02}")
        save(tmp_path / "omniglot-py" / half / characters[-1] / f"{i % 4:04}.png", image)
    if zipped:
        for half in ("images_background", "images_evaluation"):
            shutil.make_archive(str(tmp_path / "omniglot-py" / half), "zip", tmp_path / "omniglot-py", half)
            shutil.rmtree(tmp_path / "omniglot-py" / half)
    listing = found("omniglot", tmp_path, 0.25)
    assert listing.labels.spec.classes == ("Angelic/character03", "Greek/character01", "Greek/character02")
    assert {one[1:] for one in facts(listing)} == {one[1:] for one in expected((True, images, characters))}
    assert listing.train == 9
    assert np.bincount(listing.labels.at(torch.arange(9)).index()).tolist() == [3, 3, 3]


# Data sets that nobody lets programs download


def test_celeba_is_a_folder_with_an_attribute_file(tmp_path: Path) -> None:
    folder = tmp_path / "CelebA"
    folder.mkdir()
    (folder / "list_attr_celeba.txt").write_text("0\n\n")
    with pytest.raises(UserError, match="unpack img_align_celeba.zip there"):
        list_known("celeba", tmp_path, None)
    (folder / "img_align_celeba").mkdir()
    assert list_known("celeba", tmp_path, None) == folder == list_known("celeba", folder, None)
    (folder / "list_attr_celeba.txt").rename(folder / "list_attr_celeba.csv")
    assert list_known("celeba", tmp_path, None) == folder


def test_imagenet_holds_out_its_validation_images(tmp_path: Path) -> None:
    images, classes = noise(8, 20, 30, 3), ["n01440764", "n01443537"] * 4
    for i, (image, name) in enumerate(zip(images, classes, strict=True)):
        save(tmp_path / "ILSVRC2012" / ("train" if i < 6 else "val") / name / f"{name}_{i}.JPEG", image)
    (tmp_path / "ILSVRC2012" / "test").mkdir()
    wanted = expected((True, images[:6], classes[:6]), (False, images[6:], classes[6:]))
    assert facts(found("imagenet", tmp_path)) == facts(found("imagenet", tmp_path / "ILSVRC2012")) == wanted
    shutil.rmtree(tmp_path / "ILSVRC2012" / "val" / "n01443537")
    with pytest.raises(UserError, match="class folder 'n01443537' is not in both"):
        list_known("imagenet", tmp_path, None)


def test_imagenet_is_unpacked_from_its_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, made = tmp_path / "root", tmp_path / "made"
    root.mkdir()
    images, classes = noise(5, 20, 20, 3), ["n01440764", "n01443537"]
    for i, image in enumerate(images[:4]):
        save(made / classes[i % 2] / f"{i}.JPEG", image)
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        for name in classes:
            with tarfile.open(made / f"{name}.tar", "w") as inner:
                for file in sorted((made / name).iterdir()):
                    inner.add(file, file.name)
            archive.add(made / f"{name}.tar", f"{name}.tar")
    save(made / "val.JPEG", images[4])
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        archive.add(made / "val.JPEG", "ILSVRC2012_val_00000001.JPEG")
        archive.add(made / "val.JPEG", "ILSVRC2012_val_00000002.JPEG")
    synsets = np.array(
        [(i + 1, name, "fish, carp", "-", 0) for i, name in enumerate(classes)],
        [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")],
    )
    scipy.io.savemat(made / "meta.mat", {"synsets": synsets})
    (made / "truth.txt").write_text("2\n1\n")
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(made / "meta.mat", "ILSVRC2012_devkit_t12/data/meta.mat")
        archive.add(made / "truth.txt", "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt")
    meta = datasets.imagenet.ARCHIVE_META
    for what, (file, _) in list(meta.items()):
        monkeypatch.setitem(meta, what, (file, md5(root / file)))
    wanted = expected((True, images[:4], classes * 2), (False, images[[4, 4]], classes))
    assert facts(found("imagenet", root)) == wanted == facts(found("imagenet", root))
    (root / "ILSVRC2012_img_val.tar").unlink()
    shutil.rmtree(root / "imagenet")
    with pytest.raises(UserError, match="image-net.org gives ILSVRC2012_img_val.tar to those who register"):
        list_known("imagenet", root, None)
    assert not (root / "imagenet").exists()


def test_vggface2_takes_the_first_identities(tmp_path: Path) -> None:
    images = noise(4, 10, 10, 3)
    contents = [encoded(image) for image in images]
    for person in range(203):
        folder = tmp_path / "train" / f"n{person + 2:06}"
        folder.mkdir(parents=True)
        for i in range(2):
            (folder / f"{i:04}_01.jpg").write_bytes(contents[(person + i) % 4])
    save(tmp_path / "test" / "n000001" / "0000_01.jpg", images[0])
    listing = found("vggface2-200", tmp_path)
    assert listing.labels.spec.classes == tuple(f"n{person + 2:06}" for person in range(200))
    assert (len(listing), listing.train) == (400, 200)
    assert [note.split()[:3] for note in listing.notes] == [["the", "first", "200"], ["test/", "holds", "other"]]
    every = found("vggface2", tmp_path)
    classes = [f"n{person + 2:06}" for person in range(203) for _ in range(2)]
    pixels = np.stack([images[(person + i) % 4] for person in range(203) for i in range(2)])
    assert sorted(one[1:] for one in facts(every)) == [one[1:] for one in expected((True, pixels, classes))]
    with pytest.raises(UserError, match="203 class folders in .*, expected 500"):
        list_known("vggface2-500", tmp_path, None)
    assert "vggface2-2000" in KNOWN


def test_rafd_holds_out_people(tmp_path: Path) -> None:
    images, classes, people = noise(3 * 8 * 2, 8, 8, 3), [], {}
    for i, image in enumerate(images):
        expression, person, gaze = EXPRESSIONS[i % 8], i // 16 + 1, ("frontal", "left")[i // 8 % 2]
        save(tmp_path / "RaFD" / f"Rafd090_{person:02}_Caucasian_female_{expression}_{gaze}.jpg", image)
        classes.append(expression)
        people[sha(image)] = person
    save(tmp_path / "RaFD" / "Rafd180_01_Caucasian_female_angry_frontal.jpg", images[0])  # a profile
    listing = found("rafd", tmp_path)
    shown = facts(listing)
    assert sorted(one[1:] for one in shown) == sorted(one[1:] for one in expected((True, images, classes)))
    assert (len(listing), listing.train) == (48, 32)
    assert not {people[one[2]] for one in shown if one[0]} & {people[one[2]] for one in shown if not one[0]}
    assert listing.labels.spec.classes == EXPRESSIONS
    assert "no person is both trained on and held out" in listing.notes[0]
    pairs = {pair: listing.labels.index()[torch.from_numpy(listing.pairs == pair)].tolist() for pair in listing.pairs}
    assert len(pairs) == 6  # of a person, looking somewhere, each expression
    assert all(sorted(labels) == list(range(8)) for labels in pairs.values())


def write_lmdb(path: Path, values: dict[bytes, bytes]) -> None:
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 22) as database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    (path / "lock.mdb").unlink()


def lsun(root: Path, category: str, part: str, images: np.ndarray) -> None:
    values = {f"{i:040x}".encode(): encoded(image, "WEBP", lossless=True) for i, image in enumerate(images)}
    write_lmdb(root / f"{category}_{part}_lmdb", values)


class Evil:
    def __reduce__(self) -> tuple:
        return open, ("owned", "w")


def test_lsun_unpickles_nothing(tmp_path: Path) -> None:
    root = tmp_path / "lsun"
    images = noise(10, 16, 12, 3)
    lsun(root, "church_outdoor", "train", images)
    for part in ("train", "val"):
        path = str(root / f"church_outdoor_{part}_lmdb")
        cache = Path("_cache_" + "".join(one for one in path if one.isascii() and one.isalpha()))
        cache.write_bytes(pickle.dumps(Evil()))
    before = set(os.listdir())
    listing = found("lsun-church_outdoor", tmp_path)
    assert sorted(one[1:] for one in facts(listing)) == [one[1:] for one in expected((True, images, LSUN[2:3] * 10))]
    assert (len(listing), listing.train) == (10, 9)
    assert listing.names[0] == f"{0:040x}"
    lsun(root, "church_outdoor", "val", images[:3])
    assert (found("lsun-church_outdoor", root).train, len(found("lsun-church_outdoor", root))) == (10, 13)
    assert set(os.listdir()) == before
    assert not Path("owned").exists()


def test_lsun_is_its_ten_categories(tmp_path: Path) -> None:
    images = noise(20, 8, 8, 3)
    for i, category in enumerate(LSUN):
        lsun(tmp_path, category, "train", images[2 * i : 2 * i + 2])
    listing = found("lsun", tmp_path)
    assert listing.labels.spec.classes == LSUN
    assert (len(listing), listing.train) == (20, 10)
    classes = [one for one in LSUN for _ in range(2)]
    assert sorted(one[1:] for one in facts(listing)) == [one[1:] for one in expected((True, images, classes))]
    lsun(tmp_path, "bedroom", "val", images[:2])
    with pytest.raises(UserError, match="lacks 'bridge_val_lmdb/data.mdb'"):
        list_known("lsun", tmp_path, None)


def test_what_cannot_be_had_is_one_line(tmp_path: Path, network: list[str]) -> None:
    before = socket.getdefaulttimeout()
    for name in KNOWN:
        root = tmp_path / "nothing"
        expected = f"data '{name}' is not in '{root}', .*put it there, or in training give --root FOLDER"
        with pytest.raises(UserError, match=expected) as caught:
            list_known(name, root, None)
        assert "\n" not in str(caught.value)
        assert ".tmp-" not in str(caught.value)
        assert not root.exists() or {path.suffix for path in root.iterdir()} <= {".lock"}  # nothing half-written
    assert network
    assert socket.getdefaulttimeout() == before
    with pytest.raises(UserError, match="FOLDER/MNIST/raw/train-images-idx3-ubyte"):
        list_known("mnist", None, None)
    assert str(downloads()).startswith(os.environ["CONDGAN_CACHE"])
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        list_known("mnits", None, None)


def test_damaged_files_are_told_of(tmp_path: Path, network: list[str]) -> None:
    mnist(tmp_path / "MNIST" / "raw")
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="data 'mnist' in .* cannot be read .*: remove it there"):
        list_known("mnist", tmp_path, None)
    assert not network


# Containers


def write_file(path: Path, **parts: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            file[name] = value
    return path


def test_hdf5_of_biggan(tmp_path: Path) -> None:
    images, labels = noise(40, 3, 16, 16), np.arange(40) % 4
    path = tmp_path / "ILSVRC16.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("imgs", data=images, chunks=(7, 3, 16, 16), compression="lzf")
        file.create_dataset("labels", data=labels, chunks=(7,), compression="lzf")
    assert is_hdf5(path)
    listing = list_hdf5(path, None)
    assert listing.labels.spec.classes == ("0", "1", "2", "3")
    wanted = expected((True, images.transpose(0, 2, 3, 1), [str(label) for label in labels]))
    assert sorted(one[1:] for one in facts(listing)) == [one[1:] for one in wanted]
    assert (listing.train, len(listing)) == (36, 40)
    assert listing.pictures.span == 7


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_hdf5_comes_back_as_it_was_written(channels: int, tmp_path: Path) -> None:
    spec = LabelSpec.of_classes(["ä", "b"])
    whole = noise(1300, channels, 8, 6)
    np.save("whole.npy", whole)
    images = torch.from_numpy(np.load("whole.npy", mmap_mode="c"))
    labels = LabelTable.from_index(spec, torch.arange(1300) % 2)
    train, held_out = slice(0, 1200), slice(1200, None)
    path = tmp_path / "new" / "data.h5"
    write_hdf5(path, [(images[train], labels.at(train)), (images[held_out], labels.at(held_out))])
    assert os.listdir(path.parent) == ["data.h5"]
    listing = list_hdf5(path, None)
    assert listing.labels.spec == spec
    assert torch.equal(listing.labels.codes, labels.codes)
    assert listing.train == 1200
    assert listing.numbers.tolist() == list(range(1300))
    back = np.stack([listing.pictures.read(number) for number in range(1300)])
    assert np.array_equal(back.reshape(1300, 8, 6, channels), whole.transpose(0, 2, 3, 1))
    with h5py.File(path) as file:
        assert (file["imgs"].dtype, file["labels"].dtype, file["labels"].shape) == (np.uint8, np.int64, (1300,))


def test_attributes_come_back_as_they_were_written(tmp_path: Path) -> None:
    field = Field("attributes", ("Bald", "Black_Hair", "Blond_Hair"), False, (("Black_Hair", "Blond_Hair"),))
    holds = torch.tensor([[True, False, False], [False, True, False], [False, False, True], [True, True, False]])
    labels = LabelTable.from_values(LabelSpec((field,)), holds)
    path = tmp_path / "data.hdf5"
    write_hdf5(path, [(torch.from_numpy(noise(4, 3, 5, 5)), labels)])
    listing = list_hdf5(path, 0.25)
    assert listing.labels.spec == labels.spec
    assert torch.equal(listing.labels.codes, labels.codes[torch.from_numpy(listing.numbers)])
    assert listing.train == 3


def test_a_failed_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = LabelTable.from_index(LabelSpec.of_classes(["a"]), torch.zeros(2, dtype=torch.int64))
    path = tmp_path / "data.hdf5"
    path.write_text("old")
    images = torch.from_numpy(noise(2, 3, 4, 4))

    def full(path: Path) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("condgan.utils.files.sync", full)
        with pytest.raises(OSError, match="no space left"):
            write_hdf5(path, [(images, labels)])
    assert os.listdir(tmp_path) == ["data.hdf5"]
    assert path.read_text() == "old"
    both = LabelSpec((Field("one", ("a",)), Field("two", ("b",))))
    with pytest.raises(UserError, match="labels of 2 fields given for .*: expected one"):
        write_hdf5(path, [(images, LabelTable(both, torch.zeros(2, 2, dtype=torch.int32)))])


IMAGES, LABELS = noise(4, 3, 5, 5), np.array([0, 1, 0, 1])
BAD_FILES = {
    "no dataset 'imgs', but labels": {"labels": LABELS},
    "no dataset 'labels', but imgs": {"imgs": IMAGES},
    "imgs of float32 given, expected uint8": {"imgs": IMAGES.astype(np.float32), "labels": LABELS},
    "imgs of shape 4 × 3 × 5 given": {"imgs": IMAGES[..., 0], "labels": LABELS},
    "imgs of shape 4 × 5 × 5 × 3 given": {"imgs": IMAGES.transpose(0, 2, 3, 1), "labels": LABELS},
    "holds no images": {"imgs": IMAGES[:0], "labels": LABELS[:0]},
    "labels of float64 given, expected integers": {"imgs": IMAGES, "labels": LABELS * 1.0},
    "labels of shape 4 × 1 × 1 given": {"imgs": IMAGES, "labels": LABELS[:, None, None]},
    "4 imgs and 3 labels given": {"imgs": IMAGES, "labels": LABELS[:3]},
    "label -1 given, expected numbers of 0 and more": {"imgs": IMAGES, "labels": -LABELS},
    "label 1 given with 1 classes": {"imgs": IMAGES, "labels": LABELS, "classes": ["a"]},
    "empty class '1', without any image to train on": {"imgs": IMAGES, "labels": LABELS, "train": 1},
    "classes of other than text": {"imgs": IMAGES, "labels": LABELS, "classes": [1, 2]},
    "label 'a' given twice": {"imgs": IMAGES, "labels": LABELS, "classes": ["a", "a"]},
    "train of 5 given, expected how many of the 4 images": {"imgs": IMAGES, "labels": LABELS, "train": 5},
    "label 2 given in rows of 2 labels": {"imgs": IMAGES, "labels": np.stack([LABELS, LABELS * 2], 1)},
    "2 labels per image and 1 attributes": {"imgs": IMAGES, "labels": np.eye(4, 2, dtype=int), "attributes": ["a"]},
    "1 groups and 2 attributes given": {"imgs": IMAGES, "labels": np.eye(4, 2, dtype=int), "groups": [1]},
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_what_is_wrong_with_an_hdf5_file(message: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / "bad.hdf5", **BAD_FILES[message])
    with pytest.raises(UserError, match=message) as caught:
        list_hdf5(path, None)
    assert "\n" not in str(caught.value)


def test_a_damaged_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "bad.hdf5", imgs=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-100])
    for file in (path, tmp_path / "text.h5"):
        if file != path:
            file.write_text("hello")
        assert is_hdf5(file)
        with pytest.raises(UserError, match="is not a whole HDF5 file"):
            list_hdf5(file, None)
    assert not is_hdf5(tmp_path)


def test_lmdb_of_any_keys(tmp_path: Path) -> None:
    images = noise(6, 9, 9, 3)
    keys = [b"\x00", b"\x00\x00", b"\xff\n", b"a name", "ä".encode(), b"z\x00"]
    values = {key: encoded(image, "WEBP", lossless=True) for key, image in zip(keys, images, strict=True)}
    write_lmdb(tmp_path / "data", values)
    assert is_lmdb(tmp_path / "data")
    listing = list_lmdb({"thing": tmp_path / "data"}, None)
    assert sorted(one[1:] for one in facts(listing)) == [one[1:] for one in expected((True, images, ["thing"] * 6))]
    assert sorted(listing.names) == sorted(["00", "0000", "ff0a", "a name", "c3a4", "7a00"])
    assert list_lmdb({"thing": tmp_path / "data"}, 0.5).train == 3  # while the other is open
    write_lmdb(tmp_path / "empty", {})
    with pytest.raises(UserError, match="holds no images"):
        list_lmdb({"a": tmp_path / "empty"}, None)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="is not a whole LMDB") as caught:
        list_lmdb({"a": tmp_path / "bad"}, None)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub() -> object:
    module = pytest.importorskip("datasets")
    module.disable_progress_bars()
    return module


def columns(count: int, hub: object, **more: tuple[list, object]) -> object:
    images = [{"bytes": encoded(image), "path": None} for image in noise(count, 6, 7, 3)]
    kinds = hub.Features({"picture": hub.Image(), **{name: kind for name, (_, kind) in more.items()}})
    return hub.Dataset.from_dict({"picture": images, **{name: cells for name, (cells, _) in more.items()}}, kinds)


def test_a_saved_data_set(tmp_path: Path, hub: object) -> None:
    data = columns(12, hub, animal=([0, 1, 2] * 4, hub.ClassLabel(names=["cat", "ant", "bee"])))
    data.save_to_disk(tmp_path / "one")
    assert is_saved(tmp_path / "one")
    listing = list_saved(tmp_path / "one", None)
    assert listing.labels.spec.classes == ("cat", "ant", "bee")
    assert (len(listing), listing.train) == (12, 9)
    wanted = expected((True, noise(12, 6, 7, 3), ["cat", "ant", "bee"] * 4))
    assert sorted(one[1:] for one in facts(listing)) == [one[1:] for one in wanted]
    hub.DatasetDict(train=data, validation=data.select([0]), test=data.select([1, 2])).save_to_disk(tmp_path / "three")
    assert is_saved(tmp_path / "three")
    listing = list_saved(tmp_path / "three", None)
    assert (len(listing), listing.train, listing.names[-1]) == (14, 12, "test-000001.png")
    last = [one for one in facts(listing) if not one[0]]
    assert last == expected((False, noise(12, 6, 7, 3)[1:3], ["ant", "bee"]))
    assert not is_saved(tmp_path)


def test_saved_labels_of_any_kind(tmp_path: Path, hub: object) -> None:
    def saved(name: str, **more: tuple[list, object]) -> Listing:
        columns(4, hub, **more).save_to_disk(tmp_path / name)
        return list_saved(tmp_path / name, None)

    assert saved("numbers", label=([10, 9, 10, 9], hub.Value("int64"))).labels.spec.classes == ("9", "10")
    assert saved("text", Category=(["x", "y"] * 2, hub.Value("string"))).labels.spec.classes == ("x", "y")
    assert saved("none", caption=(["x", "y"] * 2, hub.Value("string"))).labels.spec.classes == ("image",)
    tags = [[0], [1], [], [0, 1]]
    many = saved("many", tags=(tags, hub.Sequence(hub.ClassLabel(names=["a", "b"]))))
    assert many.labels.spec.fields == (Field("attributes", ("a", "b"), exclusive=False),)
    holds = torch.tensor([[1, 0], [0, 1], [0, 0], [1, 1]])
    assert torch.equal(many.labels.codes.long(), holds[torch.from_numpy(many.numbers)])
    words = saved("words", labels=([["u"], ["v"], [], ["u", "v"]], hub.Sequence(hub.Value("string"))))
    assert words.labels.spec.fields == (Field("attributes", ("u", "v"), exclusive=False),)
    both = hub.ClassLabel(names=["p", "q"])
    assert saved("both", label=([0, 1] * 2, both), other=([0] * 4, both)).labels.spec.classes == ("p", "q")
    for name, cells, kind in (("minus", [0, -1, 1, 0], both), ("none", ["p", None, "q", "p"], hub.Value("string"))):
        some = saved(f"partial {name}", label=(cells, kind))
        assert some.labels.spec.classes == ("p", "q")
        assert sorted(some.labels.index().tolist()) == [-1, 0, 0, 1]
    for match, more in {
        "columns of labels fine, coarse: expected one": {"fine": ([0, 1] * 2, both), "coarse": ([0] * 4, both)},
        "row 0 of split 'train': 0.5 given, expected a class": {"label": ([0.5] * 4, hub.Value("float32"))},
        "column 'label' of .* given, expected class labels": {"label": ([True] * 4, hub.Value("bool"))},
        "has 2 columns of images": {"more": ([None] * 4, hub.Image())},
    }.items():
        with pytest.raises(UserError, match=match):
            saved(match[:11], **more)


def test_saved_labels_are_found_as_in_tables(tmp_path: Path, hub: object) -> None:
    text, number, flag = (hub.Value(kind) for kind in ("string", "int64", "bool"))
    letters = hub.ClassLabel(names=["p", "q"])

    def saved(name: str, **more: tuple[list, object]) -> Listing:
        columns(4, hub, **more).save_to_disk(tmp_path / name)
        return list_saved(tmp_path / name, None)

    both = saved("both", label=([0, 1] * 2, number), class_name=(["x", "y"] * 2, text))
    assert both.labels.spec.classes == ("x", "y")
    assert both.notes == ("labels from the column 'class_name'",)
    assert saved("floats", label=([0.0, 1.0] * 2, hub.Value("float32"))).labels.spec.classes == ("0", "1")
    for name, kind, cells in (("one", letters, [[0], [1]]), ("word", text, [["p"], ["q"]])):
        assert saved(name, labels=(cells * 2, hub.Sequence(kind))).labels.spec == LabelSpec.of_classes(("p", "q"))
    flags = saved("flags", Hat=([True, False] * 2, flag), caption=(["u", "v"] * 2, text))
    assert flags.labels.spec.fields == (Field("attributes", ("Hat",), exclusive=False),)
    for name, kind in (("empty", letters), ("void", text)):
        with pytest.raises(UserError, match="all lists of labels .*are empty"):
            saved(name, labels=([[]] * 4, hub.Sequence(kind)))


def test_a_saved_split_without_labels_is_left_out(tmp_path: Path, hub: object) -> None:
    kind = hub.ClassLabel(names=["p", "q"])
    train, test = columns(4, hub, label=([0, 1] * 2, kind)), columns(2, hub, label=([-1, -1], kind))
    hub.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "data")
    listing = list_saved(tmp_path / "data", None)
    assert len(listing) == 4
    assert listing.notes == ("labels from the column 'label'", "split 'test' has no labels: it is left out")


def test_of_saved_columns_of_images_that_called_image_is_taken(tmp_path: Path, hub: object) -> None:
    masks = [{"bytes": encoded(image), "path": None} for image in noise(4, 6, 7)]
    data = columns(4, hub, mask=(masks, hub.Image())).rename_column("picture", "image")
    data.save_to_disk(tmp_path / "data")
    assert "images from the column 'image', not 'mask'" in list_saved(tmp_path / "data", None).notes


def test_saved_images_by_path_and_splits(tmp_path: Path, hub: object, monkeypatch: pytest.MonkeyPatch) -> None:
    data = columns(4, hub)
    save(tmp_path / "beside.png", noise(1, 3, 3)[0])
    image = {"bytes": None, "path": str(tmp_path / "beside.png")}
    kept = hub.Features({"picture": hub.Image(decode=False)})
    hub.Dataset.from_dict({"picture": [image] * 4}, kept).save_to_disk(tmp_path / "paths")
    listing = list_saved(tmp_path / "paths", None)
    assert {one[2] for one in facts(listing)} == {sha(noise(1, 3, 3)[0])}
    hub.DatasetDict(train=data, extra=data).save_to_disk(tmp_path / "other")
    with pytest.raises(UserError, match="has a split 'extra': expected train, validation and test"):
        list_saved(tmp_path / "other", None)
    hub.DatasetDict(test=data).save_to_disk(tmp_path / "untrained")
    with pytest.raises(UserError, match="has no images to train on"):
        list_saved(tmp_path / "untrained", None)
    (tmp_path / "paths" / "state.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as a saved Hugging Face data set"):
        list_saved(tmp_path / "paths", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets: .* -e '\.\[huggingface\]'"):
        list_saved(tmp_path / "other", None)


def made_hdf5(path: Path) -> Listing:
    labels = LabelTable.from_index(LabelSpec.of_classes(["a"]), torch.zeros(600, dtype=torch.int64))
    write_hdf5(path / "data.hdf5", [(torch.from_numpy(noise(600, 3, 4, 4)), labels)])
    return list_hdf5(path / "data.hdf5", None)


def made_lmdb(path: Path) -> Listing:
    write_lmdb(path / "data", {bytes([i]): encoded(image) for i, image in enumerate(noise(50, 4, 4, 3))})
    return list_lmdb({"a": path / "data"}, None)


def made_saved(path: Path) -> Listing:
    columns(20, pytest.importorskip("datasets")).save_to_disk(path / "data")
    return list_saved(path / "data", None)


def made_arrays(path: Path) -> Listing:
    mnist(path / "MNIST" / "raw")
    return found("mnist", path)


@pytest.mark.parametrize("made", [made_hdf5, made_lmdb, made_saved, made_arrays])
def test_other_processes_read_the_same(made: Callable[[Path], Listing], tmp_path: Path) -> None:
    pictures = made(tmp_path).pictures
    numbers = range(len(pictures))
    here = [pictures.digest(number) for number in numbers]
    copy = pickle.loads(pickle.dumps(pictures))
    assert [copy.digest(number) for number in reversed(numbers)] == here[::-1]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    children = [
        context.Process(target=lambda: answers.put([pictures.digest(number) for number in numbers])) for _ in range(2)
    ]
    for child in children:
        child.start()
    assert [pictures.digest(number) for number in numbers] == here
    assert [answers.get() for _ in children] == [here, here]
    for child in children:
        child.join()
        assert child.exitcode == 0


def test_a_span_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = made_hdf5(tmp_path).pictures
    assert isinstance(pictures, HDF5Pictures)
    reads = []
    real = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, where: (reads.append(where), real(self, where))[1])
    for number in range(len(pictures)):
        pictures.read(number)
    assert len(reads) == 3  # of 256
    assert len(pickle.dumps(pictures)) < 1000
