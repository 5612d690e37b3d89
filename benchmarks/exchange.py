"""What processes that train together send each other: noted where they do, counted where there is only one.

Counted, both players' steps run on tensors without contents as one of so many processes, whose exchanges are noted and
left undone. Gradients are what DistributedDataParallel averages, in buckets.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from condgan.estimate import PLAYERS, Rehearsal
from condgan.labels import LabelSpec
from condgan.networks.norms import synchronize
from condgan.recipes.schema import Recipe
from condgan.utils import distributed

FIRST_BUCKET, BUCKET = 1 << 20, 25 << 20
"""Bytes of gradients from which on DistributedDataParallel sends what it has."""
Kind = Literal["gradients", "sums", "rows"]


class Exchange(NamedTuple):
    """One that all processes take part in: gradients or other values that are summed, or rows that all get."""

    kind: Kind
    bytes: int
    """Of the sum, or of everyone's rows together."""

    def sent(self, processes: int) -> float:
        """Bytes that each process sends around a ring: 2 · (N − 1) / N of a sum, (N − 1) / N of rows."""
        return (1 if self.kind == "rows" else 2) * (processes - 1) / processes * self.bytes

    def hops(self, processes: int) -> int:
        """How many times in turn something is sent around a ring."""
        return (1 if self.kind == "rows" else 2) * (processes - 1)


class Link(NamedTuple):
    """What connects two neighbors of a ring."""

    name: str
    bandwidth: float
    """Bytes per second, each way."""
    latency: float
    """Seconds until the first of them is there."""

    def seconds(self, exchanges: "Counter[Exchange]", processes: int) -> float:
        """How long exchanges take, one after another, as if nothing were computed meanwhile."""
        return sum(
            times * (one.sent(processes) / self.bandwidth + one.hops(processes) * self.latency)
            for one, times in exchanges.items()
        )


@contextmanager
def noted(processes: int = 0) -> Iterator[Counter[Exchange]]:
    """Count what this process exchanges with others meanwhile; as one of so many, if given, that are not there."""
    found: Counter[Exchange] = Counter()
    real_sum, real_rows, real_parallel = dist.all_reduce, dist.all_gather_into_tensor, distributed.parallel
    kind: list[Kind] = ["sums"]

    def all_reduce(values: Tensor, *arguments: Any, **options: Any) -> Any:
        found[Exchange(kind[0], values.nbytes)] += 1
        return None if processes else real_sum(values, *arguments, **options)

    def all_gather_into_tensor(everyones: Tensor, own: Tensor) -> None:
        found[Exchange("rows", everyones.nbytes)] += 1
        if not processes:
            real_rows(everyones, own)

    def averaged(_: None, bucket: GradBucket) -> Future[Tensor]:
        kind[0] = "gradients"
        try:
            return allreduce_hook(dist.group.WORLD, bucket)  # pyright: ignore[reportArgumentType]
        finally:
            kind[0] = "sums"

    def parallel(module: nn.Module, **options: Any) -> nn.Module:
        module = real_parallel(module, **options)
        if isinstance(module, DistributedDataParallel):
            module.register_comm_hook(None, averaged)
        return module

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (dist, "all_reduce", all_reduce),
        (dist, "all_gather_into_tensor", all_gather_into_tensor),
        (distributed, "parallel", parallel),
    ]
    if processes:
        numbers = {"is_initialized": True, "get_world_size": processes, "get_rank": 0}
        replaced += [(dist, name, lambda number=number: number) for name, number in numbers.items()]
    with ExitStack() as meanwhile:
        for one in replaced:
            meanwhile.enter_context(patch.object(*one))
        yield found


def counted(recipe: Recipe, labels: LabelSpec, processes: int) -> Counter[Exchange]:
    """The exchanges of an iteration of so many processes, whose terms are taken in every iteration."""
    schedule, rehearsal = recipe.schedule, Rehearsal(recipe, labels)
    if recipe.compute.sync_batch_norm:
        for network in (rehearsal.generator, rehearsal.discriminator):
            synchronize(network)
    own = schedule.batch // (processes * schedule.accumulate)
    total: Counter[Exchange] = Counter()
    for player, steps in zip(PLAYERS, (schedule.d_steps, schedule.g_steps), strict=True):
        network: nn.Module = getattr(rehearsal, player)
        network.requires_grad_(True)
        step = Counter(Exchange("gradients", size) for size in buckets([*network.parameters()]))
        if rehearsal.generator.latent_dim is None:  # whose labels are those of others' images
            sizes = schedule.batch * 4 * labels.width, schedule.batch * len(labels.fields)
            step.update(Exchange("rows", size) for size in sizes)
        with noted(processes) as part:
            rehearsal.loss(player, own).backward()
        for exchange, times in part.items():
            step[exchange] += schedule.accumulate * times
        for exchange, times in step.items():
            total[exchange] += steps * times
    return total


def buckets(parameters: list[nn.Parameter]) -> list[int]:
    """The bytes of gradients that are sent at once, the last layers' first."""
    sizes, open_bytes = [], 0
    for parameter in reversed(parameters):
        open_bytes += parameter.nbytes
        if open_bytes >= (BUCKET if sizes else FIRST_BUCKET):
            sizes.append(open_bytes)
            open_bytes = 0
    return [*sizes, open_bytes] if open_bytes else sizes


def summed(exchanges: "Counter[Exchange]", *kinds: Kind) -> tuple[int, int]:
    """How many exchanges of some kinds there are, and their bytes."""
    of_kind = [(one, times) for one, times in exchanges.items() if one.kind in kinds]
    return sum(times for _, times in of_kind), sum(times * one.bytes for one, times in of_kind)
