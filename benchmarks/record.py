"""Keep what a run showed: `python -m benchmarks.record RUN OUT` writes OUT/record.json and OUT/sheet.png.

The record holds the run's command, commit, hardware, recipe and metrics, and its curve from log.jsonl.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from condgan.recipes.load import as_tree, load
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine


def command(module: str) -> str:
    """The command line of a benchmark, whatever the folders its paths lie in."""
    words = (f"…/{Path(word).name}" if "/" in word else word for word in sys.argv[1:])
    return shlex.join(["python", "-m", module, *words])


def keep(path: Path, module: str, **about: Any) -> None:
    """Write what a benchmark measured, with its command line, the versions, the commit and the hardware."""
    record = describe_machine() | {"command": command(module)} | about
    write(path, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


def resident(what: str = "VmRSS") -> int:
    """Bytes of memory that this process has, or with VmHWM has had at most.

    What getrusage tells of a new process is that of the one that started it.
    """
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0])


def said(row: dict[str, Any], as_json: bool) -> str:
    """A row as a line to print."""
    return json.dumps(row) if as_json else "  ".join(f"{key} {value}" for key, value in row.items())


def main() -> None:
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    environment = json.loads((run / "environment.json").read_text())
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "metrics.json").read_text())
    command = environment["command"].split()
    record = {
        "command": " ".join(["condgan", *(f"…/{Path(word).name}" if "/" in word else word for word in command[1:])]),
        **{key: environment[key] for key in ("commit", "python", "packages", "platform", "cpu", "threads", "gpu")},
        "seed": load(run / "recipe.yaml").seed,
        "seconds": log[-1]["seconds"],
        "recipe": as_tree(load(run / "recipe.yaml")),
        "metrics": metrics,
        "curve": [line for line in log if "fd_classifier" in line],
    }
    names = [Path(one).name for one in load(run / "recipe.yaml").data.sources]
    record["recipe"]["data"]["source"] = names if len(names) > 1 else "".join(names)
    metrics["about"]["reference"] = " + ".join(names)
    out.mkdir(parents=True, exist_ok=True)
    (out / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    shutil.copy(run / "sheet.png", out / "sheet.png")


if __name__ == "__main__":
    main()
