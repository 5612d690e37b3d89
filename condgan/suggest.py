"""Choose a recipe from a first look at the data, and say why that one."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from condgan.data.open import list_source
from condgan.data.preprocessing import height_and_width
from condgan.data.survey import Survey, quick_look
from condgan.estimate import estimate_memory
from condgan.labels import Field, LabelSpec
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.utils.device import device
from condgan.utils.errors import UserError
from condgan.utils.files import file_names, is_name

SMALLEST = 16
ON_CPU, ON_GPU = 32, 128
"""Pixels beyond which training takes days on this kind of device."""
SHARE = 0.7
"""Of a device's memory, what training may take."""


class Choice(NamedTuple):
    """Settings of a recipe, the option that they are for, and the reason."""

    option: str
    settings: list[str]
    reason: str


class Suggestion(NamedTuple):
    """A recipe, and the reasons for it."""

    recipe: Recipe
    reasons: list[str]


def look_at_data(sources: Sequence[str], overrides: Sequence[str]) -> Survey:
    """Take a quick look at a data set, listed as a recipe with these overrides would.

    Raises UserError for several data sets, which no recipe is chosen for.
    """
    if len(sources) > 1:
        raise UserError("--data given twice without a recipe: choose one that learns from several, such as any-stargan")
    stated = load("any-projection", [one for one in overrides if one.startswith("data.")]).data
    return quick_look(list_source(sources[0], stated.root, stated.held_out, stated.paired))


def choose_recipe(look: Survey, source: str, overrides: list[str]) -> Suggestion:
    """A recipe for a data set on this machine; overrides are kept whatever the data look like.

    Raises UserError where no picture can be read.
    """
    if not look.readable:
        raise UserError(f"no picture of '{source}' can be read: {look.unreadable[0]}")
    labels = look.listing.labels
    field, counts = labels.spec.fields[0], labels.counts().tolist()
    on_gpu = device().type == "cuda"
    name, reason = _base(field, on_gpu)
    choices = [Choice("", [], reason)]
    if field.exclusive and len(counts) == 1:
        choices.append(_without_labels(on_gpu))
    choices += [_size(look, on_gpu), _colors(look)]
    if field.exclusive and min(counts) and max(counts) > 5 * min(counts):
        choices.append(_balance(counts))
    settings = [f"name={json.dumps(run_name(Path(source).stem))}", f"data.source={json.dumps(source)}"]
    settings += [setting for choice in choices for setting in choice.settings]
    if name == "any-biggan":
        half = min(height_and_width(load(name, [*settings, *overrides]).data.size)) // 2
        settings += [f"generator.attention=[{half}]", f"backbone.attention=[{half}]"]
    images = next((one.partition("=")[2] for one in overrides if one.startswith("schedule.images=")), "")
    if name == "any-stargan" and images.replace("_", "").isdecimal():
        settings.append(f"schedule.decay={int(images) // 2}")  # half of the run, as in the recipe
    recipe = load(name, [*settings, *overrides])
    if on_gpu and not any(one.startswith("schedule.batch=") for one in overrides):
        smaller = _batches_that_fit(recipe, labels.spec)
        choices += smaller
        settings += [setting for choice in smaller for setting in choice.settings]
        recipe = load(name, [*settings, *overrides])
    own = {one.partition("=")[0] for one in overrides}
    return Suggestion(recipe, [choice.reason for choice in choices if choice.option not in own])


def run_name(stem: str) -> str:
    """What a run is called that learns from a folder or file of this name."""
    return next((name for name in (stem, *file_names([stem])) if is_name(name)), "data")


def _base(field: Field, on_gpu: bool) -> tuple[str, str]:
    """The recipe to start from, and why."""
    if not field.exclusive:
        return "any-stargan", "any-stargan, since images have attributes, which translators learn"
    name = "any-biggan" if on_gpu else "any-projection"
    where = torch.cuda.get_device_name() if on_gpu else "no GPU here"
    kind = "its small BigGAN suits one" if on_gpu else "its small networks train in minutes on a CPU"
    return name, f"{name}, since there is {'a ' * on_gpu}{where}: {kind}"


def _without_labels(on_gpu: bool) -> Choice:
    settings = ["head.name=plain", "generator.conditioning=none"]
    settings += ["generator.hierarchical=false"] if on_gpu else []
    return Choice("head.name", settings, "without labels, since there is one class only")


def _size(look: Survey, on_gpu: bool) -> Choice:
    """The power of two nearest to the pictures that this device trains in hours."""
    short = min(look.median)
    size = max(SMALLEST, min(2 ** round(math.log2(max(short, 1))), ON_GPU if on_gpu else ON_CPU))
    slow = "" if size >= short or on_gpu else " and a CPU is slow beyond"
    median = f"{look.median[0]}×{look.median[1]}"
    return Choice("data.size", [f"data.size={size}"], f"{size} pixels, since the median picture is {median}{slow}")


def _colors(look: Survey) -> Choice:
    ground = ", what is transparent on white" if any(one.clear for one in look.readable) else ""
    colors = "gray, since no picture has colors" if look.gray else "RGB, since pictures have colors"
    return Choice("data.channels", [f"data.channels={look.channels}"], f"{colors}{ground}")


def _balance(counts: Sequence[int]) -> Choice:
    reason = (
        f"rare classes more often (data.class_balance=0.5), since counts go from {min(counts):,} to {max(counts):,}"
    )
    return Choice("data.class_balance", ["data.class_balance=0.5"], reason)


def _batches_that_fit(recipe: Recipe, labels: LabelSpec) -> list[Choice]:
    """Halve a batch until its training fits this GPU's memory: each half, the last one being it."""
    choices: list[Choice] = []
    whole, there = recipe.schedule.batch, torch.cuda.mem_get_info()[1]
    memory, batch = estimate_memory(recipe, labels), whole
    while batch > 8 and (needed := memory.kept + memory.activations * batch // whole) > SHARE * there:
        batch //= 2
        setting, much = f"schedule.batch={batch}", f"{needed / 2**30:.0f} GiB of {there / 2**30:.0f}"
        choices.append(Choice("schedule.batch", [setting], f"{setting}, since more needs {much}"))
    return choices
