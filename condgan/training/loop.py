"""One flat loop for every method."""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from condgan.labels import Labels, LabelTable
from condgan.losses import CROSS_ENTROPY, Objective, Term, on_real
from condgan.networks.spectral_norm import power_iterate
from condgan.training.mixed_precision import MixedPrecision
from condgan.training.player_loss import FakeLabels, PlayerLoss
from condgan.training.state import State
from condgan.types import Batch, Generator, Step
from condgan.utils import distributed
from condgan.utils.seeds import derive_seed


def train(
    state: State,
    objective: Objective,
    batches: Iterator[Batch],
    prior: LabelTable | FakeLabels,
    *,
    until: int,
    d_steps: int = 1,
    g_steps: int = 1,
    accumulate: int = 1,
    joint: bool = False,
    decay: int = 0,
    precision: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Train until `until` real images were seen, yielding each iteration's losses as tensors on the device.

    An iteration is `d_steps` discriminator steps, each on a batch of its own, and `g_steps` generator steps. A step
    sums the gradients of `accumulate` equal parts of its batch. The labels of fakes are drawn from `prior`, such as the
    labels of the training images, all alike; a translator's fakes are its batch's images with its batch's labels,
    permuted. Both learning rates fall linearly to zero over the last `decay` images. Names: D/… and G/… for the two
    players' terms, plain for what is watched.
    `joint`: real and fake images go through the discriminator as one batch; in the generator's step, which needs no
    real ones, only where batch norms would see the difference. `precision` and `compiled`: see `MixedPrecision`.
    Of several processes each has its part of every batch, and yields the losses of that part.
    """
    assert objective.discriminator.keys().isdisjoint(objective.watched), "a loss is minimized or watched"
    prior = FakeLabels(prior) if isinstance(prior, LabelTable) else prior
    generator = MixedPrecision(state.generator, precision, compiled)
    discriminator = MixedPrecision(state.discriminator, precision, compiled)
    d_turn = distributed.parallel(PlayerLoss(state.discriminator, objective.discriminator, objective.watched))
    g_turn = distributed.parallel(PlayerLoss(state.generator, objective.generator))
    both_for_generator = joint and mixes_batch(state.discriminator)
    while state.images < until:
        torch.manual_seed(derive_seed(state.seed, "iteration", 0, state.iteration))
        _set_rates(state, until, decay)
        losses: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=prior.labels.device))

        state.discriminator.requires_grad_(True)
        real_batches = [next(batches) for _ in range(d_steps)]
        for batch in real_batches:
            inputs = _draw(state.generator, prior, batch, accumulate)
            for part, (real, (source, labels)) in enumerate(zip(batch.chunk(accumulate), inputs, strict=True)):
                with torch.no_grad():
                    fake = generator(source, labels)
                step = Step(generator, discriminator, *real, fake, labels, joint)
                with distributed.in_step(d_turn, last=part == accumulate - 1):
                    total, means = d_turn(step, state.iteration, part, accumulate)
                    total.backward()
                for name, mean in means.items():
                    losses[name if name in objective.watched else f"D/{name}"] += mean / d_steps
            _step(state.d_optimizer, state.discriminator)
            state.images += distributed.size() * len(batch.images)

        state.discriminator.requires_grad_(False)
        batch = real_batches[-1]
        for _ in range(g_steps):
            inputs = _draw(state.generator, prior, batch, accumulate)
            for part, (real, (source, labels)) in enumerate(zip(batch.chunk(accumulate), inputs, strict=True)):
                fake = generator(source, labels)
                step = Step(generator, discriminator, *real, fake, labels, both_for_generator)
                with distributed.in_step(g_turn, last=part == accumulate - 1):
                    total, means = g_turn(step, state.iteration, part, accumulate)
                    total.backward()
                for name, mean in means.items():
                    losses[f"G/{name}"] += mean / g_steps
            _step(state.g_optimizer, state.generator)

        state.ema.update(state.generator, state.images, state.iteration)
        power_iterate(state.ema.module)
        state.iteration += 1
        yield dict(losses)
    _set_rates(state, until, decay)


def mixes_batch(network: nn.Module) -> bool:
    """Whether what a network says of an image depends on the others in its batch."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


def pretrain_classifier(
    state: State, batches: Iterator[Batch], images: int, *, precision: torch.dtype = torch.float32
) -> None:
    """Let the discriminator's backbone and label classifier learn on `images` real images, before the game starts."""
    discriminator = MixedPrecision(state.discriminator, precision)
    turn = PlayerLoss(state.discriminator, {"class/real": Term(on_real(CROSS_ENTROPY.classifier))})
    turn = distributed.parallel(turn, uses_all=False)
    seen = 0
    for number, batch in enumerate(batches):
        if seen >= images:
            break
        torch.manual_seed(derive_seed(state.seed, "pretraining", number))
        turn(Step(state.generator, discriminator, *batch, *batch), number)[0].backward()
        _step(state.d_optimizer, state.discriminator)
        seen += distributed.size() * len(batch.images)
    state.d_optimizer.state.clear()


def _step(optimizer: Optimizer, network: nn.Module) -> None:
    optimizer.step()
    power_iterate(network)
    optimizer.zero_grad()


def _set_rates(state: State, until: int, decay: int) -> None:
    """Learning rates as a function of the images seen, so that a resumed run has the same."""
    left = min(1.0, max(0, until - state.images) / decay) if decay else 1.0
    for optimizer in (state.g_optimizer, state.d_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = left * optimizer.defaults["lr"]


def _draw(generator: Generator, prior: FakeLabels, batch: Batch, parts: int) -> list[tuple[Tensor, Labels]]:
    """What the generator makes fakes of, and their labels."""
    count, device = len(batch.images), prior.labels.device
    if generator.latent_dim is None:
        everyones = Labels(
            prior.labels.spec, distributed.all_gather(batch.labels.values), distributed.all_gather(batch.labels.known)
        )
        source, labels = batch.images, everyones[distributed.draw_rows(torch.randperm, count, device=device)]
    else:
        source = distributed.draw_rows(torch.randn, count, generator.latent_dim, device=device)
        labels = prior.draw(count)
    return list(zip(source.chunk(parts), labels.chunk(parts), strict=True))
