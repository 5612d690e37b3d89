"""Copies of a picture: on one side of a split that is ours, and told of in one that is not."""

import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from condgan.data.copies import contents_of, keep_together, same_contents
from condgan.data.dataset import Dataset
from condgan.data.listing import hold_out
from condgan.data.open import list_source, read
from condgan.data.prepare import _telling_copies, prepare
from condgan.data.preprocessing import Preprocessing
from condgan.data.survey import quick_look, survey, warnings
from tests.data.test_folders import fill
from tests.helpers import condgan


def doubled(root: Path, *folders: str, count: int) -> Path:
    """Images in folders, each with a copy beside it."""
    fill(root, *folders, count=count)
    for file in sorted(root.rglob("*.png")):
        shutil.copy(file, file.with_name(f"{file.stem} (1).png"))
    return root


def shared(data: Dataset) -> set[bytes]:
    """The contents that are both trained on and held out."""
    train, held_out = ({image.numpy().tobytes() for image in part.images} for part in (data.train, data.held_out))
    return train & held_out


@pytest.mark.parametrize("count", [3, 10, 40])
def test_copies_come_on_the_same_side(tmp_path: Path, count: int) -> None:
    root = doubled(tmp_path / "data", "red", "blue", count=count)
    data = read(str(root), 8, 3)
    assert not shared(data)
    assert (data.held_out.labels.index().bincount() >= 1).all()
    assert abs(len(data.held_out) - max(4, round(0.1 * 4 * count))) <= 2
    look = survey(list_source(str(root)))
    assert not [one for one in warnings(look) if "held out" in one]
    names = sorted(look.listing.names[: look.listing.train])
    assert names == sorted(data.train.names) == sorted(quick_look(list_source(str(root))).kept_together().listing.names[
        : look.listing.train
    ])  # fmt: skip


def test_more_than_a_quick_look_opens_are_kept_together_too(tmp_path: Path) -> None:
    root = doubled(tmp_path / "data", "red", "blue", count=140)
    data = read(str(root), 8, 3)
    assert not shared(data)
    assert (len(data.train), len(data.held_out)) == (504, 56)
    assert data.notes == ()


def test_a_split_that_the_source_states_is_kept_and_its_leak_is_told_at_any_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fill(tmp_path / "data", "train/red", "train/blue", count=300)
    shutil.copytree(root / "train" / "red", root / "test" / "red")
    fill(root, "test/blue", count=3)
    leak = "300 pictures are both trained on and held out, such as"
    data = read(str(root), 8, 3)
    assert (len(data.train), len(data.held_out)) == (600, 303)
    assert any(leak in note and "data.held_out=0.1" in note for note in data.notes)
    assert data.notes == read(str(root), 8, 3).notes, "also from the cache"
    prepared = prepare(list_source(str(root)), Preprocessing(8, 8, 3), tmp_path / "out", False)
    assert any(leak in note for note in prepared.listing.notes)
    assert any(leak in note for note in read(str(tmp_path / "out"), 8, 3).notes)
    assert not shared(read(str(root), 8, 3, held_out=0.1))
    done = condgan(capsys, "train", "any-projection", "--data", root, "data.size=16", "--dry-run")
    assert f"note           {leak}" in done.out


def test_copies_with_different_labels_are_told_and_kept_together(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "red", "blue", count=20)
    for i in range(10):
        shutil.copy(root / "red" / f"{i}.png", root / "blue" / f"red-{i}.png")
    data = read(str(root), 8, 3)
    assert not shared(data)
    assert any("10 pictures have several labels, such as 'blue/red-" in note for note in data.notes)


def test_unreadable_copies_are_no_leak(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "train/red", "test/red", count=40)
    for split in ("train", "test"):
        (root / split / "red" / "gone.png").write_text("404 not found")
    assert read(str(root), 8, 3, skip_bad_images=True).notes == ()


def test_without_copies_the_split_is_what_it_was() -> None:
    index = np.random.default_rng(0).integers(0, 5, 200)
    apart = hold_out(index, 0.1, np.random.default_rng(1).permutation(200))
    for first, second in zip(apart, hold_out(index, 0.1), strict=True):
        assert (first == second).all()


CLASSES = np.array([0] * 10 + [1] * 10)


@pytest.mark.parametrize(
    ("contents", "parted"),
    [
        ([0] * 10 + [*range(1, 11)], {0}),  # a class of one content
        ([*range(10)] * 2, set()),  # a class twice
        ([*range(9), 0, *range(10)], set()),
        ([0] * 9 + [1, *range(2, 12)], set()),
        ([0] * 5 + [1] * 5 + [*range(2, 12)], {0, 1}),  # half of it would be held out
        ([0, 1] * 10, {0, 1}),
    ],
)
def test_each_class_has_images_on_both_sides(contents: list[int], parted: set[int]) -> None:
    train, held_out = hold_out(CLASSES, 0.1, np.array(contents))
    assert sorted([*train, *held_out]) == list(range(20))
    for number in (0, 1):
        assert 1 <= (CLASSES[held_out] == number).sum() <= 2
    assert {contents[i] for i in train} & {contents[i] for i in held_out} <= parted


def test_pairs_with_a_copy_come_on_the_same_side(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "red", "blue", count=20)
    for i in range(10):
        shutil.copy(root / "red" / f"{i}.png", root / "red" / f"{i + 10}.png")
    listing = list_source(str(root), paired=True)
    look = survey(listing)
    places, train = keep_together(look.listing, look.contents())
    assert (places == np.arange(40)).all(), "once is enough"
    assert train == look.listing.train
    side = {name: place >= train for place, name in enumerate(look.listing.names)}
    assert all(side[f"red/{i}.png"] == side[f"red/{i + 10}.png"] == side[f"blue/{i}.png"] for i in range(10))
    assert 0 < sum(side.values()) <= 8


def test_equal_digests_are_one_content() -> None:
    digests = np.array([[0, 1], [1, 0], [0, 1], [0, 0]], np.uint8)
    assert [places.tolist() for places in same_contents(contents_of(digests))] == [[0, 2]]


def test_contents_are_told_with_all_their_places() -> None:
    assert [places.tolist() for places in same_contents(np.array([2, 0, 1, 2, 0, 2]))] == [[1, 4], [0, 3, 5]]
    assert same_contents(np.arange(3)) == same_contents(np.arange(0)) == []


def test_what_is_held_out_is_a_share_of_each_class_in_turn() -> None:
    index = np.random.default_rng(0).integers(-1, 7, 300)
    drawing = np.random.default_rng(0)
    classes = [drawing.permutation(np.flatnonzero(index == number)) for number in range(7)]
    expected = np.sort(np.concatenate([where[: round(0.1 * len(where))] for where in classes]))
    train, held_out = hold_out(index, 0.1)
    assert (held_out == expected).all()
    assert (train == np.setdiff1d(np.arange(300), expected)).all()
    assert [len(part) for part in hold_out(np.full(3, -1), 0.1)] == [3, 0]


def test_a_long_name_costs_its_own_length_only(tmp_path: Path) -> None:
    """Not that of as many names as there are."""
    listing = list_source(str(fill(tmp_path / "data", "red", count=20)))
    many = listing.at(np.zeros(5_000, int), 4_000)
    many = replace(many, names=[*map(str, range(4_999)), "long" * 1_000])
    tracemalloc.start()
    kept = _telling_copies(many.at(np.arange(4_999), 4_000), many, np.zeros((5_000, 16), np.uint8))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "1 picture is both trained on and held out, such as '0' = '4998'" in kept.notes[-1]
    assert most < 5e6
