"""Every layout of labeled images gives the same images and labels."""

import csv
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgan.data.open import list_source, read
from condgan.utils.errors import UserError
from tests.conftest import write_image

CLASSES = ("apple", "banana", "cherry")


def gray(number: int) -> int:
    """The gray of the n-th image, by which it is known."""
    return 9 * number + 5


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 12), gray(number)).save(buffer, "PNG")
    return buffer.getvalue()


def images(count: int = 24) -> dict[str, tuple[bytes, int]]:
    """File, content and class of images whose classes take turns."""
    return {f"{number:03}.png": (picture(number), number % 3) for number in range(count)}


def flat(root: Path) -> None:
    (root / "pics").mkdir(parents=True)
    for name, (content, _) in images().items():
        (root / "pics" / name).write_bytes(content)


def folders(root: Path) -> None:
    for name, (content, label) in images().items():
        path = root / CLASSES[label] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def nested(root: Path) -> None:
    for name, (content, label) in images().items():
        path = root / "all of them" / CLASSES[label] / f"batch {int(name[:3]) % 2}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def table(root: Path, file: str, delimiter: str = ",", head: str | None = "file_name,label") -> None:
    flat(root)
    rows = [[f"pics/{name}", CLASSES[label]] for name, (_, label) in images().items()]
    with open(root / file, "w", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([*([head.split(",")] if head else []), *rows])


def lines(root: Path) -> None:
    flat(root)
    rows = [{"file_name": name, "label": CLASSES[label], "text": 1} for name, (_, label) in images().items()]
    for row in rows:
        del row["text"]
    (root / "pics" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def stylegan(root: Path) -> None:
    labels = []
    for name, (content, label) in images().items():
        path = root / "00000" / f"img{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        labels.append([f"00000/img{name}", label])
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))


def tar_of(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def shards(root: Path) -> None:
    root.mkdir(parents=True)
    for shard in range(2):
        files = {}
        for name, (content, label) in list(images().items())[shard::2]:
            key = name.removesuffix(".png")
            files |= {f"{key}.png": content, f"{key}.cls": str(label).encode(), f"{key}.txt": b"a picture"}
        tar_of(root / f"photos-{shard:06}.tar", files)


def shards_of_json(root: Path) -> None:
    root.mkdir(parents=True)
    files = {}
    for name, (content, label) in images().items():
        key = name.removesuffix(".png")
        files |= {f"./{key}.png": content, f"./{key}.json": json.dumps({"label": CLASSES[label]}).encode()}
    tar_of(root / "photos.tar", files)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "class folders": folders,
    "nested": nested,
    "CSV": lambda root: table(root, "anything.csv"),
    "CSV without a head": lambda root: table(root, "labels.csv", head=None),
    "semicolons": lambda root: table(root, "labels.csv", ";", "Path,Category"),
    "TSV": lambda root: table(root, "labels.tsv", "\t", "image,class"),
    "metadata.jsonl": lines,
    "dataset.json": stylegan,
    "WebDataset": shards,
    "WebDataset with JSON": shards_of_json,
}
NUMBERED = ("dataset.json", "WebDataset")


def check(source: Path, classes: tuple[str, ...]) -> None:
    data = read(str(source), 12, 1)
    assert data.spec.classes == classes
    found = {}
    for split in (data.train, data.held_out):
        for image, label in zip(split.images, split.labels.index().tolist(), strict=True):
            assert (image == image[0, 0, 0]).all()
            found[int(image[0, 0, 0])] = label
    assert found == {gray(number): number % 3 for number in range(24)}
    assert (len(data.train), len(data.held_out)) == (21, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "data"
    LAYOUTS[layout](root)
    check(root, ("0", "1", "2") if layout in NUMBERED else CLASSES)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if "WebDataset" not in layout])
def test_a_zip_of_every_layout_is_read(tmp_path: Path, layout: str) -> None:
    """But of shards, which are archives themselves."""
    root = tmp_path / "data"
    LAYOUTS[layout](root)
    check(
        Path(shutil.make_archive(str(tmp_path / "packed"), "zip", root)),
        ("0", "1", "2") if layout in NUMBERED else CLASSES,
    )


