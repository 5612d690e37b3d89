"""Attribute files, paired folders, several data sets at once: what is read, held out and known of translations."""

import itertools
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from condgan.data.dataset import Split, data_sets
from condgan.data.loader import stream
from condgan.data.open import read
from condgan.data.readers.digits import INKS, PAPERS, TINTS
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.types import to_uint8
from condgan.utils.errors import UserError
from tests.conftest import write_image

NAMES = "Red Blue Hat Old"


def rows(count: int) -> list[tuple[str, list[int]]]:
    """Red and blue take turns; hat and old as they come."""
    rng = np.random.default_rng(0)
    return [
        (f"{i:03}.png", [1 - 2 * (i % 2), 2 * (i % 2) - 1, *(2 * rng.integers(0, 2, 2) - 1).tolist()])
        for i in range(count)
    ]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Thirty images in CelebA's layout; red ones are dark."""
    root = tmp_path / "faces"
    lines = ["30", NAMES]
    for name, values in rows(30):
        write_image(root / "img" / name, 60 if values[0] == 1 else 200)
        lines.append(f"{name} {'  '.join(map(str, values))}")
    (root / "list_attr_faces.txt").write_text("\n".join(lines) + "\n")
    return root


def test_all_attributes_are_read_and_neighbors_that_exclude_each_other_found(faces: Path) -> None:
    data = read(str(faces), 16, 3)
    field = data.spec.fields[0]
    assert field == Field("attributes", ("Red", "Blue", "Hat", "Old"), False, (("Red", "Blue"),))
    assert (len(data.train), len(data.held_out)) == (27, 3)
    of_name = dict(rows(30))
    for split in (data.train, data.held_out):
        assert split.content is None
        for name, values, image in zip(split.names, split.labels.values.tolist(), split.images, strict=True):
            assert values == [float(value == 1) for value in of_name[name]]
            assert (image.float().mean() < 130) == (values[0] == 1)
    assert not set(data.train.names) & set(data.held_out.names)


def test_chosen_attributes_are_labels_and_the_rest_is_kept_as_content(faces: Path) -> None:
    data = read(str(faces), 16, 3, attributes=["Old", "Red"])
    assert data.spec.fields[0].values == ("Old", "Red")
    assert data.train.content.spec.fields[0].values == ("Hat",), "blue says whether red"
    of_name = dict(rows(30))
    for name, values, content in zip(
        data.train.names, data.train.labels.values.tolist(), data.train.content.values.tolist(), strict=True
    ):
        assert values == [of_name[name][3] == 1, of_name[name][0] == 1]
        assert content == [of_name[name][2] == 1]


def test_stated_groups_are_cut_to_what_is_chosen(faces: Path) -> None:
    stated = [["Red", "Hat", "Old"]]
    assert read(str(faces), 8, 3, exclusive=stated).spec.fields[0].groups == (("Red", "Hat", "Old"),)
    assert read(str(faces), 8, 3, attributes=["Red", "Old"], exclusive=stated).spec.fields[0].groups == (
        ("Red", "Old"),
    )
    assert read(str(faces), 8, 3, attributes=["Blue", "Old"], exclusive=stated).spec.fields[0].groups == ()


def test_an_official_partition_is_followed(faces: Path) -> None:
    (faces / "Eval").mkdir()
    lines = [f"{name} {i % 3}" for i, (name, _) in enumerate(rows(30))]
    (faces / "Eval" / "list_eval_partition.txt").write_text("\n".join(lines))
    data = read(str(faces), 8, 1)
    assert sorted(data.train.names) == [name for name, _ in rows(30)][::3]
    assert sorted(data.held_out.names) == [name for name, _ in rows(30)][2::3]


def test_a_zip_of_it_is_the_same(faces: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "made"), "zip", faces.parent, "faces")
    assert read(archive, 16, 3).content_hash == read(str(faces), 16, 3).content_hash


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace("30\n", "many\n", 1), r"line 1: 'many' given, expected the number of images"),
        (lambda text: text.replace("30\n", "31\n", 1), r"line 1: 31 images announced, 30 follow"),
        (lambda text: text.replace("Red Blue Hat", "Red Blue Red"), r"line 2: 'Red' given twice"),
        (lambda text: text.replace("004.png 1", "004.png", 1), r"line 7: 3 values given for '004.png', expected 4"),
        (lambda text: text.replace("004.png 1", "004.png 1  1", 1), r"line 7: 5 values given for '004.png'"),
        (lambda text: text.replace("004.png 1", "004.png yes", 1), r"line 7: 'yes' given for '004.png', expected 1,"),
        (lambda text: text.replace("004.png", "003.png", 1), r"line 7: '003.png' stands on line 6 already"),
        (lambda text: text.replace("004.png", "x.png", 1), r"line 7: image 'x.png' is missing"),
        (lambda text: text.replace("00", "99"), r"line 3: image '990.png' and 9 more are missing"),
        (lambda text: "", r"line 1: '' given, expected the number of images"),
        (lambda text: text.replace("Red Blue Hat Old", ""), r"line 2: nothing given, expected the attributes' names"),
        (lambda text: text.replace("  1\n", "  -1\n"), r"attribute 'Old' .*: no training image has it"),
    ],
)
def test_a_faulty_attribute_file_is_one_line_that_says_where(faces: Path, change, match: str) -> None:
    file = faces / "list_attr_faces.txt"
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=match):
        read(str(faces), 8, 1)


