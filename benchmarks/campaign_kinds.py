"""The kinds of input that the campaign makes: each case from a generator of random numbers alone."""

import hashlib
import io
import json
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import h5py
import lmdb
import numpy as np
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as save_tensors

from condgan import recipes
from condgan.recipes.load import as_tree, load

Rng = np.random.Generator
Made = TypeVar("Made")

SECRET = b"SECRET-OF-ANOTHER-FILE"
"""Stands in files that no command is given."""
TINY = (
    "generator.width=8", "backbone.width=8", "compute.compile=false", "compute.precision=float32", "schedule.batch=16",
    "schedule.decay=0", "schedule.log=32", "schedule.save=64", "schedule.sample=64",
)  # fmt: skip
"""Options that make a run of digits-acgan take a second."""


@dataclass(frozen=True)
class Command:
    """What condgan is given, and what it may do."""

    arguments: Sequence[str]
    file_size: int | None = None
    """Bytes beyond which no file can grow: as if the disk were full."""
    must: bool = False
    """Whether it must succeed."""
    codes: Sequence[int] = ()
    """Exit codes beside 0 and 2 that it may give."""
    may_change: bool = False
    """Whether it may change files that are there and fail."""


@dataclass(frozen=True)
class Case:
    """Commands about some inputs."""

    commands: Sequence[Command]
    what: str
    """What was done to the inputs."""
    tried: int = 1


@dataclass(frozen=True)
class Kind:
    """How cases are made: of random numbers, in a folder, from what `prepare` made elsewhere."""

    make: Callable[[Rng, Path, Path], Case]
    prepare: Sequence[Command] = ()


def one_of(rng: Rng, options: Sequence[Made]) -> Made:
    return options[int(rng.integers(len(options)))]


def drawn(rng: Rng, strategy: st.SearchStrategy[Made]) -> Made:
    """An example of a strategy of hypothesis."""
    found: list[Made] = []

    @seed(int(rng.integers(1 << 31)))
    @settings(
        max_examples=3, database=None, phases=[Phase.generate], deadline=None, suppress_health_check=tuple(HealthCheck)
    )
    @given(strategy)
    def keep(value: Made) -> None:
        found.append(value)

    keep()
    return found[-1]


