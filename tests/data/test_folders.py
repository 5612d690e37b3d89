"""What the folders and names of files say: splits, classes, leftovers, and what is left out."""

import os
import shutil
import socket
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgan.data import preprocessing
from condgan.data.open import list_source, read
from condgan.data.readers.names import is_leftover
from condgan.data.readers.splits import split_in
from condgan.evaluation.images import read_fakes_and_real
from condgan.utils.errors import UserError
from tests.helpers import condgan, refused


def fill(root: Path, *folders: str, count: int = 3) -> Path:
    """Images in each folder, all different."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            seed = sum(map(ord, folder)) * 100 + i
            pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    return root


def found(root: Path, share: float | None = None) -> dict[str, tuple[int, int]]:
    """How many images of each class are to train on, and are held out."""
    listing = list_source(str(root), held_out=share)
    parts = [listing.labels.at(part).counts().tolist() for part in (slice(listing.train), slice(listing.train, None))]
    return dict(zip(listing.labels.spec.classes, zip(*parts, strict=True), strict=True))


def said(root: Path) -> str:
    return " ".join(list_source(str(root)).notes)


SPLITS = [
    ("trainA trainB testA testB", "A B"),
    ("trainA trainB valA valB", "A B"),
    ("TRAINA TRAINB TESTA TESTB", "A B"),
    ("A_train B_train A_test B_test", "A B"),
    ("train-A train-B test-A test-B", "A B"),
    ("train_summer train_winter test_summer test_winter", "summer winter"),
    ("SummerTrain WinterTrain SummerTest WinterTest", "Summer Winter"),
    ("train_bullet_train train_car test_bullet_train test_car", "bullet_train car"),
    ("train/a train/b test/a test/b", "a b"),
    ("Training/a Training/b Testing/a Testing/b", "a b"),
    ("TRAIN/a TRAIN/b Test/a Test/b", "a b"),
    ("training_set/a training_set/b test_set/a test_set/b", "a b"),
    ("pets_train/a pets_train/b pets_test/a pets_test/b", "a b"),
    ("train2017/a train2017/b val2017/a val2017/b", "a b"),
    ("trainval/a trainval/b test/a test/b", "a b"),
    ("train_val/a train_val/b test/a test/b", "a b"),
    ("train/a train/b eval/a eval/b", "a b"),
    ("cat/train cat/test dog/train dog/test", "cat dog"),
    ("cat/cat_train cat/cat_test dog/dog_train dog/dog_test", "cat dog"),
    ("pets/cat/Train pets/cat/Val pets/dog/Train pets/dog/Val", "cat dog"),
    ("cat/2020/train cat/2020/test dog/2021/train dog/2021/test", "cat dog"),
    ("train test", "image"),
    ("trainset testset", "image"),
]


@pytest.mark.parametrize(("folders", "classes"), SPLITS)
def test_folders_that_are_splits_are_understood(tmp_path: Path, folders: str, classes: str) -> None:
    fill(tmp_path / "data", *folders.split())
    assert found(tmp_path / "data") == dict.fromkeys(classes.split(), (3, 3))


CLASSES = [
    "car train bus", "valid invalid", "train_station train_track", "trainA trainB", "cats trains tests", "dev ops",
    "car/red train/steam bus/london", "vehicle/car vehicle/train animal/cat", "test-tube flask", "Train plane",
    "cat/training cat/show dog/show",
]  # fmt: skip


@pytest.mark.parametrize("folders", CLASSES)
def test_a_class_named_like_a_split_stays_a_class(tmp_path: Path, folders: str) -> None:
    fill(tmp_path / "data", *folders.split())
    assert set(found(tmp_path / "data")) == {folder.partition("/")[0] for folder in folders.split()}


REFUSED = [
    ("train test cat", "holds the folders cat, test, train: expected train/ with test/"),
    ("train/a train/b more/a more/b", "the folders more, train: expected"),
    ("cat dog test/cat test/dog", "the folders cat, dog, test: expected"),
    ("val test", "the folders test, val: expected"),
    ("train training test", "the folders test, train, training: expected"),
    ("trainA trainB testA testB extra", "the folders extra, testA, testB, trainA, trainB: expected"),
    ("trainA trainB testA testC", "class 'C' is in the held-out split only"),
    ("cat/train cat/test dog", "'dog/0.png' is in no split, while 'cat' holds test, train"),
    ("cat/train cat/test cat/old dog/train dog/test", "the folders old, test, train in 'cat': expected"),
    ("train/a test/a test/b test/c", "2 classes ('b', 'c') are in the held-out split only.*data.held_out=0.1"),
]


@pytest.mark.parametrize(("folders", "message"), REFUSED)
def test_splits_among_other_folders_are_refused(tmp_path: Path, folders: str, message: str) -> None:
    fill(tmp_path / "data", *folders.split())
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        list_source(str(tmp_path / "data"))


def test_what_was_understood_is_said(tmp_path: Path) -> None:
    assert "folders testA, testB, trainA, trainB are read as splits of the classes A, B" in said(
        fill(tmp_path / "ab", "trainA", "trainB", "testA", "testB")
    )
    root = fill(tmp_path / "inside", "cat/train", "cat/test", "dog/train")
    assert "test, train in class folders such as 'cat' are read as splits" in said(root)
    assert "folder 'train' is read as a class, as no other split is beside it" in said(
        fill(tmp_path / "vehicles", "car", "train", "bus")
    )
    root = fill(tmp_path / "beside", "train/a", "test/a", ".")
    assert "3 images beside the splits' folders are left out" in said(root)


def test_a_share_is_held_out_instead_of_a_test_split_that_lacks_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "train/a", "train/b", "test/a", "test/c")
    with pytest.raises(UserError, match=r"class 'c' is in the held-out split only.*data.held_out=0.1"):
        list_source(str(root))
    assert found(root, 0.3) == {"a": (2, 1), "b": (2, 1)}
    assert list_source(str(root), held_out=0.3).notes == (
        "6 images of other splits left out: a share of the training images is held out",
    )
    shutil.rmtree(root / "test" / "c")
    with pytest.raises(UserError, match=r"class 'b' has 0 readable images in the held-out split .*data.held_out=0.1"):
        read(str(root), 8, 3)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("bullet_train_test", (2, "bullet_train")), ("train_val", (0, "")), ("test_train", (2, "")),
        ("train", (0, "")), ("TestB", (2, "B")), ("val2017", (1, "2017")), ("summer-train", (0, "summer")),
        ("a_train_b", (0, "a__b")), ("trains", None), ("contest", None), ("latest", None), ("traina", (0, "a")),
        ("Straining", None), ("test images", (2, "")), ("holdout", (2, "")), ("поезд", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_tells_its_split(name: str, split: tuple[int, str] | None) -> None:
    assert split_in(name) == split


LEFTOVERS = [
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "0.png@SynoEAStream", "~snapshot/0.png", "FOUND.000/0.png", "_vti_cnf/0.png",
    "#recycle/0.png", "$RECYCLE.BIN/0.png", "System Volume Information/x.png",
    "__MACOSX/a/._0.png", "._0.png", ".DS_Store", "Thumbs.db", "thumbs.DB", "ehthumbs.db", "desktop.ini",
    "0.png:Zone.Identifier", ".Trash-1000/files/0.png", "lost+found/0.png", ".ipynb_checkpoints/0-checkpoint.png",
    ".picasa.ini", "Picasa.ini", ".@__thumb/0.png", "@Recycle/0.png", "~$0.png", "0.png.tmp", "0.png.part",
    "0.png.crdownload", ".fuse_hidden0001.png", ".nfs0001.png",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_what_systems_and_tools_leave_is_no_data(tmp_path: Path, kind: str) -> None:
    root = fill(tmp_path / "data", "red", "blue")
    before = found(root)
    for folder in ("", "red/"):
        for name in LEFTOVERS:
            file = root / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "blue" / "0.png", file)
    path = root
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "made"), "zip", root))
    elif kind == "tar":
        path = tmp_path / "made.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(root, ".")
    assert found(path) == before
    assert list_source(str(path)).notes == ()
    assert all(map(is_leftover, LEFTOVERS))


def test_names_that_only_look_like_leftovers_are_kept() -> None:
    for name in ("./a/0.png", "a.part/0.png", "recycle/0.png", "tmp/0.png", "lost/0.png", "a.b/0.tmp.png"):
        assert not is_leftover(name), name


@pytest.mark.parametrize("ending", ["txt", "json", "xmp"])
def test_captions_and_sidecars_do_not_block_class_folders(tmp_path: Path, ending: str) -> None:
    root = fill(tmp_path / "data", "red", "blue")
    for i in range(3):
        (root / "red" / f"{i}.{ending}").write_text("{}")
    (root / "README").write_text("about them")
    assert found(root) == {"red": (2, 1), "blue": (2, 1)}
    assert f"4 files left out: 3 .{ending}, 1 without ending, which are no images" in said(root)


def test_a_folder_of_annotations_is_no_class(tmp_path: Path) -> None:
    for layout in (("red", "blue"), ("images/train/red", "images/train/blue", "images/test/red", "images/test/blue")):
        root = fill(tmp_path / str(len(layout)), *layout)
        (root / "labels" / "train").mkdir(parents=True)
        (root / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 1 1")
        assert set(found(root)) == {"red", "blue"}
        assert "1 file left out: 1 .txt" in said(root)
    (root / "images" / "train" / "green").mkdir()
    with pytest.raises(UserError, match="class folder 'images/train/green' of .* has no image: add some or remove"):
        list_source(str(root))


def heic(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not a reader of them is installed."""
    monkeypatch.setattr("condgan.data.readers.names.readable", lambda: preprocessing.readable() - {".heic"})