def test_line_endings_tabs_blank_lines_and_marks_do_not_matter(faces: Path) -> None:
    file, before = faces / "list_attr_faces.txt", read(str(faces), 8, 1).content_hash
    text = file.read_text().replace("\n", "\r\n").replace("  ", "\t") + "\r\n"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(str(faces), 8, 1).content_hash == before
    lines = [f"{name}\t{0 if i < 20 else 2}\r\n\r\n" for i, (name, _) in enumerate(rows(30))]
    (faces / "list_eval_partition.txt").write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
    assert len(read(str(faces), 8, 1).held_out) == 10


def test_an_image_in_several_places_is_taken_beside_the_file_or_refused(faces: Path) -> None:
    shutil.copytree(faces / "img", faces / "cropped")
    with pytest.raises(UserError, match=r"line 3: both 'cropped/000.png' and 'img/000.png' are an image '000.png'"):
        read(str(faces), 8, 1)
    for name, _ in rows(30):
        shutil.move(faces / "img" / name, faces / name)
    write_image(faces / "cropped" / "000.png", 255)
    data = read(str(faces), 8, 1)
    dark = [n for n, v in zip(data.train.names, data.train.labels.values.tolist(), strict=True) if v[0]]
    assert "000.png" in dark
    assert float(data.train.images[data.train.names.index("000.png")].float().mean()) < 130
    (faces / "list_attr_more.txt").write_text("")
    with pytest.raises(UserError, match="two such files found"):
        read(str(faces), 8, 1)


def test_a_damaged_zip_of_attributes_is_refused(faces: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "made"), "zip", faces))
    whole = bytearray(path.read_bytes())
    start = whole.index(b"list_attr_faces.txt") + len("list_attr_faces.txt")
    whole[start + 5 : start + 25] = b"x" * 20
    path.write_bytes(whole)
    with pytest.raises(UserError, match="'list_attr_faces.txt' of .* cannot be read"):
        read(str(path), 8, 1)


def test_data_sets_of_one_name_stay_apart_and_the_same_one_is_refused(photos: Path, tmp_path: Path) -> None:
    for name in ("p/x", "q/x", "x-2", "class"):
        shutil.copytree(photos, tmp_path / name)
    data = read(["p/x", "q/x", "x-2", "class"], 8, 3)
    assert [field.name for field in data.spec.fields] == ["x", "x-2", "x-2-2", "class"]
    assert len(data.train) == 4 * 21
    assert len({name.split("/")[0] for name in data.train.names}) == 4
    with pytest.raises(UserError, match="data 'p/x' given twice"):
        read(["p/x", "p/x"], 8, 3)


def test_bad_choices_and_partitions_are_refused(faces: Path, photos: Path) -> None:
    with pytest.raises(UserError, match=r"unknown attribute of 'faces' 'Redd': did you mean 'Red'\?"):
        read(str(faces), 8, 1, attributes=["Redd"])
    with pytest.raises(UserError, match="unknown attribute .* 'Bleu': did you mean 'Blue'"):
        read(str(faces), 8, 1, exclusive=[["Red", "Bleu"]])
    with pytest.raises(UserError, match="attributes Red given with data 'photos', which has none"):
        read("photos", 8, 1, attributes=["Red"])
    with pytest.raises(UserError, match="attributes Red_Ink given with data 'tinted-digits'"):
        read("tinted-digits", 8, 3, attributes=["Red_Ink"])
    with pytest.raises(UserError, match="data.background 'blurple' given"):
        read(str(faces), 8, 1, background="blurple")
    (faces / "list_eval_partition.txt").write_text("000.png 0\n001.png 3\n")
    with pytest.raises(UserError, match="line 2: '001.png 3' given, expected NAME and 0, 1 or 2"):
        read(str(faces), 8, 1)
    (faces / "list_eval_partition.txt").write_text("000.png 0\n")
    with pytest.raises(UserError, match="lacks image '001.png'"):
        read(str(faces), 8, 1)
    (faces / "list_eval_partition.txt").write_text("\n".join(f"{name} 0" for name, _ in rows(30)))
    assert len(read(str(faces), 8, 1).held_out) == 3, "a tenth, where all are to train on"


