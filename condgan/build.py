"""Recipe → objects: the only place that constructs them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from condgan import world
from condgan.data.dataset import Split
from condgan.data.pixels import height_and_width
from condgan.data.stream import stream, tempered
from condgan.ema import EMA
from condgan.errors import UserError
from condgan.hardware import can_compile, device, precision
from condgan.interfaces import Batch, Fast, Generator, ImageShape, Step
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.nn import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.nn.layers import set_recompute, synchronize
from condgan.objectives import OBJECTIVES, Objective, weighted_sum
from condgan.recipe import Adam, Recipe
from condgan.sample import Model
from condgan.seeds import derive_seed
from condgan.train import Prior, State, mixes_batch, pretrain_classifier, train
from condgan.translate import Translator

Player = Literal["discriminator", "generator"]
PLAYERS: tuple[Player, Player] = ("discriminator", "generator")
COMPILING_PAYS = {"cpu": 2e14, "cuda": 1e17}
"""From how many floating-point operations of a run on: some minutes of a device's, if it is used well."""


def build_generator(recipe: Recipe, labels: LabelSpec) -> Generator:
    """The generator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 0):
        return placed(_generator(recipe, labels), recipe.compute.channels_last)


def empty_networks(recipe: Recipe, labels: LabelSpec) -> tuple[Generator, Discriminator]:
    """Generator and discriminator without weights, on the meta device: to load them into."""
    with torch.device("meta"):
        return _generator(recipe, labels), _discriminator(recipe, labels)


def build_discriminator(recipe: Recipe, labels: LabelSpec) -> Discriminator:
    """The discriminator on the device, freshly initialized from the recipe's seed."""
    with _seeded(recipe, 1):
        return placed(_discriminator(recipe, labels), recipe.compute.channels_last)


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
    average = EMA(generator, recipe.ema.decay, recipe.ema.start)
    if world.size() > 1 and recipe.compute.sync_batch_norm:
        for network in (generator, discriminator):
            synchronize(network)
    set_recompute([generator, discriminator], recipe.compute.recompute)
    fused = recipe.compute.fused_optimizers
    optimizers = _adam(generator, recipe.g_opt, fused), _adam(discriminator, recipe.d_opt, fused)
    return State(generator, discriminator, average, *optimizers, recipe.seed)


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
    if world.size() > 1:
        _leave_out_unused(recipe, state, split.labels.spec)
    return train(
        state, build_objective(recipe),
        batches or build_stream(recipe, split, state.images), _prior(recipe, split.labels),
        until=schedule.images, d_steps=schedule.d_steps, g_steps=schedule.g_steps, accumulate=schedule.accumulate,
        joint=schedule.joint, decay=schedule.decay,
        precision=precision(recipe.compute.precision, device()), compiled=compiled,
    )  # fmt: skip


def pretrain(recipe: Recipe, state: State, split: Split) -> None:
    """Let the classifier learn alone first, on as many images as the recipe says."""
    batches, images = build_stream(recipe, split), recipe.schedule.init_classifier
    pretrain_classifier(state, batches, images, precision=precision(recipe.compute.precision, device()))


def compiles(recipe: Recipe, labels: LabelSpec) -> bool:
    """Whether training is compiled: as the recipe says, or where a run as long as this gains more than it costs.

    In bfloat16 alone: in float32 products take the time, which compiling leaves as they are. A function of recipe,
    processes and kind of device, not of measured times: the same command always does the same.
    """
    if recipe.compute.compile != "auto":
        return recipe.compute.compile
    rounded = precision(recipe.compute.precision, device()) == torch.bfloat16
    if not rounded or recipe.compute.recompute or not can_compile():
        return False
    iterations = recipe.schedule.images / (recipe.schedule.batch * recipe.schedule.d_steps)
    return iterations * iteration_flops(recipe, labels) / world.size() > COMPILING_PAYS[device().type]


