"""The device of this machine, its number formats and its memory."""

import ctypes
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from condgan.utils.choices import Precision
from condgan.utils.errors import UserError, unknown

BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}
"""A CPU that has none of them emulates bfloat16, hundreds of times slower than float32."""
TF32_KINDS: tuple[Any, Any] = (torch.backends.cudnn, torch.backends.cuda.matmul)
_SWITCHING = Lock()
_ASKED: list[list[bool]] = []
"""What TF32 was allowed for before anybody asked, and what those ask for who are not done."""
MALLOPT = {-4: 0, -1: -1, -2: 2**26}
"""glibc's M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD: no mappings of single tensors, nothing given back, 64 MiB more."""


def device() -> torch.device:
    """This process's accelerator where there is one, else the CPU.

    Raises UserError for a GPU that this PyTorch holds no code for.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    alone = torch.cuda.device_count() == 1  # of several GPUs, a launcher may show each process its own
    found = torch.device("cuda", 0 if alone else int(os.environ.get("LOCAL_RANK", 0)))
    if found.index < torch.cuda.device_count():
        _require_code(found)
    return found


@cache
def _require_code(gpu: torch.device) -> None:
    built, (major, minor) = torch.cuda.get_arch_list(), torch.cuda.get_device_capability(gpu)
    if not runs_on(built, major, minor):
        raise UserError(
            f"{torch.cuda.get_device_name(gpu)} of compute capability {major}.{minor} found, and this PyTorch is built "
            f"for {', '.join(built)}: install a PyTorch that is built for it, or hide it by CUDA_VISIBLE_DEVICES=-1"
        )


def runs_on(built: Iterable[str], major: int, minor: int) -> bool:
    """Whether a GPU of this compute capability runs code built for such architectures, as torch lists them.

    Machine code (sm_80) runs on its own major version from its minor version on, with an `a` on that one alone;
    intermediate code (compute_80) is compiled for any later one. What is not CUDA's is taken to run.
    """
    for name in built:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if found is None:
            return True
        code = int(found[2]), int(found[3])
        if found[4] == "a":
            fits = code == (major, minor)
        elif found[1] == "sm" or found[4]:
            fits = code[0] == major and code[1] <= minor
        else:
            fits = code <= (major, minor)
        if fits:
            return True
    return False


def precision(wanted: Precision, on: torch.device) -> torch.dtype:
    """Choose networks' number format; "auto" is bfloat16 where the hardware multiplies it, else float32.

    Raises UserError for another name.
    """
    kinds = {"auto": torch.bfloat16 if has_bfloat16(on) else torch.float32}
    kinds |= {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if not isinstance(wanted, str) or wanted not in kinds:
        raise unknown("precision", wanted, kinds)
    return kinds[wanted]


def has_bfloat16(on: torch.device) -> bool:
    """Whether products of bfloat16 are done in hardware: CUDA from 8.0, CPUs with AMX or AVX512-BF16."""
    if on.type == "cuda":
        return torch.cuda.get_device_capability(on) >= (8, 0)
    return on.type == "cpu" and not BFLOAT16_FLAGS.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """Features of this CPU by torch's names, such as avx512_bf16."""
    return {name for name, there in torch.cpu.get_capabilities().items() if there is True}


def keep_memory() -> None:
    """Have this process keep the memory that it frees: glibc would unmap activations, and fault each page in anew."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOPT.items():
            library.mallopt(option, value)


def try_algorithms() -> None:
    """Have cuDNN try its algorithms at each new shape and keep the fastest: in training shapes stay the same."""
    torch.backends.cudnn.benchmark = True


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 is multiplied in TF32 meanwhile, by a GPU's convolutions and matrix products.

    By default torch lets convolutions do so. Numbers that shall not tell where they were computed do not allow it. All
    threads share it: of several that ask, the last one to go gives back what there was before.
    """
    mine = [allowed, allowed]
    with _SWITCHING:
        if not _ASKED:
            _ASKED.append([kind.allow_tf32 for kind in TF32_KINDS])
        _ASKED.append(mine)
        _switch_tf32(mine)
    try:
        yield
    finally:
        with _SWITCHING:
            _ASKED[:] = [one for one in _ASKED if one is not mine]
            _switch_tf32(_ASKED[-1])
            if len(_ASKED) == 1:
                _ASKED.clear()


def _switch_tf32(to: list[bool]) -> None:
    for kind, allowed in zip(TF32_KINDS, to, strict=True):
        kind.allow_tf32 = allowed


def lacks_memory(error: RuntimeError) -> bool:
    """Whether it says that a GPU or this machine has not enough memory; torch has a type for GPUs alone."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error)


def can_compile() -> bool:
    """Whether there is what torch.compile needs beside torch: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def fits(size: int, free: int | None) -> bool:
    """Whether images of `size` bytes may be copied into memory with `free` bytes left: into half of it.

    None: it is not known how many are.
    """
    return free is None or size <= free // 2


def free_memory(device: torch.device) -> int | None:
    """The bytes that a device could still hold, where that is known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    found = re.search(r"MemAvailable: +(\d+) kB", info.read_text()) if info.is_file() else None
    return int(found[1]) * 1024 if found else None
