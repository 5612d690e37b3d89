"""What tables, shards and lists of files say of labels and splits, and what they do not."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgan.data.listing import Listing
from condgan.data.open import list_source, read
from condgan.data.readers.attributes import _neighbors
from condgan.utils.errors import UserError

N = 20
NAMES = [f"{i:03}.png" for i in range(N)]
INSIDE = [f"{'ab'[i % 2]}/{i:03}.png" for i in range(N)]


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def flat(root: Path, inside: str = "") -> Path:
    """Images in one folder."""
    (root / inside).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(NAMES):
        (root / inside / name).write_bytes(png(i))
    return root


def folders(root: Path) -> Path:
    """The same images in the class folders a and b, in turn."""
    for i, name in enumerate(INSIDE):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(i))
    return root


def table(head: str, line: Callable[[int], str], count: int = N) -> str:
    return "\n".join([head, *map(line, range(count))]) + "\n"


def told(root: Path, **files: str | bytes) -> Listing:
    """A folder's listing, with files in it; __ in their names is a dot."""
    for name, content in files.items():
        path = root / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list_source(str(root))


def labels(listing: Listing) -> dict[str, str]:
    """The class of each image."""
    classes = listing.labels.spec.classes
    return {Path(name).stem: classes[i] for name, i in zip(listing.names, listing.labels.index().tolist(), strict=True)}


def in_turn(*names: str, count: int = N) -> dict[str, str]:
    return {f"{i:03}": names[i % len(names)] for i in range(count)}


def held_out(listing: Listing) -> set[str]:
    return {Path(name).stem for name in listing.names[listing.train :]}


# Class folders and tables


WITHOUT_LABELS = {
    "files__csv": table("path", lambda i: INSIDE[i]),
    "boxes__csv": table("filename,width,height", lambda i: f"{INSIDE[i]},20,20"),
    "some__csv": table("file,xmin,ymin,xmax,ymax", lambda i: f"{INSIDE[i]},0,1,1,0"),
    "metadata__csv": table("file_name,text", lambda i: f"{INSIDE[i]},a photo of thing {i % 3}"),
    "metadata__jsonl": table(
        "", lambda i: json.dumps({"file_name": INSIDE[i], "objects": {"bbox": [[1, 2, 3, 4]], "categories": [1]}})
    ),
    "review__csv": table("file,blurry", lambda i: f"{INSIDE[i]},{i % 2}", 5),
    "one__csv": table("file,blurry", lambda i: f"{INSIDE[2 * i]},{i % 2}", 4),
    "who__csv": table("file,photographer,camera", lambda i: f"{INSIDE[i]},P{i % 3},C{i % 2}"),
    "test__csv": table("file", lambda i: INSIDE[i], 5),
    "index__csv": table(",file", lambda i: f"{i},{INSIDE[i]}"),
    "dataset__json": '{"labels": null}',
}


@pytest.mark.parametrize("file", WITHOUT_LABELS)
def test_a_table_without_labels_leaves_those_of_class_folders(tmp_path: Path, file: str) -> None:
    listing = told(folders(tmp_path / "data"), **{file: WITHOUT_LABELS[file]})
    assert labels(listing) == in_turn("a", "b")
    assert listing.train == 18
    assert any(f"'{file.replace('__', '.')}' gives no" in note for note in listing.notes)


def test_what_tells_of_written_fakes_is_no_table_of_labels(tmp_path: Path) -> None:
    """selection.csv, which condgan writes beside class folders: they may be renamed, and images may be added."""
    made = table("file,class,checkpoint,seed,number", lambda i: f"{INSIDE[i]},x,640,7,{i}", 5)
    listing = told(folders(tmp_path / "data"), selection__csv=made)
    assert labels(listing) == in_turn("a", "b")
    assert listing.train == 18