LEFT_OUT = "8 files left out: 5 .heic, 3 .nef, which cannot be read: convert them to PNG or JPEG"


def test_pictures_that_cannot_be_read_are_counted_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_heif(monkeypatch)
    root = fill(tmp_path / "flat", ".", count=70)
    for i in range(5):
        heic(root / f"IMG_{i}.HEIC")
    for i in range(3):
        (root / f"IMG_{i}.NEF").write_bytes(b"II*\0" + bytes(100))
    assert f"note           {LEFT_OUT}" in condgan(capsys, "data", root).out
    assert f"note           {LEFT_OUT}" in condgan(capsys, "prepare", root, "out", "--size", 8).out
    assert LEFT_OUT in " ".join(read(str(root), 8, 3).notes)
    assert LEFT_OUT in " ".join(read_fakes_and_real(str(root), "digits", "all", 8, True, False, False)[2])


def test_a_folder_of_nothing_but_heic_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_heif(monkeypatch)
    for i in range(5):
        heic(tmp_path / "flat" / f"{i}.HEIC")
    with pytest.raises(UserError, match=r"holds no images that can be read \(5 files left out: 5 .heic"):
        list_source(str(tmp_path / "flat"))
    fill(tmp_path / "classes", "red", "blue")
    heic(tmp_path / "classes" / "green" / "0.heic")
    with pytest.raises(UserError, match=r"class folder 'green' .* has no image that can be read \(1 file left out: 1"):
        list_source(str(tmp_path / "classes"))


