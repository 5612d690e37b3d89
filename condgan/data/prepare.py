"""Pictures decoded once, in parallel, into a packed data set; goes on where it was stopped."""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Int, UInt8
from torch.utils.data import DataLoader
from tqdm import tqdm

from condgan.data.copies import contents_of, keep_together, said_of_copies
from condgan.data.listing import Listing, require_images
from condgan.data.packed import PACKED_FORMAT, PARTS, ImageFile, Prepared, describe_packed, is_packed, open_packed
from condgan.data.preprocessing import RULE, Preprocessing, pixels, reason
from condgan.data.readers.hdf5 import is_hdf5, write_hdf5
from condgan.utils.errors import UserError
from condgan.utils.files import TEMPORARY, cache_directory, require_outside, sync

DECODED_AT_ONCE = 64
"""Pictures that a worker decodes at a time."""
FEW_PICTURES = 64
"""Pictures that are decoded anew each time: it takes less than a look into the cache."""


class Bad(NamedTuple):
    """A picture that cannot be decoded."""

    place: int
    reason: str


def decoded(listing: Listing, preprocessing: Preprocessing, skip_bad_images: bool) -> Prepared:
    """The images of a listing, from the cache where it has them; few are decoded in memory.

    The cache is keyed by the content of the pictures, their labels and the framing. Raises UserError for unreadable
    pictures, unless they are to be left out.
    """
    listing, digests = _in_order(listing)
    if len(listing) <= FEW_PICTURES:
        rows = np.empty((len(listing), preprocessing.channels, preprocessing.height, preprocessing.width), np.uint8)
        bad = _decode(listing, preprocessing, range(len(listing)), rows)
        _judge(listing, bad, skip_bad_images)
        orders = _orders(listing, bad)
        halves = np.split(rows, [listing.train])
        train, held_out = (torch.from_numpy(half[order]) for half, order in zip(halves, orders, strict=True))
        kept = enough(listing, orders)
        return Prepared(_telling_copies(kept, listing, digests), train, held_out, _skipped(listing, bad))
    key = hashlib.sha256(f"{PACKED_FORMAT} {RULE} {preprocessing} {listing.train} {listing.labels.spec}".encode())
    key.update(repr(listing.labels.spec.range or "").encode())
    names = "\n".join(listing.names).encode(errors="surrogateescape")
    for part in (digests.tobytes(), listing.labels.codes.numpy().tobytes(), names):
        key.update(hashlib.sha256(part).digest())
    if listing.pairs is not None:
        key.update(listing.pairs.tobytes())
    path = cache_directory() / "prepared" / key.hexdigest()[:32]
    if not _complete(path):
        work = hashlib.sha256(f"{listing.source} {preprocessing} {listing.train} {len(listing)}".encode()).hexdigest()[
            :32
        ]
        with _working(path.parent / f"{TEMPORARY}{work}") as directory:
            if not _complete(path):
                _fill(directory, listing, preprocessing, digests, skip_bad_images)
                _publish(directory, path)
    prepared = open_packed(path)
    if prepared.skipped and not skip_bad_images:
        raise UnreadableImages(prepared.skipped, listing.source)
    kept = replace(prepared.listing, source=listing.source, notes=listing.notes)
    return replace(prepared, listing=_telling_copies(kept, listing, digests))


def prepare(
    listing: Listing, preprocessing: Preprocessing, out: Path, skip_bad_images: bool, hdf5: bool = False
) -> Prepared:
    """Decode a listing into a packed data set, or an HDF5 file; goes on where it was stopped.

    Raises UserError for unreadable pictures unless they are to be left out; what was decoded is kept then.
    """
    require_outside(out, listing.source, f"'{out}' as output")
    if out.exists() and not (is_hdf5(out) if hdf5 else is_packed(out)):
        what = "HDF5 file: give another file" if hdf5 else "prepared data set: give another folder"
        raise UserError(f"'{out}' exists and is no {what}")
    if not hdf5 and out.exists() and (there := open_packed(out)).preprocessing != preprocessing:
        raise UserError(
            f"'{out}' holds data prepared otherwise ({there.preprocessing}): give another folder, or remove it"
        )
    if hdf5 and listing.pairs is not None:
        raise UserError("--paired given with --format hdf5, which has no place for pairs: leave one of them")
    with _working(out.absolute().parent / f"{TEMPORARY}{out.name}") as directory:
        listing, digests = _in_order(listing)
        _fill(directory, listing, preprocessing, digests, skip_bad_images)
        if not hdf5:
            _publish(directory, out)
            return open_packed(out)
        prepared = open_packed(directory)
        labels, first = prepared.listing.labels, prepared.listing.train
        splits = (prepared.train, labels.at(slice(0, first))), (prepared.held_out, labels.at(slice(first, None)))
        write_hdf5(out, splits)
        shutil.rmtree(directory)
        return prepared


