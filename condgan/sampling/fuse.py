"""Generators for sampling alone: what does not change from image to image is computed once.

Spectral norms and kernels of resampling convolutions become plain weights. A batch norm with running statistics is an
affine map of each channel, which joins the convolution before it, or the gain and bias that the label gives.

Axes: b images, c channels, e = 2·c, d condition, h × w pixels, s latent coordinates, or what a translator takes.
"""

from collections.abc import Callable
from copy import deepcopy
from threading import RLock
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from condgan.labels import Labels
from condgan.networks.embeddings import LabelEmbedding
from condgan.networks.fused_resampling import DownConv2d, UpConv2d
from condgan.networks.norms import Conditional, SyncedBatchNorm
from condgan.types import Generator, to_float, to_uint8
from condgan.utils.choices import Precision
from condgan.utils.device import precision, tf32
from condgan.utils.errors import NotFinite
from condgan.utils.limits import require_memory

Fused = TypeVar("Fused", bound=nn.Module)
_FOLDING = RLock()
MADE_AT_ONCE = 256
MADE_AT_ONCE_ON = {"cpu": 32}
"""How many images are made at once: on a CPU as few as its caches like, since more gain nothing."""


class Affine(nn.Module):
    """scale · x + shift, of each channel."""

    scale: Float[Tensor, "c 1 1"]
    shift: Float[Tensor, "c 1 1"]

    def __init__(self, scale: Float[Tensor, " c"], shift: Float[Tensor, " c"]) -> None:
        super().__init__()
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.addcmul(self.shift, x, self.scale)


class ConditionalAffine(nn.Module):
    """scale(condition) · x + shift(condition), both linear, by one product."""

    def __init__(self, weight: Float[Tensor, "e d"], bias: Float[Tensor, " e"]) -> None:
        super().__init__()
        self.both = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.both.weight, self.both.bias = (nn.Parameter(part, requires_grad=False) for part in (weight, bias))

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        scale, shift = self.both(condition)[..., None, None].chunk(2, 1)
        return torch.addcmul(shift, x, scale)


@torch.no_grad()
def fuse_for_inference(network: Fused) -> Fused:
    """A copy in evaluation mode that gives the same but for rounding, faster, and cannot be trained.

    Norms of the batch's own statistics, of instances and of groups stay, and so does whatever it does not know.
    """
    copy = deepcopy(network).eval().requires_grad_(False)
    for layer in filter(parametrize.is_parametrized, list(copy.modules())):
        _settle(layer)
    return _folded(copy)  # pyright: ignore[reportReturnType]


def sharing_weights(network: Fused) -> Fused:
    """The same weights in layers of their own: what is hooked to them, nobody else meets."""
    return deepcopy(network, {id(one): one for one in (*network.parameters(), *network.buffers())})


def _settle(layer: nn.Module) -> None:
    """Put its values in a parametrization's place; torch's own way would break the layer that this is a copy of."""
    values = {name: getattr(layer, name) for name in layer.parametrizations}  # pyright: ignore[reportGeneralTypeIssues]
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    for name, value in values.items():
        setattr(layer, name, nn.Parameter(value, requires_grad=False))


def _folded(layer: nn.Module) -> nn.Module:
    for name, child in list(layer.named_children()):
        setattr(layer, name, _folded(child))
    return FOLDS[type(layer)](layer) if type(layer) in FOLDS else layer


def _up(layer: UpConv2d) -> nn.Module:
    return _convolution(nn.ConvTranspose2d, layer, layer.kernel())


def _down(layer: DownConv2d) -> nn.Module:
    return _convolution(nn.Conv2d, layer, layer.kernel())


def _convolution(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], layer: nn.Conv2d, kernel: Tensor) -> nn.Module:
    convolution = kind(layer.in_channels, layer.out_channels, 4, 2, 1, device="meta")
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    convolution.weight = nn.Parameter(kernel, requires_grad=False)
    convolution.bias = layer.bias
    return convolution


def _norm(norm: _BatchNorm) -> nn.Module:
    if norm.running_mean is None or norm.running_var is None:
        return norm
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return Affine(scale, shift if norm.bias is None else shift + norm.bias)


def _conditional(layer: Conditional) -> nn.Module:
    linear = (LabelEmbedding, nn.Linear)
    if not (isinstance(layer.norm, Affine) and isinstance(layer.gain, linear) and isinstance(layer.bias, linear)):
        return layer
    scale, shift = layer.norm.scale.flatten(), layer.norm.shift.flatten()
    gain, gain_at_0 = _matrix(layer.gain)
    bias, bias_at_0 = _matrix(layer.bias)
    gain_at_0 = 1 + gain_at_0
    return ConditionalAffine(
        torch.cat([scale[:, None] * gain, shift[:, None] * gain + bias]),
        torch.cat([scale * gain_at_0, shift * gain_at_0 + bias_at_0]),
    )


