"""Recipe → objects: the only place that constructs them."""

from typing import TypeVar

import torch
from torch import nn

from condgan.ema import EMA
from condgan.interfaces import Generator, ImageShape
from condgan.labels import LabelSpec
from condgan.nn import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.objectives import OBJECTIVES, Objective
from condgan.recipe import Adam, Recipe
from condgan.seeds import derive_seed
from condgan.train import State


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_networks(recipe: Recipe, labels: LabelSpec) -> tuple[Generator, Discriminator]:
    """The generator and the discriminator, freshly initialized from the recipe's seed."""
    shape = ImageShape(recipe.data.channels, recipe.data.size, recipe.data.size)
    torch.manual_seed(derive_seed(recipe.seed, "weights"))
    generator = recipe.generator.build(GENERATORS, shape, labels)
    backbone = recipe.backbone.build(BACKBONES, shape)
    discriminator = Discriminator(backbone, recipe.head.build(HEADS, backbone.features, labels))
    return generator, discriminator


def build_generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    """A generator to load weights into."""
    return _placed(build_networks(recipe, labels)[0])


def build_objective(recipe: Recipe) -> Objective:
    return recipe.objective.build(OBJECTIVES)


def build_state(recipe: Recipe, labels: LabelSpec) -> State:
    """Everything that training changes, before the first iteration."""
    generator, discriminator = build_networks(recipe, labels)
    generator, discriminator = _placed(generator), _placed(discriminator)
    return State(
        generator,
        discriminator,
        EMA(generator, recipe.ema.decay, recipe.ema.start),
        _adam(generator, recipe.g_opt),
        _adam(discriminator, recipe.d_opt),
        recipe.seed,
    )


def count_parameters(recipe: Recipe, labels: LabelSpec) -> tuple[int, int]:
    """Trainable parameters of generator and discriminator, without allocating them."""
    with torch.device("meta"):
        networks = build_networks(recipe, labels)
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
    return generator, discriminator


Network = TypeVar("Network", bound=nn.Module)


def _placed(network: Network) -> Network:
    return network.to(device(), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _adam(network: nn.Module, settings: Adam) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), settings.lr, settings.betas, settings.eps, fused=True)