def _fill(
    work: Path, listing: Listing, preprocessing: Preprocessing, digests: UInt8[np.ndarray, "n d"], skip_bad_images: bool
) -> None:
    """Decode all pictures into a directory that may hold some of them from before."""
    sizes = (listing.train, len(listing) - listing.train)
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    files = [ImageFile(work / f"{part}.npy", (size, *shape)) for part, size in zip(PARTS, sizes, strict=True)]
    _begin(work, files, json.dumps([PACKED_FORMAT, RULE, asdict(preprocessing), sizes]))
    chunks = [chunk for start, stop in ((0, sizes[0]), (sizes[0], len(listing))) for chunk in chunked(start, stop)]
    marks = [hashlib.sha256(digests[chunk.start : chunk.stop].tobytes()).hexdigest()[:32] for chunk in chunks]
    with _Journal(work / "journal", []) as journal:
        for number in _cut_off(files, chunks, listing.train):
            journal.add(json.dumps([number, "", []]))
    done = _read_journal(work / "journal", marks)
    bad = [Bad(place, reason) for of_chunk in done.values() for place, reason in of_chunk]
    todo = [number for number in range(len(chunks)) if number not in done]
    if todo:
        worker = _Decoder(listing, preprocessing, [chunks[number] for number in todo], files)
        bad += _decode_chunks(worker, work / "journal", {number: marks[number] for number in todo})
    bad.sort()
    _judge(listing, bad, skip_bad_images)
    orders = _orders(listing, bad)
    kept = _telling_copies(enough(listing, orders), listing, digests)
    for file, order in zip(files, orders, strict=True):
        file.close_holes(order)
    describe_packed(work, kept, preprocessing, files, _skipped(listing, bad))


def _begin(work: Path, files: Sequence[ImageFile], job: str) -> None:
    """Empty a directory and make room in it, unless it holds a part of the same job.

    Raises UserError where there is no room.
    """
    if (work / "job.json").is_file() and (work / "job.json").read_text() == job:
        return
    _clear(work)
    needed, free = sum(file.size for file in files), shutil.disk_usage(work).free
    if needed > free:
        shutil.rmtree(work)
        raise UserError(
            f"no space left in '{work.parent}': {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} free; free some, "
            "give another folder or a smaller size, or train with data.stream=true, which keeps no decoded images"
        )
    for file in files:
        file.grow()
    (work / "job.json").write_text(job)


def _cut_off(files: Sequence[ImageFile], chunks: Sequence[range], train: int) -> list[int]:
    """The numbers of chunks whose rows were cut off when holes were closed."""
    return [
        number
        for number, chunk in enumerate(chunks)
        if chunk.stop - (train if chunk.start >= train else 0) > files[chunk.start >= train].rows()
    ]


def _decode_chunks(decoder: "_Decoder", journal_path: Path, marks: Mapping[int, str]) -> list[Bad]:
    """Decode chunks in workers, note each in the journal under its number and mark, and return the bad pictures."""
    for file in decoder.files:
        file.grow()
    results, bad = iter(in_workers(decoder, len(decoder))), []
    total = len(decoder.listing)
    finished = total - sum(map(len, decoder.chunks))
    with (
        tqdm(total=total, initial=finished, desc="decoding", unit="image", leave=False, disable=None) as bar,
        _Journal(journal_path, decoder.files) as journal,
    ):
        for chunk, (number, mark) in zip(decoder.chunks, marks.items(), strict=True):
            try:
                found, error = next(results)
            except RuntimeError as stopped:  # a worker was killed
                raise UserError(f"decoding stopped ({str(stopped).splitlines()[0]}): repeat it to go on") from None
            if error is not None:
                raise error
            bad += found
            journal.add(json.dumps([number, mark, found]))
            bar.update(len(chunk))
    return bad