def _matrix(layer: LabelEmbedding | nn.Linear) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """The linear map as (weight, bias)."""
    weight = layer.weight.T if isinstance(layer, LabelEmbedding) else layer.weight
    bias = getattr(layer, "bias", None)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias


def _sequence(layers: nn.Sequential) -> nn.Module:
    """With what is affine and follows a convolution in this convolution's weights."""
    before: nn.Module = layers
    for name, layer in list(layers.named_children()):
        if type(layer) is Affine and type(before) in (nn.Conv2d, nn.ConvTranspose2d) and before.groups == 1:
            _absorb(before, layer)  # pyright: ignore[reportArgumentType]
            setattr(layers, name, nn.Identity())
        elif type(layer) is not nn.Identity:
            before = layer
    return layers


def _absorb(convolution: nn.Conv2d | nn.ConvTranspose2d, affine: Affine) -> None:
    transposed = isinstance(convolution, nn.ConvTranspose2d)
    convolution.weight.mul_(affine.scale[None] if transposed else affine.scale[..., None])
    bias = torch.zeros_like(affine.shift) if convolution.bias is None else convolution.bias[:, None, None]
    convolution.bias = nn.Parameter(affine(bias[None]).flatten(), requires_grad=False)


FOLDS: dict[type, Callable] = {
    UpConv2d: _up,
    DownConv2d: _down,
    nn.BatchNorm2d: _norm,
    nn.SyncBatchNorm: _norm,
    SyncedBatchNorm: _norm,
    Conditional: _conditional,
    nn.Sequential: _sequence,
}
"""By kind of layer, folds one whose own layers are folded already."""


class Folded(NamedTuple):
    """A generator's folded copy."""

    versions: list[tuple[int, int]]
    """Of the weights that it was made of."""
    network: Generator
    run: Callable[[Tensor, Labels], Tensor]
    """The same, or compiled."""


class Sampler:
    """A generator in evaluation mode, with which images are made by a folded copy; changed weights are folded anew.

    `compiled`: by torch.compile, once per size of what is made at once. Threads may share it: of two that find the
    weights changed, one folds them and the other waits.
    """

    def __init__(self, generator: Generator, wanted: Precision = "float32", compiled: bool = False) -> None:
        self.generator, self.compiled = generator, compiled
        self.wanted: Precision = wanted
        self._folded: Folded | None = None

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    @property
    def precision(self) -> torch.dtype:
        """The number format that the folded copy computes in."""
        return precision(self.wanted, self.device)

    @property
    def network(self) -> Generator:
        """The folded copy of the weights as they are now."""
        return self.folded.network

    @property
    def folded(self) -> Folded:
        """The same, and how it is run."""
        tensors = [*self.generator.parameters(), *self.generator.buffers()]
        versions = [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
        with _FOLDING:
            if self._folded is None or self._folded.versions != versions:
                network = fuse_for_inference(self.generator)
                network = network.bfloat16() if self.precision == torch.bfloat16 else network
                run = torch.compile(network, dynamic=False) if self.compiled else network
                self._folded = Folded(versions, network, run)
            return self._folded

    def apart(self) -> "Sampler":
        """The same weights in layers of its own, not compiled: what is hooked to them sees no other caller's images."""
        folded = self.folded
        network = sharing_weights(folded.network)
        alone = Sampler(self.generator, self.wanted)
        alone._folded = Folded(folded.versions, network, network)
        return alone

    @torch.inference_mode()
    def __call__(
        self, source: Float[Tensor, "b *s"] | UInt8[Tensor, "b *s"], labels: Labels, size: int | None = None
    ) -> UInt8[Tensor, "b c h w"]:
        """Images of 0 … 255, on the CPU, from latents or from other images, `size` at a time."""
        folded = self.folded
        mixing = any(isinstance(layer, _BatchNorm) for layer in folded.network.modules())
        size = size or MADE_AT_ONCE_ON.get(self.device.type, MADE_AT_ONCE)
        parts = []
        with tf32(False):
            for start in range(0, len(source), size):
                chosen = torch.arange(start, min(start + size, len(source)))
                if self.compiled and not mixing:  # the last ones among others, or they'd be compiled for their number
                    chosen = torch.arange(start, start + size) % len(source)
                parts.append(self._made(folded, source[chosen].to(self.device), labels[chosen].to(self.device)))
                if not start:
                    require_memory(2 * len(source) * parts[0][0].nbytes, f"{len(source):,} images")
        return torch.cat(parts)[: len(source)]

    def _made(self, folded: Folded, source: Tensor, labels: Labels) -> UInt8[Tensor, "b c h w"]:
        entering = to_float(source) if source.dtype == torch.uint8 else source
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            images = folded.run(entering, labels)
        if not images.isfinite().all():
            raise NotFinite("the generator makes images that are not finite: take another checkpoint, or other latents")
        return to_uint8(images).cpu()
