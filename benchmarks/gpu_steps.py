"""What `benchmarks.gpu_check` looks at on a device: a generator function a step, which yields each finding at once.

Steps run in processes of their own, so that none leaves settings, memory or a broken device to the next one. They use
the device that condgan uses; what only a GPU can tell is skipped elsewhere.
"""

import gc
import importlib.util
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.throughput import (
    Case,
    fast_stepper,
    matmul_flops,
    plain_stepper,
    seconds,
    some_split,
    synchronize,
    widths,
)
from condgan.build import build_model, build_state, build_stream
from condgan.data.dataset import Split
from condgan.data.loader import to_device
from condgan.estimate import estimate_memory, iteration_flops
from condgan.evaluation.classifier import SmallClassifier, classifier
from condgan.evaluation.metrics.distances import frechet
from condgan.evaluation.statistics import Need, collect_statistics
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.networks.attention import Attention
from condgan.networks.spectral_norm import TrainedNorms, spectral_norms
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.checkpoint import restore, save_checkpoint
from condgan.sampling.fuse import fuse_for_inference
from condgan.sampling.model import Fakes, Model
from condgan.training.state import State
from condgan.training_steps import build_steps
from condgan.types import Batch, Generator
from condgan.utils.device import can_compile, device, keep_memory, runs_on, tf32, try_algorithms

Finding = dict[str, Any]
Step = Callable[["Plan"], Iterator[Finding]]
GIB = 2**30
ROOT = Path(__file__).parents[1]


class Skipped(Exception):
    """This device cannot tell, and why."""


@dataclass(frozen=True)
class Plan:
    """What a step is given."""

    out: Path
    """A folder for files."""
    data: str | None
    """Labeled images to train on."""
    tiny: bool
    """Whether everything is as small as can be."""
    ends: float
    """When the step is stopped, by time.time()."""

    @property
    def left(self) -> float:
        """Seconds that the step may still take."""
        return self.ends - time.time()

    def case(self, name: str, *overrides: str) -> Case:
        """A recipe, which is made narrow where everything is to be tiny."""
        if not self.tiny:
            return Case(name, overrides)
        small = [*overrides, *widths(4)]
        if not name.startswith("digits-"):
            recipe = load(name)
            small += ["schedule.batch=4", "schedule.accumulate=1", "data.size=32"]
            parts = (part for part in ("generator", "backbone") if getattr(recipe, part).options.get("attention"))
            small += [f"{part}.attention=[16]" for part in parts]
        return Case(name, tuple(small))

    def seconds(self, of_one: Callable[[], Any], least: float = 1.5) -> float:
        """How long a call takes, after three, in the mean of as many as take `least` seconds."""
        seconds(of_one, 2)
        times = 1 if self.tiny else max(1, min(200, round(least / seconds(of_one, 1))))
        return seconds(of_one, times)


def finding(
    what: str,
    number: float,
    unit: str = "",
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    **more: Any,
) -> Finding:
    """A number and whether it is within its limits; None where it has none. What is not a number never is."""
    limits = {"at_most": at_most, "at_least": at_least}
    good = (at_most is None or number <= at_most) and (at_least is None or number >= at_least)
    passed = None if at_most is at_least is None else good
    rounded = float(f"{number:.5g}")
    shown = rounded if math.isfinite(rounded) else str(rounded)  # JSON knows neither NaN nor infinities
    return {"what": what, "passed": passed, "number": shown, "unit": unit, **_given(limits), **more}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def on_gpu(why: str = "needs a GPU") -> None:
    """Raises Skipped on a CPU."""
    if device().type != "cuda":
        raise Skipped(why)


def peak() -> float | None:
    """GiB of the GPU that tensors have taken at most since `forget_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated() / GIB if device().type == "cuda" else None


def forget_peak() -> None:
    if device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# Does it work


def arch(plan: Plan) -> Iterator[Finding]:
    """Whether this PyTorch holds code for the GPU."""
    if not torch.cuda.is_available():
        raise Skipped("needs a GPU")
    (major, minor), built = torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
    about = {
        "gpu": torch.cuda.get_device_name(),
        "gib": torch.cuda.get_device_properties(0).total_memory / GIB,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    covered = finding("compute capability is among the built ones", major + minor / 10, **about, built=built)
    yield covered | {"passed": runs_on(built, major, minor)}
    product = torch.randn(512, 512, device=device()) @ torch.randn(512, 512, device=device())
    yield finding("a product is finite", float(product.isfinite().float().mean()), at_least=1)


BACKBONES = {
    "acgan": Case("digits-acgan"),
    "resnet": Case("digits-biggan"),
    "biggan-deep": Case(
        "biggan-deep-imagenet128",
        ("data.size=32", "data.classes=10", "schedule.batch=16", "schedule.accumulate=1", *widths(16),
         "generator.attention=[16]", "backbone.attention=[16]"),
    ),
    "sagan-dcgan": Case("digits-sagan"),
    "r3gan": Case("digits-r3gan"),
    "light": Case("any-projection", ("data.source=digits", "data.size=16", "data.channels=1")),
    "stargan": Case("digits-stargan"),
}  # fmt: skip
"""A recipe of each backbone that takes images, small enough for a CPU in double precision."""


class DrawnOnCPU(TorchFunctionMode):
    """Random numbers are drawn on the CPU in float32 meanwhile, so that devices and precisions share their draws."""

    DRAWING = (torch.randn, torch.rand, torch.randint, torch.randperm)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        how = dict(kwargs or {})
        if func not in self.DRAWING:
            return func(*args, **how)
        where, kind = how.pop("device", None), how.pop("dtype", None)
        if func in (torch.randn, torch.rand):
            return func(*args, dtype=torch.float32, **how).to(where, kind or torch.get_default_dtype())
        return func(*args, **how).to(where)


class Iteration(NamedTuple):
    """What an iteration of the loop tells."""

    losses: dict[str, float]
    gradients: dict[str, dict[str, Tensor]]
    """Each player's by its parameters' names, as vectors."""

    def far_from(self, other: "Iteration") -> float:
        """The largest difference of a loss, relative to it where it is above 1."""
        return farthest(self.losses, other.losses)

    def whole(self, player: str) -> Tensor:
        """A player's gradients as one vector."""
        return torch.cat([*self.gradients[player].values()])

    def worst(self, other: "Iteration") -> dict[str, float]:
        """The three parameters whose gradients differ most, relative to their players' whole ones, and how far."""
        far = {
            f"{player}.{name}": float((mine - other.gradients[player][name]).norm() / other.whole(player).norm())
            for player, gradients in self.gradients.items()
            for name, mine in gradients.items()
        }
        return dict(sorted(far.items(), key=lambda one: -one[1])[:3])


