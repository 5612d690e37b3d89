"""How many threads compute on a CPU that other programs use too."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from condgan.utils import distributed
from condgan.utils.console import say
from condgan.utils.device import device

_TURNS, _AT_ONCE = 9, 5
"""In which counts of threads are measured, and operations in each: a twentieth of a second where cores are idle."""
_NUMBERS = 1 << 21
"""That an operation is about: work for many threads."""
GAIN = 0.7
"""The share of all threads' time that fewer ones must take."""


@contextmanager
def free_cores(began_with: int | None = None, told: bool = True) -> Iterator[None]:
    """Meanwhile compute by as many of this process's threads as are fastest now.

    Threads wait for the last one at each operation. Where another program has its core, small networks train at a
    third of the speed of one thread. `began_with`: the threads of a run that goes on, of whose losses the last digits
    depend on them. OMP_NUM_THREADS, a GPU and several processes settle their number before. `told`: say so where some
    are left out.
    """
    there = torch.get_num_threads()
    if there == 1 or "OMP_NUM_THREADS" in os.environ or device().type != "cpu" or distributed.size() > 1:
        yield
        return
    try:
        threads = fastest(_measured(there)) if began_with is None else min(began_with, there)
        if threads < there and told:
            why = "they are the fastest beside other programs" if began_with is None else "the run began so"
            say(f"{threads} of {there} threads compute, since {why}; OMP_NUM_THREADS={there} takes all")
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(there)


def fastest(seconds: dict[int, float]) -> int:
    """The count of threads that takes least, the largest one unless others take clearly less."""
    most, best = max(seconds), min(seconds, key=lambda count: seconds[count])
    return best if seconds[best] < GAIN * seconds[most] else most


def _measured(there: int) -> dict[int, float]:
    """The median seconds of some counts of threads, in turns."""
    numbers = torch.zeros(_NUMBERS)
    times: dict[int, list[float]] = {count: [] for count in sorted({there, there - 1, there // 2, 1}, reverse=True)}
    for _ in range(_TURNS):
        for count, of_count in times.items():
            of_count.append(_seconds(count, numbers))
    return {count: statistics.median(of_count) for count, of_count in times.items()}


def _seconds(threads: int, numbers: torch.Tensor) -> float:
    torch.set_num_threads(threads)
    numbers.relu_()  # threads begin
    start = time.perf_counter()
    for _ in range(_AT_ONCE):
        numbers.relu_()
    return time.perf_counter() - start
