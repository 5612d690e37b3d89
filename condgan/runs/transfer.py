"""Begin a run with another run's weights: those of the same name and shape, and of labels those of the same name.

Axes: k labels here, j labels there, s their entries for each label.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from condgan.build import empty_networks
from condgan.labels import LabelSpec
from condgan.networks import Discriminator
from condgan.networks.spectral_norm import spectral_norms
from condgan.networks.transition import bare
from condgan.recipes.schema import Recipe
from condgan.runs.checkpoint import NETWORKS, Contents, load_networks
from condgan.runs.directory import run_and_checkpoint
from condgan.runs.models import find_checkpoint
from condgan.training.state import State
from condgan.utils import distributed
from condgan.utils.console import say
from condgan.utils.errors import UserError, enumerated, shown


class Source(NamedTuple):
    """A checkpoint that weights are taken from."""

    run: Path
    checkpoint: str
    contents: Contents

    @property
    def record(self) -> dict[str, Any]:
        """What environment.json tells of it."""
        hashes = self.contents.description.sha256
        taken = {name: hashes[f"{name}.safetensors"] for name in self.contents.networks}
        return {"run": str(self.run), "checkpoint": self.checkpoint, "sha256": taken}


class LabelAxis(NamedTuple):
    """Where a tensor belongs to labels: the last entries of an axis, so many `steps` of all labels one after another.

    What lies before them, such as a latent that the label is appended to, belongs to none.
    """

    axis: int
    steps: int


class Fit(NamedTuple):
    """Which tensors of a network another one has, by name."""

    whole: set[str]
    by_label: dict[str, LabelAxis]
    left: set[str]


class Plan(NamedTuple):
    """What a recipe's networks take of a source."""

    generator: Fit
    discriminator: Fit
    rows: list[int | None]
    """Of each label, its place in the source's, None where that has none of the name."""
    lines: list[str]
    """The same in words."""


def open_source(run: str | Path) -> Source:
    """The best checkpoint of a run, or the one that is named by its path; the same one in all processes.

    Raises UserError for what is no run, and for damaged checkpoints.
    """
    directory, which = run_and_checkpoint(run)
    number = 0
    with distributed.all_or_fail():
        if distributed.is_main():
            number = int(find_checkpoint(directory, which, f"--from {directory}/checkpoints/", NETWORKS).name)
    name = str(distributed.from_main(number))
    with distributed.all_or_fail():
        return Source(directory, name, load_networks(directory / "checkpoints" / name, "start from another one"))


def plan(recipe: Recipe, labels: LabelSpec, source: Source) -> Plan:
    """Compare the names and shapes of a recipe's networks with those of a source's.

    Raises UserError where nothing of a network agrees, and for frozen stages that do not agree.
    """
    there = source.contents.spec
    numbers = [(one.range.low, one.range.high) if one.range is not None else None for one in (labels, there)]
    if numbers[0] != numbers[1]:
        raise UserError(
            f"run '{source.run}' learned {there.summary} and these data have {labels.summary}: expected numbers of one "
            "range, or none; begin without it"
        )
    networks, more = empty_networks(recipe, labels), empty_networks(recipe, _with_one_more(labels))
    own, larger = [*map(bare, networks)], [*map(bare, more)]
    fits = []
    for name, network, grown in zip(("generator", "discriminator"), own, larger, strict=True):
        theirs = bare(source.contents.networks[name]).state_dict()
        fits.append(_fit(network.state_dict(), theirs, grown.state_dict(), labels, there))
        if not any(key in fits[-1].whole or key in fits[-1].by_label for key, _ in network.named_parameters()):
            raise UserError(
                f"nothing of the {name} of run '{source.run}' fits the {name} of recipe '{recipe.name}': "
                "give that run's networks, as without a recipe"
            )
    generator, discriminator = fits
    _require_frozen(recipe, networks[1], discriminator, source.run)
    place = {value: position for position, value in enumerate(there.fields[0].values)}
    rows = [place.get(value) for value in labels.fields[0].values]
    lines = [f"from '{source.run}' after {int(source.checkpoint):,} images, {_told('generator', own[0], generator)}"]
    lines += [_told("discriminator", own[1], discriminator)]
    if any(fit.by_label for fit in fits):
        lines.append(_told_labels(labels, rows, len(place)))
    return Plan(generator, discriminator, rows, lines)


@torch.no_grad()
def take(plan: Plan, source: Source, state: State) -> None:
    """Give a freshly built state a source's weights, and say which; all averages begin as the source's `ema`."""
    for line in plan.lines:
        say(line)
    theirs = source.contents.networks
    _give(state.generator, theirs["generator"], plan.generator, plan.rows)
    _give(state.discriminator, theirs["discriminator"], plan.discriminator, plan.rows)
    for average in state.averages.values():
        _give(average.module, theirs["ema"], plan.generator, plan.rows)


