"""Damaged runs, and full disks."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from benchmarks.campaign.cases import Case, Command, Rng
from benchmarks.campaign.damage import damaged, damaged_text, one_of, replace_leaf, special
from benchmarks.campaign.pictures import png

TINY = (
    "generator.width=8", "backbone.width=8", "compute.compile=false", "compute.precision=float32", "schedule.batch=16",
    "schedule.decay=0", "schedule.log=32", "schedule.save=64", "schedule.sample=64",
)  # fmt: skip
"""Options that make a run of digits-acgan take a second."""
RUN = Command(["train", "digits-acgan", *TINY, "schedule.images=96", "--out", "run"])


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
            Command(["export", "run", "--out", "o"]),
            Command(
                ["train", "digits-acgan", *TINY, f"schedule.images={last}", "--out", "run"], codes=(1,), may_change=True
            ),
            Command(["evaluate", "run", "--n", "20", "--metrics", "label_agreement"], may_change=True),
        ),
    )
    return Case([command], ", ".join(what))


def _with_other_values(rng: Rng, text: str) -> str:
    """A JSON text with another value somewhere; one that is damaged already stays as it is."""
    try:
        tree = json.loads(text)
    except ValueError:
        return text
    if isinstance(tree, dict) and tree:
        replace_leaf(rng, tree)
    return json.dumps(tree, default=str)


def _harm(rng: Rng, path: Path) -> str:
    """Do something to a file; what."""
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.6:
        text = _with_other_values(rng, content.decode(errors="replace"))
        path.write_text(text if rng.random() < 0.8 else damaged_text(rng, text))
        return "with other values"
    if path.suffix in (".json", ".jsonl", ".yaml") and rng.random() < 0.6:
        path.write_bytes(damaged_text(rng, content.decode(errors="replace")).encode("utf-8", "replace"))
        return "with other words"
    if path.suffix == ".safetensors" and rng.random() < 0.4:
        value = one_of(rng, (np.nan, np.inf, 1e30))
        path.write_bytes(
            save(
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
    """Write checksums that match the files, where all are there and plain ones: a pipe would be waited for."""
    for state in run.glob("checkpoints/*/state.json"):
        try:
            tree = json.loads(state.read_text()) if state.is_file() else {}
            files = {name: state.parent / name for name in tree["sha256"]}
            if not all(file.is_file() for file in files.values()):
                continue
            tree["sha256"] = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
        except (ValueError, KeyError, TypeError, OSError):
            continue
        state.write_text(json.dumps(tree))


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