@pytest.mark.parametrize("module", ["pi_heif", "pillow_heif"])
def test_a_reader_of_heic_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    asked = []
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(register_heif_opener=lambda: asked.append(module)))
    preprocessing._formats.__wrapped__()
    assert asked == [module]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_of_files_without_an_ending_the_content_tells(tmp_path: Path, kind: str) -> None:
    root = fill(tmp_path / "data", "red", "blue")
    for i in range(3):
        (root / "red" / f"{i}.png").rename(root / "red" / f"{i:032x}")
    (root / "red" / "LICENSE").write_text("free")
    path = root
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "made"), "zip", root))
    elif kind == "tar":
        path = tmp_path / "made.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(root, ".")
    assert found(path) == {"red": (2, 1), "blue": (2, 1)}
    assert "1 file left out: 1 without ending" in said(path)


def test_documents_and_videos_that_pillow_has_a_name_for_are_no_images(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "red", "blue")
    for name in ("a.pdf", "a.eps", "a.mpg", "a.h5"):
        (root / "red" / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    assert found(root) == {"red": (2, 1), "blue": (2, 1)}
    assert "2 files left out: 1 .eps, 1 .pdf, which cannot be read" in said(root)


def test_pipes_sockets_and_devices_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(tmp_path / "data", "red", "blue")
    os.mkfifo(root / "red" / "pipe.png")
    (root / "blue" / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(root)
        one.bind("blue/s.png")
    os.chdir(tmp_path)
    assert found(root) == {"red": (2, 1), "blue": (2, 1)}
    assert "3 files left out, such as 'blue/s.png': pipes, sockets or devices" in said(root)
    for source in (root / "red" / "pipe.png", Path("/dev/zero")):
        refused(condgan(capsys, "data", source), "is a pipe, socket or device")


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "data", "red", "blue", "lost+found")
    scandir = os.scandir

    def closed(path: Path) -> object:
        if Path(path).name in ("red", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(UserError, match=r"folder '.*data/red' cannot be read \(Permission denied\): give yourself"):
        list_source(str(root))


def test_a_link_to_a_folder_around_is_not_followed(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "red", "blue")
    fill(tmp_path / "other", "green")
    (root / "up").symlink_to("..")
    (root / "red" / "loop").symlink_to(".")
    assert found(root) == {"red": (2, 1), "blue": (2, 1)}


def test_names_of_classes_are_kept_as_they_are(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "cat, dog", " lead", "tail ", "a=b")
    assert set(found(root)) == {"cat, dog", " lead", "tail ", "a=b"}


def test_what_is_read_of_a_zip_is_what_is_read_of_its_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "trainA", "trainB", "testA", "testB")
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for file in root.rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path))
    assert found(tmp_path / "made.zip") == found(root)