def build_stream(recipe: Recipe, split: Split, position: int = 0) -> Iterator[Batch]:
    """The recipe's batches from the `position`-th image on."""
    data = recipe.data
    return stream(
        split, recipe.schedule.batch, recipe.seed, position, data.weights, data.flip,
        temper=data.temper, pad_crop=data.pad_crop, rank=world.rank(), world=world.size(),
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
    """What training would need, from both players' steps on fake tensors, which allocate nothing.

    They are of the device and computed in the precision of training: which activations are kept depends on both.
    """
    here = device()
    rehearsal = _Rehearsal(recipe, labels)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the weights, which are on the meta device until they move
        rehearsal.move(here, precision(recipe.compute.precision, here))

        def activations(count: int) -> int:
            peaks = []
            for player in PLAYERS:
                with _saved_bytes(rehearsal.generator, rehearsal.discriminator) as saved:
                    rehearsal.loss(player, count)
                peaks.append(sum(saved.values()))
            return max(peaks)

        networks = rehearsal.generator, rehearsal.discriminator
        sizes = [sum(p.nbytes for p in network.parameters()) for network in networks]
        part = recipe.schedule.batch // (recipe.schedule.accumulate * world.size())
        return Memory(4 * sum(sizes) + sizes[0], _extrapolated(activations, part))


def iteration_flops(recipe: Recipe, labels: LabelSpec) -> int:
    """The multiplications and additions of an iteration's convolutions and matrix products, two for each pair.

    Terms that are not taken in every iteration count as if they were.
    """
    rehearsal, schedule = _Rehearsal(recipe, labels), recipe.schedule

    def flops(count: int) -> int:
        total = 0
        for player, steps in zip(PLAYERS, (schedule.d_steps, schedule.g_steps), strict=True):
            with Flops() as counter:
                rehearsal.loss(player, count).backward()
            total += steps * counter.total
        return total

    return _extrapolated(flops, schedule.batch)


def _extrapolated(cost: Callable[[int], int], batch: int) -> int:
    """What grows in proportion to a batch, beside what does not, from two small ones."""
    two, four = cost(2), cost(4)
    return two + (four - two) * (batch - 2) // 2


class Flops(TorchDispatchMode):
    """Counts as torch's FlopCounterMode does, which does not follow second derivatives."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (flops := flop_registry.get(func._overloadpacket)) is not None:
            self.total += flops(*args, **(kwargs or {}), out_val=result)
        return result


def _leave_out_unused(recipe: Recipe, state: State, labels: LabelSpec) -> None:
    """Mark the parameters that no loss of images reads, whose gradients processes would wait for in vain."""
    rehearsal = _Rehearsal(recipe, labels)
    for player in PLAYERS:
        rehearsal.loss(player, 2, part=1).backward()
        for name, parameter in getattr(rehearsal, player).named_parameters():
            if parameter.grad is None:
                getattr(state, player).get_parameter(name).requires_grad_(False)


class _Rehearsal:
    """Both players' steps where shapes alone are computed: on the meta device, or on any other among fake tensors."""

    def __init__(self, recipe: Recipe, labels: LabelSpec) -> None:
        self.shape, self.labels, self.joint = _shape(recipe), labels, recipe.schedule.joint
        self.objective = build_objective(recipe)
        self.on, self.kind = torch.device("meta"), torch.float32
        self.generator, self.discriminator = empty_networks(recipe, labels)
        set_recompute([self.generator, self.discriminator], recipe.compute.recompute)

    def move(self, on: torch.device, kind: torch.dtype) -> None:
        """To a device, and to the precision that networks compute in."""
        self.on, self.kind = on, kind
        for network in (self.generator, self.discriminator):
            network.to_empty(device=on)

    def loss(self, player: Player, count: int, part: int = 0) -> Tensor:
        """What a player minimizes, for so many images; of a part after the first without what reads weights alone."""
        training = player == "generator"
        generator, discriminator = Fast(self.generator, self.kind), Fast(self.discriminator, self.kind)
        discriminator.requires_grad_(not training)
        joint = self.joint and (not training or mixes_batch(discriminator))
        with self.on:
            images = torch.zeros(count, *self.shape)
            source = images if self.generator.latent_dim is None else torch.randn(count, self.generator.latent_dim)
            claimed = Labels(
                self.labels, torch.zeros(count, self.labels.width), torch.ones(count, len(self.labels.fields)) > 0
            )
            with torch.set_grad_enabled(training):
                fake = generator(source, claimed)
            step = Step(generator, discriminator, images, claimed, fake, claimed, joint)
            return weighted_sum(getattr(self.objective, player), step, 0, part, part + 1)[0]


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


def placed(network: Network, channels_last: bool = True) -> Network:
    """A network on the device; by default with the channels last in memory."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device(), memory_format=layout)  # pyright: ignore[reportCallIssue]


def _adam(network: nn.Module, settings: Adam, fused: bool) -> torch.optim.Adam:
    kernel = {"fused": True} if fused else {"foreach": False}
    return torch.optim.Adam(network.parameters(), settings.lr, settings.betas, settings.eps, **kernel)
