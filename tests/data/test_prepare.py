"""Preparing decodes once, in parallel, and goes on where it was stopped, with the same result."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condgan.data import prepare as preparing
from condgan.data.listing import Arrays, Listing
from condgan.data.open import list_source, read
from condgan.data.prepare import Bad, decoded, open_packed, prepare
from condgan.data.preprocessing import Preprocessing, opened, pixels
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError
from tests.helpers import condgan, refused

SPEC = LabelSpec.of_classes(["a", "b"])
SMALL = Preprocessing(8, 8, 1)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More images than are decoded in memory, in a folder; each is gray with its own brightness."""
    for number in range(300):
        path = tmp_path / "many" / ("even", "odd")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 10), number % 256, np.uint8)).save(path)
    return tmp_path / "many"


def grays(count: int, train: int) -> Listing:
    """Pictures in memory, each with its number as brightness."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 8, 8))
    labels = LabelTable.from_index(SPEC, torch.arange(count) % 2)
    return Listing("grays", Arrays(images), np.arange(count), [f"{i}.png" for i in range(count)], labels, train)


def test_a_packed_set_is_what_reading_gives(many: Path, tmp_path: Path) -> None:
    listing = list_source(str(many))
    prepare(listing, SMALL, tmp_path / "packed", False)
    one, two = read(str(many), 8, 1), read(str(tmp_path / "packed"), 8, 1)
    assert one.content_hash == two.content_hash
    for split, same in ((one.train, two.train), (one.held_out, two.held_out)):
        assert torch.equal(split.images, same.images)
        assert torch.equal(split.labels.codes, same.labels.codes)
        assert list(split.names) == list(same.names)
        for image, name in zip(split.images, split.names, strict=True):
            assert int(image.float().mean()) == int(Path(name).stem) % 256
    assert np.load(tmp_path / "packed" / "train.npy", mmap_mode="r").shape == (len(one.train), 1, 8, 8)
    about = json.loads((tmp_path / "packed" / "data.json").read_text())
    assert about["source"] == str(many)
    assert about["preprocessing"] == {
        "height": 8,
        "width": 8,
        "channels": 1,
        "crop": "center",
        "background": [255, 255, 255],
    }
    assert read(str(tmp_path / "packed"), 4, 1).shape == (1, 4, 4), "another size is made from it"
    assert "prepared at 8×8" in read(str(tmp_path / "packed"), 4, 1).notes[-1]
    with pytest.raises(UserError, match="whose images were split when it was prepared"):
        list_source(str(tmp_path / "packed"), held_out=0.2)


def test_the_cache_is_keyed_by_content_and_settings(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(str(many), 8, 1)
    filled = []
    fill = preparing._fill
    monkeypatch.setattr(preparing, "_fill", lambda *given: (filled.append(given), fill(*given)))
    assert read(str(many), 8, 1).content_hash == first.content_hash
    shutil.copytree(many, tmp_path / "elsewhere" / "copied")
    assert read(str(tmp_path / "elsewhere" / "copied"), 8, 1).content_hash == first.content_hash
    assert not filled, "the same content under another name is not decoded again"
    path = many / "odd" / "001.png"
    before = path.stat()
    Image.fromarray(np.full((10, 10), 77, np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(str(many), 8, 1).content_hash != first.content_hash
    assert len(filled) == 1, "other content under the same name is"
    for options in ({"size": 16}, {"channels": 3}, {"crop": "pad"}, {"background": "black"}, {"held_out": 0.3}):
        read(str(many), **{"size": 8, "channels": 1} | options)
    assert len(filled) == 6


@pytest.mark.parametrize("bad", [(), (0,), (299,), (0, 1, 2, 150, 298, 299), (270, 280), tuple(range(0, 300, 2))])
@given(data=st.data())
def test_bad_rows_are_closed(bad: tuple[int, ...], data: st.DataObject) -> None:
    train = data.draw(st.integers(1, 299))
    listing = grays(300, train)
    orders = preparing._orders(listing, [Bad(place, "") for place in bad])
    for start, stop, order in ((0, train, orders[0]), (train, 300, orders[1])):
        kept = [place - start for place in range(start, stop) if place not in bad]
        assert sorted(order.tolist()) == kept
        stays = order == np.arange(len(order))
        assert (order[~stays] >= len(order)).all(), "only rows beyond the end move"


@pytest.mark.parametrize("few", [True, False])
def test_bad_images_are_listed_and_left_out(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    monkeypatch.setattr(preparing, "FEW_PICTURES", 1000 if few else 64)
    for number in (0, 40, 299):
        next(many.rglob(f"{number:03}.png")).write_text("no image")
    with pytest.raises(UserError, match=r"3 unreadable images .*'even/000.png' of class 'even' \(of no known image"):
        read(str(many), 8, 1)
    data = read(str(many), 8, 1, skip_bad_images=True)
    assert len(data.skipped) == 3
    assert len(data.train) + len(data.held_out) == 297
    for split in (data.train, data.held_out):
        for image, name, label in zip(split.images, split.names, split.labels.index().tolist(), strict=True):
            number = int(Path(name).stem)
            assert (image == number % 256).all()
            assert label == number % 2
    with pytest.raises(UserError, match="3 unreadable images"):
        read(str(many), 8, 1)


SCRIPT = """
import sys, time
from pathlib import Path
from condgan.data import prepare
from condgan.data.open import list_source
from condgan.data.preprocessing import Preprocessing
slow = prepare.pixels
prepare.pixels = lambda *given: (time.sleep(0.003), slow(*given))[1]
prepare._Journal.add, add = lambda self, line: (add(self, line), self.flush()), prepare._Journal.add
prepare.prepare(list_source(sys.argv[1]), Preprocessing(8, 8, 1), Path(sys.argv[2]), False)
"""


def test_killed_and_restarted_it_gives_the_same(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare(list_source(str(many)), SMALL, tmp_path / "whole", False)
    journal = tmp_path / ".tmp-killed" / "journal"
    killed = 0
    for lines in (1, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(many), str(tmp_path / "killed")], cwd=Path(__file__).parents[2]
        )
        while process.poll() is None and (not journal.is_file() or len(journal.read_text().splitlines()) < lines):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    assert not (tmp_path / "killed").exists()
    done = len(journal.read_text().splitlines())
    decode, places = preparing._decode, []
    monkeypatch.setattr(preparing, "cores", lambda: 0)
    monkeypatch.setattr(preparing, "_decode", lambda *given: (places.extend(given[2]), decode(*given))[1])
    again = prepare(list_source(str(many)), SMALL, tmp_path / "killed", False)
    assert 0 < len(places) <= 300 - 32 * done
    assert again.digest == whole.digest
    assert torch.equal(again.train, whole.train)
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )
    assert not (tmp_path / ".tmp-killed").exists()


def test_what_changed_since_is_decoded_again(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(many.rglob("250.png"))
    good = path.read_bytes()
    path.write_bytes(good[:40])
    with pytest.raises(UserError, match="unreadable image 'even/250.png'"):
        prepare(list_source(str(many)), SMALL, tmp_path / "out", False)
    path.write_bytes(good)
    decode, places = preparing._decode, []
    monkeypatch.setattr(preparing, "cores", lambda: 0)
    monkeypatch.setattr(preparing, "_decode", lambda *given: (places.extend(given[2]), decode(*given))[1])
    prepared = prepare(list_source(str(many)), SMALL, tmp_path / "out", False)
    assert 0 < len(places) <= 64
    assert prepared.digest == prepare(list_source(str(many)), SMALL, tmp_path / "anew", False).digest


def test_after_holes_were_closed_it_still_goes_on(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [next(many.rglob(f"{number:03}.png")) for number in (0, 40, 41, 100)]
    good = [path.read_bytes() for path in bad]
    for path in bad:
        path.write_text("no image")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "describe_packed", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(list_source(str(many)), SMALL, tmp_path / "out", True)
    bad[1].write_bytes(good[1])
    with monkeypatch.context() as patched:
        patched.setattr(preparing, "_decode", killed)
        patched.setattr(preparing, "cores", lambda: 0)
        with pytest.raises(KeyboardInterrupt):
            prepare(list_source(str(many)), SMALL, tmp_path / "out", True)
    for path, content in zip(bad, good, strict=True):
        path.write_bytes(content)
    again = prepare(list_source(str(many)), SMALL, tmp_path / "out", False)
    anew = prepare(list_source(str(many)), SMALL, tmp_path / "anew", False)
    assert again.digest == anew.digest
    assert torch.equal(again.train, anew.train)


def test_the_split_is_part_of_the_hash(tmp_path: Path) -> None:
    hashes = set()
    for train in (100, 150):
        prepare(grays(200, train), SMALL, tmp_path / str(train), False)
        hashes.add(read(str(tmp_path / str(train)), 8, 1).content_hash)
    assert len(hashes) == 2


def test_other_files_are_not_overwritten(many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", many))
    before = archive.read_bytes()
    command = ("prepare", many, archive, "--size", 8, "--format", "hdf5")
    refused(condgan(capsys, *command), "exists and is no HDF5 file")
    assert archive.read_bytes() == before
    refused(condgan(capsys, *command[:2], tmp_path / "x.hdf5", *command[3:], "--paired"), "has no place for pairs")


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on a machine of fewer cores
def test_one_process_gives_what_several_do(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for count in (0, 1, 3):
        monkeypatch.setattr(preparing, "cores", lambda count=count: count)
        digests.add(prepare(list_source(str(many)), SMALL, tmp_path / str(count), False).digest)
    assert len(digests) == 1


def test_a_full_disk_is_one_line_and_loses_nothing(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = preparing.ImageFile.write
    monkeypatch.setattr(preparing, "cores", lambda: 0)

    def full(self: preparing.ImageFile, row: int, images: np.ndarray) -> None:
        if row >= 128:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, row, images)

    with monkeypatch.context() as patched:
        patched.setattr(preparing.ImageFile, "write", full)
        refused(
            condgan(capsys, "prepare", many, tmp_path / "out", "--size", 8), "no space left on the device", "repeat"
        )
        assert not (tmp_path / "out").exists()
    assert condgan(capsys, "prepare", many, tmp_path / "out", "--size", 8).code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    larger = condgan(capsys, "prepare", many, tmp_path / "more", "--size", 64)
    refused(larger, "no space left in", "MB needed", "data.stream=true")
    assert not list(tmp_path.glob(".tmp-more"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    script = (
        "import sys, resource, numpy as np, torch\n"
        "from condgan.data import prepare, listing, preprocessing\n"
        "from condgan.labels import LabelSpec, LabelTable\n"
        "prepare.cores = lambda: 0\n"
        "from pathlib import Path\n"
        "def run(count, out):\n"
        "    images = np.broadcast_to(np.zeros((1, 16, 16), np.uint8), (count, 16, 16))\n"
        "    labels = LabelTable.from_index(LabelSpec.of_classes(['a']), torch.zeros(count, dtype=torch.int64))\n"
        "    names = [*map(str, range(count))]\n"
        "    whole = listing.Listing('x', listing.Arrays(images), np.arange(count), names, labels, count - 10)\n"
        "    prepare.enough = lambda listing, orders: listing\n"
        "    prepare.prepare(whole, preprocessing.Preprocessing(128, 128, 3), Path(sys.argv[1]) / out, False)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "run(500, 'few')\n"
        "print(-run(1000, 'some') + run(4000, 'many'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert (tmp_path / "many" / "train.npy").stat().st_size > 190e6
    assert float(done.stdout) < 20, "MB more for 147 MB of images more"


def test_the_command_writes_either_format(many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "prepare", many, tmp_path / "wide", "--size", "12x8", "--channels", 3, "--crop", "pad")
    assert done.code == 0
    assert "wrote 270 training and 30 held-out images of 2 classes" in done.out
    assert read(str(tmp_path / "wide"), "12x8", 3).shape == (3, 8, 12)
    done = condgan(capsys, "prepare", many, tmp_path / "ILSVRC8.hdf5", "--size", 8, "--format", "hdf5")
    assert done.code == 0, done.err
    packed, file = read(str(many), 8, 1), read(str(tmp_path / "ILSVRC8.hdf5"), 8, 1)
    assert torch.equal(packed.train.images, file.train.images)
    assert torch.equal(packed.held_out.labels.codes, file.held_out.labels.codes)
    assert packed.spec == file.spec
    assert not list(tmp_path.glob(".tmp-*"))


def test_bad_requests_are_refused_before_anything_is_written(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    refused(condgan(capsys, "prepare", many, out, "--size", "big"), "size 'big' given", "WIDTHxHEIGHT")
    refused(condgan(capsys, "prepare", many, out, "--size", 0), "size '0' given")
    refused(condgan(capsys, "prepare", many, out, "--size", 8, "--channels", 2), "--channels 2 given")
    refused(condgan(capsys, "prepare", many, out, "--size", 8, "--format", "zip"), "unknown format 'zip'")
    refused(condgan(capsys, "prepare", many, out, "--size", 8, "--crop", "left"), "left")
    refused(condgan(capsys, "prepare", many, out, "--size", 8, "--background", "blurple"), "blurple")
    refused(condgan(capsys, "prepare", many, many, "--size", 8), "in the data", "nothing is written into")
    refused(condgan(capsys, "prepare", tmp_path / "nothing", out, "--size", 8), "does not exist")
    assert not out.exists()
    next(many.rglob("007.png")).write_text("no")
    done = condgan(capsys, "prepare", many, out, "--size", 8)
    assert done.code == 2
    assert "unreadable     'odd/007.png' of class 'odd' (of no known image format)" in done.err
    assert done.err.strip().splitlines()[-1].startswith("condgan: unreadable image 'odd/007.png'")
    done = condgan(capsys, "prepare", many, out, "--size", 8, "--skip-bad-images")
    assert done.code == 0
    assert "left out       'odd/007.png'" in done.out


def test_damaged_packs_are_refused(many: Path, tmp_path: Path) -> None:
    prepare(list_source(str(many)), SMALL, tmp_path / "out", False)
    names = (tmp_path / "out" / "names.json").read_text()
    (tmp_path / "out" / "names.json").write_text(names[:100])
    with pytest.raises(UserError, match="prepared data .* is damaged"):
        open_packed(tmp_path / "out")
    (tmp_path / "out" / "names.json").write_text(names)
    with open(tmp_path / "out" / "train.npy", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match="prepared data .* is damaged"):
        open_packed(tmp_path / "out")


def content(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_crops_keep_what_they_say() -> None:
    row = np.repeat(np.arange(100, dtype=np.uint8)[None], 20, 0)
    wide, tall = content(Image.fromarray(row)), content(Image.fromarray(row.T.copy()))
    center = pixels(wide, replace(SMALL, height=20, width=20))
    assert (center[0, 0] == np.arange(40, 60)).all()
    assert np.array_equal(pixels(tall, replace(SMALL, height=20, width=20))[0], center[0].T)
    padded = pixels(wide, replace(SMALL, height=100, width=100, crop="pad", background=(255, 0, 0)))
    red = np.asarray(Image.new("RGB", (1, 1), (255, 0, 0)).convert("L"))[0, 0]
    assert (padded[0, :40] == red).all()
    assert (padded[0, 40:60] == row).all()
    starts = set()
    for shade in range(60):
        marked = row.copy()
        marked[0, 0] = shade
        found = pixels(content(Image.fromarray(marked)), replace(SMALL, height=20, width=20, crop="random"))
        assert (np.diff(found[0, 1].astype(int)) == 1).all(), "a part of it, whole"
        starts.add(int(found[0, 1, 0]))
    assert len(starts) > 20
    assert min(starts) < 10
    assert max(starts) > 70, "as far as the end"
    again = pixels(wide, replace(SMALL, height=20, width=20, crop="random"))
    assert np.array_equal(again, pixels(wide, replace(SMALL, height=20, width=20, crop="random")))


def test_sixteen_bits_are_rounded() -> None:
    import struct
    import zlib

    def png(values: np.ndarray, color: int) -> bytes:
        height, width = values.shape[:2]
        raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        chunks = {
            b"IHDR": struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0),
            b"IDAT": zlib.compress(raw),
            b"IEND": b"",
        }
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks.items()
        )

    deep = np.random.default_rng(0).integers(0, 65536, (16, 16, 3))
    assert np.array_equal(pixels(png(deep, 2), Preprocessing(16, 16, 3)), np.round(deep / 257).transpose(2, 0, 1))
    clear = np.random.default_rng(1).integers(0, 65536, (16, 16, 4))
    with opened(png(clear, 6)) as image:
        assert np.array_equal(np.asarray(image), np.round(clear / 257))
    with opened(png(clear[..., :2], 4)) as image:
        assert np.array_equal(np.asarray(image), np.round(clear[..., :2] / 257))
    gray = deep[..., 0]
    assert np.array_equal(pixels(png(gray, 0), Preprocessing(16, 16, 1))[0], np.round(gray / 257))


def test_large_photos_are_nearly_what_decoding_them_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((1600, 1200))
    photo = content(smooth, "JPEG")
    fast = pixels(photo, Preprocessing(64, 64, 3)).astype(int)
    monkeypatch.setattr("condgan.data.preprocessing.REDUCING_GAP", 1000)
    whole = pixels(photo, Preprocessing(64, 64, 3)).astype(int)
    assert np.abs(fast - whole).max() <= 3
    assert np.abs(fast - whole).mean() < 0.5


def test_other_modes_by_the_stated_rule() -> None:
    preprocessing = Preprocessing(4, 4, 3)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert pixels(content(palette), preprocessing)[:, 0, 0].tolist() == [10, 20, 30]
    cmyk = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    assert pixels(content(cmyk, "TIFF"), preprocessing)[:, 0, 0].tolist() == list(cmyk.convert("RGB").getpixel((0, 0)))
    with pytest.raises(ValueError, match="real numbers"):
        pixels(content(Image.new("F", (4, 4), 0.5), "TIFF"), preprocessing)


def test_few_images_do_not_fill_the_cache(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    read(str(photos), 16, 3)
    assert not (tmp_path / "cache").exists()
    assert decoded(grays(65, 50), SMALL, False).train.shape == (50, 1, 8, 8)
    assert len(list((tmp_path / "cache" / "prepared").iterdir())) == 1


def test_two_that_prepare_the_same_wait_for_each_other(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "cores", lambda: 0)
    fill, inside = preparing._fill, []

    def watched(*given: object) -> None:
        inside.append(len(list(tmp_path.glob(".tmp-out/*"))))
        fill(*given)

    monkeypatch.setattr(preparing, "_fill", watched)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(prepare, list_source(str(many)), SMALL, tmp_path / "out", False) for _ in range(2)]
        assert len({job.result().digest for job in jobs}) == 1
    assert inside == [0, 0], "each has the directory to itself"
    assert not list(tmp_path.glob(".tmp-*"))
