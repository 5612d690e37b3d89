"""Recipe → objects: the only place that constructs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from condgan.augment import AUGMENTATIONS
from condgan.data.dataset import Split
from condgan.data.loader import stream
from condgan.data.preprocessing import Preprocessing, color, height_and_width
from condgan.labels import LabelSpec
from condgan.losses import OBJECTIVES, Objective
from condgan.networks import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.networks.blocks import set_recompute
from condgan.networks.frozen import freeze_lowest
from condgan.networks.norms import synchronize
from condgan.networks.transition import Transitional
from condgan.optimizers import OPTIMIZERS
from condgan.recipes.schema import Recipe
from condgan.sampling.model import Model
from condgan.sampling.translator import Translator
from condgan.training.ema import EMA
from condgan.training.loop import mixes_batch
from condgan.training.state import State
from condgan.types import Batch, Generator, ImageShape
from condgan.utils import distributed
from condgan.utils.device import device
from condgan.utils.errors import UserError
from condgan.utils.limits import require_memory
from condgan.utils.seeds import derive_seed


def build_generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    """The generator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 0):
        return placed(_generator(recipe, labels), recipe.compute.channels_last)


def empty_networks(recipe: Recipe, labels: LabelSpec) -> tuple[Generator, Discriminator]:
    """Generator and discriminator without weights, on the meta device: to load them into."""
    with torch.device("meta"), _Undrawn():
        return _generator(recipe, labels), _discriminator(recipe, labels)


class _Undrawn(TorchFunctionMode):
    """Tensors stay as they are instead of being drawn: without storage that costs a second, of imports."""

    DRAWN = nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    """The discriminator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 1):
        return placed(_discriminator(recipe, labels), recipe.compute.channels_last)


def build_objective(recipe: Recipe) -> Objective:
    return recipe.objective.build(OBJECTIVES)


def build_state(recipe: Recipe, labels: LabelSpec) -> State:
    """Everything that training changes, before the first iteration.

    Raises UserError for classes to be balanced where labels are others.
    """
    if recipe.data.class_balance > 0 and [field.exclusive for field in labels.fields] != [True]:
        raise UserError(
            f"data.class_balance {recipe.data.class_balance:g} given with attributes or several data sets: "
            "expected classes of one data set; leave it at 0"
        )
    _require_room(recipe, labels)
    generator, discriminator = build_generator(recipe, labels), build_discriminator(recipe, labels)
    averages = {
        name: EMA(generator, one.decay, one.start, one.half_life, one.width)
        for name, one in {"ema": recipe.ema, **recipe.averages}.items()
    }
    if distributed.size() > 1 and recipe.compute.sync_batch_norm:
        for network in (generator, discriminator):
            synchronize(network)
    set_recompute([generator, discriminator], recipe.compute.recompute)
    fused = recipe.compute.fused_optimizers
    g_optimizer = recipe.g_opt.build(OPTIMIZERS, generator.parameters(), fused)
    d_optimizer = recipe.d_opt.build(OPTIMIZERS, discriminator.parameters(), fused)
    modules = {name: module.to(device()) for name, module in build_modules(recipe).items()}
    return State(generator, discriminator, averages, g_optimizer, d_optimizer, recipe.seed, modules)


def _require_room(recipe: Recipe, labels: LabelSpec) -> None:
    """Raises UserError where this machine has not the memory for weights, gradients, moments and averages."""
    generator, discriminator = (
        sum(p.nbytes for p in network.parameters()) for network in empty_networks(recipe, labels)
    )
    whole = 4 * (generator + discriminator) + (1 + len(recipe.averages)) * generator
    require_memory(whole, "networks of this width and depth", "lower generator.width and backbone.width")


def build_modules(recipe: Recipe) -> dict[str, nn.Module]:
    """The trackers of the objective by their names, and the augmentation as `augment`."""
    modules: dict[str, nn.Module] = {name: make() for name, make in build_objective(recipe).trackers.items()}
    assert modules.keys().isdisjoint({"augment", "ema", "generator", "discriminator"}), "names of other files"
    return modules | {"augment": recipe.augment.build(AUGMENTATIONS)}


def build_stream(recipe: Recipe, split: Split, position: int = 0) -> Iterator[Batch]:
    """The recipe's batches from the `position`-th image on."""
    data = recipe.data
    return stream(
        split, recipe.schedule.batch, recipe.seed, position, data.weights, data.flip,
        class_balance=data.class_balance, pad_crop=data.pad_crop, rank=distributed.rank(), world=distributed.size(),
    )  # fmt: skip


def build_model(
    recipe: Recipe, labels: LabelSpec, generator: Generator, discriminator: nn.Module, images: int | None
) -> Model | Translator:
    """The model that is sampled from or translates, after `images` images of training; None: nobody knows."""
    if recipe.translates:
        data = recipe.data
        return Translator(generator, discriminator, labels, image_shape(recipe), data.background, images, data.crop)
    return Model(generator, labels, images)


def _generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    generator = recipe.generator.build(GENERATORS, image_shape(recipe), labels)
    ramp = build_objective(recipe).transition
    if ramp is not None:
        labels.require_no_number("objective.transition")
    return generator if ramp is None else Transitional(generator, ramp)


def _discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    backbone = recipe.backbone.build(BACKBONES, image_shape(recipe))
    freeze_lowest(backbone, recipe.transfer.frozen)
    discriminator = Discriminator(backbone, recipe.head.build(HEADS, backbone.features, labels))
    if recipe.penalties.of_gradient and mixes_batch(discriminator):
        raise UserError(
            f"a gradient penalty given with backbone '{recipe.backbone.name}', whose batch norm mixes the images that "
            "it is taken of one by one: choose another backbone, such as backbone.name=resnet"
        )
    return discriminator


def image_preprocessing(recipe: Recipe) -> Preprocessing:
    """How a recipe's pictures become images."""
    shape, data = image_shape(recipe), recipe.data
    return Preprocessing(shape.height, shape.width, shape.channels, data.crop, color(data.background))


def image_shape(recipe: Recipe) -> ImageShape:
    return ImageShape(recipe.data.channels, *height_and_width(recipe.data.size))


@contextmanager
def _seeded(recipe: Recipe, network: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "weights", network))
        yield


Placed = TypeVar("Placed", bound=nn.Module)


def placed(network: Placed, channels_last: bool = True) -> Placed:
    """A network on the device; by default with the channels last in memory."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device(), memory_format=layout)  # pyright: ignore[reportCallIssue]
