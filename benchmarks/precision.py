"""Whether bfloat16 and torch.compile leave quality as it is: the same runs each way, over seeds.

`python -m benchmarks.precision [--recipe NAME] [--modes eager,compiled] [--seeds 3] [--out FILE] [KEY=VALUE …]`
A CPU without units for bfloat16 emulates them, about ten times slower; the rounding is the same.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.record import command
from condgan.recipes.load import load
from condgan.runs.train import train_run
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

MODES = {
    "eager": ["compute.precision=float32", "compute.compile=false"],
    "compiled": ["compute.precision=float32", "compute.compile=true"],
    "bfloat16": ["compute.precision=bfloat16", "compute.compile=false"],
    "bfloat16-compiled": ["compute.precision=bfloat16", "compute.compile=true"],
}
METRICS = ("label_agreement", "fd_classifier", "coverage")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="digits-acgan")
    parser.add_argument("--modes", default="eager,compiled,bfloat16")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        for mode in arguments.modes.split(","):
            recipe = load(arguments.recipe, [*MODES[mode], f"seed={seed}", *arguments.overrides])
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found = train_run(recipe, Path(folder) / "run")
            rows.append({"mode": mode, "seed": seed, "seconds": round(time.perf_counter() - start)})
            rows[-1] |= {name: round(found[name], 4) for name in METRICS}
            print(json.dumps(rows[-1]), flush=True)
    of_mode = {mode: [row for row in rows if row["mode"] == mode] for mode in arguments.modes.split(",")}
    summary = {
        mode: {
            name: [round(of([row[name] for row in own]), 4) for of in (statistics.mean, min, max)] for name in METRICS
        }
        for mode, own in of_mode.items()
    }
    print(json.dumps(summary))
    if arguments.out:
        about = describe_machine() | {"command": command("benchmarks.precision")}
        record = about | {"recipe": arguments.recipe, "mean_min_max": summary, "runs": rows}
        write(arguments.out, (json.dumps(record, indent=1) + "\n").encode())


def _mean_min_max(values: list[float]) -> list[float]:
    return [round(of(values), 4) for of in (statistics.mean, min, max)]


if __name__ == "__main__":
    main()
