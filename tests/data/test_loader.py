"""The order in which images are seen: whole epochs, ranks, resuming, balanced classes, flips and crops, residency."""

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condgan import build, training_steps
from condgan.data import loader as streams
from condgan.data.dataset import Split
from condgan.data.loader import crop, fits, free_memory, mapped, stream, to_device
from condgan.data.order import (
    balanced_counts,
    balanced_order,
    class_probabilities,
    epoch_flips,
    epoch_offsets,
    epoch_order,
)
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.recipes.load import load
from condgan.training.player_loss import FakeLabels
from condgan.types import Batch, to_float, to_uint8
from condgan.utils.errors import UserError

SPEC = LabelSpec.of_classes(["a", "b"])
SEEDS = st.integers(0, 2**40)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)
TEMPERS = st.one_of(st.just(0.0), st.floats(0, 1))


def numbered(count: int) -> Split:
    """Images whose only pixel is their number."""
    images = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Split(images, LabelTable.from_index(SPEC, torch.arange(count) % 2))


def noise(sizes: list[int], sets: int = 1) -> Split:
    """Noisy images, so many of each class; of several data sets in turn."""
    spec = LabelSpec(tuple(Field(f"field {i}", tuple(map(str, range(len(sizes))))) for i in range(sets)))
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    codes = torch.where(torch.arange(sets) == torch.arange(len(index))[:, None] % sets, index[:, None], -1)
    images = torch.randint(256, (len(index), 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    return Split(images, LabelTable(spec, codes.int()))


def take(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(batches, count))


def same(some: list[Batch], others: list[Batch]) -> bool:
    return all(
        torch.equal(one.images, other.images)
        and torch.equal(one.labels.values, other.labels.values)
        and torch.equal(one.labels.known, other.labels.known)
        for one, other in zip(some, others, strict=True)
    )


def listening() -> int:
    return sum(thread.name.startswith("stream") for thread in threading.enumerate())


def quiet(count: int = 0) -> bool:
    """Whether soon no more than so many threads gather images."""
    deadline = time.monotonic() + 5
    while listening() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    return listening() <= count


@pytest.fixture
def on_file(tmp_path: Path) -> Split:
    """Noisy images in a file that is mapped into memory."""
    split = noise([9, 14])
    np.save(tmp_path / "images.npy", split.images.numpy())
    return Split(torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c")), split.labels)


@given(st.integers(1, 200), SEEDS, st.integers(0, 1000))
def test_an_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(count, seed, epoch).tolist()) == list(range(count))


@settings(max_examples=50)
@given(st.integers(2, 60), st.integers(1, 70), SEEDS, st.integers(0, 200))
def test_the_stream_goes_on_at_any_position(count: int, batch: int, seed: int, position: int) -> None:
    epochs = range((position + 3 * batch) // count + 1)
    endless = list(itertools.chain.from_iterable(epoch_order(count, seed, epoch).tolist() for epoch in epochs))
    seen = [
        int(value)
        for one in take(stream(numbered(count), batch, seed, position), 3)
        for value in to_uint8(one.images).flatten()
    ]
    assert seen == endless[position : position + 3 * batch]


def test_labels_follow_their_images() -> None:
    batch = next(stream(numbered(50), 64, 3))
    assert torch.equal(batch.labels.index(), to_uint8(batch.images).flatten().long() % 2)


def test_the_first_images_of_old_runs_are_still_the_first() -> None:
    assert to_uint8(next(stream(numbered(50), 8, 3, 45)).images).flatten().tolist() == [34, 18, 9, 22, 33, 2, 32, 47]


@settings(max_examples=30)
@given(SIZES, st.integers(1, 3), TEMPERS, st.booleans(), st.integers(0, 3), st.integers(0, 9), st.integers(1, 4), SEEDS)
def test_every_stream_goes_on_and_is_divided_among_ranks(
    sizes: list[int], sets: int, class_balance: float, flip: bool, pad: int, done: int, world: int, seed: int
) -> None:
    if sets > 1:
        sizes, class_balance = [*sizes, sets], 0.0  # each data set has an image
    split = noise(sizes, sets)
    options = {"flip": flip, "class_balance": class_balance, "pad_crop": pad}
    whole = take(stream(split, 12, seed, **options), done + 2)
    assert same(take(stream(split, 12, seed, 12 * done, **options), 2), whole[done:])
    ranks = [take(stream(split, 12, seed, 12 * done, **options, rank=r, world=world), 2) for r in range(world)]
    assert all(len(batch.images) == 12 // world for batches in ranks for batch in batches)
    together = [
        Batch(torch.cat([part.images for part in parts]), Labels.cat([part.labels for part in parts]))
        for parts in zip(*ranks, strict=True)
    ]
    assert same(together, whole[done:])


def test_ranks_have_equal_parts() -> None:
    with pytest.raises(AssertionError, match="equal parts"):
        next(stream(numbered(9), 8, 0, world=3))


@given(SIZES, TEMPERS, SEEDS, st.integers(0, 100))
def test_balanced_epochs_keep_their_law(sizes: list[int], class_balance: float, seed: int, epoch: int) -> None:
    classes = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    order = balanced_order(classes, class_balance, seed, epoch)
    n = np.array(sizes, np.float64)
    expected = n.sum() * n ** (1 - class_balance) / (n ** (1 - class_balance)).sum()
    seen = np.bincount(classes[order].numpy(), minlength=len(sizes))
    assert seen.sum() == n.sum()
    assert (abs(seen - expected) < 1 + 1e-9).all()
    times = np.bincount(order.numpy(), minlength=len(classes))
    for number, size in enumerate(sizes):
        own = times[classes.numpy() == number]
        assert set(own) <= {seen[number] // size, -(-seen[number] // size)}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any), TEMPERS, SEEDS)
def test_classes_without_images_are_never_seen(sizes: list[int], class_balance: float, seed: int) -> None:
    have = torch.tensor(sizes)
    assert (balanced_counts(have, class_balance, seed, 0)[have == 0] == 0).all()
    assert (class_probabilities(have, class_balance)[have == 0] == 0).all()


def test_balanced_counts_are_right_on_average() -> None:
    have = torch.tensor([1, 10, 40])
    counts = torch.stack([balanced_counts(have, 0.5, 3, epoch) for epoch in range(2_000)]).double().mean(0)
    assert counts.tolist() == pytest.approx((51 * class_probabilities(have, 0.5)).tolist(), abs=0.04)


def test_balanced_images_are_shuffled_anew_every_epoch() -> None:
    classes = torch.arange(2).repeat_interleave(torch.tensor([40, 10]))
    first, second = (balanced_order(classes, 1.0, 3, epoch) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert set(first.tolist()) != set(second.tolist()), "other images of the large class"
    positions = [np.flatnonzero(classes[order].numpy() == 1).mean() for order in (first, second)]
    assert positions == pytest.approx([24.5, 24.5], abs=7)


@given(SIZES, SEEDS)
def test_unbalanced_streams_are_what_they_were(sizes: list[int], seed: int) -> None:
    split = noise(sizes)
    count = len(split)
    order = torch.cat([epoch_order(count, seed, epoch) for epoch in range(-(-12 // count))])[:12]
    batch = next(stream(split, 12, seed, class_balance=0.0))
    assert torch.equal(batch.images, to_float(split.images[order]))
    assert torch.equal(batch.labels.values, split.labels[order].values)


def test_a_recipe_says_how_images_are_seen() -> None:
    split = noise([9, 14])
    options = ["data.class_balance=0.25", "data.pad_crop=2", "data.flip=true", "schedule.batch=8"]
    mine = take(build.build_stream(load("digits-acgan", options), split, 16), 3)
    assert same(mine, take(stream(split, 8, 0, 16, flip=True, class_balance=0.25, pad_crop=2), 3))


@pytest.mark.parametrize("class_balance", [1.0, 0.5])
def test_fakes_are_labeled_by_the_balanced_law(class_balance: float) -> None:
    sizes = [1, 9, 90]
    recipe = load("digits-acgan", [f"data.class_balance={class_balance}"])
    prior = training_steps.fake_labels_of(recipe, noise(sizes).labels)
    drawn = prior.draw(20_000)[0].index().bincount(minlength=3).double()
    expected = 20_000 * class_probabilities(torch.tensor(sizes), class_balance)
    assert ((drawn - expected) ** 2 / expected).sum() < 9.2, "1 percent of chi-square with two degrees of freedom"


def test_fakes_labels_without_weights_are_drawn_as_ever() -> None:
    labels = noise([3, 8]).labels
    torch.manual_seed(5)
    drawn, _ = FakeLabels(labels).draw(50)
    torch.manual_seed(5)
    assert torch.equal(drawn.values, labels[torch.randint(len(labels), (50,))].values)


@pytest.mark.parametrize("exclusive", [[False], [True, True]])
def test_only_classes_are_balanced(exclusive: list[bool]) -> None:
    spec = LabelSpec(tuple(Field(str(i), ("x", "y"), one) for i, one in enumerate(exclusive)))
    with pytest.raises(
        UserError, match="data.class_balance 0.5 given with attributes or several data sets: expected classes"
    ):
        build.build_state(load("digits-acgan", ["data.class_balance=0.5"]), spec)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6), st.integers(0, 4), SEEDS)
def test_crops_are_those_of_numpy(count: int, height: int, width: int, pad: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, 2, height, width), np.uint8)
    offsets = epoch_offsets(count, pad, seed, 0)
    assert offsets.min() >= 0
    assert offsets.max() <= 2 * pad
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    expected = [one[:, y : y + height, x : x + width] for one, (y, x) in zip(padded, offsets.tolist(), strict=True)]
    assert np.array_equal(crop(torch.from_numpy(images), pad, offsets).numpy(), np.stack(expected))


def test_crops_reach_every_offset_alike() -> None:
    offsets = epoch_offsets(40_000, 1, 3, 0)
    counts = Counter(map(tuple, offsets.tolist()))
    assert len(counts) == 9
    assert all(count == pytest.approx(40_000 / 9, rel=0.06) for count in counts.values())


def test_images_are_cropped_and_mirrored_as_drawn() -> None:
    split = noise([8, 5])
    batch = next(stream(split, 13, 3, 13, flip=True, pad_crop=2))
    images = crop(split.images[epoch_order(13, 3, 1)], 2, epoch_offsets(13, 2, 3, 1))
    flips = epoch_flips(13, 3, 1)
    expected = torch.stack([image.flip(2) if flip else image for image, flip in zip(images, flips, strict=True)])
    assert torch.equal(batch.images, to_float(expected))


@settings(max_examples=20)
@given(st.booleans(), st.integers(0, 2), TEMPERS, st.integers(0, 40), st.sampled_from([1, 2]))
def test_images_on_file_are_seen_like_those_in_memory(
    tmp_path_factory: pytest.TempPathFactory, flip: bool, pad: int, class_balance: float, position: int, world: int
) -> None:
    split = noise([9, 14])
    path = tmp_path_factory.mktemp("mapped") / "images.npy"
    np.save(path, split.images.numpy())
    on_file = Split(torch.from_numpy(np.load(path, mmap_mode="c")), split.labels)
    assert mapped(on_file.images)
    assert not mapped(split.images)
    options = {"flip": flip, "pad_crop": pad, "class_balance": class_balance, "world": world}
    mine, others = (take(stream(one, 8, 3, position, **options), 7) for one in (on_file, split))
    assert same(mine, others)


def test_several_data_sets_on_file_take_the_same_turns(tmp_path: Path) -> None:
    split = noise([9, 14], sets=2)
    np.save(tmp_path / "images.npy", split.images.numpy())
    on_file = Split(torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c")), split.labels)
    assert same(take(stream(on_file, 4, 3, 8, [1.0, 2.0]), 9), take(stream(split, 4, 3, 8, [1.0, 2.0]), 9))


def test_the_thread_ends_with_its_stream(on_file: Split) -> None:
    assert quiet(0), "the streams of tests before"
    before = listening()
    closed, dropped, unused = (stream(on_file, 8, 3) for _ in range(3))
    take(closed, 2)
    take(dropped, 2)
    assert listening() == before + 2
    closed.close()
    assert quiet(before + 1)
    del dropped, unused
    assert quiet(before)


def test_a_stream_that_nobody_closed_does_not_disturb_the_end(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", noise([9, 14]).images.numpy())
    code = """
import numpy, torch
from condgan.data.dataset import Split
from condgan.data.loader import stream
from condgan.labels import LabelSpec, LabelTable
images = torch.from_numpy(numpy.load("images.npy", mmap_mode="c"))
batches = stream(Split(images, LabelTable.from_index(LabelSpec.of_classes(["a"]), torch.zeros(23))), 8, 3)
next(batches)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_fails_in_the_thread_fails_the_stream(on_file: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listening()
    batches = stream(on_file, 8, 3)
    next(batches)

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(streams, "epoch_order", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        take(batches, 20)
    assert quiet(before)


def test_images_move_to_where_they_fit(on_file: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert fits(50, 100)
    assert not fits(51, 100)
    assert fits(10**15, None)
    free = free_memory(cpu)
    assert free is None or 2**20 < free < 2**50
    assert not mapped(to_device(on_file, cpu).images)
    assert torch.equal(to_device(on_file, cpu).images, on_file.images)
    assert mapped(to_device(on_file, cpu, resident=False).images)
    in_memory = noise([3])
    assert to_device(in_memory, cpu).images is in_memory.images
    monkeypatch.setattr(streams, "free_memory", lambda _: 2 * on_file.images.nbytes - 1)
    assert mapped(to_device(on_file, cpu).images)
    assert not mapped(to_device(on_file, cpu, resident=True).images)
