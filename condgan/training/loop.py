"""One flat loop for every method."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from condgan.labels import Labels, LabelTable
from condgan.losses import CROSS_ENTROPY, Objective, Term, on_real
from condgan.networks.spectral_norm import TrainedNorms
from condgan.networks.transition import Transitional
from condgan.schedules import value_at
from condgan.training.mixed_precision import MixedPrecision
from condgan.training.player_loss import FakeLabels, PlayerLoss
from condgan.training.state import State
from condgan.types import Batch, Generator, Step, Tracker
from condgan.utils import distributed
from condgan.utils.seeds import derive_seed


class _Player(NamedTuple):
    """A player of the loop, described so that both take their steps in the same lines."""

    name: str
    network: nn.Module
    norms: TrainedNorms
    optimizer: Optimizer
    loss: nn.Module
    steps: int
    """In each iteration."""
    joint: bool
    options: Mapping[str, Any]
    """Of the optimizer, those that are ramps or hold some."""


def train(
    state: State,
    objective: Objective,
    batches: Iterator[Batch],
    fake_labels: LabelTable | FakeLabels,
    *,
    until: int,
    d_steps: int = 1,
    g_steps: int = 1,
    accumulate: int = 1,
    joint: bool = False,
    decay: int = 0,
    precision: torch.dtype = torch.float32,
    compiled: bool = False,
    g_options: Mapping[str, Any] | None = None,
    d_options: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Train until `until` real images were seen, yielding each iteration's losses as tensors on the device.

    An iteration is `d_steps` discriminator steps, each on a batch of its own, and `g_steps` generator steps. A step
    sums the gradients of `accumulate` equal parts of its batch. The labels of fakes are drawn from `fake_labels`, such
    as the labels of the training images, all alike; a translator's fakes are its batch's images with its batch's
    labels, permuted. Both learning rates fall linearly to zero over the last `decay` images; `g_options` and
    `d_options` are what else changes in the optimizers, by the names of their options: ramps, or tuples with some.
    Names: D/… and G/… for the two players' terms, plain for what is watched, NAME/… for what a tracker has to show.
    `joint`: real and fake images go through the discriminator as one batch; in the generator's step, which needs no
    real ones, only where batch norms would see the difference. `precision` and `compiled`: see `MixedPrecision`.
    Of several processes each has its part of every batch, and yields the losses of that part.
    """
    assert objective.discriminator.keys().isdisjoint(objective.watched), "a loss is minimized or watched"
    assert accumulate == 1 or not objective.of_batch, "a loss that compares the images of a batch takes it whole"
    fake_labels = FakeLabels(fake_labels) if isinstance(fake_labels, LabelTable) else fake_labels
    generator = MixedPrecision(state.generator, precision, compiled)
    discriminator = MixedPrecision(state.discriminator, precision, compiled)
    d_loss = PlayerLoss(state.discriminator, objective.discriminator, objective.watched)
    g_loss = PlayerLoss(state.generator, objective.generator)
    d_parallel, g_parallel = (
        distributed.parallel(loss, uses_all=not any(term.every for term in loss.terms.values()))
        for loss in (d_loss, g_loss)
    )
    at_hand = not compiled and distributed.size() == 1  # compilers and processes see gradients of parameters alone
    d_player = _Player(
        "D", state.discriminator, TrainedNorms(state.discriminator, at_hand), state.d_optimizer, d_parallel, d_steps,
        joint, d_options or {},
    )  # fmt: skip
    g_player = _Player(
        "G", state.generator, TrainedNorms(state.generator, at_hand), state.g_optimizer, g_parallel, g_steps,
        joint and mixes_batch(state.discriminator), g_options or {},
    )  # fmt: skip
    averages = [(average, TrainedNorms(average.module)) for average in state.averages.values()]
    trackers = {name: module for name, module in state.modules.items() if isinstance(module, Tracker)}

    def take_step(player: _Player, batch: Batch, images: int, iteration_images: int) -> dict[str, Tensor]:
        """Take one optimizer step of a player, and return its losses; `images`: seen before the iteration."""
        losses: dict[str, Tensor] = {}
        observed: dict[str, Tensor] = {}
        batch = Batch(batch.images, _nearby(batch.labels))
        inputs = _draw(state.generator, fake_labels, batch, accumulate)
        for part, (real, (source, labels, claimed)) in enumerate(zip(batch.chunk(accumulate), inputs, strict=True)):
            with torch.set_grad_enabled(player is g_player):
                fake = generator(source, labels)
            step = Step(
                generator=generator, discriminator=discriminator, real=real.images, real_labels=real.labels, fake=fake,
                fake_labels=claimed, joint=player.joint, augment=state.modules.get("augment"), modules=state.modules,
                images=images,
            )  # fmt: skip
            with distributed.in_step(player.loss, last=part == accumulate - 1):
                total, means = player.loss(step, images, part, accumulate, iteration_images)
                total.backward()
            for name, mean in means.items():
                _add(losses, name if name in objective.watched else f"{player.name}/{name}", mean / player.steps)
            if player is d_player:
                with torch.no_grad():
                    for name, tracker in trackers.items():
                        _add(observed, name, tracker.observe(step) / accumulate)
        _step(player.optimizer, player.norms)
        for name, seen in observed.items():
            trackers[name].update(distributed.mean(seen), distributed.size() * len(batch.images))
        return losses

    with closing(d_player.norms), closing(g_player.norms):
        while state.images < until:
            torch.manual_seed(derive_seed(state.seed, "iteration", 0, state.iteration))
            _set_options((d_player, g_player), state, until, decay)
            losses: dict[str, Tensor] = {}
            before = state.images
            if isinstance(state.generator, Transitional):
                state.generator.images.fill_(before)

            state.discriminator.requires_grad_(True)
            real_batches = [next(batches) for _ in range(d_steps)]
            iteration_images = distributed.size() * sum(len(batch.images) for batch in real_batches)
            for batch in real_batches:
                for name, loss in take_step(d_player, batch, before, iteration_images).items():
                    _add(losses, name, loss)
                state.images += distributed.size() * len(batch.images)

            state.discriminator.requires_grad_(False)
            for _ in range(g_steps):
                for name, loss in take_step(g_player, real_batches[-1], before, iteration_images).items():
                    _add(losses, name, loss)

            for average, norms in averages:
                average.update(state.generator, state.images, state.iteration, iteration_images)
                norms.iterate()
            state.iteration += 1
            for name, tracker in trackers.items():
                losses |= {f"{name}/{watched}": value.clone() for watched, value in tracker.watched().items()}
            yield losses
    _set_options((d_player, g_player), state, until, decay)


