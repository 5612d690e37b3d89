"""Initializations of weights."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from condgan.networks.embeddings import LabelEmbedding

InitKind = Literal["ortho", "normal", "xavier"]

INITS: dict[str, Callable[[Tensor], object]] = {
    "ortho": nn.init.orthogonal_,
    "normal": lambda weight: nn.init.normal_(weight, 0.0, 0.02),
    "xavier": nn.init.xavier_uniform_,
}


def initialize(network: nn.Module, kind: InitKind | None) -> None:
    """Draw the weights of convolutions, linear layers and label embeddings anew, and set biases to 0.

    None: leave torch's own.
    """
    if kind is None:
        return
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | LabelEmbedding):
            INITS[kind](layer.weight)
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]


def init_normal(module: nn.Module) -> None:
    """Convolutions ~ N(0, 0.02) and batch-norm gains ~ N(1, 0.02) with biases 0 (Radford et al. 2016, §3)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
