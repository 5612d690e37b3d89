"""Labels as they are: a number, attributes of which half are deleted, and classes of which few images tell theirs.

`python -m benchmarks.labels FOLDER [--only angles,half,few] [--seeds 2] --record OUT`

FOLDER holds mnist.zip and sprites-attributes.zip. *angles*: sevens turned by up to 90° to either side, with the angle
in a column. *half*: hair and top of characters, half of all cells of the table deleted at random; *whole* is the same
table as it is. *few*: 20 labeled images of each digit beside 5,000 whose class is not told; *alone* are the 200 without
these. Each is trained by `any-projection`, and judged on held-out images, all of whose labels are told.
"""

import argparse
import csv
import io
import json
import random
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

import condgan
from benchmarks.record import command
from condgan.evaluation.options import EvaluationOptions
from condgan.utils.provenance import describe_machine

TOP_AND_HAIR = slice(14, 31)
LABELED, UNLABELED, TURNED = 20, 5_000, 4_000


def angles(source: Path, out: Path) -> None:
    """Sevens of MNIST, each turned by an angle."""
    chance, rows = random.Random(0), []
    (out / "images").mkdir(parents=True)
    with zipfile.ZipFile(source / "mnist.zip") as digits:
        names = sorted(name for name in digits.namelist() if "train/7/" in name and name.endswith(".png"))
        for number in range(TURNED):
            angle = chance.uniform(-90, 90)
            picture = Image.open(io.BytesIO(digits.read(names[number]))).resize((32, 32), Image.Resampling.BICUBIC)
            picture.rotate(angle, Image.Resampling.BICUBIC).save(out / "images" / f"{number}.png")
            rows.append([f"images/{number}.png", f"{angle:.2f}"])
    _table(out / "angles.csv", ["file", "angle"], rows)


def half(source: Path, out: Path, kept: float = 0.5) -> None:
    """Characters with a table of hair and top, of whose cells a share is kept; of every tenth character all."""
    chance, rows = random.Random(0), []
    with zipfile.ZipFile(source / "sprites-attributes.zip") as sprites:
        files = {Path(name).name: name for name in sprites.namelist() if name.endswith(".png")}
        lines = sprites.read(next(name for name in sprites.namelist() if "list_attr" in name)).decode().split("\n")
        for name in files.values():
            sprites.extract(name, out)
    names = lines[1].split()[TOP_AND_HAIR]
    for number, line in enumerate(one for one in lines[2:] if one.strip()):
        image, *values = line.split()
        held_out = number % 10 == 0
        told = [held_out or chance.random() < kept for _ in names]
        cells = [
            str(int(value == "1")) if known else "" for known, value in zip(told, values[TOP_AND_HAIR], strict=True)
        ]
        rows.append([files[image], "test" if held_out else "train", *cells])
    _table(out / "attributes.csv", ["file", "split", *names], rows)


def whole(source: Path, out: Path) -> None:
    """The same with every cell."""
    half(source, out, 1.0)


def few(source: Path, out: Path, unlabeled: int = UNLABELED) -> None:
    """Digits of MNIST, few of which tell their class."""
    chance = random.Random(0)
    with zipfile.ZipFile(source / "mnist.zip") as digits:
        every = sorted(name for name in digits.namelist() if name.endswith(".png"))
        for number in range(10):
            own = [name for name in every if f"train/{number}/" in name]
            chance.shuffle(own)
            others = own[LABELED : LABELED + unlabeled // 10]
            test = [name for name in every if f"test/{number}/" in name][:200]
            for part, names in (
                (f"train/{number}", own[:LABELED]),
                ("train/unlabeled", others),
                (f"test/{number}", test),
            ):
                (out / part).mkdir(parents=True, exist_ok=True)
                for name in names:
                    (out / part / f"{number}-{Path(name).name}").write_bytes(digits.read(name))
    if not unlabeled:
        (out / "train" / "unlabeled").rmdir()


def alone(source: Path, out: Path) -> None:
    """Those alone that tell it."""
    few(source, out, 0)


def _table(path: Path, head: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])


SETS: dict[str, tuple[Callable[[Path, Path], None], list[str]]] = {
    "angles": (angles, ["data.number=angle", "data.size=32", "data.channels=1", "schedule.images=40_000"]),
    "half": (half, ["data.size=32", "data.channels=3", "schedule.images=60_000"]),
    "whole": (whole, ["data.size=32", "data.channels=3", "schedule.images=60_000"]),
    "few": (few, ["data.size=32", "data.channels=1", "schedule.images=60_000"]),
    "alone": (alone, ["data.size=32", "data.channels=1", "schedule.images=60_000"]),
}
"""How each is made, and what its training is told."""
NUMBERS = (
    "label_agreement", "label_error", "fd_classifier", "precision", "coverage", "intra_class_diversity", "copies",
)  # fmt: skip


def run(name: str, source: Path, seed: int, out: Path) -> dict[str, Any]:
    """Make a set, train on it, judge, and keep the sheet."""
    make, options = SETS[name]
    with tempfile.TemporaryDirectory() as work:
        data = Path(work) / name
        data.mkdir()
        make(source, data)
        began = time.monotonic()
        trained = condgan.train(
            data, recipe="any-projection", overrides=[*options, "data.flip=false", f"seed={seed}"],
            out=Path(work) / "run", fresh=True,
        )  # fmt: skip
        seconds = time.monotonic() - began
        found = trained.evaluate(options=EvaluationOptions(per_class=None))
        if seed == 0:
            shutil.copy(trained.directory / "sheet.png", out / f"{name}.png")
    numbers = {key: found[key] for key in NUMBERS if key in found}
    ceilings = {key: found["real"][key] for key in numbers if key in found["real"]}
    return {"set": name, "seed": seed, "seconds": round(seconds), **numbers, "real": ceilings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--record", type=Path, required=True, metavar="OUT")
    given = parser.parse_args()
    given.record.mkdir(parents=True, exist_ok=True)
    about, path = describe_machine() | {"command": command("benchmarks.labels")}, given.record / "record.json"
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.is_file() else []
    done = {(one["set"], one["seed"]) for one in runs}
    for seed in range(given.seeds):
        for name in given.only.split(","):
            if (name, seed) not in done:
                runs.append(run(name, given.folder, seed, given.record))
                print(json.dumps(runs[-1]), flush=True)
                path.write_text(json.dumps(about | {"runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
