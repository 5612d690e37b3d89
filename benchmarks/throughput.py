"""How fast recipes train, sample, evaluate and read data; training in turns with the plain reference, in one run.

python -m benchmarks.throughput [--recipe NAME …] [--width W] [--out FILE]    # rows, and a record of them
python -m benchmarks.throughput --check RECORD        # 1 where a ratio of plain to fast has fallen since, else 0

Data sets that are not embedded are random images of the published number of classes. Times are medians over rounds, in
which all kinds of training take turns; ratios are medians of those of neighbors in a round.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import plain
from benchmarks.record import keep, resident, said
from condgan.build import build_model, build_state, build_stream
from condgan.data.dataset import Split
from condgan.data.loader import to_device
from condgan.data.open import read
from condgan.data.preprocessing import height_and_width
from condgan.estimate import Flops, compiles, iteration_flops
from condgan.evaluation.classifier import SmallClassifier, classifier
from condgan.evaluation.images import ImageSubset
from condgan.evaluation.statistics import collect_statistics
from condgan.labels import LabelTable
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.sampling.model import Model
from condgan.training.state import State
from condgan.training_steps import build_steps
from condgan.utils.device import device, keep_memory, precision, try_algorithms
from condgan.utils.errors import UserError
from condgan.utils.provenance import describe_machine

MOST_IMAGES, MOST_BYTES = 50_000, 1 << 27
"""Of random images, unless a batch has more."""
LONG_ENOUGH = 0.5
"""Seconds that are measured at once, unless one iteration is longer."""
TOLERANCE = 0.15
"""By how much a ratio may be lower than the recorded one."""


class Case(NamedTuple):
    """A recipe and its overrides."""

    recipe: str
    overrides: tuple[str, ...] = ()

    def load(self, *more: str) -> Recipe:
        """The recipe, which never ends; its compilation is settled by its own length."""
        overrides = [*self.overrides, *more]
        recipe = load(self.recipe, overrides)
        compiled = compiles(recipe, some_split(recipe, 1).labels.spec)
        return load(self.recipe, [*overrides, "schedule.images=1_000_000_000", f"compute.compile={compiled}".lower()])


def widths(width: int) -> tuple[str, ...]:
    """Both networks' width as overrides."""
    return f"generator.width={width}", f"backbone.width={width}"


CASES = (
    Case("digits-acgan"),
    Case("digits-biggan"),
    Case("biggan-cifar10", widths(32)),
    Case("biggan-cifar10", widths(64)),
    Case("digits-stargan"),
    Case("mnist-acgan"),
)


def some_split(recipe: Recipe, most: int = MOST_IMAGES) -> Split:
    """At most so many training images of a recipe: embedded ones, or random ones with random labels."""
    data, spec = recipe.data, recipe.data.published_spec()
    if spec is None:
        whole = read(data.sources, data.size, data.channels).train
        return whole.at(torch.arange(min(most, len(whole))))
    height, width = height_and_width(data.size)
    drawing = torch.Generator().manual_seed(0)
    count = min(most, max(recipe.schedule.batch, MOST_BYTES // (data.channels * height * width)))
    images = torch.randint(256, (count, data.channels, height, width), dtype=torch.uint8, generator=drawing)
    if spec.exclusive:
        return Split(images, LabelTable.from_index(spec, torch.randint(spec.width, (count,), generator=drawing)))
    return Split(images, LabelTable.from_values(spec, torch.rand(count, spec.width, generator=drawing) < 0.5))


def fast_stepper(recipe: Recipe, split: Split, state: State | None = None) -> Callable[[], Any]:
    """A function that trains one iteration as condgan does, from the start unless a state is given."""
    state = state or build_state(recipe, split.labels.spec)
    steps = build_steps(recipe, state, to_device(split, device(), recipe.data.resident))
    return lambda: next(steps)


def plain_stepper(recipe: Recipe, split: Split) -> Callable[[], Any]:
    """A function that trains one iteration plainly."""
    with device():  # where large networks are drawn sooner
        trainer = plain.Trainer(recipe, split.labels.to(device()))
    batches = plain.loader(recipe, split)
    return lambda: trainer.step(batches)


KINDS: dict[str, tuple[str, ...]] = {
    "plain": (), "fast": (), "eager": ("compute.compile=false",), "float32": ("compute.precision=float32",),
    "contiguous": ("compute.channels_last=false",), "unfused": ("compute.fused_optimizers=false",), "unmapping": (),
    "recompute": ("compute.recompute=true", "compute.compile=false"), "compiled": ("compute.compile=true",),
}  # fmt: skip
"""What is trained in turns, and its overrides: fast, and fast with one of its switches the other way."""
SWITCHES = ("contiguous", "unfused", "unmapping", "recompute", "compiled")
"""Those that are looked at when asked for alone; `unmapping` leaves freed memory to glibc."""


def kinds_of(recipe: Recipe, switches: bool) -> list[str]:
    """Those that differ and are possible."""
    rounded = precision(recipe.compute.precision, device()) != torch.float32
    kinds = ["plain", "fast", *(["eager"] if recipe.compute.compile else []), *(["float32"] if rounded else [])]
    impossible = {"compiled"} if recipe.compute.compile else {"recompute"} if recipe.backbone.name == "acgan" else set()
    return kinds + [name for name in SWITCHES if switches and name not in impossible]


Building = Callable[[], Callable[[], Any]]
"""Builds what is trained, and returns a function that trains an iteration."""


class Apart:
    """Training in a process of its own, idle in between: some of what makes it fast is the process's.

    `prepare` is called there, and reads the data; what it returns builds the rest.
    """

    def __init__(self, prepare: Callable[[], Building]) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, prepare), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, options: int | str) -> float:
        """How long a step takes, the mean of so many in a row; or the "flops" of one, or what it needs "MiB" of."""
        self.pipe.send(options)
        return self.pipe.recv()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def prepared(case: Case, kind: str) -> Building:
    """A kind of training of a recipe."""
    recipe = case.load(*KINDS[kind])
    split = some_split(recipe)
    if kind not in ("plain", "unmapping"):
        keep_memory()
    if kind != "plain":
        try_algorithms()
    return partial(plain_stepper if kind == "plain" else fast_stepper, recipe, split)