# --- bytes ------------------------------------------------------------------------------------------------------------

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(rng: Rng, content: bytes) -> bytes:
    """Some bytes changed, moved, removed or added, most often at the beginning."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        size = len(data)
        near = min(size, 128) if rng.random() < 0.5 else size
        at, length = int(rng.integers(near)), int(rng.integers(1, min(64, size) + 1))
        match int(rng.integers(9)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                number, form = one_of(rng, EXTREMES), one_of(rng, ("<I", ">I", "<H", ">H", "<Q"))
                packed = struct.pack(form, number & ((1 << 8 * struct.calcsize(form)) - 1))
                data[at : at + len(packed)] = packed
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                data[at : at + length] = bytes(length)
            case 7:
                other = int(rng.integers(size))
                data[at : at + length] = data[other : other + length]
            case _:
                data += rng.bytes(length)
    return bytes(data)


def damaged_text(rng: Rng, text: str) -> str:
    """Lines and words removed, repeated, moved or replaced by strange ones."""
    lines = text.split("\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        words = re.split(r"([,:;\s{}\[\]]+)", lines[at])
        match int(rng.integers(5)):
            case 0:
                del lines[at]
                lines = lines or [""]
            case 1:
                lines.insert(at, lines[int(rng.integers(len(lines)))])
            case 2:
                words[int(rng.integers(len(words)))] = one_of(rng, WORDS)
                lines[at] = "".join(words)
            case 3:
                place = int(rng.integers(len(lines[at]) + 1))
                lines[at] = lines[at][:place] + one_of(rng, WORDS) + lines[at][place:]
            case _:
                del words[int(rng.integers(len(words)))]
                lines[at] = "".join(words)
    return "\n".join(lines)


WORDS = (
    "", " ", "\t", "-", "--", "null", "~", "true", "nan", ".nan", ".inf", "-1", "0", "1e308", "1e999", "9" * 5000,
    "0x7fffffff", "!!int abc", "!!python/object/apply:os.system [x]", "!!binary aGk=", "2020-01-01", "&a", "*a",
    "<<: *a", "[" * 300, "{a: " * 300, "'", '"', "\\", "\x1b[31m", "\x00", "\ufeff", "é", "\u202e", "a" * 3000, "..",
    "../../..", "/dev/zero", "/etc/passwd", "%s", "{}", "[]", "1,2", "a,b", "a;b", "train", "test", "0.5", "1_000",
    "١", "𝟙",
)  # fmt: skip


# --- pictures ---------------------------------------------------------------------------------------------------------

FORMATS: Sequence[tuple[str, str, dict[str, Any]]] = (
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("PNG", "P", {"transparency": 0}), ("PNG", "L", {"transparency": 0}), ("PNG", "RGB", {"transparency": (1, 2, 3)}),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")), ("JPEG", "RGB", {"progressive": True}),
    ("GIF", "P", {}), ("GIF", "RGB", {"save_all": True}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
    ("BMP", "RGB", {}), ("BMP", "1", {}), ("TGA", "RGBA", {"compression": "tga_rle"}), ("PPM", "RGB", {}),
    *(("TIFF", mode, {}) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F", "I", "LAB")),
    *(("TIFF", "RGB", {"compression": one}) for one in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    ("TIFF", "1", {"compression": "group4"}), ("ICO", "RGBA", {}), ("JPEG2000", "RGB", {}), ("PCX", "L", {}),
    ("SGI", "RGB", {}), ("IM", "RGB", {}), ("XBM", "1", {}), ("MSP", "1", {}), ("DDS", "RGBA", {}), ("AVIF", "RGB", {}),
    ("EPS", "RGB", {}), ("PDF", "RGB", {}), ("ICNS", "RGBA", {}), ("SPIDER", "F", {}),
)  # fmt: skip
ENDINGS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "SPIDER": "spi"}


@cache
def pictures() -> list[tuple[str, bytes]]:
    """A small picture of each format and mode that this Pillow can write: its ending and content."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    made = []
    for kind, mode, options in FORMATS:
        image = Image.fromarray(noise)
        try:
            image = _of_mode(image, mode)
            if options.get("save_all"):
                options = options | {"append_images": [image.rotate(90), image]}
            exif = Image.Exif()
            exif[0x112] = 6
            buffer = io.BytesIO()
            image.save(buffer, kind, **options, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
        except (OSError, KeyError, ValueError):  # not in this Pillow
            continue
        made.append((ENDINGS.get(kind, kind.lower()), buffer.getvalue()))
    return made


def _of_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", image.size, image.tobytes())
    return image.convert("L").convert(mode) if mode in ("LA", "F", "I") else image.convert(mode)


def damaged_picture(rng: Rng, content: bytes) -> bytes:
    """Damaged; of a PNG, half of the time with checksums that are right, so that its chunks are read."""
    changed = damaged(rng, content)
    if not content.startswith(b"\x89PNG") or rng.random() < 0.5:
        return changed
    out, at = changed[:8], 8
    while at + 12 <= len(changed):
        (length,) = struct.unpack(">I", changed[at : at + 4])
        body = changed[at + 4 : at + 8 + min(length, len(changed))]
        out += changed[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out


def png(width: int, height: int, depth: int, kind: int, rows: int | None = None) -> bytes:
    """A PNG that says a size, and holds so many rows of zeros."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = bytes(1 + (width * channels * depth + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if kind == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bomb(rng: Rng) -> tuple[str, bytes]:
    """A small file of a picture that is large."""
    side = int(one_of(rng, (3_000, 9_000, 13_300, 20_000, 65_535)))
    match int(rng.integers(4)):
        case 0:
            depth, kind = one_of(rng, ((8, 2), (8, 6), (16, 0), (16, 2), (16, 4), (16, 6), (1, 0), (8, 3)))
            return "png", png(side, side, depth, kind, rows=one_of(rng, (None, 1, side // 10)) if side < 9_001 else 1)
        case 1:  # sizes in other formats' heads
            ending, content = one_of(rng, [one for one in pictures() if one[0] in ("gif", "bmp", "ppm", "tga", "tif")])
            small = {"gif": ("<HH", 6), "bmp": ("<II", 18), "tga": ("<HH", 12)}.get(ending)
            if small:
                form, at = small
                large = struct.pack(form, min(side, 65_535), min(side, 65_535))
                content = content[:at] + large + content[at + len(large) :]
            elif ending == "ppm":
                content = content.replace(b"20 16", f"{side} {side}".encode(), 1)
            else:
                content = content.replace(struct.pack("<HHII", 256, 3, 1, 20), struct.pack("<HHII", 256, 4, 1, side))
            return ending, content
        case 2:  # all one color
            image = Image.new(one_of(rng, ("L", "1", "P")), (min(side, 9_000), min(side, 9_000)))
            buffer = io.BytesIO()
            kind = one_of(rng, ("PNG", "GIF", "TIFF"))
            image.save(buffer, kind, **({"compression": "tiff_deflate"} if kind == "TIFF" else {}))
            return kind.lower(), buffer.getvalue()
        case _:  # a text of many megabytes
            content = png(16, 16, 8, 2)
            body = b"iTXt" + b"k\0\1\0\0\0" + zlib.compress(bytes(int(rng.integers(1, 300)) << 20), 9)
            text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            return "png", content[:33] + text + content[33:]


def special(rng: Rng, path: Path) -> str:
    """Something in a folder that is no file; what it is."""
    match int(rng.integers(4)):
        case 0:
            os.mkfifo(path)
            return "a FIFO"
        case 1:
            path.symlink_to(one_of(rng, ("/dev/zero", "/dev/null", "nowhere", ".", "..", path.name)))
            return "a link to nothing that is read"
        case 2:
            path.mkdir()
            return "a folder of that name"
        case _:
            path.touch()
            return "an empty file"


def images(rng: Rng, folder: Path, _: Path) -> Case:
    """Two class folders of pictures, of which some are damaged."""
    data, what = folder / "data", []
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for number in range(3):
            (data / name / f"{number}.png").write_bytes(png(8 + number, 9, 8, 2))
    count = int(rng.integers(1, 9))
    for number in range(count):
        stem = data / one_of(rng, ("a", "b")) / f"x{number}"
        ending, content = one_of(rng, pictures())
        chance = rng.random()
        if chance < 0.06:
            ending, content = bomb(rng)
            what.append(f"bomb.{ending}")
        elif chance < 0.1:
            what.append(special(rng, stem.with_suffix(f".{ending}")))
            continue
        else:
            content = damaged_picture(rng, content)
            what.append(ending)
        if rng.random() < 0.1:
            ending = one_of(rng, ("png", "jpg", "webp", "tif", "gif", "txt", "", "PNG"))
        stem.with_suffix(f".{ending}" if ending else "").write_bytes(content)
    if rng.random() < 0.3:
        commands = [Command(["data", "data", "--out", "sheet.png"])]
    else:
        channels = one_of(rng, ("1", "3", "4"))
        skip = ["--skip-bad-images"] if rng.random() < 0.8 else []
        commands = [Command(["prepare", "data", "out", "--size", "8", "--channels", channels, *skip])]
    return Case(commands, ", ".join(what), count)


# --- archives, tables, npz, LMDB --------------------------------------------------------------------------------------


def _names(rng: Rng) -> str:
    """A name of a file that something is odd about."""
    return one_of(
        rng,
        (
            "a/../../x.png", "/tmp/x.png", "C:\\x.png", "a\\b.png", "./a/x.png", "a//x.png", "a/x.png/", "", ".", "..",
            "a/\x1b[31mx.png", "a/\nx.png", "a/" + "x" * 300 + ".png", "é/x.png", "a/x.PNG", "__MACOSX/a/._x.png",
            "a/x.png:Zone.Identifier", "a/@eaDir/x.png", "train/a/x.png", "test/a/x.png", "a/x",
            "a" + "/a" * 200 + ".png", "labels.csv", "dataset.json", "metadata.jsonl",
             "x.cls", "a/con.png", "a/\udcff.png", "a/x\0y.png",
        ),
    )  # fmt: skip


def _files(rng: Rng) -> dict[str, bytes]:
    """A layout of labeled pictures."""
    few = [png(8, 8 + number, 8, 2) for number in range(8)]
    match int(rng.integers(5)):
        case 0:
            return {f"{'ab'[number % 2]}/{number}.png": one for number, one in enumerate(few)}
        case 1:
            files = {f"{number}.png": one for number, one in enumerate(few)}
            head, rows = one_of(
                rng,
                (("file_name,label", "{0}.png,{1}"), ("path,x,y", "{0}.png,1,{2}"), ("id;split;tag", "{0};train;{1}")),
            )
            table = "\n".join([head, *(rows.format(n, "ab"[n % 2], n % 2) for n in range(8))])
            return files | {one_of(rng, ("labels.csv", "train.csv", "metadata.csv", "x.tsv")): table.encode()}
        case 2:
            files = {f"s{number}.png": one for number, one in enumerate(few)}
            if rng.random() < 0.5:
                return files | {f"s{number}.cls": str(number % 2).encode() for number in range(8)}
            return files | {f"s{number}.json": json.dumps({"label": number % 2}).encode() for number in range(8)}
        case 3:
            files = {f"{number}.png": one for number, one in enumerate(few)}
            labels = [[f"{number}.png", one_of(rng, (number % 2, [1, 0], "a"))] for number in range(8)]
            return files | {"dataset.json": json.dumps({"labels": labels}).encode()}
        case _:
            files = {f"img/{number:06}.jpg": one for number, one in enumerate(few, 1)}
            rows = [f"{number:06}.jpg {1 - 2 * (number % 2)} {2 * (number % 3 > 0) - 1}" for number in range(1, 9)]
            return files | {"list_attr_celeba.txt": "\n".join(["8", "A B", *rows]).encode()}


def archives(rng: Rng, folder: Path, _: Path) -> Case:
    """A folder, zip or tar whose tables, names or bytes are damaged; an npz file; an LMDB."""
    make, name = one_of(rng, ((_zip, "x.zip"), (_tar, "x.tar"), (_tree, "x"), (_npz, "x.npz"), (_lmdb, "x")))
    what = make(rng, folder / name)
    path = folder / name
    if path.is_file() and rng.random() < 0.5:
        path.write_bytes(damaged(rng, path.read_bytes()))
        what += ", damaged"
    verb = ["data", name, "--out", "sheet.png"] if rng.random() < 0.7 else ["prepare", name, "out", "--size", "8"]
    return Case([Command(verb)], what)


def _labeled(rng: Rng) -> tuple[dict[str, bytes], str]:
    """Files of a layout, something of which is odd."""
    files, what = _files(rng), []
    texts = [name for name in files if name.rpartition(".")[2] not in ("png", "jpg")]
    if texts and rng.random() < 0.7:
        name = one_of(rng, texts)
        text = files[name].decode()
        files[name] = damaged_text(rng, text).encode(one_of(rng, ("utf-8", "utf-8", "utf-16")), "replace")
        what.append(f"{name} damaged")
    if rng.random() < 0.3:
        name = _names(rng)
        files[name] = one_of(rng, (png(8, 8, 8, 2), b"", bytes(100), b"label\n1\n"))
        what.append(repr(name)[:60])
    if texts and rng.random() < 0.03:
        files[one_of(rng, texts)] = bytes(200 << 20) if rng.random() < 0.5 else b"9" * 5_000
        what.append("a long text")
    return files, ", ".join(what)


def _tree(rng: Rng, path: Path) -> str:
    files, what = _labeled(rng)
    for name, content in files.items():
        try:
            target = path / name.strip("/")
            if path.resolve() in target.resolve().parents:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        except (OSError, ValueError):  # not a name on this disk
            continue
    if rng.random() < 0.2:
        what += ", " + special(
            rng, path / one_of(rng, ("z.png", "labels.csv", "z")) if not (path / "z.png").exists() else path / "zz"
        )
    return f"folder: {what}"


def _zip(rng: Rng, path: Path) -> str:
    files, what = _labeled(rng)
    kind = one_of(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    lie = rng.random() < 0.15
    if lie:
        files = {"a/lie.png": bytes(int(rng.integers(1, 400)) << 20)} | files
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), content, kind)
            if rng.random() < 0.02:
                archive.writestr(name.encode("utf-8", "replace").decode(), content)
    if lie:
        data, name = bytearray(path.read_bytes()), b"a/lie.png"
        small = struct.pack("<I", 1000)
        first, last = data.find(name) - 30, data.rfind(name) - 46
        data[first + 22 : first + 26] = data[last + 24 : last + 28] = small
        path.write_bytes(data)
    return f"zip {kind}: {what}{', a member that lies' * lie}"


def _tar(rng: Rng, path: Path) -> str:
    files, what = _labeled(rng)
    form = one_of(rng, (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if rng.random() < 0.05:
                member.type = one_of(
                    rng, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE)
                )
                member.linkname = "/etc/passwd"
            try:
                archive.addfile(member, io.BytesIO(content))
            except (ValueError, UnicodeError):
                continue
    return f"tar {form}: {what}"


def _npz(rng: Rng, path: Path) -> str:
    def array(value: Any) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=True)
        return buffer.getvalue()

    count = 12
    shape = one_of(rng, ((count, 3, 8, 8), (count, 8, 8, 3), (count, 8, 8), (count, 8, 8, 2), (0, 3, 8, 8), (count,)))
    kind = one_of(rng, (np.uint8, np.uint8, np.uint8, np.float32, np.int64, bool, "S3", object))
    members = {
        "x": array(np.zeros(shape, kind)),
        "y": array(
            one_of(
                rng,
                (
                    np.arange(count) % 2,
                    np.arange(count) % 2 + 5,
                    -np.ones(count, int),
                    np.zeros(3, int),
                    np.array(1),
                    np.full(count, 1 << 62),
                ),
            )
        ),
        "classes": array(
            one_of(
                rng,
                (
                    np.array(["a", "b"]),
                    np.array("a"),
                    np.array([b"a", b"b"]),
                    np.arange(2),
                    np.array([["a"], ["b"]]),
                    np.array(["a", None], object),
                    np.array(["a", "a"]),
                ),
            )
        ),
        "mu": array(np.zeros(one_of(rng, (64, 3, (2, 2))))),
        "sigma": array(np.full((64, 64), one_of(rng, (0.0, 1.0, np.nan, -1.0)))),
    }
    members = {name: content for name, content in members.items() if rng.random() < 0.7}
    if rng.random() < 0.3 and members:
        name = one_of(rng, list(members))
        members[name] = damaged(rng, members[name])
    if rng.random() < 0.1:
        head = "{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 3, 300, 300), }"
        members["x"] = b"\x93NUMPY\1\0" + struct.pack("<H", len(head) + 1) + head.encode() + b"\n" + bytes(1 << 20)
    with zipfile.ZipFile(path, "w", one_of(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name + (".npy" if rng.random() < 0.95 else ""), content)
    return f"npz: {', '.join(members)}"


def _lmdb(rng: Rng, path: Path) -> str:
    path.mkdir()
    environment = lmdb.open(str(path), map_size=1 << 22, sync=False)
    with environment.begin(write=True) as transaction:
        for number in range(int(rng.integers(0, 12))):
            ending, content = one_of(rng, pictures())
            transaction.put(f"{number}.{ending}".encode(), content)
    environment.close()
    (path / "lock.mdb").unlink()
    file = path / "data.mdb"
    content = file.read_bytes()
    if rng.random() < 0.7:
        content = damaged(rng, content)
    if rng.random() < 0.3:
        content = content[: int(rng.integers(len(content) + 1))]
    file.write_bytes(content)
    return "LMDB"


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def hdf5(rng: Rng, folder: Path, _: Path) -> Case:
    """An HDF5 file whose objects are of odd kinds and shapes, or lie in other files; or whose bytes are damaged."""
    (folder / "secret.txt").write_bytes((SECRET + b"-LINE\n") * 40)
    with h5py.File(folder / "secret.hdf5", "w") as file:
        file["imgs"] = np.zeros((12, 3, 8, 8), np.uint8)
        file["names"] = [SECRET + b"-1", SECRET + b"-2"]
        file["labels"] = np.arange(12) % 2
        file["number"] = 7
    path, what = folder / "x.hdf5", []
    with h5py.File(path, "w") as file:
        for name in ("imgs", "labels", "classes", "attributes", "groups", "train"):
            chance = rng.random()
            if (name in ("imgs", "labels") and chance < 0.75) or (name not in ("imgs", "labels") and chance < 0.25):
                file[name] = {
                    "imgs": np.zeros((12, 3, 8, 8), np.uint8),
                    "labels": np.arange(12) % 2,
                    "classes": ["a", "b"],
                    "attributes": ["a", "b"],
                    "groups": [0, 0],
                    "train": 9,
                }[name]
            elif chance < 0.95:
                what.append(f"{name} {_object(rng, file, name)}")
    if rng.random() < 0.4:
        path.write_bytes(damaged(rng, path.read_bytes()))
        what.append("damaged")
    verb = (
        ["data", "x.hdf5", "--out", "sheet.png"] if rng.random() < 0.6 else ["prepare", "x.hdf5", "out", "--size", "8"]
    )
    return Case([Command(verb)], ", ".join(what))


def _object(rng: Rng, file: h5py.File, name: str) -> str:
    """Put something odd under a name; what it is."""
    kinds: dict[str, Callable[[], object]] = {
        "external link": lambda: file.__setitem__(name, h5py.ExternalLink("secret.hdf5", _theirs(name))),
        "soft link to an external one": lambda: (
            file.__setitem__(f"q{name}", h5py.ExternalLink("secret.hdf5", "/")),
            file.__setitem__(name, h5py.SoftLink(f"/q{name}{_theirs(name)}")),
        ),
        "external storage": lambda: file.create_dataset(
            name,
            (2,) if name in ("classes", "attributes") else (4,),
            "S20" if name in ("classes", "attributes") else np.uint8,
            external=[("secret.txt", 0, 40)],
        ),
        "virtual": lambda: _virtual(file, name),
        "a group": lambda: file.create_group(name),
        "a link to itself": lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
        "a reference": lambda: file.create_dataset(name, data=np.array([file.ref, file.ref], h5py.ref_dtype)),
        "never written": lambda: file.create_dataset(
            name,
            one_of(rng, ((65_535, 3, 512, 512), (12, 3, 65_535, 65_535), (1 << 40,), (100_000, 3, 8, 8))),
            np.uint8,
            chunks=True,
        ),
        "a giant chunk": lambda: file.create_dataset(
            name, (12, 3, 4096, 4096), np.uint8, chunks=(12, 3, 4096, 1024), compression="gzip"
        ),
        "another type": lambda: file.create_dataset(
            name,
            data=one_of(
                rng,
                (
                    np.zeros((12, 3, 8, 8)),
                    np.zeros((12, 3, 8, 8), np.int16),
                    np.zeros(12, "f4,i2"),
                    np.zeros(12, "V4"),
                    np.zeros(12, bool),
                    np.array(["a"] * 12, "S9"),
                ),
            ),
        ),
        "another shape": lambda: file.create_dataset(
            name,
            data=np.zeros(
                one_of(
                    rng,
                    (
                        (0,),
                        (),
                        (12, 0),
                        (0, 3, 8, 8),
                        (12, 3, 0, 8),
                        (12, 5, 8, 8),
                        (12, 8, 8, 3),
                        (11, 3, 8, 8),
                        (12, 2, 2, 2, 2),
                    ),
                ),
                np.uint8,
            ),
        ),
        "an attribute": lambda: file.attrs.__setitem__(
            name, one_of(rng, (1, -1, 1 << 40, "a", ["a", "b"], [1.5], np.nan))
        ),
        "numbers": lambda: file.create_dataset(
            name,
            data=one_of(
                rng,
                (
                    np.arange(12) * 3,
                    -np.arange(12),
                    np.arange(12) % 2 + 0.5,
                    np.full(12, 1 << 60),
                    np.eye(12, 2, dtype=int),
                    np.full((12, 2), 7),
                ),
            ),
        ),
        "long names": lambda: file.create_dataset(name, data=["a" * 5_000, "\x1b[31mred"]),
    }
    what = one_of(rng, list(kinds))
    kinds[what]()
    return what


def _theirs(name: str) -> str:
    return {"imgs": "/imgs", "labels": "/labels", "train": "/number"}.get(name, "/names")


def _virtual(file: h5py.File, name: str) -> None:
    kind, shape = (np.uint8, (12, 3, 8, 8)) if name == "imgs" else ("S30", (2,))
    layout = h5py.VirtualLayout(shape, kind)
    layout[:] = h5py.VirtualSource("secret.hdf5", _theirs(name), shape)
    file.create_virtual_dataset(name, layout)


# --- recipes and options ----------------------------------------------------------------------------------------------

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-3, 70) | st.floats() | st.text(max_size=30)
    | st.sampled_from([1e308, -1, 0, 10**9, 10**12, 10**400, "x" * 3_000, "../..", "/dev/zero", "", "auto", "\x1b[1m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@cache
def _leaves(name: str) -> list[tuple[str, Any]]:
    """The options of a recipe and their values."""

    def walk(tree: Any, prefix: str) -> list[tuple[str, Any]]:
        if not isinstance(tree, dict):
            return [(prefix, tree)]
        return [(prefix, tree)] * bool(prefix) + [
            one for key, value in tree.items() for one in walk(value, f"{prefix}.{key}".strip("."))
        ]

    return walk(as_tree(load(name)), "")


def _recipe(rng: Rng) -> str:
    return one_of(rng, sorted(recipes.catalog()))


def _another(rng: Rng, value: Any) -> Any:
    """A value of the same type that might be meant."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * one_of(rng, (-1, 0, 1, 2, 3, 10, 1_000, 10**6, 10**10)) + int(rng.integers(2))
    if isinstance(value, float):
        return value * one_of(rng, (-1.0, 0.0, 0.5, 2.0, 10.0, 1e6, 1e300))
    if isinstance(value, list) and value:
        return value * int(one_of(rng, (1, 2, 5_000))) if rng.random() < 0.5 else [_another(rng, one) for one in value]
    return (
        one_of(rng, ("none", "auto", "plain", "concatenate", "gan", "acgan", 1, 1e-4, None)) if value is None else value
    )


def _as_option(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def options(rng: Rng, folder: Path, shared: Path) -> Case:
    """Options of a recipe with values of any kind; or a verb's options."""
    if rng.random() < 0.3:
        return _verbs(rng, folder, shared)
    name = _recipe(rng)
    overrides = []
    for _ in range(int(rng.integers(1, 4))):
        key, value = one_of(rng, _leaves(name))
        new = _another(rng, value) if rng.random() < 0.6 else drawn(rng, VALUES)
        key = damaged_text(rng, key) if rng.random() < 0.05 else key
        overrides.append(f"{key}={_as_option(new)}".replace("\0", ""))
    data = ["--data", "digits"] if load(name).data.source is None else []
    return Case([Command(["train", name, *data, "--dry-run", *overrides])], "", len(overrides))


def _verbs(rng: Rng, folder: Path, shared: Path) -> Case:
    """A verb on a run with odd values."""
    run = Path("run")
    shutil.copytree(shared / run, folder / run)
    value = _as_option(drawn(rng, VALUES)).replace("\0", "")
    option = one_of(
        rng,
        (
            "--classes",
            "--mixture",
            "--per-class",
            "--seed",
            "--truncation",
            "--latent-scale",
            "--standing",
            "--checkpoint",
        ),
    )
    verb = one_of(rng, ("sample", "interpolate", "attention", "train"))
    if verb == "train":
        return Case(
            [Command(["train", str(run / "recipe.yaml"), "--out", "run", f"{option[2:]}={value}"], may_change=True)], ""
        )
    out = one_of(rng, ("o", "o.npz", "run", ".", "run/checkpoints", "/dev/full", "/proc/x", "o/\x1b[31m"))
    return Case([Command([verb, "run", "--out", out, f"{option}={value}"])], "")


def recipe_files(rng: Rng, folder: Path, _: Path) -> Case:
    """A recipe's file, damaged."""
    name = _recipe(rng)
    text = yaml.safe_dump(as_tree(load(name)), sort_keys=False) if rng.random() < 0.5 else recipes.text(name)
    match int(rng.integers(4)):
        case 0:
            content, what = damaged(rng, text.encode()), "bytes"
        case 1:
            content, what = damaged_text(rng, text).encode(one_of(rng, ("utf-8", "utf-16")), "replace"), "text"
        case 2:
            tree = as_tree(load(name))
            for _ in range(int(rng.integers(1, 4))):
                _replace_leaf(rng, tree)
            content, what = yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"), "values"
        case _:
            content, what = _laughs(rng, text).encode(), "laughs"
    (folder / "x.yaml").write_bytes(content)
    return Case([Command(["train", "x.yaml", "--data", "digits", "--dry-run"])], what)


def _replace_leaf(rng: Rng, tree: dict[str, Any]) -> None:
    at = tree
    key = one_of(rng, list(at))
    while isinstance(at[key], dict) and at[key] and rng.random() < 0.9:
        at = at[key]
        key = one_of(rng, list(at))
    at[key] = drawn(rng, VALUES)
    if rng.random() < 0.1:
        del at[key]


def _laughs(rng: Rng, text: str) -> str:
    """Anchors that refer to each other."""
    depth, width = int(rng.integers(2, 12)), int(rng.integers(2, 12))
    lines = [f"l0: &l0 [{', '.join(['a'] * width)}]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * width)}]" for i in range(1, depth)]
    key = one_of(rng, ("data", "name", "seed", "generator", "averages", "x"))
    ending = one_of(rng, (f"{key}: *l{depth - 1}", f"{key}: &r [*r]", f"<<: *l{depth - 1}"))
    return one_of(rng, ("\n".join([*lines, text, ending]), text.replace("{", "{attributes: [" + "[" * depth * 50, 1)))


# --- checkpoints and runs ---------------------------------------------------------------------------------------------


def checkpoints(rng: Rng, folder: Path, shared: Path) -> Case:
    """A run of which some files are damaged, missing, of other things, or swapped; with checksums that match or not."""
    run = folder / "run"
    shutil.copytree(shared / "run", run)
    files = sorted(path for path in run.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    what = []
    for _ in range(int(rng.integers(1, 3))):
        path = one_of(rng, files)
        if not path.is_file():
            continue
        what.append(f"{path.relative_to(run)} {_harm(rng, path)}")
    if rng.random() < 0.6:
        _sign(run)
        what.append("signed")
    last = one_of(rng, ("96", "160"))
    command = one_of(
        rng,
        (
            Command(["sample", "run", "--out", "o", "--per-class", "1"]),
            Command(
                ["sample", "run", "--out", "o", "--per-class", "1", "--checkpoint", one_of(rng, ("latest", "64", "96"))]
            ),
            Command(["report", "run"]),
            Command(
                ["train", "digits-acgan", *TINY, f"schedule.images={last}", "--out", "run"], codes=(1,), may_change=True
            ),
            Command(["evaluate", "run", "--n", "20", "--metrics", "label_agreement"], may_change=True),
        ),
    )
    return Case([command], ", ".join(what))


def _harm(rng: Rng, path: Path) -> str:
    """Do something to a file; what."""
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.6:
        tree = json.loads(content)
        if isinstance(tree, dict) and tree:
            _replace_leaf(rng, tree)
        text = json.dumps(tree, default=str)
        path.write_text(text if rng.random() < 0.8 else damaged_text(rng, text))
        return "with other values"
    if path.suffix in (".json", ".jsonl", ".yaml") and rng.random() < 0.6:
        path.write_bytes(damaged_text(rng, content.decode()).encode("utf-8", "replace"))
        return "with other words"
    if path.suffix == ".safetensors" and rng.random() < 0.4:
        value = one_of(rng, (np.nan, np.inf, 1e30))
        path.write_bytes(
            save_tensors(
                {
                    one_of(rng, ("a", "output.weight", "linear.weight")): np.full(
                        one_of(rng, ((3,), (2, 2))), value, np.float32
                    )
                }
            )
        )
        return "of other tensors"
    match int(rng.integers(6)):
        case 0:
            path.unlink()
            return "missing"
        case 1:
            path.write_bytes(b"")
            return "empty"
        case 2:
            path.unlink()
            return special(rng, path)
        case 3:
            path.write_bytes(content[: int(rng.integers(len(content) + 1))])
            return "cut off"
        case 4 if path.suffix == ".png":
            path.write_bytes(png(20_000, 20_000, 8, 2, rows=1))
            return "a giant"
        case _:
            path.write_bytes(damaged(rng, content))
            return "damaged"


def _sign(run: Path) -> None:
    """Write checksums that match the files."""
    for state in run.glob("checkpoints/*/state.json"):
        try:
            tree = json.loads(state.read_text())
            tree["sha256"] = {
                name: hashlib.sha256((state.parent / name).read_bytes()).hexdigest() for name in tree["sha256"]
            }
        except (ValueError, KeyError, TypeError, OSError):
            continue
        state.write_text(json.dumps(tree))


# --- full disks -------------------------------------------------------------------------------------------------------


def disk(rng: Rng, folder: Path, shared: Path) -> Case:
    """A command to whose files the disk has no room; then the same with room, which must succeed."""
    for name in ("a", "b"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(40):
            (folder / "data" / name / f"{number}.png").write_bytes(png(8 + number, 9, 8, 2))
    shutil.copytree(shared / "run", folder / "run")
    arguments, least, most = one_of(
        rng,
        (
            (["prepare", "data", "out", "--size", "16", "--channels", "3"], 0, 60_000),
            (["data", "data", "--out", "sheet.png"], 0, 30_000),
            (["sample", "run", "--out", "o", "--per-class", "2"], 0, 30_000),
            (["sample", "run", "--out", "o.npz", "--per-class", "2"], 0, 6_000),
            (["train", "digits-acgan", *TINY, "schedule.images=192", "--out", "run"], 0, 200_000),
            (["train", "digits-acgan", *TINY, "schedule.images=96", "--out", "new"], 0, 200_000),
            (["report", "run"], 0, 100_000),
            (["evaluate", "run", "--n", "20", "--metrics", "label_agreement"], 0, 20_000),
        ),
    )
    full = Command(arguments, file_size=int(rng.integers(least, most)), codes=(1,), may_change=True)
    return Case([full, Command(arguments, must=True)], f"{full.file_size} bytes a file")


RUN = Command(["train", "digits-acgan", *TINY, "schedule.images=96", "--out", "run"])

KINDS: dict[str, Kind] = {
    "images": Kind(images),
    "archives": Kind(archives),
    "hdf5": Kind(hdf5),
    "yaml": Kind(recipe_files),
    "options": Kind(options, (RUN,)),
    "checkpoints": Kind(checkpoints, (RUN,)),
    "disk": Kind(disk, (RUN,)),
}
"""By the names that --only takes."""
