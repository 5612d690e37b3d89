"""Pictures decoded when they are seen: their order, pixels and split, what computes with them, and what goes wrong."""

import io
import itertools
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from condgan.data import undecoded
from condgan.data.dataset import Dataset
from condgan.data.listing import Arrays, Listing
from condgan.data.loader import stream, to_device
from condgan.data.open import read
from condgan.data.order import near_order
from condgan.data.undecoded import LostPicture, Undecoded, said_of_shards
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.types import Batch, to_float
from condgan.utils.errors import UserError

SEEDS = st.integers(0, 2**40)


def jpeg(number: int) -> bytes:
    """A noisy picture of its own shape."""
    rng = np.random.default_rng(number)
    shape = (20 + number % 5, 24 - number % 7, 3)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def write_shards(
    folder: Path, sizes: list[int], change: Callable[[int, bytes], bytes] = lambda _, picture: picture
) -> Path:
    """Shards with so many pictures each, of three classes in turn; `change`: of some, given their number."""
    folder.mkdir()
    numbers = itertools.count()
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as archive:
            for number in itertools.islice(numbers, size):
                for ending, content in ((".jpg", change(number, jpeg(number))), (".cls", b"%d" % (number % 3))):
                    member = tarfile.TarInfo(f"{number:04d}{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", [30, 50, 11])


def same(some: list[Batch], others: list[Batch]) -> bool:
    return all(
        torch.equal(one.images, other.images) and torch.equal(one.labels.values, other.labels.values)
        for one, other in zip(some, others, strict=True)
    )


def lying(sizes: list[int]) -> torch.Tensor:
    """Where images lie in shards of so many, mixed up."""
    where = torch.tensor([(shard, 512 * place) for shard, size in enumerate(sizes) for place in range(size)])
    return where[torch.randperm(len(where), generator=torch.Generator().manual_seed(5))]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=9), SEEDS, st.integers(0, 99), st.integers(1, 90),
    st.integers(1, 20),
)  # fmt: skip
def test_an_epoch_of_shards_is_a_permutation(
    sizes: list[int], seed: int, epoch: int, window: int, neighbors: int
) -> None:
    order = near_order(lying(sizes), seed, epoch, window, neighbors)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    assert torch.equal(order, near_order(lying(sizes), seed, epoch, window, neighbors))