def _serve(pipe: Connection, prepare: Callable[[], Building]) -> None:
    build = prepare()
    before = most_resident()
    step = build()
    answers = {"flops": lambda: counted(step), "MiB": lambda: _taken(before)}
    while True:
        options = pipe.recv()
        pipe.send(answers[options]() if options in answers else seconds(step, options))


def seconds(step: Callable[[], Any], times: int) -> float:
    """How long a step takes, the mean of so many in a row."""
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        step()
    synchronize()
    return (time.perf_counter() - start) / times


def synchronize() -> None:
    """Wait for what the accelerator still computes."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def in_turns(kinds: dict[str, Apart], rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind's step in each round; all have been called twice before."""
    once = {name: [kind.ask(1) for _ in range(2)][1] for name, kind in kinds.items()}
    times = max(1, round(LONG_ENOUGH / min(once.values())))
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, kind in kinds.items():
            found[name].append(kind.ask(times))
    return found


def rate(make: Callable[[], int]) -> float:
    """Images per second of what makes some and tells how many: the median of three times, after one."""
    made = make()
    return made / statistics.median(seconds(make, 1) for _ in range(3))


def counted(step: Callable[[], Any]) -> int:
    """The floating-point operations of a step that is not compiled."""
    with Flops() as flops:
        step()
    return flops.total


def matmul_flops(kind: torch.dtype) -> float:
    """Operations per second of the fastest of some square matrix products, as large as takes a twentieth second."""
    best, size, took = 0.0, 256, 0.0
    while took < 0.05 and size < 16_384:
        size *= 2
        a, b = (torch.randn(size, size, dtype=kind, device=device()) for _ in range(2))
        torch.matmul(a, b)
        took = min(seconds(lambda a=a, b=b: torch.matmul(a, b), 1) for _ in range(5))
        best = max(best, 2 * size**3 / took)
    return best


