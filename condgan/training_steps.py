"""A recipe's training loop, from where a state stands."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from condgan.build import build_objective, build_stream
from condgan.data.dataset import Split
from condgan.data.order import class_probabilities
from condgan.estimate import PLAYERS, Rehearsal, compiles
from condgan.labels import LabelSpec, LabelTable
from condgan.recipes.schema import Part, Recipe
from condgan.schedules import Ramp
from condgan.training.loop import pretrain_classifier, train
from condgan.training.player_loss import FakeLabels
from condgan.training.state import State
from condgan.types import Batch
from condgan.utils import distributed
from condgan.utils.device import device, precision
from condgan.utils.seeds import derive_seed


def build_steps(
    recipe: Recipe,
    state: State,
    split: Split,
    batches: Iterator[Batch] | None = None,
    compiled: bool | None = None,
) -> Iterator[dict[str, Tensor]]:
    """The training loop of a recipe from where the state stands, on a split on the device (or on other `batches`).

    `compiled`: as `compiles` says, if that is known already.
    """
    schedule = recipe.schedule
    if compiled is None:
        compiled = compiles(recipe, split.labels.spec)
    if distributed.size() > 1:
        _leave_out_unused(recipe, state, split.labels.spec)
    return train(
        state, build_objective(recipe),
        batches or build_stream(recipe, split, state.images), fake_labels_of(recipe, split.labels),
        until=schedule.images, d_steps=schedule.d_steps, g_steps=schedule.g_steps, accumulate=schedule.accumulate,
        joint=schedule.joint, decay=schedule.decay,
        precision=precision(recipe.compute.precision, device()), compiled=compiled,
        g_options=_changing(recipe.g_opt), d_options=_changing(recipe.d_opt),
    )  # fmt: skip


def _changing(optimizer: Part) -> dict[str, Any]:
    """An optimizer's options that are ramps, or hold some."""
    return {
        name: option
        for name, option in optimizer.options.items()
        if any(isinstance(one, Ramp) for one in (option if isinstance(option, tuple) else (option,)))
    }


def pretrain(recipe: Recipe, state: State, split: Split) -> None:
    """Let the classifier learn alone first, on as many images as the recipe says."""
    batches, images = build_stream(recipe, split), recipe.schedule.init_classifier
    pretrain_classifier(state, batches, images, precision=precision(recipe.compute.precision, device()))


def fake_labels_of(recipe: Recipe, labels: LabelTable) -> FakeLabels:
    """The labels that those of fakes are drawn from: the law of the real ones, or every class alike, or the batch's.

    What an image does not know is drawn as often as among those that know it.
    """
    known, partial = labels.drawn(derive_seed(recipe.seed, "unknown labels")), labels.partial
    if recipe.schedule.fake_labels == "batch":
        return FakeLabels(known, of_batch=True, partial=partial)
    if recipe.schedule.fake_labels == "data" and recipe.data.class_balance == 0:
        return FakeLabels(known, partial=partial, told=labels if partial else None)
    classes = LabelTable.each(labels.spec).to(labels.device)
    if recipe.schedule.fake_labels == "uniform":
        return FakeLabels(classes, partial=partial)
    weights = class_probabilities(labels.counts(), recipe.data.class_balance).float()
    return FakeLabels(classes, weights, partial=partial)


def _leave_out_unused(recipe: Recipe, state: State, labels: LabelSpec) -> None:
    """Mark the parameters that no loss of images reads, whose gradients processes would wait for in vain."""
    rehearsal = Rehearsal(recipe, labels)
    for player in PLAYERS:
        rehearsal.loss(player, 2, part=1).backward()
        for name, parameter in getattr(rehearsal, player).named_parameters():
            if parameter.grad is None:
                getattr(state, player).get_parameter(name).requires_grad_(False)