def farthest(losses: Mapping[str, float | Tensor], others: Mapping[str, float | Tensor]) -> float:
    """The largest difference of a loss from the other one of its name, relative to that where it is above 1."""
    return max(abs(float(losses[one]) - float(others[one])) / max(1, abs(float(others[one]))) for one in others)


def first_iteration(recipe: Recipe, state: State, split: Split, where: torch.device, kind: torch.dtype) -> Iteration:
    """The loop's first iteration with a copy of the state, whose weights it leaves as they are.

    Adam's first step is one of each weight's full rate in its gradient's direction, however small: of what is rounding,
    too, which the second player would see.
    """
    state, gradients = moved(deepcopy(state), where, kind), dict[str, dict[str, Tensor]]()
    for player, optimizer in (("generator", state.g_optimizer), ("discriminator", state.d_optimizer)):

        def keep(*_: Any, player: str = player) -> None:
            gradients[player] = {
                name: parameter.grad.detach().double().cpu().flatten()
                for name, parameter in getattr(state, player).named_parameters()
                if parameter.grad is not None
            }

        optimizer.register_step_pre_hook(keep)
        optimizer.defaults["lr"] = 0.0
    split = to_device(replace(split, images=split.images.cpu()), where)
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        with DrawnOnCPU():
            losses = next(build_steps(recipe, state, split, converted(build_stream(recipe, split), kind), False))
    finally:
        torch.set_default_dtype(before)
    return Iteration({name: float(loss) for name, loss in losses.items()}, gradients)


def converted(batches: Iterator[Batch], kind: torch.dtype) -> Iterator[Batch]:
    for images, labels in batches:
        yield Batch(images.to(kind), Labels(labels.spec, labels.values.to(kind), labels.known))


def moved(state: State, where: torch.device, kind: torch.dtype) -> State:
    """The state with its networks elsewhere and in another precision, before its first iteration."""
    for network in (state.generator, state.discriminator, state.ema.module):
        network.to(where, kind)
    return state


def calmed(recipe: Recipe, labels: LabelSpec) -> State:
    """A state without dropout, whose masks are each device's own, and whose attention has a say."""
    state = build_state(recipe, labels)
    for network in (state.generator, state.discriminator, state.ema.module):
        for layer in network.modules():
            if isinstance(layer, nn.Dropout2d):
                layer.p = 0.0
            elif isinstance(layer, Attention):
                layer.gamma.data.fill_(0.5)
    return state


def gradients(plan: Plan) -> Iterator[Finding]:
    """Losses and gradients of an iteration against those of the CPU in double precision."""
    here = device()
    kinds = {"float32": False, "TF32": True} if here.type == "cuda" else {"float32": False}
    for name, case in BACKBONES.items():
        options = "schedule.d_steps=1", "schedule.batch=128", "compute.compile=false"
        recipe, rounded = (case.load(*options, f"compute.precision={kind}") for kind in ("float32", "bfloat16"))
        split = noise(some_split(recipe, 128))
        state = calmed(recipe, split.labels.spec)
        exact = first_iteration(recipe, state, split, torch.device("cpu"), torch.float64)
        for kind, rounded_too in kinds.items():
            of_losses, of_gradients = LIMITS[kind]
            with tf32(rounded_too):
                found = first_iteration(recipe, state, split, here, torch.float32)
            distance = max(apart(found.whole(player), exact.whole(player)) for player in exact.gradients)
            yield finding(f"{name}, {kind}: losses", found.far_from(exact), at_most=of_losses)
            yield finding(f"{name}, {kind}: gradients", distance, at_most=of_gradients, worst=found.worst(exact))
        found = first_iteration(rounded, state, split, here, torch.float32)
        alike = min(cosine(found.whole(player), exact.whole(player)) for player in exact.gradients)
        yield finding(f"{name}, bfloat16: losses", found.far_from(exact), at_most=0.05)
        yield finding(f"{name}, bfloat16: cosine of gradients", alike, at_least=COSINE, worst=found.worst(exact))