@given(st.integers(20, 60), st.integers(2, 9), SEEDS, st.integers(0, 99), st.integers(20, 100), st.integers(1, 20))
def test_what_is_seen_together_lies_in_few_places(
    size: int, count: int, seed: int, epoch: int, window: int, neighbors: int
) -> None:
    where = lying([size] * count)
    order = near_order(where, seed, epoch, window, neighbors)
    for seen in where[order].split(window):
        of_shard = [sorted((begins // 512).tolist()) for begins in _by_shard(seen)]
        assert len(of_shard) <= (window - 2) // size + 2
        runs = sum(sum(b != a + 1 for a, b in itertools.pairwise(places)) + 1 for places in of_shard)
        assert runs <= window // neighbors + 2 * len(of_shard) + 1


def _by_shard(seen: torch.Tensor) -> list[torch.Tensor]:
    return [seen[seen[:, 0] == shard, 1] for shard in seen[:, 0].unique()]


def test_windows_and_epochs_are_mixed() -> None:
    where = lying([500] * 8)
    orders = [near_order(where, 3, epoch, 1000, 50) for epoch in range(4)]
    firsts = [frozenset(where[order[:1000], 0].tolist()) for order in orders]
    assert len({*firsts}) > 1, "shards come in another order"
    assert len({tuple(order.tolist()) for order in orders}) == 4
    places = where[orders[0][:1000]]
    assert float(torch.corrcoef(torch.stack([torch.arange(1000), places[:, 0]]).double())[0, 1].abs()) < 0.1


@pytest.mark.parametrize("options", [{}, {"crop": "random"}, {"crop": "pad"}, {"held_out": 0.3}])
@pytest.mark.parametrize("kind", ["shards", "folder", "zip"])
def test_pixels_labels_and_split_are_those_of_prepared_data(
    tmp_path: Path, photos: Path, shards: Path, kind: str, options: dict
) -> None:
    source = {"shards": shards, "folder": photos, "zip": tmp_path / "made.zip"}[kind]
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for file in photos.rglob("*.png"):
                archive.write(file, file.relative_to(photos))
    streamed, prepared = (read(str(source), 12, 3, stream=stream, **options) for stream in (True, False))
    assert isinstance(streamed.train.images, Undecoded)
    assert streamed.shape == prepared.shape
    for one, other in ((streamed.train, prepared.train), (streamed.held_out, prepared.held_out)):
        assert list(one.names) == list(other.names)
        assert torch.equal(one.labels.codes, other.labels.codes)
        assert all(map(torch.equal, one.images, other.images))
    assert (streamed.train.where is not None) == (kind == "shards")
    assert streamed.content_hash == read(str(source), 12, 3, stream=True, **options).content_hash
    assert streamed.content_hash != prepared.content_hash


def test_splits_by_the_shards_names_are_followed(tmp_path: Path) -> None:
    write_shards(tmp_path / "data", [40, 20])
    for number, name in enumerate(("train-000", "test-000")):
        (tmp_path / "data" / f"{number:03d}.tar").rename(tmp_path / "data" / f"{name}.tar")
    data = read(str(tmp_path / "data"), 8, 1, stream=True)
    assert (len(data.train), len(data.held_out)) == (40, 20)
    assert not any("copies" in note for note in data.notes)


def test_nothing_is_decoded_before_it_is_seen(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    pixels = undecoded.pixels
    monkeypatch.setattr(undecoded, "pixels", lambda *given: decoded.append(1) or pixels(*given))
    data = read(str(shards), 8, 3, stream=True)
    split = to_device(data.train, torch.device("cpu"))
    assert data.content_hash
    assert len(data.train) == 82
    assert not decoded
    batches = stream(split, 8, 0)
    next(batches)
    batches.close()
    assert 8 <= len(decoded) <= 8 * 6


def test_the_index_tells_other_data_from_the_same(tmp_path: Path, shards: Path) -> None:
    data = read(str(shards), 8, 3, stream=True)
    shutil.copytree(shards, tmp_path / "moved")
    assert read(str(tmp_path / "moved"), 8, 3, stream=True).content_hash == data.content_hash
    assert read(str(shards), 8, 1, stream=True).content_hash != data.content_hash
    other = write_shards(tmp_path / "other", [30, 50, 11], lambda number, one: one + b"x" * (number == 70))
    assert read(str(other), 8, 3, stream=True).content_hash != data.content_hash


@settings(max_examples=15)
@given(
    st.sampled_from([0.0, 0.7]), st.booleans(), st.integers(0, 2), st.integers(0, 30), st.sampled_from([2, 4]), SEEDS
)
def test_every_stream_of_shards_goes_on_and_is_divided_among_ranks(
    shards_once: Dataset, class_balance: float, flip: bool, pad: int, done: int, world: int, seed: int
) -> None:
    options = {"flip": flip, "class_balance": class_balance, "pad_crop": pad}
    whole = list(itertools.islice(stream(shards_once.train, 12, seed, **options), done + 2))
    assert same(list(itertools.islice(stream(shards_once.train, 12, seed, 12 * done, **options), 2)), whole[done:])
    ranks = [
        list(itertools.islice(stream(shards_once.train, 12, seed, 12 * done, **options, rank=rank, world=world), 2))
        for rank in range(world)
    ]
    together = [
        Batch(torch.cat([part.images for part in parts]), Labels.cat([part.labels for part in parts]))
        for parts in zip(*ranks, strict=True)
    ]
    assert same(together, whole[done:])


def test_balanced_shards_show_rare_classes_all_the_time(shards_once: Dataset) -> None:
    """However their images lie: views of one are no neighbors."""
    index = shards_once.train.labels.index()
    rare = int(index.bincount().argmin())
    epoch = itertools.islice(stream(shards_once.train, 8, 0, class_balance=1.0), len(index) // 8)
    seen = [int((batch.labels.index() == rare).sum()) for batch in epoch]
    halves = sum(seen[: len(seen) // 2]), sum(seen[len(seen) // 2 :])
    assert min(halves) > 0.3 * sum(halves)


@pytest.fixture(scope="module")
def shards_once(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read(str(write_shards(tmp_path_factory.mktemp("once") / "shards", [30, 50, 11])), 8, 3, stream=True)


def test_an_epoch_sees_each_image_once_with_its_label(shards: Path) -> None:
    streamed, prepared = (read(str(shards), 8, 3, stream=streaming) for streaming in (True, False))
    (epoch,) = itertools.islice(stream(streamed.train, 82, 5), 1)
    known = {
        image.numpy().tobytes(): int(index)
        for image, index in zip(to_float(prepared.train.images), prepared.train.labels.index(), strict=True)
    }
    seen = {image.numpy().tobytes(): int(i) for image, i in zip(epoch.images, epoch.labels.index(), strict=True)}
    assert seen == known


def test_rows_are_decoded_as_tensors_have_them(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed, prepared = (read(str(shards), 8, 3, stream=streaming).train.images for streaming in (True, False))
    for few in (2**28, 0):
        monkeypatch.setattr(undecoded, "CHOSEN", few)
        for index in (3, -1, slice(5, 9), [4, 2], torch.tensor([[1, 2], [3, 3]]), torch.arange(82) % 9 == 0):
            assert torch.equal(streamed[index], prepared[index])
        assert isinstance(streamed[:50], Undecoded) == (few == 0)
    assert torch.equal(streamed[:, 1], prepared[:, 1])
    assert [part.shape[0] for part in streamed.split(40)] == [40, 40, 2]
    assert torch.equal(torch.cat([to_float(part) for part in streamed.split(40)]), to_float(prepared))
    assert torch.equal(torch.cat([streamed, prepared])[:82], prepared)
    assert np.array_equal(streamed.numpy(), prepared.numpy())
    assert streamed.nbytes == prepared.nbytes
    assert repr(streamed) == "Undecoded(82 × 3 × 8 × 8)"
    with torch.inference_mode():
        assert torch.equal(streamed.float(), prepared.float())


def test_what_memory_does_not_hold_is_refused_in_a_line(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read(str(shards), 8, 3, stream=True).train.images
    monkeypatch.setattr(undecoded, "free_memory", lambda _: 20_000)
    with pytest.raises(UserError, match="82 images of '.*' are needed at once.*leave out data.stream=true"):
        images.float()
    assert torch.cat([part.float() for part in images.split(20)]).shape == images.shape


def test_a_bad_picture_is_named_or_another_of_its_label_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_shards(tmp_path / "bad", [30, 61], lambda number, one: one[:40] if number in (7, 10) else one)
    whole = read(str(write_shards(tmp_path / "whole", [30, 61])), 8, 3, stream=True).train
    names = [Path(name).name for name in whole.names]
    row, taken = names.index("0007.jpg"), next(name for name in ("0013.jpg", "0016.jpg") if name in names)
    strict, lenient = (read(str(bad), 8, 3, stream=True, skip_bad_images=skip).train for skip in (False, True))
    with pytest.raises(LostPicture, match=r"unreadable image '.*0007.jpg' of '000/0007.cls' .*add --skip-bad-images"):
        strict.images[row]
    for _ in range(2):
        assert torch.equal(lenient.images[row], whole.images[names.index(taken)])
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert f"{taken}' of '000/{taken[:4]}.cls' is seen in its place" in said[0]
    batches = stream(strict, 41, 0)
    with pytest.raises(LostPicture):
        list(itertools.islice(batches, 2))
    seen = [list(itertools.islice(stream(lenient, 8, 2, position), 3)) for position in (0, 8)]
    assert same(seen[0][1:], seen[1][:2])


def test_bad_pictures_alone_of_a_label_are_refused(tmp_path: Path) -> None:
    bad = write_shards(tmp_path / "bad", [30], lambda number, one: one[:40] if number % 3 == 1 else one)
    data = read(str(bad), 8, 3, stream=True, skip_bad_images=True)
    with pytest.raises(LostPicture, match="none of the same labels to take its place"):
        data.train.images.float()


def test_a_shard_that_is_gone_or_cut_is_told_in_a_line(shards: Path, tmp_path: Path) -> None:
    data = read(str(shards), 8, 3, stream=True, skip_bad_images=True)
    shutil.move(shards / "001.tar", tmp_path / "001.tar")
    with pytest.raises(LostPicture, match=r"'001/.*No such file.*give back the data"):
        data.train.images.float()
    (shards / "001.tar").write_bytes((tmp_path / "001.tar").read_bytes()[:20_000])
    with pytest.raises(UserError, match="tar '.*001.tar' cannot be read"):
        read(str(shards), 8, 3, stream=True)


def test_what_cannot_be_streamed_is_refused_in_a_line(tmp_path: Path, shards: Path) -> None:
    np.savez(tmp_path / "made.npz", x=np.zeros((20, 8, 8, 3), np.uint8), y=np.arange(20) % 2)
    for source in ("digits", str(tmp_path / "made.npz")):
        with pytest.raises(UserError, match="whose images are no picture files: expected tar shards"):
            read(source, 8, 3, stream=True)
    with pytest.raises(UserError, match="given with 2 data sets"):
        read([str(shards), "digits"], 8, 3, stream=True)


def test_shards_of_a_class_each_are_told_of() -> None:
    index = torch.arange(20_000) // 500
    spec = LabelSpec.of_classes([str(number) for number in range(40)])
    names = [str(number) for number in range(len(index))]

    def said(index: torch.Tensor, shards: torch.Tensor) -> list[str]:
        labels = LabelTable.from_index(spec, index)
        listing = Listing("x", Arrays([]), np.arange(len(index)), names, labels, len(index))
        return said_of_shards(listing, torch.stack([shards, torch.arange(len(index))], 1))

    (note,) = said(index, index)
    assert "are of 17 classes, 40 if all were mixed" in note
    assert not said(index[torch.randperm(20_000)], index)


def test_threads_that_decode_are_as_many_as_cores(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecoded, "cores", lambda: 3)
    before = threading.active_count()
    data = read(str(shards), 8, 3, stream=True)
    data.train.images.float()
    assert threading.active_count() <= before + 3