def test_unreadable_images_are_named_with_their_line_or_left_out(faces: Path) -> None:
    (faces / "img" / "004.png").write_text("no image")
    with pytest.raises(UserError, match=r"unreadable image '004.png' of 'list_attr_faces.txt', line 7 \(of no known"):
        read(str(faces), 8, 1)
    data = read(str(faces), 8, 1, skip_bad_images=True)
    assert len(data.skipped) == 1
    assert "no known image format" in data.skipped[0]
    assert "004.png" not in data.train.names + data.held_out.names
    of_name = dict(rows(30))
    assert all(
        v == [one == 1 for one in of_name[n]]
        for n, v in zip(data.train.names, data.train.labels.values.tolist(), strict=True)
    )


def test_transparency_is_put_on_the_stated_color_or_kept(tmp_path: Path) -> None:
    half = np.zeros((8, 8, 4), np.uint8)
    half[:4] = (200, 100, 50, 255)
    half[4:] = (1, 2, 3, 0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(half).save(tmp_path / "data" / name / f"{i}.png")
    on_blue = read(str(tmp_path / "data"), 8, 3, background="#0000ff").train.images[0]
    assert on_blue[:, 0, 0].tolist() == [200, 100, 50]
    assert on_blue[:, -1, 0].tolist() == [0, 0, 255]
    kept = read(str(tmp_path / "data"), 8, 4, background="#0000ff").train.images[0]
    assert kept[:, 0, 0].tolist() == [200, 100, 50, 255]
    assert kept[:, -1, 0].tolist() == [0, 0, 255, 0]


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """Twenty things from three sides; a thing's gray is its number, a side's brightness is added."""
    for i in range(20):
        for j, side in enumerate(("back", "front", "left")):
            path = tmp_path / "views" / side / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 10 * i + j, np.uint8)).save(path)
    return tmp_path / "views"