LIMITS = {"float32": (1e-3, 5e-3), "TF32": (1e-2, 0.1)}
"""How far losses and gradients may be from exact ones, relatively; docs/gpu.md says why gradients may be farther."""
COSINE = 0.97
"""Of gradients in bfloat16 with exact ones, at least."""


def noise(split: Split) -> Split:
    """Random pixels in the images' place: of flat ones, rounding decides on which side of a kink they lie."""
    drawing = torch.Generator().manual_seed(0)
    return replace(split, images=torch.randint(256, split.images.shape, dtype=torch.uint8, generator=drawing))


def apart(one: Tensor, other: Tensor) -> float:
    """The distance of two vectors, relative to the second's length."""
    return float((one - other).norm() / other.norm())


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one, other, 0))


SMALL = ("generator.width=8", "backbone.width=4", "schedule.batch=16")
"""What makes a recipe of the digits train in seconds."""
DIGITS = ("digits-acgan", "digits-biggan", "digits-stargan")
"""Recipes with embedded data that do what all others do, a gradient penalty and a translator among it."""


def spectral(plan: Plan) -> Iterator[Finding]:
    """Singular vectors stay float32 and move once per optimizer step; compiled as eager."""
    case, moves = plan.case("digits-biggan", "schedule.d_steps=2", "schedule.g_steps=1"), dict[int, int]()
    iterate = TrainedNorms.iterate

    def counted(norms: TrainedNorms) -> None:
        for norm in norms.norms:
            moves[id(norm)] = moves.get(id(norm), 0) + 1
        iterate(norms)

    def vectors(*overrides: str) -> tuple[State, Tensor]:
        recipe = case.load(*overrides)
        split = some_split(recipe)
        state = build_state(recipe, split.labels.spec)
        steps = build_steps(recipe, state, to_device(split, device()))
        for _ in itertools.islice(steps, 2):
            pass
        norms = [*spectral_norms(state.generator), *spectral_norms(state.discriminator)]
        return state, torch.cat([norm.u.flatten() for _, norm, _ in norms])

    TrainedNorms.iterate = counted  # pyright: ignore[reportAttributeAccessIssue]
    try:
        state, eager = vectors("compute.precision=bfloat16", "compute.compile=false")
    finally:
        TrainedNorms.iterate = iterate
    yield finding("vectors in bfloat16 training that are float32", float(eager.dtype == torch.float32), at_least=1)
    for player, steps in (("generator", 1), ("discriminator", 2)):
        counts = {moves[id(norm)] / 2 for _, norm, _ in spectral_norms(getattr(state, player))}
        for limit in counts:
            yield finding(f"moves of the {player}'s in an iteration", limit, at_least=steps, at_most=steps)
    if plan.tiny:  # a minute on a CPU, which the step on compiling takes too
        return
    needs_compiler()
    with tf32(False):
        eager, compiled = (
            vectors("compute.precision=float32", f"compute.compile={one}")[1] for one in ("false", "true")
        )
    yield finding("vectors compiled, from eager", apart(compiled, eager), at_most=1e-2)


def needs_compiler() -> None:
    """Raises Skipped where nothing can be compiled."""
    if not can_compile():
        raise Skipped("needs a C++ compiler and Python's headers")


def synchronization(plan: Plan) -> Iterator[Finding]:
    """Five iterations wait for the device nowhere."""
    try_algorithms()
    cases = [plan.case(name) for name in DIGITS] + [plan.case("digits-biggan", "data.resident=false", "data.flip=true")]
    for case in cases:
        step = stepper(case.load("compute.compile=false"))
        for _ in range(3):
            step()
        if device().type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        done, error = 0, {}
        try:
            for _ in range(5):
                step()
                done += 1
        except RuntimeError as raised:
            error = {"error": last_lines(raised)}
        finally:
            if device().type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        resident = "" if "data.resident=false" not in case.overrides else ", images not on the device"
        yield finding(f"{case.recipe}{resident}: iterations", done, at_least=5) | error


def stepper(recipe: Recipe, state: State | None = None, split: Split | None = None) -> Callable[[], Any]:
    """A function that trains an iteration, by default of a state and of images of its own."""
    split = split or some_split(recipe)
    return fast_stepper(recipe, split, state or built(recipe, split.labels.spec))


def built(recipe: Recipe, labels: LabelSpec) -> State:
    """A state whose weights are drawn on the device, which takes a large network a minute on a CPU."""
    with device():
        return build_state(recipe, labels)


def last_lines(error: BaseException) -> str:
    """What is raised, and where."""
    import traceback

    return "".join(traceback.format_exception(error)[-3:])[-1500:]


LAYOUT = re.compile(r"nchw.?to.?nhwc|nhwc.?to.?nchw|convert.?(layout|tensor)|transpose|permute", re.IGNORECASE)
"""Kernels that lay a tensor out anew, by their names."""
COPY = re.compile(r"copy", re.IGNORECASE)
"""Kernels that copy, some of them to another layout or precision."""


