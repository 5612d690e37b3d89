"""How much memory and how many operations training needs, without allocating or computing anything."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from condgan.build import build_modules, build_objective, empty_networks, image_shape
from condgan.labels import Labels, LabelSpec
from condgan.losses import weighted_sum
from condgan.networks.blocks import set_recompute
from condgan.networks.discriminator import Discriminator
from condgan.recipes.schema import Recipe
from condgan.training.loop import mixes_batch
from condgan.training.mixed_precision import MixedPrecision
from condgan.types import Generator, Step
from condgan.utils import distributed
from condgan.utils.device import can_compile, device, precision

Player = Literal["discriminator", "generator"]

PLAYERS: tuple[Player, Player] = ("discriminator", "generator")

COMPILING_PAYS = {"cpu": 2e14, "cuda": 1e17}
"""From how many floating-point operations of a run on: some minutes of a device's, if it is used well."""


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
    return iterations * iteration_flops(recipe, labels) / distributed.size() > COMPILING_PAYS[device().type]


def count_parameters(recipe: Recipe, labels: LabelSpec) -> tuple[int, int]:
    """Trainable parameters of generator and discriminator, without allocating them."""
    return parameters_of(*empty_networks(recipe, labels))


def parameters_of(generator: nn.Module, discriminator: nn.Module) -> tuple[int, int]:
    """Trainable parameters of two networks."""
    counts = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    return counts[0], counts[1]


def count_layers(*networks: nn.Module) -> int:
    """Modules that hold no others: the time that an estimate takes grows with them."""
    return sum(not any(module.children()) for network in networks for module in network.modules())


class Memory(NamedTuple):
    """Bytes that training needs beside the data."""

    kept: int
    """Weights, gradients, optimizers and averages."""
    activations: int
    """Kept by the larger of the two players' backward passes of one part of a batch."""


def estimate_memory(
    recipe: Recipe, labels: LabelSpec, networks: tuple[Generator, Discriminator] | None = None
) -> Memory:
    """The memory of training, from both players' steps on fake tensors, which allocate nothing.

    They are of the device and computed in the precision of training: which activations are kept depends on both.
    The recipe's empty networks may be given where they are there already, and are used up.
    """
    here = device()
    rehearsal = Rehearsal(recipe, labels, networks)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the weights, which are on the meta device until they move
        rehearsal.move(here, precision(recipe.compute.precision, here))

        def activations(count: int) -> int:
            peaks = []
            for player in PLAYERS:
                with _saved_bytes(rehearsal.weights()) as saved:
                    rehearsal.loss(player, count)
                peaks.append(sum(saved.values()))
            return max(peaks)

        networks = rehearsal.generator, rehearsal.discriminator
        sizes = [sum(p.nbytes for p in network.parameters()) for network in networks]
        part = recipe.schedule.batch // (recipe.schedule.accumulate * distributed.size())
        averages = 1 + len(recipe.averages)
        kept = 4 * sum(sizes) + averages * sizes[0] + sum(weight.nbytes for weight in rehearsal.frozen())
        return Memory(kept, _extrapolated(activations, part))


def iteration_flops(recipe: Recipe, labels: LabelSpec) -> int:
    """The multiplications and additions of an iteration's convolutions and matrix products, two for each pair.

    Terms that are not taken in every iteration count as if they were.
    """
    rehearsal, schedule = Rehearsal(recipe, labels), recipe.schedule

    def flops(count: int) -> int:
        total = 0
        for player, steps in zip(PLAYERS, (schedule.d_steps, schedule.g_steps), strict=True):
            with Flops() as counter:
                rehearsal.loss(player, count).backward()
            total += steps * counter.total
        return total

    return _extrapolated(flops, schedule.batch)


def _extrapolated(cost: Callable[[int], int], batch: int) -> int:
    """A batch's cost, of which a part grows in proportion to it, from the costs of two small ones."""
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


class Rehearsal:
    """Both players' steps where shapes alone are computed: on the meta device, or on any other among fake tensors."""

    def __init__(
        self, recipe: Recipe, labels: LabelSpec, networks: tuple[Generator, Discriminator] | None = None
    ) -> None:
        self.shape, self.labels, self.joint = image_shape(recipe), labels, recipe.schedule.joint
        self.objective, self.stages = build_objective(recipe), recipe.transfer.frozen
        self.on, self.kind = torch.device("meta"), torch.float32
        self.generator, self.discriminator = networks or empty_networks(recipe, labels)
        self.modules = {name: module.to(self.on) for name, module in build_modules(recipe).items()}
        set_recompute([self.generator, self.discriminator], recipe.compute.recompute)

    def move(self, on: torch.device, kind: torch.dtype) -> None:
        """To a device, and to the precision that networks compute in."""
        self.on, self.kind = on, kind
        for module in (self.generator, self.discriminator, *self.modules.values()):
            module.to_empty(device=on)

    def frozen(self) -> list[Tensor]:
        """The buffers of the discriminator's frozen stages."""
        stages = self.discriminator.backbone.stages()[: self.stages] if self.stages else []
        return [value for stage in stages for value in stage.buffers()]

    def weights(self) -> list[Tensor]:
        """The weights of both networks."""
        return [*self.generator.parameters(), *self.discriminator.parameters(), *self.frozen()]

    def loss(self, player: Player, count: int, part: int = 0) -> Tensor:
        """A player's loss of so many images; of a part after the first without terms that read weights alone."""
        training = player == "generator"
        generator, discriminator = (
            MixedPrecision(self.generator, self.kind),
            MixedPrecision(self.discriminator, self.kind),
        )
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
            step = Step(
                generator=generator, discriminator=discriminator, real=images, real_labels=claimed, fake=fake,
                fake_labels=claimed, joint=joint, augment=self.modules["augment"], modules=self.modules,
            )  # fmt: skip
            return weighted_sum(getattr(self.objective, player), step, 0, part, part + 1)[0]


@contextmanager
def _saved_bytes(but: list[Tensor]) -> Iterator[dict[int, int]]:
    """The size of each storage that is kept for the backward pass meanwhile, but those of some tensors."""
    weights = {tensor.untyped_storage()._cdata for tensor in but}
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
