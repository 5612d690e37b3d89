"""Weights in files: ours in safetensors, and state dicts of others, as torch.save writes them."""

import io
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from condgan.utils.errors import shown
from condgan.utils.files import plain_file, read_bytes
from condgan.utils.limits import WEIGHTS

SLACK = 16 << 20
"""Bytes that a file may have beyond its tensors."""


class UnfitWeights(ValueError):
    """A file of weights that is damaged, or of another network."""


def largest_file(network: nn.Module) -> int:
    """How many bytes a file of a network's weights may have."""
    return SLACK + sum(value.numel() * value.element_size() for value in network.state_dict().values())


def load_weights(network: nn.Module, path: Path, assign: bool = False) -> None:
    """Bring a network to the weights in a safetensors file; `assign` puts these in the place of its own.

    Raises OSError, TooLarge for a file that no such network can have, and UnfitWeights for a damaged one, and for
    tensors of other names, shapes or types than the network's.
    """
    own = network.state_dict()
    content = read_bytes(path, largest_file(network))
    try:
        given = load(content)
    except Exception as error:  # of damaged files it raises anything
        raise UnfitWeights(f"it is damaged: {shown(error)}") from None
    for name in dict.fromkeys([*own, *given]):
        if (there := _kind(given.get(name))) != (here := _kind(own.get(name))):
            raise UnfitWeights(f"it is of another network: {shown(name)} is {there} there and {here} here")
    network.load_state_dict(given, assign=assign)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors by name in somebody's file, on the CPU; nothing in it but tensors and names is unpickled.

    Raises OSError, TooLarge, and UnfitWeights for a damaged file, and for one that holds anything else.
    """
    with plain_file(path, WEIGHTS) as file, warnings.catch_warnings(action="ignore"):  # of how it was written
        try:
            if zipfile.is_zipfile(file):
                size = sum(one.file_size for one in zipfile.ZipFile(file).infolist())
                if size > file.seek(0, io.SEEK_END):
                    raise UnfitWeights("it would be larger than its file")
            file.seek(0)
            given = torch.load(file, map_location="cpu", weights_only=True)
        except UnfitWeights:
            raise
        except Exception as error:  # of damaged and hostile files it raises anything
            raise UnfitWeights(f"it is no state dict: {shown(error)}") from None
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise UnfitWeights("it holds no tensors by name")
    if other := next((name for name, one in given.items() if not _is_dense(one)), None):
        raise UnfitWeights(f"it holds no tensor as {shown(other)}")
    return {**given}


def _is_dense(one: object) -> bool:
    """Whether it is a tensor of real numbers, each of which stands in the file."""
    if not isinstance(one, Tensor) or one.layout != torch.strided or one.is_complex() or one.is_meta:
        return False
    return one.numel() * one.element_size() <= one.untyped_storage().nbytes()


def _kind(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def not_finite(network: nn.Module) -> str | None:
    """The name of a weight or buffer that holds a value that is infinite or none, if any does."""
    return next((name for name, value in network.state_dict().items() if not value.isfinite().all()), None)