def layout(plan: Plan) -> Iterator[Finding]:
    """What layouts cost: kernels that convert them, and transposed convolutions in either."""
    try_algorithms()
    on_gpu()
    step = stepper(plan.case("biggan-cifar10", "compute.precision=bfloat16", "compute.compile=false").load())
    for _ in range(3):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        synchronize()
    took = {one.key: one.self_device_time_total for one in profile.key_averages() if one.self_device_time_total}
    longest = dict(sorted(took.items(), key=lambda one: -one[1])[:12])
    converting = {name: time for name, time in took.items() if LAYOUT.search(name)}
    share = sum(converting.values()) / sum(took.values())
    yield finding(
        "biggan-cifar10's time in conversions", share, at_most=0.05, microseconds=longest, converting=converting
    )
    copies = sum(time for name, time in took.items() if COPY.search(name)) / sum(took.values())
    yield finding("biggan-cifar10's time in copies, to other layouts or precisions", copies)
    for kind in (torch.bfloat16, torch.float32):
        times = {}
        for form in (torch.contiguous_format, torch.channels_last):
            layer = nn.ConvTranspose2d(256, 256, 4, 2, 1, device=device(), dtype=kind).to(memory_format=form)  # pyright: ignore
            images = torch.randn(64, 256, 16, 16, device=device(), dtype=kind).to(memory_format=form)
            images.requires_grad_(True)
            times[form] = plan.seconds(lambda layer=layer, images=images: layer(images).sum().backward(), 0.3)
        yield finding(
            f"transposed convolution in {str(kind).removeprefix('torch.')}, channels last from first",
            times[torch.channels_last] / times[torch.contiguous_format], at_most=1.2,
            ms={str(form).removeprefix("torch."): 1e3 * time for form, time in times.items()},
        )  # fmt: skip


def penalties(plan: Plan) -> Iterator[Finding]:
    """Exact gradient penalties and R1 are finite; what memory they take."""
    try_algorithms()
    for name, overrides in {"any-biggan": ("data.classes=10",), "celeba-stargan": ("schedule.d_steps=1",)}.items():
        for weights in ("{}", "{gradient_penalty: 10, r1: 1}"):
            if name == "celeba-stargan" and weights == "{}":
                continue  # its Wasserstein loss needs one
            step = None
            forget_peak()
            case = plan.case(name, *overrides, f"objective.penalties={weights}", "compute.compile=false")
            step = stepper(case.load())
            losses = [step() for _ in range(3)][-1]
            finite = min(float(loss.isfinite()) for loss in losses.values())
            yield finding(f"{name}, penalties {weights}: losses are finite", finite, at_least=1, gib=peak())


def compiling(plan: Plan) -> Iterator[Finding]:
    """Graph breaks, recompilations, seconds, and losses beside eager ones."""
    needs_compiler()
    from torch._dynamo.utils import counters

    width = () if plan.tiny else widths(32)
    for name, iterations in {"biggan-cifar10": 20, "digits-stargan": 5}.items():
        if name != "biggan-cifar10" and plan.left < 40:
            return
        torch._dynamo.reset()
        counters.clear()
        case = plan.case(name, *(width if name == "biggan-cifar10" else ()), "compute.precision=float32")
        iterations = 3 if plan.tiny else iterations
        with tf32(False):
            recipe = case.load("compute.compile=false")
            split = some_split(recipe)
            losses = []
            for compiled in (False, True):
                state = calmed(recipe, split.labels.spec)
                steps = build_steps(recipe, state, to_device(split, device()), compiled=compiled)
                start = time.perf_counter()
                losses.append([{k: float(v) for k, v in next(steps).items()} for _ in range(2)])
                took, graphs = time.perf_counter() - start, counters["stats"]["unique_graphs"]
                losses[-1] += [{k: float(v) for k, v in next(steps).items()} for _ in range(iterations - 2)]
        breaks = sum(counters["graph_break"].values())
        yield finding(f"{name}: graph breaks", breaks, at_most=0, reasons=list(counters["graph_break"])[:5])
        later = counters["stats"]["unique_graphs"] - graphs
        yield finding(f"{name}: graphs after the second iteration", later, at_most=0)
        yield finding(f"{name}: seconds of the first two iterations", took, "s", graphs=graphs)
        far = [farthest(compiled, eager) for eager, compiled in zip(*losses, strict=True)]
        yield finding(f"{name}: losses of two iterations, from eager", max(far[:2]), at_most=1e-3)
        yield finding(f"{name}: losses of {iterations} iterations, from eager", max(far), at_most=0.1)


def switches(plan: Plan) -> Iterator[Finding]:
    """Images per second by precision, layout and cudnn.benchmark, at 32 and 128 pixels."""
    for name, overrides in {"biggan-cifar10": (), "celeba-stargan": ()}.items():
        for last in ("true", "false"):
            recipe = plan.case(name, *overrides, f"compute.channels_last={last}", "compute.compile=false").load()
            split = some_split(recipe)
            state = built(recipe, split.labels.spec)
            for kind, tries in itertools.product(("bfloat16", "float32"), (True, False)):
                torch.backends.cudnn.benchmark, step = tries, None
                forget_peak()
                case = plan.case(name, *overrides, f"compute.precision={kind}", "compute.compile=false")
                step = stepper(case.load(), state, split)
                rate = images_per_iteration(recipe) / plan.seconds(step, 1.0)
                form = "channels last" if last == "true" else "channels first"
                about = {"recipe": name, "precision": kind, "channels_last": last == "true", "benchmark": tries}
                text = f"{name}, {kind}, {form}, {'' if tries else 'no '}cudnn.benchmark"
                yield finding(text, rate, "images/s", gib=peak(), **about)


