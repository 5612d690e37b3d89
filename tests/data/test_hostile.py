"""Damaged and hostile files are refused in one line, in little memory, and nothing of other files is read."""

import contextlib
import io
import json
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pytest
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from condgan.data.listing import Listing
from condgan.data.open import list_source, read
from condgan.data.prepare import _read_journal, prepare
from condgan.data.preprocessing import Preprocessing, opened, pixels
from condgan.data.readers.tree import Zip
from condgan.utils import limits
from condgan.utils.errors import UserError
from condgan.utils.limits import TooLarge

IMAGES = np.random.default_rng(0).integers(0, 255, (12, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 2


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **how)
    return buffer.getvalue()


def all_read(path: Path) -> Listing:
    """A listing of which every picture was looked at; none that is bad ends it."""
    listing = list_source(str(path))
    for number in listing.numbers[:20].tolist():
        with contextlib.suppress(Exception):  # as `prepare` does
            pixels(listing.pictures.read(number), Preprocessing(8, 8, 3))
    return listing


def one_line(path: Path, *parts: str) -> None:
    """That a source is refused in one line that says all the parts."""
    with pytest.raises(UserError) as refused:
        read(str(path), 8, 3)
    assert "\n" not in str(refused.value)
    for part in parts:
        assert part in str(refused.value)


def fuzzed(make: Callable[[Path], object], path: Path, times: int = 40, source: Path | None = None) -> None:
    """That a file, or what it is in, is read or refused, whichever of its bytes are changed or missing."""
    make(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for time in range(times):
        damaged = bytearray(content)
        for place in rng.integers(0, len(damaged), rng.integers(1, 9)):
            damaged[place] = rng.choice((0, 1, 127, 128, 255, damaged[place] ^ 1 << int(rng.integers(8))))
        path.write_bytes(damaged[: int(rng.integers(len(damaged)))] if time % 4 == 3 else damaged)
        with warnings.catch_warnings(), contextlib.suppress(UserError):
            warnings.simplefilter("ignore")
            all_read(source or path)


def png(width: int, height: int, depth: int, kind: int) -> bytes:
    """A PNG of nothing but zeros, packed well."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    packer = zlib.compressobj(9)
    rows = b"".join([packer.compress(bytes(1 + width * channels * depth // 8)) for _ in range(height)])

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# pictures


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG", "JPEG2000"])
def test_a_picture_of_too_many_pixels_is_not_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = encoded(Image.new("RGB", (60, 50)), kind)
    assert opened(picture).size == (60, 50)
    monkeypatch.setattr("condgan.data.preprocessing.DECODED", 5 * 60 * 50 - 1)
    with pytest.raises(TooLarge, match=r"decoding 60 × 50 pixels takes .* bytes, more than 14,999"):
        opened(picture)


def test_pictures_of_phones_are_within_the_limit() -> None:
    assert opened(encoded(Image.new("L", (12_000, 9_000)), "JPEG")).size == (12_000, 9_000)
    assert opened(encoded(Image.new("1", (9_248, 6_936)), "PNG", compress_level=1)).size == (9_248, 6_936)


def test_a_png_bomb_of_16_bits_is_not_decoded() -> None:
    picture = bytearray(png(8, 8, 16, 6))
    picture[16:24] = struct.pack(">II", 13_300, 13_300)
    picture[29:33] = struct.pack(">I", zlib.crc32(picture[12:29]))
    with pytest.raises(TooLarge, match="decoding 13,300 × 13,300 pixels takes"):
        opened(bytes(picture))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pixels_are_the_same_by_strips(mode: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    colors = Image.fromarray(noise)
    image = Image.fromarray(noise[..., 0] * np.uint16(257)) if mode == "I;16" else colors.convert("RGB").convert(mode)
    image = colors.convert(mode) if mode in ("LA", "RGBA") else image
    whole = pixels(image, Preprocessing(16, 16, channels))
    monkeypatch.setattr("condgan.data.preprocessing.STRIP", 70)
    assert np.array_equal(pixels(image, Preprocessing(16, 16, channels)), whole)


@pytest.mark.parametrize("kind", [2, 4, 6])
def test_deep_pixels_are_the_same_by_strips(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = {2: 3, 4: 2, 6: 4}[kind]
    deep = np.random.default_rng(0).integers(0, 65_536, (9, 7, channels)).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in deep))
    picture = bytearray(png(7, 9, 16, kind))
    place = picture.index(b"IDAT")
    picture[place - 4 : -12] = (
        struct.pack(">I", len(rows)) + b"IDAT" + rows + struct.pack(">I", zlib.crc32(b"IDAT" + rows))
    )
    monkeypatch.setattr("condgan.data.preprocessing.STRIP", 10)
    assert np.array_equal(np.asarray(opened(bytes(picture))), (deep.astype(int) + 128) // 257)


def test_an_icon_is_no_larger_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    icon = encoded(Image.new("RGBA", (64, 64)), "ICO", sizes=[(16, 16)])
    start = icon.index(b"\x89PNG")
    inner = encoded(Image.new("RGBA", (60, 50)))
    icon = icon[:14] + struct.pack("<I", len(inner)) + icon[18:start] + inner
    monkeypatch.setattr("condgan.data.preprocessing.DECODED", 8 * 60 * 50 - 1)
    with pytest.raises(TooLarge, match="decoding 60 × 50 pixels"):
        pixels(icon, Preprocessing(8, 8, 3))


def test_texts_within_a_picture_are_short(tmp_path: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("about", "x" * (80 << 20), zip=True)
    with pytest.raises(ValueError, match="too large"):
        opened(encoded(Image.new("L", (8, 8)), pnginfo=about)).load()


def test_a_program_is_not_run_as_a_picture() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n%%EOF\n"
    with pytest.raises(UnidentifiedImageError):
        opened(eps)


# folders, zips and tars


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    one_line(Path("/dev/zero"), "a pipe, socket or device")
    for number in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{number}.png").write_bytes(encoded(IMAGES[number].transpose(1, 2, 0)))
    (tmp_path / "data" / "zero.png").symlink_to("/dev/zero")
    assert "1 file left out, such as 'zero.png': pipes, sockets or devices" in all_read(tmp_path / "data").notes
    os.mkfifo(tmp_path / "x.tar")
    one_line(tmp_path / "x.tar", "a pipe, socket or device")
    os.mkfifo(tmp_path / "data" / "zzz.png")
    assert "2 files left out, such as 'zero.png': pipes, sockets or devices" in all_read(tmp_path / "data").notes


def zipped(path: Path, packed: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for number, image in enumerate(IMAGES):
            archive.writestr(f"{number % 2}/{number}.png", encoded(image.transpose(1, 2, 0)))


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_any_packing_are_read_within_the_limit(packed: int, tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip", packed)
    assert len(read(str(tmp_path / "x.zip"), 8, 3).train) == 10
    with zipfile.ZipFile(tmp_path / "y.zip", "w", packed) as archive:
        archive.writestr("lie.png", bytes(200_000))
    content = bytearray((tmp_path / "y.zip").read_bytes())
    for place in (22, content.rindex(b"lie.png") - 46 + 24):
        content[place : place + 4] = struct.pack("<I", 1000)
    (tmp_path / "y.zip").write_bytes(content)
    with pytest.raises(TooLarge, match="more than 100,000" if packed else "has 200,0"):
        Zip(tmp_path / "y.zip").read("lie.png", 100_000)


def test_a_zip_of_overlapping_members_is_refused(tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr("1/last.png", b"")
        archive.getinfo("1/last.png").header_offset = archive.getinfo("0/0.png").header_offset
    one_line(tmp_path / "x.zip", "is damaged; zip the folder anew", "overlaps another member")


def test_an_encrypted_or_wrong_member_is_an_unreadable_image(tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip", zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[content.index(b"0/0.png") + 20] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    one_line(tmp_path / "x.zip", "0/0.png", "its checksum is wrong")
    zipped(tmp_path / "y.zip", zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "y.zip").read_bytes())
    content[6] |= 1
    content[content.rindex(b"0/0.png") - 46 + 8] |= 1
    (tmp_path / "y.zip").write_bytes(content)
    one_line(tmp_path / "y.zip", "password")


def test_a_text_of_one_image_is_short(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("0.png", encoded(IMAGES[0].transpose(1, 2, 0))), ("0.cls", b"0" * 1_100_000)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    one_line(tmp_path / "x.tar", "'0.cls'", "1,100,000 bytes, more than 1,048,576")


def tarred(path: Path, kind: int = tarfile.PAX_FORMAT, **of_last: object) -> None:
    with tarfile.open(path, "w", format=kind) as archive:
        for number, image in enumerate(IMAGES):
            content = encoded(image.transpose(1, 2, 0))
            member = tarfile.TarInfo(f"{number % 2}/{'long name ' * 15 * (number == 3)}{number}.png")
            member.size = len(content)
            for name, value in of_last.items() if number == len(IMAGES) - 1 else ():
                setattr(member, name, value)
            archive.addfile(member, io.BytesIO(content))


def changed_size(path: Path, field: bytes) -> None:
    """Write a size into the last member's head, and its checksum."""
    content = bytearray(path.read_bytes())
    start = content.rindex(b"1/11.png")
    content[start + 124 : start + 136] = field
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    path.write_bytes(content)


def test_tars_of_odd_sizes_are_refused(tmp_path: Path) -> None:
    for field in (b"\xff" * 10 + b"\xfc\x00", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80" + b"\0" * 6 + b"\xff" * 5):
        tarred(tmp_path / "x.tar")
        changed_size(tmp_path / "x.tar", field)
        one_line(tmp_path / "x.tar", "is damaged")
    for size in ("-512", "1e9", "", "9" * 400):
        tarred(tmp_path / "x.tar", pax_headers={"size": size})
        one_line(tmp_path / "x.tar", "is damaged")
    tarred(tmp_path / "x.tar", pax_headers={"comment": "x" * 1_100_000})
    one_line(tmp_path / "x.tar", "a head has 1,10", "more than 1,048,576")
    tarred(tmp_path / "x.tar", pax_headers={"GNU.sparse.map": "0,5", "GNU.sparse.size": "9"})
    one_line(tmp_path / "x.tar", "has holes")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_fuzzed_archives_are_read_or_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    fuzzed(make, tmp_path / ("x.zip" if make is zipped else "x.tar"))


# HDF5


def hdf5(path: Path, **parts: object) -> h5py.File:
    """A file of images and labels, still open."""
    file = h5py.File(path, "w")
    for name, value in ({"imgs": IMAGES, "labels": LABELS} | parts).items():
        if value is not None:
            file[name] = value
    return file


@pytest.mark.parametrize("name", ["imgs", "labels", "classes", "attributes", "groups", "train"])
def test_nothing_of_another_file_is_read(name: str, tmp_path: Path) -> None:
    with hdf5(tmp_path / "secret.hdf5", classes=["a", "b"], attributes=["a", "b"], groups=[0, 1], train=9):
        pass
    (tmp_path / "secret").write_bytes(bytes(9_999))
    labels = np.eye(12, 2, dtype=int) if name in ("attributes", "groups") else LABELS
    kept = {one: value for one, value in {"imgs": IMAGES, "labels": labels}.items() if one != name}

    def refuse(link: object, said: str, at: str = "") -> None:
        with h5py.File(tmp_path / "x.hdf5", "w") as file:
            for one, value in kept.items():
                file[one] = value
            if at:
                file[at] = h5py.ExternalLink("secret.hdf5", "/")
            if callable(link):
                link(file)
            else:
                file[name] = link
        with pytest.raises(UserError, match=said) as refused:
            list_source(str(tmp_path / "x.hdf5"))
        assert "\n" not in str(refused.value)

    def external(file: h5py.File) -> None:
        with h5py.File(tmp_path / "secret.hdf5") as secret:
            like = secret[name]
            kind = "S4" if like.dtype.kind == "O" else like.dtype
            file.create_dataset(name, like.shape, kind, external=[(str(tmp_path / "secret"), 0, 9_999)])

    def virtual(file: h5py.File) -> None:
        with h5py.File(tmp_path / "secret.hdf5") as secret:
            layout = h5py.VirtualLayout(secret[name].shape, secret[name].dtype)
            layout[...] = h5py.VirtualSource(secret[name])
        file.create_virtual_dataset(name, layout)

    refuse(h5py.SoftLink(f"/q/{name}"), f"{name} is a link", at="q")
    refuse(h5py.ExternalLink("secret.hdf5", f"/{name}"), f"{name} is a link")
    refuse(external, f"{name} are in another file") if name != "train" else None
    refuse(virtual, f"{name} are in another file")


def test_an_attribute_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    for value in ("reference", "region", "references"):
        with hdf5(tmp_path / "x.hdf5") as file:
            here = file["imgs"]
            if value == "references":
                file.attrs.create("classes", [here.ref] * 2, dtype=h5py.ref_dtype)
            else:
                file.attrs["classes"] = here.ref if value == "reference" else here.regionref[:2]
        one_line(tmp_path / "x.hdf5", "classes of object given, expected text or numbers")


def test_hdf5_of_odd_kinds_is_one_line(tmp_path: Path) -> None:
    odd = {
        "opaque": np.zeros(12, "V3"),
        "compound": np.zeros(12, [("a", "i4")]),
        "references": None,
        "empty": h5py.Empty("i4"),
        "complex": np.zeros(12, complex),
    }
    for kind, value in odd.items():
        for name in ("imgs", "labels", "classes"):
            with hdf5(tmp_path / "x.hdf5", **{name: None}) as file:
                if kind == "references":
                    file.create_dataset(name, (12,), h5py.ref_dtype)
                else:
                    file[name] = value
            if not (kind == "empty" and name == "classes"):
                one_line(tmp_path / "x.hdf5")
    for shape in ((12, 3, 65_535, 65_535), (12, 3, 0, 8), (0, 3, 8, 8), (12, 2, 8, 8), (1 << 40, 1, 1, 1)):
        with hdf5(tmp_path / "x.hdf5", imgs=None) as file:
            file.create_dataset("imgs", shape, np.uint8, chunks=None if 0 in shape else (1, 1, 1, 1))
        one_line(tmp_path / "x.hdf5", "imgs" if shape[0] else "no images")


def test_hdf5_that_takes_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hdf5(tmp_path / "unwritten.hdf5", imgs=None, labels=None) as file:
        file.create_dataset("imgs", (9_000, 3, 256, 256), np.uint8, chunks=(1, 3, 256, 256))
        file["labels"] = np.arange(9_000) % 2
    one_line(tmp_path / "unwritten.hdf5", "imgs are 1,769,472,000 bytes, of which 0 were written")
    with hdf5(tmp_path / "chunk.hdf5", imgs=None) as file:
        file.create_dataset("imgs", (12, 3, 4_096, 4_096), np.uint8, chunks=(12, 3, 4_096, 4_096), compression="gzip")
        file["imgs"].id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(1_000_000)))
    one_line(tmp_path / "chunk.hdf5", "a chunk of imgs has 603,979,776 bytes")
    with hdf5(tmp_path / "filter.hdf5", imgs=None) as file:
        file.create_dataset("imgs", data=IMAGES, chunks=IMAGES.shape, scaleoffset=0)
    one_line(tmp_path / "filter.hdf5", "write them with gzip")
    monkeypatch.setattr("condgan.data.readers.hdf5.UNPACKED", 100_000)
    for name, packing, bomb in (
        ("gzip", "gzip", zlib.compress(bytes(200_000))),
        ("lzf", "lzf", b"\0\0" + b"\xe0\xff\0" * 1_000),
    ):
        with hdf5(tmp_path / f"{name}.hdf5", imgs=None) as file:
            data = file.create_dataset("imgs", IMAGES.shape, np.uint8, chunks=IMAGES.shape, compression=packing)
            data.id.write_direct_chunk((0, 0, 0, 0), bomb)
        with pytest.raises(TooLarge, match="a chunk unpacks to more than 100,000 bytes"):
            list_source(str(tmp_path / f"{name}.hdf5")).pictures.read(0)
        one_line(tmp_path / f"{name}.hdf5", "12 unreadable images", "a chunk unpacks to more than 100,000 bytes")
        with hdf5(tmp_path / f"{name}.hdf5", labels=None) as file:
            data = file.create_dataset("labels", (12,), np.int64, chunks=(12,), compression=packing)
            data.id.write_direct_chunk((0,), bomb)
        one_line(tmp_path / f"{name}.hdf5", "a chunk unpacks to more than 100,000 bytes")


def test_honest_chunks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.data.readers.hdf5.RATIO", 10**9)  # all chunks are looked into
    for packing in ("gzip", "lzf"):
        with hdf5(tmp_path / f"{packing}.hdf5", imgs=None, labels=None) as file:
            file.create_dataset(
                "imgs", data=IMAGES, chunks=(5, 3, 8, 8), compression=packing, shuffle=True, fletcher32=True
            )
            file.create_dataset("labels", data=LABELS, chunks=(5,), compression=packing, shuffle=True)
        listing = list_source(str(tmp_path / f"{packing}.hdf5"))
        found = [listing.pictures.read(number) for number in range(12)]
        assert np.array_equal(np.stack(found), IMAGES.transpose(0, 2, 3, 1))


def test_names_of_classes_are_short(tmp_path: Path) -> None:
    for value in (["a" * 600_000, "b" * 600_000], np.zeros(2, "S600000")):
        with hdf5(tmp_path / "x.hdf5", classes=value):
            pass
        one_line(tmp_path / "x.hdf5", "classes has 1,200,000 bytes, more than 1,048,576")


def test_a_damaged_heap_of_texts_is_not_walked_for_ever(tmp_path: Path) -> None:
    with hdf5(tmp_path / "x.hdf5", classes=["a", "b"]):
        pass
    content = bytearray((tmp_path / "x.hdf5").read_bytes())
    free = content.index(b"GCOL") + 16 + 2 * 24  # behind the two names
    assert content[free : free + 2] == b"\0\0"
    content[free + 8 : free + 16] = bytes(8)
    (tmp_path / "x.hdf5").write_bytes(content)
    one_line(tmp_path / "x.hdf5", "the heap of classes is damaged")


def test_classes_without_images_are_left_out(tmp_path: Path) -> None:
    with hdf5(tmp_path / "x.hdf5", labels=np.array([0, 1, 3] * 4)):
        pass
    listing = list_source(str(tmp_path / "x.hdf5"))
    assert listing.labels.spec.classes == ("0", "1", "3")
    assert listing.labels.index()[listing.numbers.argsort()].tolist() == [0, 1, 2] * 4
    assert listing.notes == ("1 classes without images are left out",)
    with hdf5(tmp_path / "x.hdf5", classes=["a", "b", "c"]):
        pass
    assert list_source(str(tmp_path / "x.hdf5")).labels.spec.classes == ("a", "b")


def test_fuzzed_hdf5_is_read_or_refused(tmp_path: Path) -> None:
    fuzzed(lambda path: hdf5(path, classes=["a", "b"]).close(), tmp_path / "x.hdf5")


# LMDB


def database(path: Path, count: int = 40, **how: object) -> Path:
    """An LMDB of images, short and long ones, and its file."""
    path.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    with lmdb.open(str(path), map_size=1 << 22, **how) as opened, opened.begin(write=True) as transaction:
        for number in range(count):
            size = 60 if number % 4 == 0 else 5
            picture = encoded(rng.integers(0, 255, (size, size, 3), dtype=np.uint8))
            transaction.put(f"{number:03}".encode() + b"x" * (9 * number), picture)
    return path / "data.mdb"


def test_an_lmdb_is_read_as_the_library_does(tmp_path: Path) -> None:
    database(tmp_path / "db", 50)
    with lmdb.open(str(tmp_path / "db")) as opened, opened.begin(write=True) as transaction:
        transaction.delete(b"000")
        transaction.put(b"001xxxxxxxxx", b"changed")
    listing = list_source(str(tmp_path / "db"))
    with lmdb.open(str(tmp_path / "db"), readonly=True) as opened, opened.begin() as transaction:
        wanted = {key.decode(): value for key, value in transaction.cursor()}
    found = {
        name: listing.pictures.read(number)
        for name, number in zip(listing.names, listing.numbers.tolist(), strict=True)
    }
    assert found == wanted


def test_a_damaged_lmdb_is_one_line_and_ends_no_process(tmp_path: Path) -> None:
    file = database(tmp_path / "db")
    content = file.read_bytes()
    for size in (0, 10, 4_096, 5_000, 8_192, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        one_line(tmp_path / "db", "it is not a whole LMDB")
    for damaged in (
        np.random.default_rng(0).bytes(20_000),
        content[:40] + struct.pack("<I", 3) + content[44:],
        content[:8_192] + bytes(len(content) - 8_192),
    ):
        file.write_bytes(damaged)
        one_line(tmp_path / "db", "it is not a whole LMDB")
    os.remove(file)
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 22, max_dbs=2) as opened:
        opened.open_db(b"inner")
    one_line(tmp_path / "db", "it holds databases")


def test_a_long_value_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database(tmp_path / "db")
    monkeypatch.setattr("condgan.data.readers.lmdb.ENCODED", 9_000)
    one_line(tmp_path / "db", "10 unreadable images", "more than 9,000")


def test_a_fuzzed_lmdb_is_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "db" / "data.mdb"

    def make(_: Path) -> None:
        database(tmp_path / "db")

    fuzzed(make, file, source=tmp_path / "db")


# npz


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(path: Path, packed: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def head(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def test_npz_members_that_are_no_arrays_are_one_line(tmp_path: Path) -> None:
    x, y = npy(IMAGES), npy(LABELS)
    shape = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }\n"
    for bad in (
        {"x": b"hello"},
        {"x__npy": b"hello"},
        {"x__npy": b""},
        {"x__npy": head("{'descr':\n")[:20]},
        {"x__npy": head(shape % "(-12, 3, 8, 8)") + bytes(99)},
        {"x__npy": head(shape % "(12, 3, 65535, 65535)") + bytes(99)},
        {"x__npy": head(shape % "(99999999999999999999, 3, 8, 8)") + bytes(99)},
        {"x__npy": head(shape % "(12, 3, 8, 8)" + " " * 60_000)},
        {"x__npy": head(shape.replace("|u1", "|O") % "(12,)") + bytes(99)},
        {"x__npy": head(shape.replace("'|u1'", "[('a', '<i4')]") % "(12,)") + bytes(99)},
        {"x__npy": head("{'" + "[" * 9_000)},
        {"x__npy": npy(np.array(3, np.uint8))},
        {"x__npy": npy(IMAGES[:, :0])},
        {"x__npy": npy(IMAGES[0, 0])},
        {"x__npy": npy(np.array(["a", None], object))},
        {"x__npy": x, "y": b"x"},
        {"x__npy": x, "y__npy": b"x"},
        {"x__npy": x, "y__npy": npy(LABELS[:3])},
        {"x__npy": x, "y__npy": npy(LABELS * 1.0)},
        {"x__npy": x, "y__npy": y, "classes__npy": npy(np.array("a"))},
        {"x__npy": x, "y__npy": y, "classes__npy": npy(np.array(["a"]))},
        {"x__npy": x, "y__npy": y, "classes__npy": npy(np.array([[1.0], [2.0]]))},
        {"x__npy": x, "y__npy": y, "classes__npy": npy(np.array(["a" * 600_000, "b" * 600_000]))},
    ):
        one_line(npz(tmp_path / "x.npz", **bad), "x.npz")
        one_line(npz(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, **bad), "x.npz")


def test_large_arrays_are_read_row_by_row_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.data.readers.npz.TABLE", 100)
    for images in (IMAGES, IMAGES.transpose(0, 2, 3, 1), IMAGES[:, :1], IMAGES[:, 0]):
        np.savez(tmp_path / "x.npz", x=images)
        listing = list_source(str(tmp_path / "x.npz"))
        assert type(listing.pictures.rows).__name__ == "StoredRows"
        found = np.stack([listing.pictures.read(number) for number in range(12)])
        assert np.array_equal(found.reshape(12, 8, 8, -1), IMAGES.transpose(0, 2, 3, 1)[..., : found[0].size // 64])
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[500] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    one_line(tmp_path / "x.npz", "array x", "its checksum is wrong")
    monkeypatch.setattr("condgan.data.readers.npz.ARRAY", 2_000)
    np.savez_compressed(tmp_path / "y.npz", x=IMAGES)
    one_line(tmp_path / "y.npz", "array x", "more than 2,000")


def test_fuzzed_npz_is_read_or_refused(tmp_path: Path) -> None:
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        members = {"x__npy": npy(IMAGES), "y__npy": npy(LABELS), "classes__npy": npy(np.array(["a", "b"]))}
        fuzzed(lambda path, packed=packed, members=members: npz(path, packed, **members), tmp_path / "x.npz")
        rng, right = np.random.default_rng(0), members["x__npy"]
        for _ in range(40):  # heads, under right checksums
            wrong = bytearray(right)
            for place in rng.integers(6, 120, 3):
                wrong[place] = rng.choice((0, 40, 48, 57, 91, 255))
            with contextlib.suppress(UserError):
                all_read(npz(tmp_path / "x.npz", packed, **members | {"x__npy": bytes(wrong)}))


# prepared data


def prepared(path: Path) -> Path:
    """What `condgan prepare` writes."""
    np.savez("x.npz", x=IMAGES, y=LABELS, classes=np.array(["a", "b"]))
    prepare(list_source("x.npz"), Preprocessing(8, 8, 3), path, False)
    return path


def test_damaged_prepared_data_are_one_line(tmp_path: Path) -> None:
    path = prepared(tmp_path / "data")
    assert len(read(str(path), 8, 3).train) == 10
    about = json.loads((path / "data.json").read_text())
    for change in (
        {"format": [1]},
        {"labels": 3},
        {"labels": []},
        {"labels": [about["labels"][0] | {"values": ["a", 3]}]},
        {"labels": [about["labels"][0] | {"values": ["a"]}]},
        {"preprocessing": {"height": "x"}},
        {"preprocessing": about["preprocessing"] | {"crop": 3}},
        {"preprocessing": about["preprocessing"] | {"height": 9}},
        {"train": "many"},
        {"train": 1 << 70},
        {"left_out": 5},
        {"notes": [5]},
        {"sha256": 5},
    ):
        (path / "data.json").write_text(json.dumps(about | change))
        one_line(path, "data")
    for text in ("", "[1]", "[" * 100_000, '{"format": 2}'):
        (path / "data.json").write_text(text)
        one_line(path, "is damaged")
    (path / "data.json").write_text(json.dumps(about))
    for name, wrong in (
        ("names.json", b"[1, 2]"),
        ("names.json", b"{}"),
        ("names.json", b"\xff"),
        ("labels.npy", npy(np.zeros((12, 2), np.int32))),
        ("labels.npy", npy(np.full((12, 1), 7, np.int32))),
        ("labels.npy", npy(np.zeros((12, 1)))),
        ("labels.npy", npy(np.array([{}], object))),
        ("train.npy", npy(np.zeros((10, 3, 8, 8), np.int8))),
        ("train.npy", npy(np.zeros((10, 3, 8, 9), np.uint8))),
        ("train.npy", b"hello"),
        ("train.npy", head("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 3, 8, 8), }\n")),
        ("held-out.npy", b""),
    ):
        right = (path / name).read_bytes()
        (path / name).write_bytes(wrong)
        one_line(path, "is damaged")
        (path / name).write_bytes(right)
    assert len(read(str(path), 8, 3).train) == 10


def test_fuzzed_prepared_data_are_read_or_refused(tmp_path: Path) -> None:
    for name in ("data.json", "labels.npy", "names.json"):
        path = prepared(tmp_path / name / "data")
        fuzzed(lambda _: None, path / name, source=path)


def test_a_damaged_journal_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('5\n[1, 2]\n["a", "", []]\n[99, "", []]\n[0, "m", [3]]\n[0, "m", [[1, "x"]]]\n')
    assert _read_journal(tmp_path / "journal", ["m"]) == {0: [(1, "x")]}


def test_damaged_images_of_hdf5_are_named_in_workers_too(tmp_path: Path) -> None:
    images = IMAGES.repeat(20, 0)
    with hdf5(tmp_path / "x.hdf5", imgs=None, labels=np.arange(240) % 2) as file:
        data = file.create_dataset("imgs", data=images, chunks=(1, 3, 8, 8), compression="gzip")
        data.id.write_direct_chunk((7, 0, 0, 0), b"no zlib")
    one_line(tmp_path / "x.hdf5", "unreadable image", "0000007.png")
    found = read(str(tmp_path / "x.hdf5"), 8, 3, skip_bad_images=True)
    assert len(found.skipped) == 1


def test_a_path_that_no_file_has_is_missing_at_once(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encoded(IMAGES[0, 0]))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a/" * 1_000_000 + "0.png", "label": "x"}))
    one_line(tmp_path, "line 1", "is missing")


@pytest.mark.parametrize("name", ["a/" * 101 + "0.png", "a" * 5_000 + ".png"])
def test_archives_of_long_paths_are_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, encoded(IMAGES[0, 0]))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    for path in (tmp_path / "a.zip", tmp_path / "a.tar"):
        one_line(path, "is longer than 4,096 characters or 100 folders")


@pytest.mark.parametrize(
    ("file", "line"), [("labels.csv", "0.png,1\n"), ("metadata.jsonl", "{}\n"), ("dataset.json", "[],[],")]
)
def test_a_list_of_too_many_values_is_refused_before_it_is_read(
    file: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PARSED", 100_000)
    (tmp_path / "0.png").write_bytes(encoded(IMAGES[0, 0]))
    (tmp_path / file).write_text(line * 2_000)
    one_line(tmp_path, f"'{file}'", "is too long", "more than 100,000")


@pytest.mark.parametrize("name", ["loop", "a/loop", "a/loop.png"])
def test_a_link_to_itself_is_a_broken_one(name: str, tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        for i in range(3):
            (tmp_path / folder / f"{i}.png").write_bytes(encoded(IMAGES[i, 0]))
    (tmp_path / name).symlink_to(Path(name).name)
    assert len(list_source(str(tmp_path))) == 6 + name.endswith(".png")


def test_arrays_that_are_not_read_are_told(tmp_path: Path) -> None:
    pixels = IMAGES.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "a.npz", x=pixels, labels=LABELS)
    assert "the arrays labels are not read" in " ".join(list_source(str(tmp_path / "a.npz")).notes)
    np.savez(tmp_path / "b.npz", x=pixels, y=LABELS, classes=["a", "b"])
    assert list_source(str(tmp_path / "b.npz")).notes == ()


def test_columns_of_one_class_each_without_images_are_left_out(tmp_path: Path) -> None:
    with hdf5(tmp_path / "a.h5", labels=np.eye(4, dtype=np.uint8)[3 * LABELS]):
        pass
    listing = list_source(str(tmp_path / "a.h5"))
    assert listing.labels.spec.classes == ("0", "3")
    assert listing.notes == ("2 classes without images are left out",)
