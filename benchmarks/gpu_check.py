"""What a few minutes on one GPU can tell: does everything work there, how fast is it, what does it learn.

`python -m benchmarks.gpu_check --out DIR [--data FILE] [--minutes 7] [--only NAME,…] [--device cpu] [--tiny]`
Each step runs in a process of its own, is stopped at its time limit, and each finding goes into DIR/record.json as soon
as it is known; with --only, the other steps' findings stay there. What the minutes do not allow is left out, and asked
for by `--only rest`. The last step trains on DATA, such as CIFAR-10 in a zip, for what is left of the time, and leaves
DIR/sheet.png. The exit code is 1 where a step failed, else 0.
`--device cpu --tiny` does what a CPU can do of it, in a minute.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_steps as steps
from benchmarks.gpu_steps import Plan, Skipped, Step, Throughput
from benchmarks.record import command
from benchmarks.throughput import widths
from condgan.utils.errors import UserError, unknown
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

STEPS: dict[str, tuple[Step, float]] = {
    "arch": (steps.arch, 30),
    "gradients": (steps.gradients, 60),
    "synchronization": (steps.synchronization, 30),
    "long-run": (steps.long_run, 40),
    "failures": (steps.failures, 60),
    "features": (steps.features, 40),
    "ceilings": (steps.ceilings, 20),
    "biggan-cifar10": (Throughput("biggan-cifar10", widths(96)), 150),
    "biggan-imagenet128": (Throughput("biggan-imagenet128", largest=True), 90),
    "resuming": (steps.resuming, 90),
    "penalties": (steps.penalties, 30),
    "layout": (steps.layout, 30),
    "processes": (steps.processes, 60),
    "onnx": (steps.onnx, 60),
    "sampling": (steps.sampling, 60),
    "evaluation": (steps.evaluation, 60),
    "spectral": (steps.spectral, 90),
    "compiling": (steps.compiling, 150),
    "any-biggan": (Throughput("any-biggan", ("data.classes=10",)), 90),
    "celeba-stargan": (Throughput("celeba-stargan"), 90),
    "switches": (steps.switches, 60),
    "training": (steps.training, 3600),
}
"""Every step and the seconds that it may take on a GPU, in their order: what tells most first."""
ON_CPU = 10
"""Times as many seconds on a CPU."""
TRAINING = 0.25
"""Of the time, what is kept for the last step."""


def serve(pipe: Connection, step: Step, plan: Plan) -> None:
    """Be the process of a step."""
    os.setsid()  # so that what it starts is stopped with it
    sys.stdout = sys.stderr
    try:
        for finding in step(plan):
            pipe.send(finding)
        pipe.send({"done": True})
    except Skipped as error:
        pipe.send({"skipped": str(error)})
    except BaseException:
        pipe.send({"error": traceback.format_exc()[-3000:]})


class Record:
    """DIR/record.json, written anew with each finding; each step tells what it ran on."""

    def __init__(self, out: Path, tiny: bool) -> None:
        self.path, self.about = out / "record.json", describe_machine() | {"tiny": tiny}
        self.about["command"] = command("benchmarks.gpu_check")
        self.steps: dict[str, Any] = json.loads(self.path.read_text())["steps"] if self.path.is_file() else {}
        self.folders = [str(out), str(Path(__file__).parents[1]), sys.prefix, tempfile.gettempdir(), str(Path.home())]

    def keep(self, name: str, **found: Any) -> None:
        self.steps[name] = found | {"on": self.about}
        text = json.dumps({"steps": self.steps}, indent=1, ensure_ascii=False)
        for folder in self.folders:  # whose names are nobody's business
            text = text.replace(folder, "…")
        write(self.path, text.encode() + b"\n")


def look(name: str, step: Step, plan: Plan, record: Record, cut: bool = False) -> bool | None:
    """Run a step, and say what it finds; whether it passed, None where this device or the time cannot tell.

    `cut`: it is stopped because the check ends, and not because it takes longer than it may.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.gpu_steps"])
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, step, plan))
    start, findings, end = time.time(), list[dict[str, Any]](), dict[str, Any]()
    process.start()
    theirs.close()
    record.keep(name, passed=False, findings=findings, error="was stopped")
    try:
        while not end:
            found = told(pipe, plan.left, cut)
            if "what" in found:
                findings.append(found)
                say(name, found)
                record.keep(name, passed=False, findings=findings, error="was stopped")
            else:
                end = found
                process.join(5 if "error" not in found else 0)
    finally:
        assert process.pid is not None
        stop(process.pid)
        process.kill()  # where it had no group of its own yet
    process.join()
    failed = any(one["passed"] is False for one in findings) or "error" in end
    passed = any(one["passed"] for one in findings) or "done" in end
    result = False if failed else True if passed and end.get("skipped") != LATE else None
    end.pop("done", None)
    seconds = round(time.time() - start, 1)
    record.keep(name, passed=result, findings=findings, seconds=seconds, **end)
    how = {True: "pass", False: "FAIL", None: "skip"}[result]
    why = end.get("skipped", "") or "".join(end.get("error", "").strip().splitlines()[-1:])
    print(f"{how}  {name}  {seconds} s  {why}".rstrip(), flush=True)
    return result


