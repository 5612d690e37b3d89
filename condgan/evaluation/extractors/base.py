"""A network whose features images are compared by.

Axes: b images, c channels, h × w pixels, d features, k classes.
"""

import hashlib
import math
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from condgan.utils.device import tf32
from condgan.utils.errors import UserError

EXTRACTED_AT_ONCE = 32
"""So many images go through a network at once."""
OF_MAPS = (
    nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
"""Modules that make feature maps b × c × h × w; four dims of others may be of another order, or those of attention."""


class Observed(NamedTuple):
    """Features and logits that a network finds in images."""

    features: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"] | None
    """Of classes, where the network has them."""


@dataclass(frozen=True)
class Extractor:
    """A network that looks at images, and where it comes from."""

    name: str
    """In the names of metrics: fd_<name>."""
    sha256: str
    """Of the file that the weights were read from; of users' own networks, their `state_hash`."""
    resize: str
    """How an image is resized before the network sees it."""
    network: nn.Module
    """Images of 0 … 255, b × c × h × w, → features b × d, or (features, logits b × k or None)."""
    known: bool = True
    """Whether the weights are the published ones of this name."""

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b c h w"]) -> Observed:
        """Look at images of 0 … 255; what is seen is float32, on the network's device.

        Raises UserError for a number of channels that the network does not take, and where it returns something else
        than an `Extractor` needs.
        """
        with tf32(False):
            parts = [self._observed(chunk.to(self._device)) for chunk in images.split(EXTRACTED_AT_ONCE)]
        logits = [part.logits for part in parts if part.logits is not None]
        return Observed(torch.cat([part.features for part in parts]), torch.cat(logits) if logits else None)

    @torch.inference_mode()
    def maps(self, images: UInt8[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The last feature map at each resolution, b × c × h × w, finest first; none of networks that make none.

        All images go through the network at once, and all of its maps are kept.
        """
        found: dict[torch.Size, Tensor] = {}

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if output.ndim == 4:
                found[output.shape[2:]] = output

        hooks = [one.register_forward_hook(keep) for one in self.network.modules() if isinstance(one, OF_MAPS)]
        try:
            with tf32(False):
                self.network(images.to(self._device))
        finally:
            for hook in hooks:
                hook.remove()
        return [found[size].float() for size in sorted(found, key=math.prod, reverse=True)]

    @property
    def _device(self) -> torch.device:
        return next(chain(self.network.parameters(), self.network.buffers()), torch.empty(0)).device

    def _observed(self, images: Tensor) -> Observed:
        try:
            output = self.network(images)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # it may be the user's code
            shape = " × ".join(map(str, images.shape))
            raise UserError(
                f"extractor '{self.name}' fails on images of {shape} ({one_line(error)}): mend it, or give "
                "another --size"
            ) from None
        match output:
            case (Tensor(ndim=2) as features, None) | (Tensor(ndim=2) as features) if len(features) == len(images):
                logits = None
            case (Tensor(ndim=2) as features, Tensor(ndim=2) as logits) if len(features) == len(logits) == len(images):
                logits = logits.float()
            case _:
                raise UserError(
                    f"extractor '{self.name}' returns {describe_output(output)} for {len(images)} images, expected "
                    "features b × d or a tuple (features b × d, logits b × k): change what it returns"
                )
        return Observed(features.float(), logits)


def state_hash(module: nn.Module) -> str:
    """The SHA-256 of a module's state dict: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def as_rgb(images: UInt8[Tensor, "b c h w"], name: str) -> UInt8[Tensor, "b 3 h w"]:
    """Gray images get three equal channels."""
    if images.shape[1] not in (1, 3):
        raise UserError(
            f"images have {images.shape[1]} channels, extractor '{name}' takes 1 or 3: give gray or RGB images, or "
            "--extractor classifier"
        )
    return images.expand(-1, 3, -1, -1)


def describe_output(value: object) -> str:
    """Say what kind of value a network or a callable returned."""
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(describe_output(one) for one in value)}"
    return f"an object of {type(value).__name__}"


def one_line(error: Exception) -> str:
    """An error's message in a line, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