def test_a_folder_around_all_class_folders_of_splits_is_no_class(tmp_path: Path) -> None:
    root = fill(tmp_path, *(f"{split}/images/{name}" for split in ("train", "test") for name in "ab"))
    assert found(root) == {"a": (3, 3), "b": (3, 3)}
    fill(tmp_path, "train/c")  # now images/ is a class beside it
    shutil.rmtree(tmp_path / "test")
    fill(tmp_path, "test/images", "test/c")
    assert list(found(root)) == ["c", "images"]


def test_the_single_class_of_splits_stays_one(tmp_path: Path) -> None:
    assert found(fill(tmp_path, "train/images", "test/images")) == {"images": (3, 3)}


@pytest.mark.parametrize("name", ["test", "Val", "testing", "validation_set"])
def test_a_single_held_out_folder_is_told_where_it_is_trained_on(name: str, tmp_path: Path) -> None:
    assert f"'{name}' is trained on" in said(fill(tmp_path, f"{name}/a", f"{name}/b"))


def test_a_single_training_folder_is_nothing_to_tell(tmp_path: Path) -> None:
    assert said(fill(tmp_path, "train/a", "train/b")) == ""


def test_validation_images_that_are_left_out_are_told_once(tmp_path: Path) -> None:
    notes = said(fill(tmp_path, *(f"{split}/{name}" for split in ("train", "val", "test") for name in "ab")))
    assert notes.count("validation images") == 1


@pytest.mark.parametrize(
    "name", ["0_mask.png", "0.mask.png", "0-seg.png", "0_GT.png", "0.jpg", "0_color_mask_label.png"]
)
def test_masks_beside_images_are_told(name: str, tmp_path: Path) -> None:
    root = fill(tmp_path, "a", "b", "color")
    assert "masks" not in said(root)
    shutil.copy(root / "b/0.png", root / "a" / name)
    assert ("masks" in said(root)) == ("color" not in name)
