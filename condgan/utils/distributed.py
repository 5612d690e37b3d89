"""The processes that train together, started by torchrun; a process alone is a world of its own.

Each has an equal part of every batch. Random numbers of a batch are drawn for all of it, of which each process takes
its part: N processes do what one does, but for parts of batches (`accumulate`), whose rows are others. The leader, of
rank 0, writes.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # now: imported later, as DDP does, its functions would keep the group and its threads
from torch import Tensor, nn
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from condgan.utils.device import device
from condgan.utils.errors import FailedElsewhere, UserError

PATIENCE = timedelta(hours=6)
"""For how long processes wait for each other, such as while one of them decodes a data set."""
_stacked = 1
_alone = False


@contextmanager
def joined() -> Iterator[None]:
    """Be one of torchrun's processes meanwhile, if this is one: NCCL for what lies on GPUs, gloo for the rest.

    Raises FailedElsewhere where another process is gone, UserError for more processes than GPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield
        return
    here = device()
    if here.type == "cuda":
        if (here.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"{os.environ['LOCAL_WORLD_SIZE']} processes given on a machine with {torch.cuda.device_count()} GPUs: "
                "expected one for each at most; lower --nproc-per-node"
            )
        torch.cuda.set_device(here)
    store, rank, size = next(rendezvous("env://"))
    attempt = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)  # which still knows those before it
    backend = "cpu:gloo,cuda:nccl" if here.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            raise FailedElsewhere from error
        raise
    finally:
        dist.destroy_process_group()


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def neighbors() -> int:
    """How many processes this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


@contextmanager
def alone() -> Iterator[None]:
    """For what one process does while the others do something else: meanwhile there are no others to exchange with."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def local_rows(values: Tensor) -> Tensor:
    """This process's rows of what is drawn or known for the whole batch."""
    if size() == 1:
        return values
    return values.unflatten(0, (_stacked, size(), -1))[:, rank()].flatten(0, 1)


def draw_rows(drawing: Callable[..., Tensor], count: int, *shape: int, **how: Any) -> Tensor:
    """This process's `count` rows of what `drawing`, such as torch.randn, gives for the whole batch."""
    return local_rows(drawing(count * size(), *shape, **how))


@contextmanager
def stacked_batches(batches: int) -> Iterator[None]:
    """So many batches lie one after another as one meanwhile; of each of them this process has its part."""
    global _stacked
    before, _stacked = _stacked, batches
    try:
        yield
    finally:
        _stacked = before


def all_gather(values: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; each has as many."""
    if size() == 1:
        return values
    everyone = values.new_empty(size() * len(values), *values.shape[1:])
    dist.all_gather_into_tensor(everyone, values.contiguous())
    return everyone


def all_gather_with_gradient(values: Tensor) -> Tensor:
    """The same, differentiable: each process's loss counts alike."""
    return values if size() == 1 else _Gathered.apply(values)


class _Gathered(torch.autograd.Function):
    """The rows of all processes."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return all_gather(own)

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Scattered.apply(gradients)


class _Scattered(torch.autograd.Function):
    """This process's rows of the sum over all processes: the gradient of what is gathered, and the reverse."""

    @staticmethod
    def forward(ctx: Any, for_all: Tensor) -> Tensor:
        total = for_all.clone()
        all_reduce(total)
        return total.chunk(size())[rank()]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Gathered.apply(gradient)


def all_reduce(values: Tensor) -> None:
    """Make them the sum over all processes, in place."""
    if size() > 1:
        dist.all_reduce(values)


def mean(values: Tensor) -> Tensor:
    """The mean over all processes."""
    total = values.clone()
    all_reduce(total)
    return total / size()


def any_rank(flag: bool) -> bool:
    """Whether it is so in any process; those with accelerators do not wait for them."""
    if size() == 1:
        return flag
    flags = torch.tensor(int(flag))
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def broadcast(values: list[Tensor]) -> None:
    """Give every process the leader's values, in place."""
    if size() > 1:
        for value in values:
            dist.broadcast(value, 0)


@contextmanager
def all_or_fail() -> Iterator[None]:
    """Let no process go on before all have done the block; if it fails in one, it fails in all."""
    try:
        yield
    except BaseException:
        any_rank(True)
        raise
    if any_rank(False):
        raise FailedElsewhere


def from_main(number: int) -> int:
    """The leader's number."""
    told = torch.tensor(number)
    broadcast([told])
    return int(told)


def parallel(module: nn.Module, *, uses_all: bool = True) -> nn.Module:
    """A module whose parameters' gradients are averaged over all processes; buffers are each process's own.

    Parameters that need no gradient now are left alone. `uses_all`: every step makes use of all others.
    """
    if size() == 1:
        return module
    known = inspect.signature(DistributedDataParallel).parameters  # renamed in torch 2.15
    own_buffers: Any = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
    return DistributedDataParallel(
        module, gradient_as_bucket_view=True, find_unused_parameters=not uses_all, **own_buffers
    )


def in_step(module: nn.Module, last: bool) -> AbstractContextManager:
    """Within a `parallel` module's step: only the last part's backward pass averages gradients."""
    return nullcontext() if last or not isinstance(module, DistributedDataParallel) else module.no_sync()


@contextmanager
def main_first() -> Iterator[None]:
    """Let one process of each machine do the block first; the others may find in the cache what it left there."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if size() > 1 and not first:
        dist.barrier()
    try:
        yield
    finally:
        if size() > 1 and first:
            dist.barrier()