def test_a_table_without_labels_may_give_the_split_of_class_folders(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    listing = told(root, splits__csv=table("file_name,split", lambda i: f"{INSIDE[i]},{('train', 'test')[i >= 16]}"))
    assert labels(listing) == in_turn("a", "b")
    assert held_out(listing) == {"016", "017", "018", "019"}
    assert "labels from the class folders; 'splits.csv' gives the split alone" in listing.notes
    listing = told(root, splits__csv=table("file_name,split", lambda i: f"{INSIDE[i]},test", 4))
    assert held_out(listing) == {"000", "001", "002", "003"}, "beside test images all are to train on"
    with pytest.raises(UserError, match="given to 8 of 20 images in class folders, and none to 'a/010.png'"):
        told(root, splits__csv=table("file,split", lambda i: f"{INSIDE[i]},{('train', 'test')[i >= 6]}", 8))


def test_lists_named_like_splits_give_the_split(tmp_path: Path) -> None:
    lists = {"train__txt": "\n".join(INSIDE[:15]), "test__txt": "\n".join(INSIDE[15:])}
    listing = told(folders(tmp_path / "data"), **lists)
    assert labels(listing) == in_turn("a", "b")
    assert held_out(listing) == {"015", "016", "017", "018", "019"}
    listing = told(tmp_path / "data", labels__csv=table("file,label", lambda i: f"{INSIDE[i]},L{i % 4}"))
    assert labels(listing) == in_turn("L0", "L1", "L2", "L3")
    assert held_out(listing) == {"015", "016", "017", "018", "019"}
    assert listing.notes == (
        "labels from the column 'label' of 'labels.csv', not from the class folders",
        "the split is from the names of tables",
    )


def test_labels_of_a_few_images_of_class_folders_are_refused(tmp_path: Path) -> None:
    for line in (lambda i: f"{INSIDE[i]},x{i % 2}", lambda i: f"{INSIDE[2 * i]},x{i % 2}"):
        with pytest.raises(UserError, match=r"'labels.csv' labels 4 images, .*label all, or remove the file"):
            told(folders(tmp_path / "data"), labels__csv=table("file,label", line, 4))


def test_a_table_of_one_of_two_folders_is_followed(tmp_path: Path) -> None:
    flat(flat(tmp_path / "data", "images"), "masks")
    listing = told(tmp_path / "data", info__csv=table("file,breed", lambda i: f"images/{NAMES[i]},B{i % 2}"))
    assert labels(listing) == in_turn("B0", "B1")
    assert "20 images that 'info.csv' does not list are left out" in listing.notes


def test_folders_of_splits_are_followed_where_a_table_gives_labels_alone(tmp_path: Path) -> None:
    flat(flat(tmp_path / "data", "train"), "test")
    text = "".join(
        table("file,label", lambda i, one=split: f"{one}/{NAMES[i]},L{i % 2}") for split in ("train", "test")
    )
    listing = told(tmp_path / "data", labels__csv=text.replace("\nfile,label", ""))
    assert (listing.train, len(listing)) == (20, 40)
    assert all(name.startswith("train/") for name in listing.names[:20])
    assert "the split is from the folders" in listing.notes


# Kaggle


CELEBA = {
    "list_attr_celeba__csv": table("image_id,Red,Big", lambda i: f"{NAMES[i]},{i % 2 * 2 - 1},{i % 3 % 2 * 2 - 1}"),
    "list_eval_partition__csv": table("image_id,partition", lambda i: f"{NAMES[i]},{(i >= 12) + (i >= 16)}"),
    "list_bbox_celeba__csv": table("image_id,x_1,y_1,width,height", lambda i: f"{NAMES[i]},1,0,226,313"),
    "list_landmarks_align_celeba__csv": table("image_id,lefteye_x,nose_y", lambda i: f"{NAMES[i]},{60 + i % 2},1"),
}


@pytest.mark.parametrize("lacking", [None, *CELEBA])
def test_celeba_of_kaggle_is_read_with_any_of_its_files(tmp_path: Path, lacking: str | None) -> None:
    root = flat(tmp_path / "data", "img_align_celeba/img_align_celeba")
    listing = told(root, **{name: text for name, text in CELEBA.items() if name != lacking})
    split = lacking != "list_eval_partition__csv"
    assert (listing.train, len(listing)) == ((12, 16) if split else (18, 20))
    assert ("validation images are left out, the test images are held out" in listing.notes) == split
    if lacking == "list_attr_celeba__csv":
        assert listing.labels.spec.width == 1
        return
    assert listing.labels.spec.classes == ("Red", "Big")
    for name, values in zip(listing.names, listing.labels.values.tolist(), strict=True):
        assert values == [int(name[:3]) % 2, int(name[:3]) % 3 % 2]


def test_celebas_text_and_csv_go_together(tmp_path: Path) -> None:
    lines = [f"{name} {i % 2 * 2 - 1} 1" for i, name in enumerate(NAMES)]
    partition = CELEBA["list_eval_partition__csv"]
    listing = told(
        flat(tmp_path / "data"),
        list_attr_celeba__txt="\n".join([str(N), "Red Big", *lines]),
        list_eval_partition__csv=partition,
    )
    assert (listing.train, len(listing)) == (12, 16)
    (tmp_path / "data" / "list_attr_celeba.txt").unlink()
    (tmp_path / "data" / "list_eval_partition.csv").unlink()
    split = partition.partition("\n")[2].replace(",", " ")
    listing = told(
        tmp_path / "data", list_attr_celeba__csv=CELEBA["list_attr_celeba__csv"], list_eval_partition__txt=split
    )
    assert (listing.train, len(listing)) == (12, 16)


def test_a_competitions_labels_are_those_of_its_training_table(tmp_path: Path) -> None:
    flat(flat(tmp_path / "data", "train"), "test")  # of the same names
    listing = told(
        tmp_path / "data",
        train__csv=table("Id,Category", lambda i: f"{NAMES[i][:3]},{'xy'[i % 2]}"),
        test__csv=table("Id", lambda i: NAMES[i][:3]),
        sample_submission__csv=table("Id,Category", lambda i: f"{NAMES[i][:3]},x"),
    )
    assert labels(listing) == in_turn("x", "y")
    assert listing.train == 18
    assert listing.notes == (
        "labels from the column 'Category' of 'train.csv'",
        "'test.csv' has no labels: images that it alone lists are left out",
        "'sample_submission.csv' holds placeholders: nothing is read from it",
        "20 images that 'train.csv' does not list are left out",
    )


def test_empty_labels_of_a_test_table_are_left_out(tmp_path: Path) -> None:
    listing = told(
        flat(tmp_path / "data"),
        train__csv=table("id,label", lambda i: f"{NAMES[i]},{'xy'[i % 2]}", 14),
        test__csv=table("id,label", lambda i: f"{NAMES[14 + i]},", 6),
    )
    assert labels(listing) == in_turn("x", "y", count=14)


def test_a_name_alone_holds_nothing_out(tmp_path: Path) -> None:
    text = table("file,label", lambda i: f"{NAMES[i]},{'xy'[i % 2]}")
    root = flat(tmp_path / "data")
    assert told(root, **{"my-test-data__csv": text}).train == 18
    (root / "my-test-data.csv").unlink()
    listing = told(
        root,
        labels__csv="".join(text.splitlines(keepends=True)[:15]),
        **{"my-test__csv": "file,label\n" + "".join(text.splitlines(keepends=True)[15:])},
    )
    assert held_out(listing) == {name[:3] for name in NAMES[14:]}
    with pytest.raises(UserError, match="has no images to train on: all are said to be of val or test"):
        told(flat(tmp_path / "all"), labels__csv=table("file,label,split", lambda i: f"{NAMES[i]},{i % 2},test"))


# Which column is the label


CLASSES = {
    "one value each": ("file_name,labels", lambda i: f"{NAMES[i]},{'xy'[i % 2]}"),
    "floats": ("file_name,label", lambda i: f"{NAMES[i]},{i % 2}.0"),
    "numbers and names": ("file_name,label,class_name", lambda i: f"{NAMES[i]},{i % 2},{'xy'[i % 2]}"),
    "counted by pandas": ("Unnamed: 0,file,breed", lambda i: f"{i},{NAMES[i]},{'xy'[i % 2]}"),
    "an index without a name": (",file,breed", lambda i: f"{i},{NAMES[i]},{'xy'[i % 2]}"),
    "two that name files": ("name,id,label", lambda i: f"Rex,{NAMES[i]},{'xy'[i % 2]}"),
    "other names": ("Image Index,Finding", lambda i: f"{NAMES[i]},{'xy'[i % 2]}"),
    "sizes beside": ("file,width,height,breed", lambda i: f"{NAMES[i]},20,{i},{'xy'[i % 2]}"),
    "ages beside": ("file,breed,age", lambda i: f"{NAMES[i]},{'xy'[i % 2]},{i % 7}"),
    "commas at the end": ("file,label", lambda i: f"{NAMES[i]},{'xy'[i % 2]},"),
    "blanks": ("file, label", lambda i: f"{NAMES[i]}, {'xy'[i % 2]}"),
    "Windows": ("file,label", lambda i: f"C:\\Users\\me\\photos\\{NAMES[i]},{'xy'[i % 2]}"),
    "drives of another machine": ("file,label", lambda i: f"/mnt/{i % 3}/{NAMES[i]},{'xy'[i % 2]}"),
    "folders that are not here": ("file,label", lambda i: f"data/train/{NAMES[i]},{'xy'[i % 2]}"),
    "Excel": ("sep=;\nfile;label", lambda i: f"{NAMES[i]};{'xy'[i % 2]}"),
    "no head, but counted": (f"0,{NAMES[0]},x", lambda i: f"{i + 1},{NAMES[(i + 1) % N]},{'yx'[i % 2]}"),
}


@pytest.mark.parametrize("form", CLASSES)
def test_the_column_of_classes_is_found(tmp_path: Path, form: str) -> None:
    text = table(*CLASSES[form], count=N - form.startswith("no head"))
    listing = told(flat(tmp_path / "data"), labels__csv=text)
    assert labels(listing) == (in_turn("0", "1") if form == "floats" else in_turn("x", "y"))
    assert listing.notes[0].startswith("labels from the column ")
    assert len(listing.notes) == 1


ENCODINGS = {"utf-16": "\r\n", "utf-8-sig": "\r", "cp1252": "\r\n", "utf-32": "\n"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("file", ["labels.csv", "anything.csv"])
def test_tables_of_any_program_are_read(tmp_path: Path, encoding: str, file: str) -> None:
    text = table("file\tlabel", lambda i: f"{NAMES[i]}\t{('rot', 'glühend')[i % 2]}").replace("\n", ENCODINGS[encoding])
    flat(tmp_path / "data")
    (tmp_path / "data" / file).write_bytes(text.encode(encoding))
    listing = list_source(str(tmp_path / "data"))
    assert labels(listing) == in_turn("rot", "glühend")
    assert (f"'{file}' is not UTF-8: read as Windows-1252" in listing.notes) == (encoding == "cp1252")


def test_lists_of_words_are_read(tmp_path: Path) -> None:
    listing = told(flat(tmp_path / "data"), labels__txt="\n".join(f"{NAMES[i]} {'xy'[i % 2]}" for i in range(N)))
    assert labels(listing) == in_turn("x", "y")
    listing = told(tmp_path / "data", labels__txt="x\ny\n")
    assert listing.notes[0] == "'labels.txt' is not understood: no labels are read from it"


def test_captions_and_boxes_are_no_labels(tmp_path: Path) -> None:
    for name in ("text", "caption", "beschreibung"):
        text = table(f"file_name,{name}", lambda i: f"{NAMES[i]},a thing {i}")
        listing = told(flat(tmp_path / name), metadata__csv=text)
        assert listing.labels.spec.classes == ("image",)
        assert listing.notes == ("no labels; 'metadata.csv' gives none, since no column is called label",)
    with pytest.raises(UserError, match="line 2: the columns 'breed' and 'coat' may be labels; call the one that is"):
        told(flat(tmp_path / "both"), some__csv=table("file,breed,coat", lambda i: f"{NAMES[i]},B{i % 2},C{i % 3}"))


def test_an_image_of_another_machine_is_the_only_one_here_or_refused(tmp_path: Path) -> None:
    flat(flat(tmp_path / "data", "x"), "y")
    listing = told(tmp_path / "data", some__csv=table("file,label", lambda i: f"/home/me/x/{NAMES[i]},{i % 2}"))
    assert labels(listing) == in_turn("0", "1")
    with pytest.raises(UserError, match=r"line 2: both 'x/000.png' and 'y/000.png' are an image '/home/me/z/000.png'"):
        told(tmp_path / "data", some__csv=table("file,label", lambda i: f"/home/me/z/{NAMES[i]},{i % 2}"))
    (tmp_path / "data" / "x" / "003.png").unlink()
    for start in ("D:\\me\\", "/me/", "me/"):
        lines = table("file,label", lambda i, start=start: f"{start}x/{NAMES[i]},{i % 2}")
        with pytest.raises(UserError, match=r"line 5: image '.*x/003.png' is missing"):
            told(tmp_path / "data", some__csv=lines)


def test_one_image_under_two_names_is_refused(tmp_path: Path) -> None:
    pairs = [[name, i % 2] for i, name in enumerate(NAMES)]
    with pytest.raises(UserError, match="label 21: 'pics/000.png' stands in 'dataset.json', label 1 already"):
        told(flat(tmp_path / "data", "pics"), dataset__json=json.dumps({"labels": [*pairs, ["pics/000.png", 1]]}))


# JSON


def test_lists_of_one_label_are_classes(tmp_path: Path) -> None:
    for number, label in enumerate(
        (lambda i: ["xy"[i % 2]], lambda i: [i % 2 == 0, i % 2 == 1], lambda i: [i % 2 + 3])
    ):
        rows = [{"file_name": name, "labels": label(i)} for i, name in enumerate(NAMES)]
        text = "\n".join(map(json.dumps, rows)).replace("true", "1").replace("false", "0")
        listing = told(flat(tmp_path / str(number)), metadata__jsonl=text)
        assert labels(listing) == in_turn(*(("x", "y"), ("0", "1"), ("3", "4"))[number])


def test_a_json_of_something_else_is_no_data_set(tmp_path: Path) -> None:
    listing = told(folders(tmp_path / "data"), dataset__json='{"images": [], "annotations": []}')
    assert labels(listing) == in_turn("a", "b")
    assert listing.notes == ("'dataset.json' gives no labels",)


def json_labels(label: str) -> str:
    return '{"labels": [' + ", ".join(f'["{name}", {label}]' for name in NAMES) + "]}"


BAD = {
    "all lists of labels are empty, first in 'dataset.json', label 1": ("dataset__json", json_labels("[]")),
    "all lists of labels are empty, first in 'labels.csv', line 2": (
        "labels__csv",
        table("file,tags", lambda i: f"{NAMES[i]},"),
    ),
    "label 1: nan given, expected a class": ("dataset__json", json_labels("NaN")),
    "label 1: inf given, expected a class": ("dataset__json", json_labels("1e999")),
    r"label 1: \[+\.\.\.\]+ given, expected a class": ("dataset__json", json_labels("[" * 900 + "]" * 900)),
    "digits.*expected labels": ("dataset__json", json_labels("9" * 5000)),
    "label '9{39}…' of 4,000 characters given": ("dataset__json", json_labels("9" * 4000)),
    "label 'x.y' of 3 characters given, .*no control characters": ("dataset__json", json_labels('"x\\ny"')),
    "label .* of 1 characters given": ("dataset__json", json_labels('"\\ud800"')),
    "an empty name given": ("dataset__json", json_labels('" "')),
    "lists no image": ("dataset__json", '{"labels": []}'),
    "2 values given, expected 3 as elsewhere": (
        "dataset__json",
        json.dumps({"labels": [[name, [1, 0, 1][: 2 + i % 2]] for i, name in enumerate(NAMES)]}),
    ),
    "has 6,000 attributes, expected 5,000": ("dataset__json", json_labels(f"[{', '.join(['0, 1'] * 3000)}]")),
    "line 2: 'nan' given in column 'label'": ("labels__csv", table("file,label", lambda i: f"{NAMES[i]},nan")),
    "line 2: '-Infinity' given in column 'label'": (
        "labels__csv",
        table("file,label", lambda i: f"{NAMES[i]},-Infinity"),
    ),
    "line 2: label 'x{39}…' of 5,000 characters given, expected 200 at most": (
        "labels__csv",
        table("file,label", lambda i: f"{NAMES[i]},{'x' * 5000}"),
    ),
    "line 2: no table .field larger than field limit": (
        "labels__csv",
        table("file,label", lambda i: f"{NAMES[i]},{'x' * 150_000}"),
    ),
    "'labels.csv' of .* is no text .it has NUL bytes": (
        "labels__csv",
        table("file,label", lambda i: f"{NAMES[i]},\0{i % 2}"),
    ),
    "'some.csv' of .* is no text .it has NUL bytes": ("some__csv", table("file,label", lambda i: f"{NAMES[i]},\0")),
    "line 1: 7,001 columns": ("labels__csv", "file" + "".join(f",a{i}" for i in range(7000)) + "\n"),
    "'labels.csv' of .* is empty": ("labels__csv", ""),
    "line 3: 1 cells given, expected 2": ("some__csv", f"file,label\n{NAMES[0]},x\n{NAMES[1]}\n"),
}


@pytest.mark.parametrize("message", BAD)
def test_hostile_and_empty_tables_are_one_line(tmp_path: Path, message: str) -> None:
    file, text = BAD[message]
    with pytest.raises(UserError, match=message) as error:
        told(flat(tmp_path / "data"), **{file: text})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_texts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.data.readers.tables.LIST", 100)
    with pytest.raises(UserError, match="'labels.csv' of .* cannot be read .*bytes, more than 100"):
        told(flat(tmp_path / "data"), labels__csv=table("file,label", lambda i: f"{NAMES[i]},{i % 2}"))


def test_thousands_of_attributes_are_read(tmp_path: Path) -> None:
    names = [f"a{i}" for i in range(2_000)]
    text = table(f"file,{','.join(names)}", lambda i: NAMES[i] + f",{i % 2},{(i + 1) % 2}" * 1_000)
    told(flat(tmp_path / "data"), labels__csv=text)
    field = read(str(tmp_path / "data"), 4, 1).spec.fields[0]
    assert field.groups == tuple(zip(names[::2], names[1::2], strict=True))


def test_neighbors_are_the_shortest_runs_of_which_each_image_has_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        holds = rng.random((3, 8)) < 0.4
        found, start = [], 0
        while start < 8:
            ends = [end for end in range(start + 2, 9) if (holds[:, start:end].sum(1) == 1).all()]
            whole = bool(holds[:, start].all())
            found += [tuple("abcdefgh"[start : ends[0]])] if ends and not whole else []
            start = ends[0] if ends and not whole else start + 1
        assert _neighbors("abcdefgh", holds.astype(np.int32)) == found


# Shards


def shard(path: Path, sample: Callable[[int], Mapping[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i in range(N):
            for ending, content in sample(i).items():
                member = tarfile.TarInfo(f"s{i:03}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def shades(listing: Listing) -> dict[str, int]:
    """The gray of each sample's image."""
    return {
        name[1:4]: int(np.asarray(Image.open(io.BytesIO(bytes(listing.pictures.read(int(number)))))).flat[0])
        for name, number in zip(listing.names, listing.numbers, strict=True)
    }


IMAGES = {
    ".png is taken, not .mask.png": ("png", "mask.png"),
    ".jpg is taken, not .png": ("jpg", "png"),
    ".image.png is taken, not .depth.png": ("image.png", "depth.png"),
    ".png is taken, not .image.seg.png": ("png", "image.seg.png"),
}


@pytest.mark.parametrize("note", IMAGES)
def test_of_a_samples_images_the_plain_one_is_taken(tmp_path: Path, note: str) -> None:
    plain, other = IMAGES[note]
    path = shard(tmp_path / "a.tar", lambda i: {other: png(200), plain: png(i), "cls": str(i % 2).encode()})
    listing = list_source(str(path))
    assert shades(listing) == {f"{i:03}": i for i in range(N)}
    assert listing.notes == ("labels from .cls of each sample", f"of several images per sample {note}")


def test_samples_whose_image_is_not_clear_are_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", lambda i: {"left.png": png(i), "right.png": png(i), "cls": b"0"})
    with pytest.raises(UserError, match="has the images .left.png and .right.png: call the one to learn .png or .jpg"):
        list_source(str(path))
    path = shard(tmp_path / "b.tar", lambda i: {"mask.png": png(i), **({"png": png(i)} if i else {}), "cls": b"0"})
    with pytest.raises(UserError, match=r"sample 's000.mask.png' .* has no .png, as others have"):
        list_source(str(path))


def test_labels_of_shards_are_those_that_are_named_so(tmp_path: Path) -> None:
    def sample(label: Callable[[int], object]) -> Callable[[int], Mapping[str, bytes]]:
        return lambda i: {"png": png(i), "json": json.dumps(label(i)).encode()}

    path = shard(tmp_path / "a.tar", sample(lambda i: {"label": i % 2, "class_name": "xy"[i % 2], "width": 4}))
    listing = list_source(str(path))
    assert {name[1:]: one for name, one in labels(listing).items()} == in_turn("x", "y")
    path = shard(tmp_path / "b.tar", sample(lambda i: {"caption": f"a thing {i}", "url": "there", "width": 4}))
    listing = list_source(str(path))
    assert listing.labels.spec.classes == ("image",)
    assert listing.notes == ('no labels: the samples\' .json name none, such as {"label": 3}',)
    path = shard(tmp_path / "c.tar", sample(lambda i: {"labels": []}))
    with pytest.raises(UserError, match=r"all lists of labels are empty, first in 's000.json'"):
        list_source(str(path))
    path = shard(tmp_path / "d.tar", lambda i: {"png": png(i), "cls": b"9" * 5000})
    with pytest.raises(UserError, match=r"'s000.cls': label '9{39}…' of 5,000 characters given"):
        list_source(str(path))


def test_shards_that_are_all_named_test_hold_nothing_out(tmp_path: Path) -> None:
    for part in range(2):
        shard(tmp_path / "data" / f"test-{part}.tar", lambda i: {"png": png(i), "cls": str(i % 2).encode()})
    assert (listing := list_source(str(tmp_path / "data"))).train == 36
    assert len(listing) == 40
    shutil.move(tmp_path / "data" / "test-0.tar", tmp_path / "data" / "0.tar")
    assert list_source(str(tmp_path / "data")).train == 20


def test_numbered_shards_without_labels_are_no_classes(tmp_path: Path) -> None:
    for name in ("photos-000", "photos-001"):
        shard(tmp_path / "data" / f"{name}.tar", lambda i: {"png": png(i), "mask.png": png(200), "txt": b"a thing"})
    listing = list_source(str(tmp_path / "data"))
    assert listing.labels.spec.classes == ("image",)
    assert len(listing) == 40
    assert listing.notes[0] == "no labels: the shards have neither .cls nor .json"
    for old, new in (("photos-000", "cat"), ("photos-001", "dog")):
        shutil.move(tmp_path / "data" / f"{old}.tar", tmp_path / "data" / f"{new}.tar")
    assert list_source(str(tmp_path / "data")).labels.spec.classes == ("cat", "dog")


@pytest.mark.parametrize("form", ['"[""cat"", ""big""]"', "\"['cat', 'big']\"", '"[cat, big]"', "cat|big", "cat;big"])
def test_lists_of_labels_are_names_without_brackets_and_quotes(form: str, tmp_path: Path) -> None:
    listing = told(
        flat(tmp_path), **{"a.csv": table("file,labels", lambda i: f"{NAMES[i]},{form if i % 2 else 'dog'}")}
    )
    assert set(listing.labels.spec.classes) == {"dog", "cat", "big"}


def test_quotes_of_a_name_alone_stay(tmp_path: Path) -> None:
    listing = told(flat(tmp_path), **{"a.csv": table("file,labels", lambda i: f"{NAMES[i]},'n'-{i % 2}|x")})
    assert "'n'-0" in listing.labels.spec.classes


def test_what_lies_beside_a_table_or_in_shards_is_told(tmp_path: Path) -> None:
    beside = {f"{i:03}.txt": "a caption" for i in range(3)} | {"x.heic": b"", "test.csv": "file\n"}
    listing = told(
        flat(tmp_path / "d"), **beside, **{"labels.csv": table("file,label", lambda i: f"{NAMES[i]},{i % 2}")}
    )
    said = " ".join(listing.notes)
    assert "1 file left out: 1 .heic, which cannot be read" in said
    assert "3 files left out: 3 .txt, which are no images" in said
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in {
            **{f"{i}.png": png(i) for i in range(4)},
            **{f"{i}.cls": b"01"[i % 2 :][:1] for i in range(6)},
            "5.heic": b"x",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    said = " ".join(list_source(str(tmp_path / "a.tar")).notes)
    assert "1 file left out: 1 .heic, which cannot be read" in said
    assert "2 files left out: 2 .cls, which are no images" in said


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("file,label,is_valid", lambda i: f"{NAMES[i]},{'xy'[i % 2]},{i % 5 == 0}"),
        ("file,label,is_train", lambda i: f"{NAMES[i]},{'xy'[i % 2]},{int(i % 5 > 0)}"),
        ("file,label,is_valid,is_test", lambda i: f"{NAMES[i]},{'xy'[i % 2]},{int(i % 5 == 1)},{int(i % 5 == 0)}"),
    ],
)
def test_columns_that_say_of_which_split_an_image_is_are_followed(
    tmp_path: Path, head: str, row: Callable[[int], str]
) -> None:
    listing = told(flat(tmp_path / "data"), labels__csv=table(head, row))
    assert listing.labels.spec.classes == ("x", "y")
    assert set(listing.names[listing.train :]) == {NAMES[i] for i in range(N) if i % 5 == 0}