LATE = "no time was left"


def told(pipe: Connection, seconds: float, cut: bool) -> dict[str, Any]:
    """What a step says next, or why it says nothing more."""
    try:
        if pipe.poll(max(0.0, seconds)):
            return pipe.recv()
        return {"skipped": LATE} if cut else {"error": "took longer than it may"}
    except EOFError:
        return {"error": "its process died"}


def stop(group: int) -> None:
    """End a process and all that it started, if there is any left; torchrun has a second to end its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        time.sleep(1)
        os.killpg(group, signal.SIGKILL)


def say(name: str, found: dict[str, Any]) -> None:
    how = {True: "pass", False: "FAIL", None: "    "}[found["passed"]]
    limits = [f"at {one[3:]} {found[one]:g}" for one in ("at_most", "at_least") if one in found]
    number = f"{found['number']} {found['unit']} {', '.join(limits)}"
    print(f"{how}  {name}  {found['what']}  {number}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", metavar="FILE", help="labeled images for the last step")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument(
        "--only",
        metavar="NAME,…",
        help=f"of {', '.join(STEPS)}; failed, rest: what did, and what there was no time for",
    )
    parser.add_argument("--device", choices=["cpu"], help="by default the GPU where there is one")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a step that is stopped is ended, too
    try:
        sys.exit(run(given))
    except UserError as error:
        parser.error(str(error))


def run(given: argparse.Namespace) -> int:
    """The exit code. Raises UserError for a step that there is not."""
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        raise UserError("no GPU found: expected one that PyTorch sees; look at nvidia-smi, or give --device cpu --tiny")
    if given.data is not None and not Path(given.data).exists():
        raise UserError(f"--data {given.data} given: there is no such file; give labeled images, such as a zip")
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out, given.tiny)
    chosen = chosen_steps(given.only, record)
    ends = time.time() + 60 * given.minutes
    data = None if given.data is None else str(Path(given.data).resolve())
    kept = 60 * given.minutes * TRAINING if "training" in chosen and data else 0.0
    results = {}
    for name in chosen:
        limit = STEPS[name][1] * (ON_CPU if given.device == "cpu" else 1)
        last = ends if name == "training" else ends - kept
        mine = min(time.time() + limit, last)
        if last - time.time() < 5:
            record.keep(name, passed=None, findings=[], skipped=LATE)
            print(f"skip  {name}  {LATE}", flush=True)
            continue
        folder = out if name == "training" else out / "steps" / name
        if name != "training":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        plan = Plan(folder, data, given.tiny, mine)
        results[name] = look(name, STEPS[name][0], plan, record, cut=mine == last)
    failed = [name for name, passed in results.items() if passed is False]
    passed = sum(one is True for one in results.values())
    print(f"{passed} passed, {len(failed)} failed{': ' * bool(failed)}{', '.join(failed)}; {record.path}", flush=True)
    return 1 if failed else 0


def chosen_steps(only: str | None, record: Record) -> list[str]:
    """The steps' names in their order. Raises UserError for a name that there is not."""
    if only is None:
        return [*STEPS]
    wanted = only.split(",")
    if wrong := next((name for name in wanted if name not in (*STEPS, "failed", "rest")), None):
        raise unknown("step", wrong, [*STEPS, "failed", "rest"])
    if "failed" in wanted:
        wanted += [name for name, step in record.steps.items() if step["passed"] is False]
    if "rest" in wanted:
        wanted += [name for name in STEPS if record.steps.get(name, {"skipped": LATE}).get("skipped") == LATE]
    return [name for name in STEPS if name in wanted]


if __name__ == "__main__":
    main()