def _with_one_more(labels: LabelSpec) -> LabelSpec:
    """A vocabulary with another value in its first field."""
    first = labels.fields[0]
    if first.range is not None:
        return labels
    values = (*first.values, max(first.values, key=len) + "+")
    return LabelSpec((replace(first, values=values), *labels.fields[1:]))


def _fit(
    own: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    grown: Mapping[str, Tensor],
    labels: LabelSpec,
    there: LabelSpec,
) -> Fit:
    """Compare tensors by name; `grown`: those of a network for one label more, which tell what belongs to labels."""
    fit = Fit(set(), {}, set())
    for name, value in own.items():
        changed = [axis for axis, (a, b) in enumerate(zip(value.shape, grown[name].shape, strict=True)) if a != b]
        other = theirs.get(name)
        if other is None or other.ndim != value.ndim or other.dtype != value.dtype:
            fit.left.add(name)
        elif not changed or labels == there:
            (fit.whole if other.shape == value.shape else fit.left).add(name)
        elif not value.is_floating_point():
            continue  # what a network knows of its own labels
        else:
            (axis,) = changed
            one = LabelAxis(axis, grown[name].shape[axis] - value.shape[axis])
            plain = len(labels.fields) == len(there.fields) == 1
            if plain and _without(value, one, labels) == _without(other, one, there):
                fit.by_label[name] = one
            else:
                fit.left.add(name)
    return fit


def _without(tensor: Tensor, one: LabelAxis, labels: LabelSpec) -> list[int]:
    """A tensor's shape without what belongs to labels."""
    shape = list(tensor.shape)
    shape[one.axis] -= one.steps * labels.width
    return shape


def _require_frozen(recipe: Recipe, discriminator: Discriminator, fit: Fit, run: Path) -> None:
    """Raises UserError for a frozen stage that would keep weights that were never trained."""
    frozen = discriminator.backbone.stages()[: recipe.transfer.frozen]
    for name, module in discriminator.named_modules():
        if module in frozen and (missing := [key for key in sorted(fit.left) if key.startswith(f"{name}.")]):
            raise UserError(
                f"transfer.frozen {recipe.transfer.frozen} given, and the discriminator of run '{run}' has no fitting "
                f"{missing[0]}: set transfer.frozen={frozen.index(module)}, or give that run's networks"
            )


def _give(own: nn.Module, theirs: nn.Module, fit: Fit, rows: list[int | None]) -> None:
    """Copy what fits; spectral norms of weights that are not the source's whole begin anew."""
    own, theirs = bare(own), bare(theirs)
    mine, given = own.state_dict(), theirs.state_dict()
    for name in fit.whole:
        mine[name].copy_(given[name])
    for name, one in fit.by_label.items():
        _give_by_label(mine[name], given[name], one, rows)
    for name, norm, weight in spectral_norms(own):
        if f"{name}.parametrizations.weight.original" not in fit.whole:
            norm.begin(weight)


def _give_by_label(own: Tensor, theirs: Tensor, one: LabelAxis, rows: list[int | None]) -> None:
    """Copy the entries of labels of the same name; those of others become the mean of all there.

    Trained layers are used to what is near it; fresh entries would be far off, or, of gains and biases, none at all.
    """
    mine, given = own.movedim(one.axis, 0), theirs.to(own.device).movedim(one.axis, 0)
    plain = len(mine) - one.steps * len(rows)
    mine[:plain] = given[:plain]
    by_label = given[plain:].unflatten(0, (one.steps, -1))  # s × j × …
    by_label = torch.cat([by_label, by_label.mean(1, keepdim=True)], 1)
    mine[plain:] = by_label[:, [-1 if row is None else row for row in rows]].flatten(0, 1)


def _told(name: str, network: nn.Module, fit: Fit) -> str:
    """How much of a network is taken, and what is not."""
    vectors = {f"{layer}.parametrizations.weight.0.{side}" for layer, _, _ in spectral_norms(network) for side in "uv"}
    sizes = {
        key: value.numel()
        for key, value in network.state_dict().items()
        if value.is_floating_point() and key not in vectors
    }
    left = [key for key in sizes if key in fit.left]
    if not left:
        return f"{name}: all {len(sizes)} tensors"
    share = 1 - sum(sizes[key] for key in left) / sum(sizes.values())
    listed = ", ".join(left[:3]) + ", …" * (len(left) > 3)
    return f"{name}: {len(sizes) - len(left)} of {len(sizes)} tensors, {share:.0%} of its numbers, all but {listed}"


def _told_labels(labels: LabelSpec, rows: list[int | None], there: int) -> str:
    """Which labels are known there."""
    new = [value for value, row in zip(labels.fields[0].values, rows, strict=True) if row is None]
    if not new:
        return f"labels: all {len(rows)} by their names"
    known = f"{len(rows) - len(new)} of {len(rows)} by their names"
    return f"labels: {known}; as the mean of the {there} there: {shown(enumerated(new))}"
