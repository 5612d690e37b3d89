"""What a few minutes on one GPU can tell: does everything work there, how fast is it, what does it learn.

`python -m benchmarks.gpu_check --out DIR [--data FILE] [--minutes 7] [--only NAME,…] [--device cpu] [--tiny]`
Each step runs in a process of its own, is stopped at its time limit, and each finding goes into DIR/record.json as soon
as it is known; with --only, the other steps' findings stay there. The last step trains on DATA, such as CIFAR-10 in a
zip, for what is left of the time, and leaves DIR/sheet.png. The exit code is 1 where a step failed, else 0.
`--device cpu --tiny` does what a CPU can do of it, in a minute.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import gpu_steps as steps
from benchmarks.gpu_steps import Plan, Skipped, Step, Throughput
from benchmarks.record import command
from benchmarks.throughput import widths
from condgan.environment import describe
from condgan.errors import UserError, unknown
from condgan.files import write

STEPS: dict[str, tuple[Step, float]] = {
    "arch": (steps.arch, 20),
    "gradients": (steps.gradients, 60),
    "spectral": (steps.spectral, 60),
    "synchronization": (steps.synchronization, 30),
    "layout": (steps.layout, 30),
    "penalties": (steps.penalties, 30),
    "failures": (steps.failures, 60),
    "resuming": (steps.resuming, 90),
    "features": (steps.features, 40),
    "processes": (steps.processes, 60),
    "onnx": (steps.onnx, 60),
    "long-run": (steps.long_run, 40),
    "ceilings": (steps.ceilings, 15),
    "sampling": (steps.sampling, 60),
    "evaluation": (steps.evaluation, 60),
    "compiling": (steps.compiling, 150),
    "biggan-cifar10": (Throughput("biggan-cifar10", widths(96)), 120),
    "biggan-imagenet128": (Throughput("biggan-imagenet128", largest=True), 120),
    "any-biggan": (Throughput("any-biggan", ("data.classes=10",)), 90),
    "celeba-stargan": (Throughput("celeba-stargan"), 90),
    "switches": (steps.switches, 60),
    "training": (steps.training, 3600),
}
"""Every step and the seconds that it may take on a GPU, in their order."""
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
    """DIR/record.json, written anew with each finding."""

    def __init__(self, out: Path, minutes: float, tiny: bool) -> None:
        self.path = out / "record.json"
        before = json.loads(self.path.read_text())["steps"] if self.path.is_file() else {}
        about = describe() | {"command": command("benchmarks.gpu_check"), "minutes": minutes, "tiny": tiny}
        self.content: dict[str, Any] = about | {"steps": before}

    def keep(self, name: str, **found: Any) -> None:
        self.content["steps"][name] = found
        write(self.path, json.dumps(self.content, indent=1, ensure_ascii=False).encode() + b"\n")


def look(name: str, step: Step, plan: Plan, record: Record) -> bool | None:
    """Run a step, and say what it finds; whether it passed, None where this device cannot tell."""
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
            found = told(pipe, plan.left)
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
    passed = all(one["passed"] is not False for one in findings) and "error" not in end
    result = None if passed and not findings else passed
    end.pop("done", None)
    seconds = round(time.time() - start, 1)
    record.keep(name, passed=result, findings=findings, seconds=seconds, **end)
    how = {True: "pass", False: "FAIL", None: "skip"}[result]
    why = end.get("skipped", "") or "".join(end.get("error", "").strip().splitlines()[-1:])
    print(f"{how}  {name}  {seconds} s  {why}".rstrip(), flush=True)
    return result


def told(pipe: Connection, seconds: float) -> dict[str, Any]:
    """What a step says next, or why it says nothing more."""
    try:
        return pipe.recv() if pipe.poll(max(0.0, seconds)) else {"error": "took longer than it may"}
    except EOFError:
        return {"error": "its process died"}


def stop(group: int) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
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
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(STEPS)}; failed: those that did")
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
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out, given.minutes, given.tiny)
    chosen = chosen_steps(given.only, record)
    ends = time.time() + 60 * given.minutes
    kept = 60 * given.minutes * TRAINING if "training" in chosen else 0.0
    data = None if given.data is None else str(Path(given.data).resolve())
    results = {}
    for name in chosen:
        limit = STEPS[name][1] * (ON_CPU if given.device == "cpu" else 1)
        mine = min(time.time() + limit, ends if name == "training" else ends - kept)
        if mine - time.time() < 1:
            record.keep(name, passed=None, findings=[], skipped="no time was left")
            print(f"skip  {name}  no time was left", flush=True)
            continue
        folder = out if name == "training" else out / "work"
        folder.mkdir(exist_ok=True)
        results[name] = look(name, STEPS[name][0], Plan(folder, data, given.tiny, mine), record)
    failed = [name for name, passed in results.items() if passed is False]
    passed = sum(one is True for one in results.values())
    print(f"{passed} passed, {len(failed)} failed{': ' * bool(failed)}{', '.join(failed)}; {record.path}", flush=True)
    return 1 if failed else 0


def chosen_steps(only: str | None, record: Record) -> list[str]:
    """The steps' names in their order. Raises UserError for a name that there is not."""
    if only is None:
        return [*STEPS]
    wanted = only.split(",")
    if wrong := next((name for name in wanted if name not in (*STEPS, "failed")), None):
        raise unknown("step", wrong, [*STEPS, "failed"])
    if "failed" in wanted:
        wanted += [name for name, step in record.content["steps"].items() if step["passed"] is False]
    return [name for name in STEPS if name in wanted]


if __name__ == "__main__":
    main()
