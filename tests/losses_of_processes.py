"""The first losses of a recipe in double (or single) precision, as JSON lines, alone or under torchrun.

`python -m tests.losses_of_processes [--single] RECIPE KEY=VALUE…`. In double precision rounding does not grow to
anything visible.
"""

import itertools
import json
import sys
from collections.abc import Iterator

import torch

from condgan.build import build_state, build_stream
from condgan.data.dataset import Dataset
from condgan.labels import Labels
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.models import read_data
from condgan.training.loop import pretrain_classifier
from condgan.training_steps import build_steps
from condgan.types import Batch
from condgan.utils import distributed
from tests import openings

ITERATIONS = 3


def batches(recipe: Recipe, data: Dataset, kind: torch.dtype) -> Iterator[Batch]:
    """The recipe's own, in this precision."""
    for images, labels in build_stream(recipe, data.train):
        yield Batch(images.to(kind), Labels(labels.spec, labels.values.to(kind), labels.known))


def main(*arguments: str) -> None:
    kind = torch.float32 if arguments[0] == "--single" else torch.float64
    name, *overrides = arguments[kind == torch.float32 :]
    torch.set_default_dtype(kind)
    with openings.added(), distributed.joined():
        recipe = load(name, ["compute.compile=false", "compute.precision=float32", *overrides])
        data = read_data(recipe)
        state = build_state(recipe, data.spec)
        if recipe.schedule.init_classifier:
            pretrain_classifier(state, batches(recipe, data, kind), recipe.schedule.init_classifier)
        steps = build_steps(recipe, state, data.train, batches(recipe, data, kind))
        for losses in itertools.islice(steps, ITERATIONS):
            means = distributed.mean(torch.stack([*losses.values()])).tolist()
            if distributed.is_main():
                print(json.dumps(dict(zip(losses, means, strict=True))))


if __name__ == "__main__":
    main(*sys.argv[1:])
