"""Recipe → objects: the only place that constructs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from condgan.data.dataset import Split
from condgan.data.pixels import height_and_width
from condgan.data.stream import stream, tempered
from condgan.ema import EMA
from condgan.errors import UserError
from condgan.hardware import device
from condgan.interfaces import Batch, Generator, ImageShape, Step
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.nn import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.objectives import OBJECTIVES, Objective, weighted_sum
from condgan.recipe import Adam, Recipe
from condgan.sample import Model
from condgan.seeds import derive_seed
from condgan.train import Prior, State, mixes_batch, train
from condgan.translate import Translator


def build_generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    """The generator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 0):
        return placed(_generator(recipe, labels))


def empty_networks(recipe: Recipe, labels: LabelSpec) -> tuple[Generator, Discriminator]:
    """Generator and discriminator without weights, on the meta device: to load them into."""
    with torch.device("meta"):
        return _generator(recipe, labels), _discriminator(recipe, labels)


def build_discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    """The discriminator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 1):
        return placed(_discriminator(recipe, labels))


def build_objective(recipe: Recipe) -> Objective:
    return recipe.objective.build(OBJECTIVES)


def build_state(recipe: Recipe, labels: LabelSpec) -> State:
    """Everything that training changes, before the first iteration.

    Raises UserError for classes to be tempered where labels are others.
    """
    if recipe.data.temper < 1 and [field.exclusive for field in labels.fields] != [True]:
        raise UserError(
            f"data.temper {recipe.data.temper:g} given with attributes or several data sets: "
            "expected classes of one data set; leave it at 1"
        )
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
        batches or build_stream(recipe, split, state.images), _prior(recipe, split.labels),
        until=schedule.images, d_steps=schedule.d_steps, g_steps=schedule.g_steps, accumulate=schedule.accumulate,
        joint=schedule.joint, carry_gradients=schedule.carry_gradients, decay=schedule.decay,
    )  # fmt: skip


def build_stream(recipe: Recipe, split: Split, position: int = 0) -> Iterator[Batch]:
    """The recipe's batches from the `position`-th image on."""
    data = recipe.data
    return stream(
        split, recipe.schedule.batch, recipe.seed, position, data.weights, data.flip,
        temper=data.temper, pad_crop=data.pad_crop,
    )  # fmt: skip


def model_of(
    recipe: Recipe, labels: LabelSpec, generator: Generator, discriminator: nn.Module, images: int
) -> Model | Translator:
    """What is sampled from or translates after `images` images."""
    if recipe.translates:
        data = recipe.data
        return Translator(generator, discriminator, labels, _shape(recipe), data.background, images, data.crop)
    return Model(generator, labels, images)


def _prior(recipe: Recipe, labels: LabelTable) -> LabelTable | Prior:
    """What the labels of fakes are drawn from: the law of the real ones, or every class alike."""
    if recipe.schedule.fake_labels == "data" and recipe.data.temper == 1:
        return labels
    classes = LabelTable.each(labels.spec).to(labels.device)
    if recipe.schedule.fake_labels == "uniform":
        return classes
    return Prior(classes, tempered(labels.counts(), recipe.data.temper).float())


def count_parameters(recipe: Recipe, labels: LabelSpec) -> tuple[int, int]:
    """Trainable parameters of generator and discriminator, without allocating them."""
    networks = empty_networks(recipe, labels)
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
    return generator, discriminator


class Memory(NamedTuple):
    """Bytes that training needs beside the data."""

    kept: int
    """Weights, gradients, optimizers and the average."""
    activations: int
    """What the larger of the two players' backward passes keeps of one part of a batch."""


def estimate_memory(recipe: Recipe, labels: LabelSpec) -> Memory:
    """What training would need, from both players' steps on the meta device, which allocates nothing."""
    objective, schedule = build_objective(recipe), recipe.schedule
    with torch.device("meta"):
        generator, discriminator = _generator(recipe, labels), _discriminator(recipe, labels)

        players = (
            (objective.discriminator, False, schedule.joint),
            (objective.generator, True, schedule.joint and mixes_batch(discriminator)),
        )

        def activations(count: int) -> int:
            images = torch.zeros(count, *_shape(recipe))
            source = images if generator.latent_dim is None else torch.randn(count, generator.latent_dim)
            claimed = Labels(labels, torch.zeros(count, labels.width), torch.ones(count, len(labels.fields)) > 0)
            peaks = []
            for terms, trains_generator, joint in players:
                with _saved_bytes(generator, discriminator) as saved:
                    with torch.set_grad_enabled(trains_generator):
                        fake = generator(source, claimed)
                    weighted_sum(terms, Step(generator, discriminator, images, claimed, fake, claimed, joint), 0)
                peaks.append(sum(saved.values()))
            return max(peaks)

        two, four = activations(2), activations(4)
    sizes = [sum(p.nbytes for p in network.parameters()) for network in (generator, discriminator)]
    more = schedule.batch // schedule.accumulate - 2
    return Memory(4 * sum(sizes) + sizes[0], two + (four - two) * more // 2)


@contextmanager
def _saved_bytes(*networks: nn.Module) -> Iterator[dict[int, int]]:
    """The size of each storage that is kept for the backward pass meanwhile, but those of weights."""
    weights = {t.untyped_storage()._cdata for network in networks for t in network.parameters()}
    saved: dict[int, int] = {}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # or its storage's address would serve again
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def _generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    return recipe.generator.build(GENERATORS, _shape(recipe), labels)


def _discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    backbone = recipe.backbone.build(BACKBONES, _shape(recipe))
    discriminator = Discriminator(backbone, recipe.head.build(HEADS, backbone.features, labels))
    if (recipe.penalties.gradient_penalty or recipe.penalties.r1) and mixes_batch(discriminator):
        raise UserError(
            f"a gradient penalty given with backbone '{recipe.backbone.name}', whose batch norm mixes the images that "
            "it is taken of one by one: choose another backbone, such as backbone.name=resnet"
        )
    return discriminator


def _shape(recipe: Recipe) -> ImageShape:
    return ImageShape(recipe.data.channels, *height_and_width(recipe.data.size))


@contextmanager
def _seeded(recipe: Recipe, network: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "weights", network))
        yield


Network = TypeVar("Network", bound=nn.Module)


def placed(network: Network) -> Network:
    """A network on the device, channels last in memory."""
    return network.to(device(), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _adam(network: nn.Module, settings: Adam) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), settings.lr, settings.betas, settings.eps, fused=True)