def mixes_batch(network: nn.Module) -> bool:
    """Whether what a network says of an image depends on the others in its batch."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


def pretrain_classifier(
    state: State, batches: Iterator[Batch], images: int, *, precision: torch.dtype = torch.float32
) -> None:
    """Let the discriminator's backbone and label classifier learn on `images` real images, before the game starts."""
    discriminator = MixedPrecision(state.discriminator, precision)
    loss = PlayerLoss(state.discriminator, {"class/real": Term(on_real(CROSS_ENTROPY.classifier))})
    loss = distributed.parallel(loss, uses_all=False)
    seen, norms = 0, TrainedNorms(state.discriminator)
    for number, batch in enumerate(batches):
        if seen >= images:
            break
        torch.manual_seed(derive_seed(state.seed, "pretraining", number))
        step = Step(
            generator=state.generator, discriminator=discriminator, real=batch.images, real_labels=batch.labels,
            fake=batch.images, fake_labels=batch.labels, augment=state.modules.get("augment"),
        )  # fmt: skip
        loss(step, seen)[0].backward()
        _step(state.d_optimizer, norms)
        seen += distributed.size() * len(batch.images)
    state.d_optimizer.state.clear()


def _step(optimizer: Optimizer, norms: TrainedNorms) -> None:
    norms.add_gradients()
    optimizer.step()
    norms.iterate()
    optimizer.zero_grad()


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _set_options(players: Iterable[_Player], state: State, until: int, decay: int) -> None:
    """Optimizers' options as a function of where the state stands, so that a resumed run has the same."""
    images = state.images
    left = state.rates * (min(1.0, max(0, until - images) / decay) if decay else 1.0)
    for player in players:
        now = {name: _now(option, images) for name, option in player.options.items()}
        for group in player.optimizer.param_groups:
            assert now.keys() <= group.keys(), f"options {', '.join(now)} of an optimizer that has no such ones"
            group |= now | {"lr": left * now.get("lr", player.optimizer.defaults["lr"])}


def _now(option: Any, images: int) -> Any:
    return tuple(value_at(one, images) for one in option) if isinstance(option, tuple) else value_at(option, images)


def _nearby(labels: Labels) -> Labels:
    """Numbers as others in their vicinity, the rest as it is."""
    if all(field.range is None for field in labels.spec.fields):
        return labels
    count, width, device = len(labels), labels.spec.width, labels.values.device
    noise, uniform = (distributed.draw_rows(draw, count, width, device=device) for draw in (torch.randn, torch.rand))
    return labels.nearby(noise, 2 * uniform - 1)


def _draw(
    generator: Generator, fake_labels: FakeLabels, batch: Batch, parts: int
) -> list[tuple[Tensor, Labels, Labels]]:
    """Draw what the generator makes fakes of, their labels, and what the discriminator is told of these.

    In equal parts. It is told of fakes what real images know: those whose labels they have, or those at their places,
    so that what is not known tells nothing.
    """
    count, device, partial = len(batch.images), fake_labels.labels.device, fake_labels.partial
    if generator.latent_dim is None:
        values, known = (distributed.all_gather(own) for own in (batch.labels.values, batch.labels.known))
        everyones = Labels(fake_labels.labels.spec, values, known)
        source, labels = batch.images, everyones[distributed.draw_rows(torch.randperm, count, device=device)]
        claimed = labels
    else:
        source = distributed.draw_rows(torch.randn, count, generator.latent_dim, device=device)
        labels, told = batch.labels, None
        if partial or not fake_labels.of_batch:
            drawn, told = fake_labels.draw(count)
            labels = labels.completed(_nearby(drawn)) if fake_labels.of_batch else _nearby(drawn)
        claimed = labels.as_known_in(batch.labels if told is None else told) if partial else labels
    return list(zip(source.chunk(parts), labels.chunk(parts), claimed.chunk(parts), strict=True))
