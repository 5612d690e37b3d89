"""Recipe → objects: the only place that constructs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from condgan.data.sources import Split
from condgan.data.stream import stream
from condgan.ema import EMA
from condgan.interfaces import Batch, Generator, ImageShape
from condgan.labels import LabelSpec
from condgan.nn import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.objectives import OBJECTIVES, Objective
from condgan.recipe import Adam, Recipe
from condgan.seeds import derive_seed
from condgan.train import State, train


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    """The generator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 0):
        return _placed(_generator(recipe, labels))


def build_discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    """The discriminator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 1):
        return _placed(_discriminator(recipe, labels))


def build_objective(recipe: Recipe) -> Objective:
    return recipe.objective.build(OBJECTIVES)


def build_state(recipe: Recipe, labels: LabelSpec) -> State:
    """Everything that training changes, before the first iteration."""
    generator, discriminator = build_generator(recipe, labels), build_discriminator(recipe, labels)
    return State(
        generator,
        discriminator,
        EMA(generator, recipe.ema.decay, recipe.ema.start),
        _adam(generator, recipe.g_opt),
        _adam(discriminator, recipe.d_opt),
        recipe.seed,
    )


def build_steps(
    recipe: Recipe, state: State, split: Split, batches: Iterator[Batch] | None = None
) -> Iterator[dict[str, Tensor]]:
    """The training loop of a recipe from where the state stands, on a split on the device (or on other `batches`)."""
    schedule = recipe.schedule
    return train(
        state, build_objective(recipe),
        batches or stream(split, schedule.batch, state.seed, position=state.images), split.labels,
        until=schedule.images, d_steps=schedule.d_steps, g_steps=schedule.g_steps,
        accumulate=schedule.accumulate, joint=schedule.joint,
    )  # fmt: skip


def count_parameters(recipe: Recipe, labels: LabelSpec) -> tuple[int, int]:
    """Trainable parameters of generator and discriminator, without allocating them."""
    with torch.device("meta"):
        networks = _generator(recipe, labels), _discriminator(recipe, labels)
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
    return generator, discriminator


def _generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    return recipe.generator.build(GENERATORS, _shape(recipe), labels)


def _discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    backbone = recipe.backbone.build(BACKBONES, _shape(recipe))
    return Discriminator(backbone, recipe.head.build(HEADS, backbone.features, labels))


def _shape(recipe: Recipe) -> ImageShape:
    return ImageShape(recipe.data.channels, recipe.data.size, recipe.data.size)


@contextmanager
def _seeded(recipe: Recipe, network: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "weights", network))
        yield


Network = TypeVar("Network", bound=nn.Module)


def _placed(network: Network) -> Network:
    return network.to(device(), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _adam(network: nn.Module, settings: Adam) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), settings.lr, settings.betas, settings.eps, fused=True)
