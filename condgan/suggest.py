"""From a first look at the data to a recipe, and why that one."""

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
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.utils.device import device
from condgan.utils.errors import UserError

SMALLEST = 16
ON_CPU, ON_GPU = 32, 128
"""Pixels beyond which training takes days on this kind of device."""
SHARE = 0.7
"""Of a device's memory, what training may take."""


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
    where = torch.cuda.get_device_name() if on_gpu else "no GPU here"
    reasons: list[tuple[str, str]] = []  # the option that each is for
    settings: list[str] = []
    if not field.exclusive:
        name = "any-stargan"
        reasons.append(("", "any-stargan, since images have attributes, which translators learn"))
    else:
        name = "any-biggan" if on_gpu else "any-projection"
        kind = "its small BigGAN suits one" if on_gpu else "its small networks train in minutes on a CPU"
        reasons.append(("", f"{name}, since there is {'a ' * on_gpu}{where}: {kind}"))
    if field.exclusive and len(counts) == 1:
        settings += ["head.name=plain", "generator.conditioning=none"]
        settings += ["generator.hierarchical=false"] if on_gpu else []
        reasons.append(("head.name", "without labels, since there is one class only"))
    short = min(look.median)
    size = max(SMALLEST, min(2 ** round(math.log2(max(short, 1))), ON_GPU if on_gpu else ON_CPU))
    settings.append(f"data.size={size}")
    if name == "any-biggan":
        half = min(height_and_width(load(name, [*settings, *overrides]).data.size)) // 2
        settings += [f"generator.attention=[{half}]", f"backbone.attention=[{half}]"]
    slow = "" if size >= short or on_gpu else " and a CPU is slow beyond"
    median = f"{look.median[0]}×{look.median[1]}"
    reasons.append(("data.size", f"{size} pixels, since the median picture is {median}{slow}"))
    settings.append(f"data.channels={look.channels}")
    clear = sum(one.clear for one in look.readable)
    ground = ", what is transparent on white" if clear else ""
    colors = "gray, since no picture has colors" if look.gray else "RGB, since pictures have colors"
    reasons.append(("data.channels", f"{colors}{ground}"))
    if field.exclusive and min(counts) and max(counts) > 5 * min(counts):
        settings.append("data.class_balance=0.5")
        spread = f"counts go from {min(counts):,} to {max(counts):,}"
        reasons.append(("data.class_balance", f"rare classes more often (data.class_balance=0.5), since {spread}"))
    images = next((one.partition("=")[2] for one in overrides if one.startswith("schedule.images=")), "")
    if name == "any-stargan" and images.replace("_", "").isdecimal():
        settings.append(f"schedule.decay={int(images) // 2}")  # half of the run, as in the recipe
    settings += [f"name={json.dumps(Path(source).stem)}", f"data.source={json.dumps(source)}", *overrides]
    recipe = load(name, settings)
    stated = any(one.startswith("schedule.batch=") for one in overrides)
    if on_gpu and not stated:
        whole, there = recipe.schedule.batch, torch.cuda.mem_get_info()[1]
        memory, batch = estimate_memory(recipe, labels.spec), whole
        while batch > 8 and (needed := memory.kept + memory.activations * batch // whole) > SHARE * there:
            batch //= 2
            settings.append(f"schedule.batch={batch}")
            much = f"{needed / 2**30:.0f} GiB of {there / 2**30:.0f}"
            reasons.append(("schedule.batch", f"{settings[-1]}, since more needs {much}"))
        recipe = load(name, [*settings, *overrides])
    own = {one.partition("=")[0] for one in overrides}
    return Suggestion(recipe, [text for option, text in reasons if option not in own])
