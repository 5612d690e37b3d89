"""How fast training is on this machine, measured by a few of its iterations."""

import time
from collections.abc import Callable

import torch

from condgan.build import build_state, image_shape
from condgan.data.dataset import Split
from condgan.data.loader import to_device
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.recipes.load import as_tree, from_tree
from condgan.recipes.schema import Recipe
from condgan.training_steps import build_steps
from condgan.utils import distributed
from condgan.utils.device import device, keep_memory, try_algorithms
from condgan.utils.threads import free_cores

WARM_UP, ITERATIONS = 2, 20
"""Iterations before the clock starts, and those that it measures."""
WARM_UP_SECONDS, TIMED_SECONDS = 3.0, 0.6
"""After which no other iteration of either begins: those after the first one differ by some hundredths on a CPU."""
TRAINING = 0.8
"""The share of a command's time that iterations take; the rest decodes pictures, draws, scores and evaluates."""
MOST_LABELS = 64
"""Values of a field of labels at most whose images are made."""


def images_per_second(recipe: Recipe, labels: LabelSpec, clock: Callable[[], float] = time.perf_counter) -> float:
    """How many images of training this machine takes in a second, all processes together, not compiled.

    Measured on random images: twenty iterations after a warm-up, or as many as begin in `TIMED_SECONDS`, one at least.
    Random numbers stay as they are.
    """
    keep_memory()
    try_algorithms()
    tree = as_tree(recipe)
    endless = from_tree(tree | {"schedule": tree["schedule"] | {"images": 10**12, "decay": 0}})
    with free_cores(told=False), torch.random.fork_rng():
        torch.manual_seed(0)
        table = _some_labels(labels)
        table = table.at(torch.arange(max(len(table), recipe.schedule.batch)) % len(table))
        shape = image_shape(recipe)
        images = torch.randint(256, (len(table), *shape), dtype=torch.uint8)
        state = build_state(endless, labels)
        steps = build_steps(endless, state, to_device(Split(images, table), device()), compiled=False)
        began, first = clock(), 0
        for iteration in range(1, WARM_UP + ITERATIONS + 1):
            next(steps)
            _finish()
            if distributed.any_rank(clock() - began > (TIMED_SECONDS if first else WARM_UP_SECONDS)):
                break
            if iteration == WARM_UP:
                began, first = clock(), state.images
        speed = (state.images - first) / (clock() - began)
    return max(1, distributed.from_main(round(1000 * speed))) / 1000


def minutes_for(images: int, speed: float) -> float:
    """The minutes that a run of so many images takes, evaluation included."""
    return images / speed / TRAINING / 60


def images_within(minutes: float, speed: float) -> int:
    """The images of training for which so many minutes suffice."""
    return int(60 * minutes * TRAINING * speed)


def in_words(minutes: float) -> str:
    """A time that was estimated, for people."""
    if minutes < 1:
        return "less than a minute"
    if minutes < 100:
        return f"about {minutes:.0f} minute{'s' * (round(minutes) != 1)}"
    return f"about {minutes / 60:.0f} hours" if minutes < 60 * 72 else f"about {minutes / 60 / 24:.0f} days"


def per_second(speed: float) -> str:
    """A speed to three digits, for people."""
    return f"{float(f'{speed:.3g}'):,g}"


def _some_labels(spec: LabelSpec) -> LabelTable:
    """A label for each of the first values of each field, which know nothing of other fields."""
    parts = []
    for position, field, where in spec.slices():
        count = min(len(field.values), MOST_LABELS)
        values, known = torch.zeros(count, spec.width), torch.zeros(count, len(spec.fields), dtype=torch.bool)
        values[:, where.start : where.start + count] = torch.eye(count)
        known[:, position] = True
        parts.append(Labels(spec, values, known))
    return LabelTable.of(Labels.cat(parts))


def _finish() -> None:
    """Wait until the device has done what it was given."""
    if device().type == "cuda":
        torch.cuda.synchronize()
