"""HDF5 files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benchmarks.campaign.cases import SECRET, Case, Command, Rng
from benchmarks.campaign.damage import damaged, one_of


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
            elif chance < (0.95 if name in ("imgs", "labels") else 0.6):
                what.append(f"{name} {_object(rng, file, name)}")
    if rng.random() < 0.3:
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