def test_a_tar_of_class_folders_is_read(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    check(Path(shutil.make_archive(str(tmp_path / "packed"), "tar", tmp_path, "data")), CLASSES)


def test_images_without_labels_are_one_class(tmp_path: Path) -> None:
    flat(tmp_path / "data")
    data = read(str(tmp_path / "data" / "pics"), 12, 1)
    assert data.spec.classes == ("image",)
    assert (len(data.train), len(data.held_out)) == (22, 2)
    assert read(str(tmp_path / "data"), 12, 1).spec.classes == ("pics",)
    (tmp_path / "data" / "dataset.json").write_text('{"labels": null}')
    assert read(str(tmp_path / "data"), 12, 1).spec.classes == ("image",)
    for split in ("train", "test"):
        shutil.copytree(tmp_path / "data" / "pics", tmp_path / "both" / split)
    data = read(str(tmp_path / "both"), 12, 1)
    assert data.spec.classes == ("image",)
    assert (len(data.train), len(data.held_out)) == (24, 24)


def test_validation_images_are_held_out_only_where_there_are_no_test_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folders(tmp_path / "data" / split)
    shutil.rmtree(tmp_path / "data" / "val" / "apple")
    assert len(read_held_out(tmp_path / "data", 16)) == 16
    folders(tmp_path / "data" / "test")
    listing = list_source(str(tmp_path / "data"))
    assert (listing.train, len(listing) - listing.train) == (24, 24)
    assert any("validation images are left out" in note for note in listing.notes)
    listing = list_source(str(tmp_path / "data"), held_out=0.25)
    assert (listing.train, len(listing) - listing.train) == (18, 6)
    assert all(name.startswith("train/") for name in listing.names), "the test images are not looked at"
    assert listing.labels.at(slice(18, None)).counts().tolist() == [2, 2, 2]


def read_held_out(root: Path, count: int) -> list[str]:
    with pytest.raises(UserError, match="class 'apple' has 0 readable images in the held-out split"):
        read(str(root), 12, 1)
    listing = list_source(str(root))
    return list(listing.names[listing.train :])


def test_a_column_tells_the_split(tmp_path: Path) -> None:
    flat(tmp_path / "data")
    rows = [
        f"{name},{CLASSES[label]},{'test' if int(name[:3]) < 6 else 'train'}" for name, (_, label) in images().items()
    ]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    listing = list_source(str(tmp_path / "data"))
    assert sorted(listing.names[listing.train :]) == [f"{number:03}.png" for number in range(6)]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["file,label,split", *rows]).replace("test", "tset"))
    with pytest.raises(UserError, match="line 2: split 'tset' given, expected train, val or test"):
        list_source(str(tmp_path / "data"))


def test_a_table_in_each_splits_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        rows = []
        for name, (content, label) in images(12).items():
            (tmp_path / "data" / split / name).write_bytes(content)
            rows.append(json.dumps({"file_name": name, "label": CLASSES[label]}))
        (tmp_path / "data" / split / "metadata.jsonl").write_text("\n".join(rows))
    listing = list_source(str(tmp_path / "data"))
    assert (listing.train, len(listing)) == (12, 24)
    assert {name.partition("/")[0] for name in listing.names[:12]} == {"train"}


ATTRIBUTES = {
    "columns.csv": "file,Red,Big\n"
    + "\n".join(f"{name},{label == 0:d},{label != 1:d}" for name, (_, label) in images().items()),
    "signs.tsv": "file\tRed\tBig\n"
    + "\n".join(
        f"{name}\t{1 if label == 0 else -1}\t{1 if label != 1 else -1}" for name, (_, label) in images().items()
    ),
    "tags.csv": "file,tags\n"
    + "\n".join(f"{name},{('Red|Big', '', 'Big')[label] or 'Odd'}" for name, (_, label) in images().items()),
    "lists.jsonl": "\n".join(
        json.dumps({"file_name": name, "labels": (["Red", "Big"], [], ["Big"])[label]})
        for name, (_, label) in images().items()
    ),
    "vectors": json.dumps(
        {"labels": [[f"pics/{name}", [label == 0, label != 1]] for name, (_, label) in images().items()]}
    )
    .replace("true", "1")
    .replace("false", "0"),
}


@pytest.mark.parametrize("file", ATTRIBUTES)
def test_attributes_are_read(tmp_path: Path, file: str) -> None:
    root = tmp_path / "data"
    flat(root)
    (root / ("dataset.json" if file == "vectors" else file)).write_text(ATTRIBUTES[file])
    listing = list_source(str(root))
    field = listing.labels.spec.fields[0]
    assert not field.exclusive
    red, big = ("0", "1") if file == "vectors" else ("Red", "Big")
    for name, values in zip(listing.names, listing.labels.values.tolist(), strict=True):
        label = int(Path(name).stem) % 3
        of_value = dict(zip(field.values, values, strict=True))
        assert (of_value[red], of_value[big]) == (label == 0, label != 1)


def test_images_that_are_not_listed_are_left_out_and_told(tmp_path: Path) -> None:
    table(tmp_path / "data", "labels.csv")
    write_image(tmp_path / "data" / "pics" / "more.png")
    assert list_source(str(tmp_path / "data")).notes == (
        "labels from the column 'label' of 'labels.csv'",
        "1 images that 'labels.csv' does not list are left out",
    )


