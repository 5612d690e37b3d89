"""What this machine computes on, and how."""

import ctypes
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Literal

import torch

from condgan.errors import unknown

Precision = Literal["auto", "float32", "bfloat16"]
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}
"""A CPU that has none of them emulates bfloat16, hundreds of times slower than float32."""
MALLOPT = {-4: 0, -1: -1, -2: 2**26}
"""glibc's M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD: no mappings of single tensors, nothing given back, 64 MiB more."""


def device() -> torch.device:
    """This process's accelerator where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    alone = torch.cuda.device_count() == 1  # of several GPUs, a launcher may show each process its own
    return torch.device("cuda", 0 if alone else int(os.environ.get("LOCAL_RANK", 0)))


def precision(wanted: Precision, on: torch.device) -> torch.dtype:
    """What networks compute in; "auto" is bfloat16 where the hardware multiplies it, else float32.

    Raises UserError for another name.
    """
    kinds = {"auto": torch.bfloat16 if has_bfloat16(on) else torch.float32}
    kinds |= {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if wanted not in kinds:
        raise unknown("precision", wanted, kinds)
    return kinds[wanted]


def has_bfloat16(on: torch.device) -> bool:
    """Whether products of bfloat16 are done in hardware: CUDA from 8.0, CPUs with AMX or AVX512-BF16."""
    if on.type == "cuda":
        return torch.cuda.get_device_capability(on) >= (8, 0)
    return on.type == "cpu" and not BFLOAT16_FLAGS.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """What this CPU has, by torch's names, such as avx512_bf16."""
    return {name for name, there in torch.cpu.get_capabilities().items() if there is True}


def keep_memory() -> None:
    """Have this process keep the memory that it frees: glibc would unmap activations, and fault each page in anew."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOPT.items():
            library.mallopt(option, value)


def can_compile() -> bool:
    """Whether there is what torch.compile needs beside torch: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()