def sampling_rate(recipe: Recipe, split: Split) -> float:
    """Images per second by the model that a run's checkpoint would give, or by its translator."""
    state = build_state(recipe, split.labels.spec)
    model = build_model(recipe, split.labels.spec, state.ema.module, state.discriminator, 0)
    model = replace(model, precision=recipe.compute.precision)
    if isinstance(model, Model):
        classes = model.classes[:16]
        return rate(lambda: len(model.sample(classes, 512 // len(classes))))
    images, labels = split.images[:512].cpu(), split.labels[:512]
    return rate(lambda: len(model.generate(images, labels)))


def evaluation_rate(split: Split) -> float:
    """Images per second that the classifier looks at, for moments and agreement."""
    reader = classifier(
        SmallClassifier(split.images.shape[1], split.labels.spec).to(device()).eval().requires_grad_(False)
    )
    images = ImageSubset.of("images", split.at(torch.arange(min(2_048, len(split)))))
    return rate(lambda: collect_statistics(images, reader, frozenset({"moments", "predictions"}), reader).count or 0)


def data_rate(recipe: Recipe, split: Split) -> float:
    """Images per second of the stream that the networks get, with nothing else to do."""
    batches = build_stream(recipe, to_device(split, device(), recipe.data.resident))
    count = max(1, 10_000 // recipe.schedule.batch)
    return rate(lambda: sum(len(next(batches).images) for _ in range(count)))


def _taken(before: float) -> float:
    """MiB at most that were in use: of a GPU's, or beside what the process had before."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return most_resident() - before


def most_resident() -> float:
    """MiB that this process has had at most."""
    return resident("VmHWM") / 2**20


def measure(case: Case, rounds: int, switches: bool = False) -> dict[str, Any]:
    """The row of a record."""
    recipe = case.load()
    split = some_split(recipe)
    return trained(case, rounds, switches) | {
        "sampling_images_per_s": rounded(sampling_rate(recipe, split)),
        "evaluation_images_per_s": rounded(evaluation_rate(split)),
        "data_images_per_s": rounded(data_rate(recipe, split)),
    }


def trained(case: Case, rounds: int, switches: bool = False) -> dict[str, Any]:
    """What a row says of training."""
    recipe, load_before = case.load(), os.getloadavg()[0]
    split, kind = some_split(recipe, 1), precision(recipe.compute.precision, device())
    kinds = {name: Apart(partial(prepared, case, name)) for name in kinds_of(recipe, switches)}
    try:
        times = in_turns(kinds, rounds)
        mib = {f"{name}_mib": kind.ask("MiB") for name, kind in kinds.items()}
        plain_flops = kinds["plain"].ask("flops")
    finally:
        for one in kinds.values():
            one.stop()
    median = {name: statistics.median(of_kind) for name, of_kind in times.items()}
    ratios = {name: [a / b for a, b in zip(times["plain"], times[name], strict=True)] for name in kinds}
    flops, ceiling = iteration_flops(recipe, split.labels.spec), matmul_flops(kind)
    row = {
        "recipe": case.recipe,
        "overrides": case.overrides,
        "device": device_name(),
        "width": recipe.generator.options["width"],
        "batch": recipe.schedule.batch,
        "precision": str(kind).removeprefix("torch."),
        "compiled": recipe.compute.compile,
        "plain_s": median["plain"],
        "fast_s": median["fast"],
        "ratio": statistics.median(ratios["fast"]),
        "ratio_min": min(ratios["fast"]),
        "ratio_max": max(ratios["fast"]),
    }
    for name in [name for name in kinds if name not in ("plain", "fast")]:
        row |= {f"{name}_s": median[name], f"{name}_ratio": statistics.median(ratios[name])}
    row |= {
        "images_per_s": recipe.schedule.batch * recipe.schedule.d_steps / median["fast"],
        "plain_gflop": plain_flops / 1e9,
        "gflop": flops / 1e9,
        "gflops": flops / median["fast"] / 1e9,
        "matmul_gflops": ceiling / 1e9,
        "share": flops / median["fast"] / ceiling,
        **mib,
        "threads": torch.get_num_threads(),
        "load": load_before,
        "date": date.today().isoformat(),
    }
    return {name: rounded(value) if isinstance(value, float) else value for name, value in row.items()}


def device_name() -> str:
    """The GPU's name, or the CPU's."""
    about = describe_machine()
    return about["gpu"] or about["cpu"]


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def fallen(row: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Whether training has become slower against the plain reference than a record tells."""
    return row["ratio"] < (1 - TOLERANCE) * recorded["ratio"]


def check(record: Path, rounds: int) -> bool:
    """Measure a record's rows again, and say which ratios have fallen; whether none has.

    Raises UserError for a file that is no record, and for one of another device or number of threads.
    """
    try:
        rows = json.loads(record.read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"'{record}' given: expected a record such as --out writes") from None
    here = device_name(), torch.get_num_threads()
    if other := next((row for row in rows if (row["device"], row["threads"]) != here), None):
        raise UserError(
            f"'{record}' is of {other['device']} with {other['threads']} threads, this is {here[0]} with {here[1]}: "
            "ratios of the same can be compared alone; make a record here, by --out"
        )
    good = True
    for before in rows:
        row = trained(Case(before["recipe"], tuple(before["overrides"])), rounds)
        worse = fallen(row, before)
        good = good and not worse
        print(
            f"{'FELL' if worse else 'good'}  {row['recipe']} of width {row['width']}: {row['ratio']}, was "
            f"{before['ratio']}, least {(1 - TOLERANCE) * before['ratio']:.3g}",
            flush=True,
        )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", metavar="NAME")
    parser.add_argument("--width", type=int, help="of both networks")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--compile", choices=["auto", "true", "false"])
    parser.add_argument("--switches", action="store_true", help="also with each switch of the fast path the other way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print a line of JSON per recipe")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a record")
    parser.add_argument("--check", type=Path, metavar="RECORD", help="compare with a record, and measure nothing else")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds} given: expected 1 or more")
    try:
        if given.check:
            parser.exit(0 if check(given.check, given.rounds) else 1)
        run(given)
    except UserError as error:
        parser.error(str(error))


def run(given: argparse.Namespace) -> None:
    """Measure what was asked for. Raises UserError for a recipe that is unknown, or whose data are not there."""
    overrides = tuple(
        f"compute.{name}={getattr(given, name)}" for name in ("precision", "compile") if getattr(given, name)
    )
    cases = [Case(name) for name in given.recipe] if given.recipe else CASES
    if given.width:
        cases = list(dict.fromkeys(Case(case.recipe, widths(given.width)) for case in cases))
    rows = []
    for case in cases:
        rows.append(measure(Case(case.recipe, case.overrides + overrides), given.rounds, given.switches))
        print(said(rows[-1], given.json), flush=True)
    if given.out:
        keep(given.out, "benchmarks.throughput", rounds=given.rounds, rows=rows)


if __name__ == "__main__":
    main()