@dataclass(frozen=True)
class _Decoder:
    """Decodes chunks of pictures into the files, in worker processes."""

    listing: Listing
    preprocessing: Preprocessing
    chunks: Sequence[range]
    files: Sequence[ImageFile]

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> tuple[list[Bad], OSError | None]:
        if number >= len(self.chunks):
            raise IndexError
        chunk = self.chunks[number]
        rows = np.zeros((len(chunk), *self.files[0].shape[1:]), np.uint8)
        bad = _decode(self.listing, self.preprocessing, chunk, rows)
        held_out = chunk.start >= self.listing.train
        try:
            self.files[held_out].write(chunk.start - held_out * self.listing.train, rows)
        except OSError as error:  # returned, since raised in a worker it would lose its number
            return bad, OSError(error.errno, error.strerror, str(self.files[held_out].path.parent))
        return bad, None


class _Journal:
    """Which chunks are on the disk: lines that are written after what they tell of."""

    def __init__(self, path: Path, files: Sequence[ImageFile]) -> None:
        self.path, self.files = path, files
        self.lines: list[str] = []

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) >= 64:
            self.flush()

    def flush(self) -> None:
        if not self.lines:
            return
        for file in self.files:
            sync(file.path)
        with open(self.path, "a") as file:
            file.write("".join(f"{line}\n" for line in self.lines))
            file.flush()
            os.fsync(file.fileno())
        self.lines.clear()


def _read_journal(path: Path, marks: Sequence[str]) -> dict[int, list[tuple[int, str]]]:
    """The chunks that were decoded before, of pictures that are the same since, and what was bad in them."""
    done: dict[int, list[tuple[int, str]]] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            number, mark, bad = json.loads(line)
            bad = [(int(place), str(reason)) for place, reason in bad]
            right = marks[number] == mark
        except (ValueError, TypeError, IndexError, RecursionError):
            continue  # the last line, half-written, or a damaged one
        done.pop(number, None)
        if right:
            done[number] = bad
    return done


@contextmanager
def _working(directory: Path) -> Iterator[Path]:
    """A directory of this name that no other process works in; it stays where it is left."""
    name = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:32]
    lock = FileLock(cache_directory() / "locks" / name)
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"waiting for another process that prepares '{directory.parent}'", file=sys.stderr)
        lock.acquire()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
    finally:
        with suppress(OSError):
            directory.rmdir()  # where nothing was decoded
        lock.release()


def _publish(work: Path, path: Path) -> None:
    """Give a complete directory its name, in place of any older one."""
    for file in work.iterdir():
        sync(file)
    sync(work)
    shutil.rmtree(path, ignore_errors=True)
    os.rename(work, path)
    for name in ("job.json", "journal"):
        (path / name).unlink(missing_ok=True)
    sync(path.parent)


def _clear(work: Path) -> None:
    for file in work.iterdir():
        file.unlink()


def _complete(path: Path) -> bool:
    try:
        return is_packed(path) and open_packed(path) is not None
    except UserError:
        return False


def _decode(
    listing: Listing, preprocessing: Preprocessing, places: Sequence[int], rows: UInt8[np.ndarray, "n c h w"]
) -> list[Bad]:
    """Decode pictures into rows; those of bad ones are left."""
    bad = []
    for row, place in enumerate(places):
        try:
            rows[row] = pixels(listing.read(place), preprocessing)
        except Exception as error:  # decoders raise whatever they like
            bad.append(Bad(place, reason(error)))
    return bad


def _digests(listing: Listing) -> UInt8[np.ndarray, "n d"]:
    """A digest of each picture, which changes when it does."""
    every = np.empty((len(listing), 16), np.uint8)

    def look(part: range) -> int:
        for place, number in zip(part, listing.numbers[part.start : part.stop].tolist(), strict=True):
            try:
                digest = listing.pictures.digest(number)
            except Exception as error:  # it is told of when it is decoded
                digest = f"{place} {error!r}".encode()
            every[place] = np.frombuffer(hashlib.blake2b(digest, digest_size=16).digest(), np.uint8)
        return len(part)

    parts = chunked(0, len(listing))
    with (
        ThreadPoolExecutor(max(1, cores())) as pool,
        tqdm(total=len(listing), desc="looking for changes", unit="image", leave=False, disable=None) as bar,
    ):
        for count in pool.map(look, parts):
            bar.update(count)
    return every


