"""What each repair of the tutorial's AC-GAN is worth: digits-acgan with one thing undone at a time.

`python -m benchmarks.acgan_faults [--images 48000] [--seeds 2] [--out benchmarks/records/…]` trains every variant with
every seed, and writes record.json: command, commit, hardware, and each variant's metrics on held-out digits.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks import faults
from condgan.recipes.load import load
from condgan.runs.train import train_run

VARIANTS = {
    "digits-acgan": [],
    "two passes": ["schedule.joint=false"],
    "two passes, eps 0.8": [
        "schedule.joint=false",
        "generator={name: tutorial, conditioning: add}",
        "backbone={name: tutorial}",
    ],
    "latent × embedding": ["generator.conditioning=multiply"],
    "softmax before cross-entropy": ["objective={name: tutorial, sigmoid: false}"],
}
METRICS = ("label_agreement", "fd_classifier", "coverage")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/acgan-faults"))
    arguments = parser.parse_args()
    rows: dict[str, dict[str, list[float]]] = {name: {metric: [] for metric in METRICS} for name in VARIANTS}
    environment: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, faults.added():
        for seed in range(arguments.seeds):
            for name, overrides in VARIANTS.items():
                schedule = [f"schedule.images={arguments.images}", f"schedule.save={arguments.images}"]
                directory = Path(folder) / f"{name}-{seed}".replace(" ", "_")
                metrics = train_run(load("digits-acgan", [*overrides, *schedule, f"seed={seed}"]), directory)
                environment = json.loads((directory / "environment.json").read_text())
                for metric in METRICS:
                    rows[name][metric].append(round(metrics[metric], 4))
                    rows[name][f"{metric} (real)"] = [round(metrics["real"][metric], 4)]
                print(name, seed, {metric: values[-1] for metric, values in rows[name].items()}, flush=True)
    record = {
        "command": f"python -m benchmarks.acgan_faults --images {arguments.images} --seeds {arguments.seeds}",
        **{key: environment[key] for key in ("commit", "python", "packages", "cpu", "threads")},
        "load": os.getloadavg()[0],
        "images": arguments.images,
        "seeds": arguments.seeds,
        "medians": {name: {m: statistics.median(v) for m, v in row.items()} for name, row in rows.items()},
        "all": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "record.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