def test_a_table_of_other_things_is_no_list_of_labels(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    (tmp_path / "data" / "prices.csv").write_text("fruit,price\napple,3\n")
    check(tmp_path / "data", CLASSES)


BAD_TABLES = {
    "file,label\n001.png,a\ngone.png,b\n": "line 3: image 'gone.png' is missing",
    "file,label\ngone.png,a\nlost.png,b\n": "line 2: image 'gone.png' and 1 more are missing",
    "file,label\n001.png,a\n001.png,b\n": "line 3: '001.png' stands with another label in 'labels.csv', line 2 already",
    "file,label\n001.png,a\n001.png,a\n": "line 3: '001.png' stands in 'labels.csv', line 2 already",
    "file,label\n001.png,a\npics/001.png,b\n": "line 3: 'pics/001.png' stands in 'labels.csv', line 2 already",
    "file,label\n001.png\n": "line 2: 1 cells given, expected 2: file, label",
    "file,label\n,a\n": "line 2: no file given",
    "file,label,label\n001.png,a,b\n": "column 'label' given twice",
    "file,Red,Big\n" + "".join(f"{i:03}.png,{i % 2},{i // 11 * 2}\n" for i in range(12)): (
        "line 13: '2' given in column 'Big', expected a column such as label, or 0 or 1"
    ),
    "color,weight\nred,3\n": "line 1: columns color, weight given, expected one of file_name",
    "file,label\n": "lists no image",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_bad_tables_are_refused_with_their_line(tmp_path: Path, text: str) -> None:
    flat(tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text(text)
    with pytest.raises(UserError) as error:
        list_source(str(tmp_path / "data"))
    assert BAD_TABLES[text] in str(error.value)


def test_bad_json_is_refused(tmp_path: Path) -> None:
    flat(tmp_path / "data")

    def refused(file: str, text: str, match: str) -> None:
        path = tmp_path / "data" / file
        path.write_text(text)
        with pytest.raises(UserError, match=match):
            list_source(str(tmp_path / "data"))
        path.unlink()

    refused("metadata.jsonl", "{oops\n", "'metadata.jsonl', line 1: no JSON")
    refused("metadata.jsonl", '{"label": 3}\n', "line 1: no file_name given")
    refused("metadata.jsonl", '{"file_name": "001.png", "label": {"a": 2}}\n', "expected a class, names, or a vector")
    refused("dataset.json", "[1]", "is no dataset.json")
    refused("dataset.json", '{"labels": [["gone.png", 1]]}', "'dataset.json', label 1: image 'gone.png' is missing")
    refused("labels.csv", 'file,label\n"001.png,a\n' + "x" * 200_000, "'labels.csv', line .*: no table")
    (tmp_path / "data" / "labels.csv").write_bytes(b"file,label\n\xff\x00\n")
    with pytest.raises(UserError, match=r"'labels.csv' of .* is no text"):
        list_source(str(tmp_path / "data"))


def test_shards_that_were_unpacked_are_read_by_the_labels_beside_the_images(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        (tmp_path / f"{number}.CLS").write_text(f"{number % 2}")
    listing = list_source(str(tmp_path))
    assert listing.labels.spec.classes == ("0", "1")
    assert [int(name[0]) % 2 for name in listing.names] == listing.labels.index().tolist()


def test_bad_tars_are_refused(tmp_path: Path) -> None:
    shards(tmp_path / "data")
    whole = (tmp_path / "data" / "photos-000000.tar").read_bytes()
    (tmp_path / "data" / "photos-000000.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UserError, match="tar .* is damaged"):
        list_source(str(tmp_path / "data"))
    tar_of(tmp_path / "evil.tar", {"../evil.png": b"", "a/1.png": b""})
    with pytest.raises(UserError, match=r"tar '.*' refused: its member '../evil.png' points outside"):
        list_source(str(tmp_path / "evil.tar"))
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="is a compressed tar"):
        list_source(str(tmp_path / "x.tar.gz"))
    tar_of(tmp_path / "half.tar", {"1.png": picture(1), "1.cls": b"0", "2.png": picture(2)})
    with pytest.raises(UserError, match=r"sample '2.png' .* has no .cls nor .json"):
        list_source(str(tmp_path / "half.tar"))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.data.readers.tree.ENCODED", 10_000)
    folders(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "data").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "data"))
        archive.writestr("apple/bomb.png", bytes(1_000_000))
    with pytest.raises(
        UserError, match=r"'apple/bomb.png' of class 'apple' \(it has 1,000,000 bytes, more than 10,000\)"
    ):
        read(str(tmp_path / "bomb.zip"), 12, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "data" / "apple" / "huge.png")
    with pytest.raises(UserError, match=r"huge.png' of class 'apple' \(.*decompression bomb"):
        read(str(tmp_path / "data"), 12, 1)


def test_an_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path / "data")

    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "data" / "apple"))

    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(UserError, match=r"folder '.*data' cannot be read \(Permission denied\): give yourself"):
        list_source(str(tmp_path / "data"))