def _in_order(listing: Listing) -> tuple[Listing, UInt8[np.ndarray, "n d"]]:
    """A listing with copies on one side of the split, where that is ours; and its pictures' digests."""
    digests = _digests(listing)
    places, train = keep_together(listing, contents_of(digests))
    return listing.at(places, train), digests[places]


def _telling_copies(kept: Listing, listing: Listing, digests: UInt8[np.ndarray, "n d"]) -> Listing:
    """The part of a listing that could be decoded, with notes of its copies."""
    contents = contents_of(digests)
    if len(np.unique(contents)) < len(contents):
        there = {*kept.names}
        places = np.flatnonzero([name in there for name in listing.names])
        readable = listing.at(places, int((places < listing.train).sum()))
        kept = replace(kept, notes=(*kept.notes, *said_of_copies(readable, contents[places])))
    return kept


def _orders(listing: Listing, bad: Sequence[Bad]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The rows of each part without the bad ones, whose rows the part's last ones take."""
    orders = []
    for start, stop in ((0, listing.train), (listing.train, len(listing))):
        without = np.array(sorted(one.place - start for one in bad if start <= one.place < stop), np.int64)
        kept = stop - start - len(without)
        order = np.arange(kept)
        beyond = np.setdiff1d(np.arange(kept, stop - start), without)
        order[without[without < kept]] = beyond
        orders.append(order)
    return orders[0], orders[1]


def enough(listing: Listing, orders: tuple[np.ndarray, np.ndarray]) -> Listing:
    """The rows of a listing that are kept of each part. Raises UserError where too few are to train on or hold out."""
    kept = listing.at(np.concatenate([orders[0], listing.train + orders[1]]), len(orders[0]))
    exclusive = kept.labels.spec.fields[0].exclusive
    if exclusive and listing.share is not None:
        do = ", one to train on and another one to hold out; add some, or leave these classes out"
        require_images(kept.labels, 2, f"data '{listing.source}'", do)
    for what, labels in (
        ("train on", kept.labels.at(slice(0, kept.train))),
        ("hold out", kept.labels.at(slice(kept.train, None))),
    ):
        if exclusive:
            split = "train" if what == "train on" else "held-out"
            do = "" if what == "train on" else (
                "; give it some, or hold out a share of the training images with data.held_out=0.1 (or --held-out 0.1)"
            )  # fmt: skip
            require_images(labels, 1, f"the {split} split of '{listing.source}'", do)
        least = 2 if what == "train on" else 1
        if len(labels) < least:
            raise UserError(
                f"data '{listing.source}' has {len(labels)} readable image{'s' * (len(labels) != 1)} to {what}, at "
                f"least {least} needed"
            )
    return kept


def _skipped(listing: Listing, bad: Sequence[Bad]) -> tuple[str, ...]:
    return tuple(f"{listing.call(one.place)} ({one.reason})" for one in bad)


def _judge(listing: Listing, bad: Sequence[Bad], skip_bad_images: bool) -> None:
    if bad and not skip_bad_images:
        raise UnreadableImages(_skipped(listing, bad), listing.source)


class UnreadableImages(UserError):
    """Some pictures cannot be decoded."""

    def __init__(self, bad: Sequence[str], source: str) -> None:
        super().__init__(_complaint(bad, source))
        self.bad = bad


def _complaint(bad: Sequence[str], source: str) -> str:
    if len(bad) == 1:
        return f"unreadable image {bad[0]} in '{source}': mend it, or go on without with --skip-bad-images"
    listed = "; ".join(bad[:5]) + f" and {len(bad) - 5} more" * (len(bad) > 5)
    return f"{len(bad)} unreadable images in '{source}': {listed}; mend them, or go on without with --skip-bad-images"


def chunked(start: int, stop: int, size: int = DECODED_AT_ONCE) -> list[range]:
    """Ranges of pictures that a worker takes at a time."""
    return [range(first, min(first + size, stop)) for first in range(start, stop, size)]


def in_workers(work: Any, count: int) -> DataLoader:
    """The `count` items of what is indexed like a list, in order, made by processes, or here where they are few."""
    processes = min(cores(), count // 2)
    return DataLoader(work, batch_size=None, num_workers=processes, worker_init_fn=_leave_interrupts)


def _leave_interrupts(_: int) -> None:
    """Let the main process alone decide what Ctrl-C and kill do, whose handlers were inherited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def cores() -> int:
    """How many processes can work at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