def test_paired_folders_hold_out_whole_things_and_know_true_translations(views: Path) -> None:
    data = read(str(views), 8, 1, paired=True)
    things = [{int(image[0, 0, 0]) // 10 for image in split.images} for split in (data.train, data.held_out)]
    assert not things[0] & things[1]
    assert (len(data.train), len(data.held_out)) == (54, 6)
    index = torch.arange(6)
    wanted = Labels.from_index(data.spec, (data.held_out.labels.index() + 1) % 3)
    true, found = data.exact["class"](index, wanted)
    assert found.all()
    assert (true[:, 0, 0, 0].int() == data.held_out.images[:, 0, 0, 0].int() // 10 * 10 + wanted.index()).all()
    (views / "left" / "3.png").unlink()
    data = read(str(views), 8, 1, paired=True)
    to_left = Labels.from_index(data.spec, torch.full((len(data.held_out),), 2))
    assert read(str(views), 8, 1).exact == {}
    _, found = data.exact["class"](torch.arange(len(data.held_out)), to_left)
    names = [Path(name).name for name in data.held_out.names]
    assert found.tolist() == [name != "3.png" for name in names]


def test_paired_attributes_know_true_translations_and_refuse_twins(tmp_path: Path) -> None:
    """Every combination of a color, a hat and a shape: of the colors and hats chosen, the shape is content."""
    root, lines = tmp_path / "all", ["24", "Red Green Blue Hat Round"]
    for i, (color, hat, shape) in enumerate(itertools.product(range(3), (0, 1), range(4))):
        write_image(root / f"{i}.png", 10 * i)
        values = [*(int(color == one) for one in range(3)), hat, shape % 2]
        lines.append(f"{i}.png {' '.join(map(str, values))}")
    (root / "list_attr.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"data.paired given .* '\d+.png' and '\d+.png' have the same labels"):
        read(str(root), 8, 1, attributes=["Red", "Green", "Blue", "Hat"], paired=True)
    kept = [lines[1], *(line for i, line in enumerate(lines[2:]) if i % 4 < 2)]
    (root / "list_attr.txt").write_text("\n".join(["12", *kept]))
    data = read(str(root), 8, 1, attributes=["Red", "Green", "Blue", "Hat"], paired=True)
    index = torch.arange(len(data.held_out))
    same, found = data.exact["attributes"](index, data.held_out.labels[:])
    assert found.all()
    assert torch.equal(same, data.held_out.images)
    nothing = Labels(data.spec, torch.zeros(len(index), 4), torch.ones(len(index), 1) > 0)
    assert not data.exact["attributes"](index, nothing)[1].any()


def test_tinted_digits_follow_their_rule() -> None:
    data, plain = read("tinted-digits", 8, 3), read("digits", 8, 1)
    assert data.spec == TINTS
    assert torch.equal(data.held_out.content.index(), plain.held_out.labels.index())
    grays = plain.held_out.images[:, 0].double() / 255
    for i in (0, 100, 350):
        red, green, blue, dark = data.held_out.labels.values[i].tolist()
        ink = np.array([*INKS.values()])[[red, green, blue].index(1)]
        paper = np.array(PAPERS[dark == 1])
        rendered = np.round(paper[:, None, None] + grays[i].numpy() * (ink - paper)[:, None, None])
        assert np.abs(data.held_out.images[i].numpy() - rendered).max() <= 1
    other = Labels(data.spec, data.held_out.labels.values[[5]], torch.ones(1, 1) > 0)
    true, _ = data.exact["attributes"](torch.tensor([5]), other)
    assert torch.equal(true[0], data.held_out.images[5])
    with pytest.raises(UserError, match="data.channels=1 given with data 'tinted-digits'"):
        read("tinted-digits", 8, 1)


def test_several_data_sets_know_their_own_fields(faces: Path, views: Path) -> None:
    data = read([str(faces), str(views), "digits"], 8, 3, attributes=["Red", "Hat"])
    assert [field.name for field in data.spec.fields] == ["faces", "views", "digits"]
    assert data.train.labels.known.sum(1).unique().tolist() == [1]
    assert [len(index) for index in data_sets(data.train.labels)] == [27, 54, 1438]
    assert data.train.names[0].startswith("faces/")
    for position, _, where in data.spec.slices():
        elsewhere = data.train.labels.values[~data.train.labels.known[:, position]]
        assert elsewhere[:, where].sum() == 0
    assert [field.name for field in data.train.content.spec.fields] == ["faces"]
    assert torch.equal(data.train.content.known[:, 0], data.train.labels.known[:, 0])
    both = read(["tinted-digits", str(views)], 8, 3, paired=True)
    assert set(both.exact) == {"attributes", "class"}
    index = data_sets(both.held_out.labels)[1]
    true, found = both.exact["class"](index, both.held_out.labels[index])
    assert found.all()
    assert torch.equal(true, both.held_out.images[index])


def two_sets(counts: tuple[int, int]) -> Split:
    """Images whose pixel is their number within their data set, and 100 more in the second."""
    spec = LabelSpec((Field("a", ("x", "y")), Field("b", ("z", "w"))))
    first, second = counts
    pixels = torch.cat([torch.arange(first), 100 + torch.arange(second)]).to(torch.uint8).reshape(-1, 1, 1, 1)
    known = torch.tensor([[True, False]] * first + [[False, True]] * second)
    return Split(pixels.expand(-1, 1, 1, 2), LabelTable.of(Labels(spec, torch.zeros(first + second, 4), known)))


def batches(split: Split, position: int, count: int, **options: object) -> list[list[int]]:
    taken = itertools.islice(stream(split, 4, 3, position, **options), count)
    return [to_uint8(batch.images)[:, 0, 0, 0].tolist() for batch in taken]


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 60))
def test_data_sets_take_turns_that_go_on_at_any_batch(first: int, second: int, done: int) -> None:
    split = two_sets((first, second))
    endless = batches(split, 0, done + 5)
    assert batches(split, 4 * done, 5) == endless[done:]
    assert all(len({value >= 100 for value in batch}) == 1 for batch in endless)
    seen = [value for batch in endless for value in batch if value < 100]
    for epoch in range(len(seen) // first):
        assert sorted(seen[epoch * first : (epoch + 1) * first]) == list(range(first))


def test_turns_go_on_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.data.order.TURNS", 8)
    split = two_sets((5, 7))
    endless = batches(split, 0, 40)
    for done in (7, 8, 9, 16, 23, 31):
        assert batches(split, 4 * done, 9) == endless[done : done + 9]


def test_turns_follow_their_weights() -> None:
    counts = Counter(batch[0] >= 100 for batch in batches(two_sets((9, 9)), 0, 1_000, weights=[3.0, 1.0]))
    assert counts[True] / 1_000 == pytest.approx(0.25, abs=0.04)
    counts = Counter(batch[0] >= 100 for batch in batches(two_sets((9, 90)), 0, 1_000))
    assert counts[True] / 1_000 == pytest.approx(0.5, abs=0.04)


def test_half_of_the_images_are_mirrored_and_the_same_ones_again() -> None:
    split = Split(torch.tensor([[[[0, 255]]]] * 50, dtype=torch.uint8), two_sets((50, 0)).labels)

    def mirrored(position: int, count: int) -> list[bool]:
        taken = itertools.islice(stream(split, 4, 3, position, flip=True), count)
        return [bool(image[0, 0, 0] > 0) for batch in taken for image in batch.images]

    whole = mirrored(0, 100)
    assert mirrored(40 * 4, 60) == whole[160:]
    assert sum(whole) / len(whole) == pytest.approx(0.5, abs=0.07)
    assert whole[:50] != whole[50:100]