def test_shards_of_one_name_in_several_folders_are_all_read(tmp_path: Path) -> None:
    for split, numbers in (("train", range(20)), ("val", range(20, 26))):
        files = {}
        for number in numbers:
            files |= {f"train_{number:03}.png": picture(number), f"train_{number:03}.cls": str(number % 2).encode()}
        (tmp_path / "data" / split).mkdir(parents=True)
        tar_of(tmp_path / "data" / split / "00000.tar", files)
    listing = list_source(str(tmp_path / "data"))
    assert (listing.train, len(listing)) == (20, 26)
    shutil.rmtree(tmp_path / "data" / "val")
    shutil.move(tmp_path / "data" / "train" / "00000.tar", tmp_path / "some.tar")
    listing = list_source(str(tmp_path / "some.tar"))
    assert (listing.train, len(listing)) == (18, 20), "keys say nothing of splits"


def test_a_tar_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    shards_of_json(tmp_path / "data")
    path = tmp_path / "data" / "photos.tar"
    whole = bytearray(path.read_bytes())
    start = whole.index(b"./012.png")
    whole[start + 100 : start + 120] = b"?" * 20
    path.write_bytes(whole)
    with pytest.raises(UserError, match="tar .* is damaged"):
        list_source(str(path))


def test_zips_of_other_systems_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dos.zip", "w") as archive:
        for name, (content, label) in images().items():
            archive.writestr(f"{CLASSES[label]}/{name}", content)
    path = tmp_path / "dos.zip"
    whole = path.read_bytes()
    for name in CLASSES:
        whole = whole.replace(f"{name}/".encode(), f"{name}\\".encode())
    path.write_bytes(whole)
    check(path, CLASSES)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_twice_in_a_zip_is_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for _ in range(2):
            for name, (content, label) in images().items():
                archive.writestr(f"{CLASSES[label]}/{name}", content)
    check(tmp_path / "twice.zip", CLASSES)


def test_tables_as_people_write_them(tmp_path: Path) -> None:
    flat(tmp_path / "data")
    file = tmp_path / "data" / "train.csv"
    rows = {name: label for name, (_, label) in images().items()}
    file.write_text("image_id,label\n" + "\n".join(f"{name[:3]},{CLASSES[label]}" for name, label in rows.items()))
    check(tmp_path / "data", CLASSES)
    file.write_text("file,digit\n" + "\n".join(f"./pics/{name},{label}" for name, label in rows.items()))
    check(tmp_path / "data", ("0", "1", "2"))
    lines = "\r\n".join(f'"{name}","{CLASSES[label]}"' for name, label in rows.items())
    file.write_bytes(b"\xef\xbb\xbffile,label\r\n" + lines.encode())
    check(tmp_path / "data", CLASSES)
    file.write_text("name,price\nno,3\n")
    assert list_source(str(tmp_path / "data" / "pics")).notes == ()
    shutil.copy(file, tmp_path / "data" / "pics")
    assert "'train.csv' is not understood" in list_source(str(tmp_path / "data" / "pics")).notes[0]
    folders(tmp_path / "other")
    (tmp_path / "other" / "classes.csv").write_text("id,name\n1,cat\n2,dog\n")
    (tmp_path / "other" / "notes.csv").write_bytes(b"caf\xe9,1\n")
    (tmp_path / "other" / "broken.jsonl").write_text("{oops\n")
    check(tmp_path / "other", CLASSES)


def test_one_hot_vectors_are_classes(tmp_path: Path) -> None:
    stylegan(tmp_path / "data")
    file = tmp_path / "data" / "dataset.json"
    pairs = json.loads(file.read_text())["labels"]
    file.write_text(json.dumps({"labels": [[name, [int(i == label) for i in range(3)]] for name, label in pairs]}))
    check(tmp_path / "data", ("0", "1", "2"))
    file.write_text('{"labels": ' + "[" * 100_000)
    with pytest.raises(UserError, match="no dataset.json"):
        list_source(str(tmp_path / "data"))


def test_classes_of_a_split_that_is_left_out_are_none(tmp_path: Path) -> None:
    flat(tmp_path / "data")
    rows = [f"{name},{CLASSES[label]},{('train', 'test')[int(name[:3]) < 6]}" for name, (_, label) in images().items()]
    rows[-1] = rows[-1].replace("cherry,train", "rare,val")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    data = read(str(tmp_path / "data"), 12, 1)
    assert data.spec.classes == CLASSES
    assert (len(data.train), len(data.held_out)) == (17, 6)


def test_a_test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    folders(tmp_path / "data" / "train")
    write_image(tmp_path / "data" / "test" / "1.png")
    with pytest.raises(UserError, match="'test' has no class folders, other splits have"):
        list_source(str(tmp_path / "data"))