def images_per_iteration(recipe: Recipe) -> int:
    return recipe.schedule.batch * recipe.schedule.d_steps


def long_run(plan: Plan) -> Iterator[Finding]:
    """Many iterations keep their memory and stay finite; fused Adam does what Adam does."""
    try_algorithms()
    count = 8 if plan.tiny else 200
    case = plan.case("biggan-cifar10", *(() if plan.tiny else widths(32)), "schedule.d_steps=1")
    forget_peak()
    recipe = case.load("compute.compile=false")
    split = some_split(recipe)
    step = stepper(recipe, None, split)
    sizes, losses = list[float](), dict[str, Tensor]()
    for _ in range(count):
        losses = step()
        sizes.append(torch.cuda.memory_allocated() / 2**20 if device().type == "cuda" else 0.0)
    finite = min(float(loss.isfinite()) for loss in losses.values())
    yield finding(f"losses after {count} iterations are finite", finite, at_least=1)
    yield finding("growth of memory since a quarter of them", sizes[-1] - sizes[count // 4], "MiB", at_most=1)
    expected = (sum(estimate_memory(recipe, split.labels.spec)) + split.images.nbytes) / GIB
    yield finding("memory that is expected, images included", expected, "GiB")
    if (most := peak()) is not None:
        yield finding("memory at most, from what is expected", most / expected, at_least=0.5, at_most=2, gib=most)
    found = []
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    with tf32(False):
        for fused in ("true", "false"):
            options = "compute.precision=float32", "compute.compile=false", f"compute.fused_optimizers={fused}"
            recipe = case.load(*options)
            split = some_split(recipe)
            step = stepper(recipe, calmed(recipe, split.labels.spec), split)
            found.append([{k: float(v) for k, v in step().items()} for _ in range(3)][-1])
    yield finding("losses of the third iteration with fused Adam, from unfused", farthest(*found), at_most=1e-3)


def resuming(plan: Plan) -> Iterator[Finding]:
    """A run goes on from a checkpoint; checkpoints of a device work without it, and the other way round."""
    recipe = plan.case("digits-biggan", "compute.precision=float32", "compute.compile=false").load()
    split = some_split(recipe)
    where, spec = to_device(split, device()), split.labels.spec
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    whole = build_state(recipe, spec)
    losses = [*itertools.islice(build_steps(recipe, whole, where), 6)][-1]
    parts = build_state(recipe, spec)
    for _ in itertools.islice(build_steps(recipe, parts, where), 3):
        pass
    path = save_checkpoint(plan.out / "resuming", parts, recipe, spec, {})
    resumed = build_state(recipe, spec)
    restore(path, resumed, recipe)
    again = [*itertools.islice(build_steps(recipe, resumed, where), 3)][-1]
    yield finding("losses of the sixth iteration, resumed after the third", farthest(again, losses), at_most=1e-3)
    short = [*SMALL, "schedule.images=64", "compute.precision=float32"]
    for trained, sampled in (("device", "CPU"), ("CPU", "device")):
        run = plan.out / f"of-{trained.lower()}"
        command("train", "digits-biggan", *short, "--out", run, cpu=trained == "CPU")
        made = []
        for place in (trained, sampled):
            file = plan.out / f"{trained}-{place}.npz"
            options = ["--per-class", "10", "--precision", "float32"]
            command("sample", run, *options, "--out", file, cpu=place == "CPU")
            made.append(np.load(file)["x"].astype(int))
        off = np.abs(made[0] - made[1])
        yield finding(
            f"a checkpoint of the {trained}, sampled on the {sampled}: gray levels off",
            float(off.mean()), at_most=0.02, most=int(off.max()),
        )  # fmt: skip


def command(*arguments: object, cpu: bool = False, expected: int = 0) -> subprocess.CompletedProcess[str]:
    """Run condgan in a process of its own, on the CPU or wherever it likes."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if cpu else {}
    done = subprocess.run(
        [sys.executable, "-m", "condgan", *map(str, arguments)], env=os.environ | hidden, capture_output=True, text=True
    )
    assert done.returncode == expected, f"exit code {done.returncode}: {done.stderr[-800:]}"
    return done


def features(plan: Plan) -> Iterator[Finding]:
    """Features and Fréchet distances on the device against those on the CPU."""
    count = 64 if plan.tiny else 1_000
    drawing = torch.Generator().manual_seed(0)
    spec = LabelSpec.of_classes([str(number) for number in range(10)])
    labels = LabelTable.from_index(spec, torch.arange(count) % 10)
    made = [torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=drawing) for _ in range(2)]
    real, fake = (images.repeat_interleave(4, 2).repeat_interleave(4, 3) for images in made)
    fake = (fake * 0.8).to(torch.uint8)
    torch.manual_seed(0)
    model, seen = SmallClassifier(3, spec).eval().requires_grad_(False), []
    for where in (torch.device("cpu"), device()):
        own = deepcopy(model).to(where)
        seen.append([own.predict(images, labels[:]).features.double() for images in (real, fake)])
    yield finding("features of the classifier", apart(seen[1][1], seen[0][1]), at_most=1e-3)
    distances = [frechet(fakes, reals) for reals, fakes in seen]
    yield finding("Fréchet distance", abs(distances[1] / distances[0] - 1), at_most=1e-3, values=distances)
    if importlib.util.find_spec("torch_fidelity") is None:
        raise Skipped("torch-fidelity is not installed: Inception was not looked at")
    from benchmarks.evaluation import seeded_inception

    network = seeded_inception(plan.out / "inception.pth").requires_grad_(False)
    chosen, looked = real[: 8 if plan.tiny else 256], []
    for where in (torch.device("cpu"), device()):
        with torch.inference_mode(), tf32(False):
            looked.append(deepcopy(network).to(where)(chosen.to(where))[0].double().cpu())
    yield finding("features of Inception", apart(looked[1].flatten(), looked[0].flatten()), at_most=1e-3)


FORGETFUL = """
import torch
torch.cuda.set_per_process_memory_fraction(2**28 / torch.cuda.get_device_properties(0).total_memory)
from condgan.app.cli.main import main
main()
"""


def failures(plan: Plan) -> Iterator[Finding]:
    """Too little memory is told in a line; SIGTERM saves."""
    run = plan.out / "stopped"
    tiny = [*SMALL, "schedule.save=64", "schedule.images=10_000_000"]
    with subprocess.Popen(
        [sys.executable, "-m", "condgan", "train", "digits-biggan", *tiny, "--out", str(run)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not [*run.glob("checkpoints/[1-9]*")]:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = "".join(process.communicate()[1].strip().splitlines()[-1:])
    saved = "stopped and saved" in said
    yield finding("exit code after SIGTERM", process.returncode, at_least=143, at_most=143, said=said)
    yield finding("what was trained is saved", float(saved), at_least=1)
    on_gpu("needs a GPU to run out of memory safely")
    large = ["train", "any-biggan", "--data", "digits", "data.channels=1", "compute.compile=false"]
    large += ["--out", str(plan.out / "large")]
    done = subprocess.run([sys.executable, "-c", FORGETFUL, *large], capture_output=True, text=True)
    line = "".join(done.stderr.strip().splitlines()[-1:])
    yield finding("exit code without memory", done.returncode, at_least=2, at_most=2, said=line)
    yield finding("it is told in a line", float("not enough memory" in line), at_least=1)


ALONE = """
import json, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from condgan.utils import distributed
from condgan.utils.device import device
with distributed.joined():
    here = device()
    values = torch.arange(4.0, device=here)
    dist.all_reduce(values)
    everyone = torch.empty_like(values)
    dist.all_gather_into_tensor(everyone, values)
    layer = DistributedDataParallel(torch.nn.Linear(4, 1).to(here))
    layer(values).sum().backward()
    good = everyone.tolist() == [0, 1, 2, 3] and layer.module.weight.grad.flatten().tolist() == [0, 1, 2, 3]
    print(json.dumps({"good": good, "backend": str(dist.get_backend_config())}))
"""


def processes(plan: Plan) -> Iterator[Finding]:
    """One process of torchrun exchanges with itself, by NCCL on a GPU, and trains; several are not tried."""
    script = plan.out / "alone.py"
    script.write_text(ALONE)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*launch, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    told = json.loads(done.stdout.splitlines()[-1])
    yield finding("sums, gathered rows and gradients are right", float(told["good"]), at_least=1, **told)
    short = [*SMALL, "schedule.images=32"]
    run = ["-m", "condgan", "train", "digits-biggan", *short, "--out", str(plan.out / "alone")]
    done = subprocess.run([*launch, *run], env=environment, capture_output=True, text=True)
    yield finding("exit code of a run by torchrun", done.returncode, at_most=0, at_least=0, said=done.stderr[-300:])


class Exported(nn.Module):
    """A generator that takes latents and the labels' values, as tensors."""

    def __init__(self, generator: Generator, spec: LabelSpec) -> None:
        super().__init__()
        self.generator, self.spec = generator, spec

    def forward(self, latents: Tensor, values: Tensor) -> Tensor:
        known = torch.ones_like(values[:, :1]).bool()
        return self.generator(latents, Labels(self.spec, values, known))


def onnx(plan: Plan) -> Iterator[Finding]:
    """A generator exported to ONNX makes on the CPU what it makes on the device."""
    if missing := [one for one in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(one) is None]:
        raise Skipped(f"{', '.join(missing)} not installed")
    import onnxruntime  # pyright: ignore[reportMissingImports]

    recipe = plan.case("digits-biggan").load()
    spec = some_split(recipe, 1).labels.spec
    state = calmed(recipe, spec)
    network = Exported(fuse_for_inference(state.ema.module), spec).eval()  # whose kernels are plain weights
    latents = torch.randn(7, recipe.generator.options["latent_dim"])
    values = torch.eye(spec.width)[torch.arange(7) % spec.width]
    with torch.inference_mode(), tf32(False):
        here = network(latents.to(device()), values.to(device())).cpu()
    file = plan.out / "generator.onnx"
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        network.cpu(), (latents, values), str(file), dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=({0: batch}, {0: batch}),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    for count in (1, 7):
        given = dict(zip(names, (latents[:count].numpy(), values[:count].numpy()), strict=True))
        made = torch.from_numpy(session.run(None, given)[0])
        yield finding(f"{count} images, from the device's", float((made - here[:count]).abs().max()), at_most=1e-4)


# How fast is it


def ceilings(plan: Plan) -> Iterator[Finding]:
    """What the device reaches at best: products of 8192² matrices in each precision, and copies."""
    size = 256 if plan.tiny else 8192
    for kind, allowed in ((torch.bfloat16, False), (torch.float32, True), (torch.float32, False)):
        name = "bfloat16" if kind == torch.bfloat16 else "TF32" if allowed else "float32"
        with tf32(allowed):
            yield finding(f"{size}³ product in {name}", product_flops(size, kind, plan) / 1e12, "TFLOP/s")
    source = torch.randn(2**20 if plan.tiny else 2**30, device=device())
    target = torch.empty_like(source)
    took = plan.seconds(lambda: target.copy_(source), 0.2)
    yield finding("copy, read and written", 2 * source.nbytes / took / 1e12, "TB/s")


def product_flops(size: int, kind: torch.dtype, plan: Plan) -> float:
    """Operations per second of a product of random square matrices."""
    a, b = (torch.randn(size, size, dtype=kind, device=device()) for _ in range(2))
    return 2 * size**3 / plan.seconds(lambda: a @ b, 0.3)


PRECISIONS = {
    "bfloat16": ("bfloat16", False), "TF32": ("float32", True), "float32": ("float32", False),
    "as torch has it": ("float32", False),
}  # fmt: skip
"""The recipe's precision, and whether float32 is multiplied in TF32."""
ORDER = (
    ("bfloat16", "eager"), ("TF32", "eager"), ("float32", "eager"), ("as torch has it", "plain"),
    ("bfloat16", "compiled"), ("bfloat16", "CUDA graph"), ("TF32", "compiled"), ("float32", "compiled"),
)  # fmt: skip
"""What is timed, what tells most first; of the plain reference, convolutions are in TF32 by torch's default."""
COMPILING = 40
"""Seconds that must be left for networks to be compiled."""
LARGEST = (256, 192, 128, 96, 64, 32)
"""Batches that are tried where the largest is wanted."""


@dataclass(frozen=True)
class Throughput:
    """A step that trains a recipe in each precision, eager, compiled and as CUDA graphs, beside the plain reference."""

    recipe: str
    overrides: tuple[str, ...] = ()
    largest: bool = False
    """Whether a batch is as large as fits into memory."""

    def __call__(self, plan: Plan) -> Iterator[Finding]:
        keep_memory()
        try_algorithms()
        on_cuda = device().type == "cuda"
        ceiling = product_flops(8192, torch.bfloat16, plan) if on_cuda else matmul_flops(torch.float32)
        chosen = self.overrides
        if self.largest and on_cuda:
            chosen += f"schedule.batch={largest_batch(plan, self.recipe, chosen)}", "schedule.accumulate=1"
        recipe = plan.case(self.recipe, *chosen, "compute.compile=false").load()
        split = some_split(recipe)
        state, flops = built(recipe, split.labels.spec), iteration_flops(recipe, split.labels.spec)
        for kind, way in ORDER:
            compiled = way in ("compiled", "CUDA graph")
            if compiled and not (can_compile() and on_cuda and plan.left > COMPILING):
                continue
            wanted, allowed = PRECISIONS[kind]
            options = f"compute.precision={wanted}", f"compute.compile={str(compiled).lower()}"
            for batch in batches(recipe.schedule.batch, 4):
                forget_peak()
                own = plan.case(self.recipe, *chosen, *options, f"schedule.batch={batch}").load()
                text = f"{self.recipe}, batch {batch}, {kind}, {way}"
                try:
                    if way == "plain":
                        with elsewhere(state):
                            took = plan.seconds(plain_stepper(own, split), 1.0)
                    else:
                        took = timed(plan, own, state, split, allowed, graphs=way == "CUDA graph")
                except torch.OutOfMemoryError:
                    yield finding(f"{text}: not enough memory", math.nan, "images/s")
                    continue
                except RuntimeError as error:  # CUDA graphs are not condgan's own
                    limit = None if way == "CUDA graph" else 0.0
                    yield finding(text, math.nan, "images/s", at_least=limit, error=last_lines(error))
                    break
                done = flops * batch / recipe.schedule.batch / took
                yield finding(
                    text, images_per_iteration(own) / took, "images/s", seconds=took, tflops=done / 1e12,
                    share=done / ceiling, gib=peak(),
                )  # fmt: skip
                break


@contextmanager
def elsewhere(state: State) -> Iterator[None]:
    """The networks of a state are on the CPU meanwhile, so that others have the GPU's memory for themselves."""
    networks = state.generator, state.discriminator, state.ema.module
    for network in networks:
        network.cpu()
    forget_peak()
    yield
    for network in networks:
        network.to(device())


def batches(largest: int, parts: int) -> list[int]:
    """A batch, its half, and so on, down to so many parts of it."""
    return [largest // 2**power for power in range(parts.bit_length()) if largest >= 2 * 2**power]


def timed(plan: Plan, recipe: Recipe, state: State, split: Split, allowed: bool, graphs: bool) -> float:
    """Seconds of an iteration with networks that are compiled anew."""
    from torch._inductor import config

    try:
        with tf32(allowed), config.patch({"triton.cudagraphs": graphs}):
            return plan.seconds(stepper(recipe, state, split))
    finally:  # graphs have memory of their own
        torch._dynamo.reset()
        gc.collect()


def largest_batch(plan: Plan, name: str, overrides: tuple[str, ...]) -> int:
    """The first of `LARGEST` with which an iteration fits into memory in bfloat16."""
    for batch in LARGEST:
        options = f"schedule.batch={batch}", "schedule.accumulate=1", "compute.precision=bfloat16"
        forget_peak()
        try:
            step = stepper(plan.case(name, *overrides, *options, "compute.compile=false").load())
            step()
            step()
            synchronize()
            return batch
        except torch.OutOfMemoryError:
            step = None
    raise Skipped(f"not even {LARGEST[-1]} images fit")


MANY = 50_000


def sampling(plan: Plan) -> Iterator[Finding]:
    """Images per second of the model that a run's checkpoint would give."""
    model, recipe = untrained(plan), plan.case("biggan-cifar10").load()
    count = 20 if plan.tiny else MANY
    for kind, compiled in (("bfloat16", False), ("float32", False), ("bfloat16", True)):
        if compiled and (plan.tiny or not can_compile() or plan.left < COMPILING):
            continue
        one = replace(model, precision=kind, compiled=compiled)
        one.sample(per_class=2)
        took = seconds(lambda one=one: one.sample(per_class=count // len(one.classes)), 1)
        text = f"{recipe.name}, {count:,} images, {kind}, {'compiled' if compiled else 'eager'}"
        yield finding(text, count / took, "images/s", seconds=took)


def untrained(plan: Plan) -> Model:
    recipe = plan.case("biggan-cifar10", "compute.compile=false").load()
    spec = some_split(recipe, 1).labels.spec
    state = built(recipe, spec)
    model = build_model(recipe, spec, state.ema.module, state.discriminator, 0)
    assert isinstance(model, Model)
    return model


def evaluation(plan: Plan) -> Iterator[Finding]:
    """Images per second that are made and looked at, by the classifier and by Inception."""
    model = replace(untrained(plan), precision="bfloat16" if device().type == "cuda" else "float32")
    count = 64 if plan.tiny else MANY
    reader = classifier(SmallClassifier(3, model.spec).to(device()).eval().requires_grad_(False))
    labels = LabelTable.from_index(model.spec, torch.arange(count) % model.spec.width)

    def fakes(count: int) -> Fakes:
        return Fakes(model, labels.at(slice(0, count)), 0, labels=labels.at(slice(0, count)))

    collect_statistics(fakes(64), reader, frozenset({"moments", "predictions"}), reader)
    needs: frozenset[Need] = frozenset({"moments", "predictions", "features"})
    took = seconds(lambda: collect_statistics(fakes(count), reader, needs, reader), 1)
    yield finding(f"{count:,} fakes by the classifier", count / took, "images/s", seconds=took)
    if importlib.util.find_spec("torch_fidelity") is None:
        raise Skipped("torch-fidelity is not installed: Inception was not timed")
    from benchmarks.evaluation import seeded_inception
    from condgan.evaluation.extractors import find_extractor

    seeded_inception(plan.out / "inception.pth")
    inception = find_extractor("inception", plan.out / "inception.pth", device())
    some = 32 if plan.tiny else 5_000
    collect_statistics(fakes(32), inception, frozenset({"moments"}))
    took = seconds(lambda: collect_statistics(fakes(some), inception, frozenset({"moments", "scores"})), 1)
    yield finding(f"{some:,} fakes by Inception", some / took, "images/s", seconds=took)


def training(plan: Plan) -> Iterator[Finding]:
    """Train biggan-cifar10 on real images for what is left of the time; what it makes, against images and seconds."""
    if plan.data is None:
        raise Skipped("no --data given")
    run = plan.out / "run"
    short = [*widths(4), "schedule.batch=16", "schedule.save=256"] if plan.tiny else ["schedule.save=100_000"]
    often = ["schedule.images=100_000_000", "schedule.sample=1_000_000_000", "schedule.keep_best=1"]
    compiled = "auto" if plan.left > 300 and not plan.tiny else "false"
    start = time.time()
    with subprocess.Popen(
        [sys.executable, "-m", "condgan", "train", "biggan-cifar10", "--data", plan.data, *short, *often,
         "schedule.log=20_000", f"compute.compile={compiled}", "ema.start=20_000", "--out", str(run)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        reserve = min(90.0, plan.left / 2)
        while process.poll() is None and plan.left > reserve:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    about = {"said": said[-400:], "took": time.time() - start}
    yield finding("exit code after SIGTERM", process.returncode, at_least=143, at_most=143, **about)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    curve = [
        {name: line[name] for name in ("images", "seconds", "label_agreement", "fd_classifier", "coverage")}
        for line in lines
        if "fd_classifier" in line
    ]
    rate = lines[-1]["images"] / lines[-1]["seconds"]
    yield finding("trained", lines[-1]["images"], "images", images_per_s=rate, compile=compiled, curve=curve)
    command("sample", run, "--per-class", "10", "--checkpoint", "latest", "--out", plan.out / "images")
    shutil.copy(plan.out / "images" / "sheet.png", plan.out / "sheet.png")
    if plan.left < 40:
        raise Skipped("no time was left to judge the last checkpoint")
    asked = "label_agreement,fd_classifier,coverage"
    told = command("evaluate", run, "--checkpoint", "latest", "--metrics", asked, "--json").stdout
    metrics = json.loads(told)
    for name, better in (("label_agreement", "higher"), ("fd_classifier", "lower"), ("coverage", "higher")):
        yield finding(f"{name} of the last checkpoint ({better} is better)", metrics[name], real=metrics["real"][name])
