"""Weights in safetensors files: the one place that reads them."""

from pathlib import Path

from safetensors.torch import load
from torch import Tensor, nn

from condgan.utils.errors import shown
from condgan.utils.files import read_bytes

SLACK = 16 << 20
"""Bytes that a file may have beyond its tensors."""


class UnfitWeights(ValueError):
    """A file of weights that is damaged, or of another network."""


def load_weights(network: nn.Module, path: Path, assign: bool = False) -> None:
    """Bring a network to the weights in a safetensors file; `assign` puts these in the place of its own.

    Raises OSError, TooLarge for a file that no such network can have, and UnfitWeights for a damaged one, and for
    tensors of other names, shapes or types than the network's.
    """
    own = network.state_dict()
    content = read_bytes(path, SLACK + sum(value.numel() * value.element_size() for value in own.values()))
    try:
        given = load(content)
    except Exception as error:  # of damaged files it raises anything
        raise UnfitWeights(f"it is damaged: {shown(error)}") from None
    for name in dict.fromkeys([*own, *given]):
        if (there := _kind(given.get(name))) != (here := _kind(own.get(name))):
            raise UnfitWeights(f"it is of another network: {shown(name)} is {there} there and {here} here")
    network.load_state_dict(given, assign=assign)


def _kind(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def not_finite(network: nn.Module) -> str | None:
    """The name of a weight or buffer that holds a value that is infinite or none, if any does."""
    return next((name for name, value in network.state_dict().items() if not value.isfinite().all()), None)
