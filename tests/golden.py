"""The golden losses: the first of every recipe, as narrow networks on digits have them.

`python -m tests.golden NAME…` writes those of the named recipes anew, and prints what they were and are.
"""

import dataclasses
import itertools
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks import faults
from condgan import build, training_steps
from condgan.data.dataset import Split
from condgan.data.open import read
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.recipes import names
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.types import Batch
from condgan.utils.errors import UserError, unknown

GOLDEN = Path(__file__).parent / "golden.json"
ELSEWHERE = {"mnist-acgan-legacy": faults.LEGACY}
"""Recipes that are no part of the package."""
HUNDRED = LabelSpec.of_classes([str(number) for number in range(100)])


def tiny(name: str) -> Recipe:
    """A recipe on digits with a small batch and, but for those made for two cores, narrow networks at 32 px.

    What tells it from the other recipes stays: labels of the kind that it has, and of two recipes that differ in size
    alone, biggan-imagenet64 and -imagenet128, the second at 64 px.
    Orthogonal weights become normal ones: all their singular values are 1, and rounding decides which
    vectors come first.
    """
    overrides = ["data.source=digits", "schedule.batch=8", "schedule.accumulate=1"]
    overrides += ["compute.compile=false", "compute.precision=float32"]
    if name in ELSEWHERE:
        return load(ELSEWHERE[name], overrides)
    recipe = load(name, overrides)
    for part in ("generator", "backbone", "head"):
        if getattr(recipe, part).options.get("init") == "ortho":
            overrides.append(f"{part}.init=normal")
    if recipe.translates:
        attributes = [] if name == "rafd-stargan" else ["tinted-digits"]
        classes = ["digits"] if (recipe.data.attributes and recipe.data.classes) or "joint" in name else []
        sources = ", ".join(attributes + classes) if attributes else "digits"
        overrides += [f"data.source=[{sources}]" if classes else f"data.source={sources}", "data.channels=3"]
        overrides += ["data.size=16", "data.attributes=null", "data.exclusive=null", "generator.width=4"]
        return load(name, [*overrides, "backbone.width=4"])
    if name.startswith(("digits-", "mnist-")):
        return load(name, overrides)
    size = 64 if name == "biggan-imagenet128" else 32
    overrides += [f"data.size={size}", "generator.width=8", "backbone.width=8"]
    with_attention = [part for part in ("generator", "backbone") if getattr(recipe, part).options.get("attention")]
    return load(name, overrides + [f"{part}.attention=[{size // 2}]" for part in with_attention])


def tiny_data(name: str, recipe: Recipe) -> Split:
    """The digits to train on; recipes for CIFAR-100 see a hundred classes of them, ten of each digit."""
    split = read(recipe.data.source, recipe.data.size, recipe.data.channels).train
    if not name.endswith("-cifar100"):
        return split
    classes = split.labels.codes[:, 0] + 10 * (torch.arange(len(split)) % 10)
    return dataclasses.replace(split, labels=LabelTable.from_index(HUNDRED, classes))


def first_losses(name: str) -> list[dict[str, float]]:
    """Three iterations of a recipe as `tiny` makes it, in double precision: Adam's first steps magnify rounding."""
    torch.set_default_dtype(torch.float64)
    with ExitStack() as undone:
        undone.callback(torch.set_default_dtype, torch.float32)
        if name in ELSEWHERE:
            undone.enter_context(faults.added())
        recipe = tiny(name)
        split = tiny_data(name, recipe)
        state = build.build_state(recipe, split.labels.spec)
        batches = (Batch(b.images.double(), double(b.labels)) for b in build.build_stream(recipe, split))
        steps = training_steps.build_steps(recipe, state, split, batches)
        return [{name: float(loss) for name, loss in losses.items()} for losses in itertools.islice(steps, 3)]


def double(labels: Labels) -> Labels:
    return Labels(labels.spec, labels.values.double(), labels.known)


def all_names() -> list[str]:
    return sorted([*names(), *ELSEWHERE])


def written() -> dict[str, list[dict[str, float]]]:
    """The golden losses of every recipe, by its name."""
    return json.loads(GOLDEN.read_text())


def write_anew(chosen: list[str]) -> None:
    """Write the named recipes' golden losses anew, print old and new ones, and forget recipes that are no more.

    Raises UserError for an unknown recipe, before anything is written.
    """
    known = all_names()
    for name in chosen:
        if name not in known:
            raise unknown("recipe", name, known)
    golden = {name: losses for name, losses in written().items() if name in known}
    for name in chosen:
        old, golden[name] = golden.get(name, []), first_losses(name)
        for number, new in enumerate(golden[name]):
            before = old[number] if number < len(old) else {}
            for loss in {**before, **new}:
                told = [f"{losses[loss]:.9g}" if loss in losses else "none" for losses in (before, new)]
                print(f"{name} {number} {loss}: {told[0]} → {told[1]}")
    GOLDEN.write_text(json.dumps({name: golden[name] for name in sorted(golden)}, indent=1) + "\n")


def main() -> int:
    """The command; its exit code."""
    if not sys.argv[1:]:
        print("usage: python -m tests.golden NAME…", file=sys.stderr)
        return 2
    try:
        write_anew(sys.argv[1:])
    except UserError as error:
        print(f"tests.golden: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
