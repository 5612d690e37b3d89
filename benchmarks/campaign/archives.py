"""Folders, zips and tars of labeled pictures; npz files; LMDBs."""

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from benchmarks.campaign.cases import Case, Command, Rng
from benchmarks.campaign.damage import damaged, damaged_text, one_of, special
from benchmarks.campaign.pictures import pictures, png


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
            member = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            for _ in range(1 + (rng.random() < 0.02)):  # a few names are there twice
                archive.writestr(member, content, kind)
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
    environment = lmdb.open(str(path), map_size=1 << 24, sync=False)
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
