"""Parts that several networks share.

Axes: b images, c channels, h × w pixels, v the labels' vector, d features, n = h·w positions, k attended positions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from condgan import world
from condgan.errors import UserError
from condgan.interfaces import LabelWeights
from condgan.labels import Labels, LabelSpec


class LabelEmbedding(LabelWeights):
    """A learned vector per label value: a table look-up for one class, a weighted sum for mixed or several.

    Takes the labels' vectors. Drawn from N(0, std²).
    """

    def __init__(self, labels: LabelSpec, features: int, std: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(labels.vector_width, features))

    def forward(self, vector: Float[Tensor, "b v"]) -> Float[Tensor, "b d"]:
        return vector @ self.weight


class Multiply(nn.Module):
    """The latent, element by element, times the label's embedding, which is drawn from N(0, 1)."""

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.embedding, self.features = LabelEmbedding(labels, latent_dim), latent_dim

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent * self.embedding(labels.vector())


class Add(nn.Module):
    """The latent plus the label's embedding, small at first, so that the label does not drown the latent.

    W (z + E y) = W z + (W E) y: before a linear layer a concatenation whose label weights are W E.
    """

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.embedding, self.features = LabelEmbedding(labels, latent_dim, std=0.6), latent_dim

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent + self.embedding(labels.vector())


class Concatenate(nn.Module):
    """The latent followed by the label's vector."""

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.features = latent_dim + labels.vector_width

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b d"]:
        return torch.cat([latent, labels.vector()], 1)


CONDITIONING = {"add": Add, "concatenate": Concatenate, "multiply": Multiply}


NormKind = Literal["batch", "instance", "group", "none"]
NORMS: dict[str, Callable[[int, float, bool], nn.Module]] = {
    "batch": lambda channels, eps, affine: nn.BatchNorm2d(channels, eps, affine=affine),
    "instance": lambda channels, eps, affine: nn.InstanceNorm2d(channels, eps, affine=affine),
    "group": lambda channels, eps, affine: nn.GroupNorm(math.gcd(channels, 32), channels, eps, affine),
    "none": lambda channels, eps, affine: nn.Identity(),
}
"""By channels, eps and whether gain and bias of its own follow; 32 groups, as far as the channels divide."""


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the moments of all processes' equal parts of a batch; torch has it for GPUs alone, in kernels that
    torch.compile cannot fuse.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self.training or world.size() == 1:
            return super().forward(x)
        precise = x if x.dtype == torch.float64 else x.float()
        own = precise.mean((0, 2, 3))
        centered = precise - own[:, None, None]
        means, variances = _Gathered.apply(torch.stack([own, centered.square().mean((0, 2, 3))])).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            assert self.momentum is not None, "cumulative averages are for sampling"
            count, momentum = world.size() * x.numel() // x.shape[1], self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
                self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt() * (self.weight if self.affine else 1)
        shift = (self.bias if self.affine else 0) + (own - mean) * scale
        return torch.addcmul(shift[:, None, None], centered, scale[:, None, None]).to(x.dtype)


class _Gathered(torch.autograd.Function):
    """What each process has, in the order of their ranks; each process's loss counts alike."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return world.gathered(own[None])

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Scattered.apply(gradients)


class _Scattered(torch.autograd.Function):
    """The sum over all processes of what each has for this one: the gradient of what is gathered, and the reverse."""

    @staticmethod
    def forward(ctx: Any, for_each: Tensor) -> Tensor:
        total = for_each.clone()
        world.add_up(total)
        return total[world.rank()]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Gathered.apply(gradient)


def synchronize(network: nn.Module) -> None:
    """From now on, let a network's batch norms see the parts of all processes."""
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SyncedBatchNorm


class Dropout2d(nn.Dropout2d):
    """Dropout of channels, whose mask is drawn for the whole batch of all processes."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self.training or world.size() == 1:
            return super().forward(x)
        return x * world.draw(_kept, len(x), x.shape[1], 1, 1, like=x, share=self.p)


def _kept(*shape: int, like: Tensor, share: float) -> Tensor:
    return F.dropout2d(like.new_ones(shape), share)


class Block(nn.Module):
    """A part of a network that may, once told so, compute its activations anew in the backward pass, not keep them."""

    recompute = False

    def __call__(self, *inputs: Tensor) -> Any:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().__call__(*inputs)
        return checkpoint(super().__call__, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """For the first time, and for the second, in which batch norms shall not count the batch again."""
        return nullcontext(), self._running_statistics_kept()

    @contextmanager
    def _running_statistics_kept(self) -> Iterator[None]:
        norms = [one for one in self.modules() if isinstance(one, _BatchNorm) and one.num_batches_tracked is not None]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked.sub_(1)  # pyright: ignore[reportOptionalMemberAccess]


def set_recompute(networks: Sequence[nn.Module], wanted: bool) -> None:
    """Tell the blocks of networks whether to compute their activations anew. Raises UserError where none has any."""
    blocks = [one for network in networks for one in network.modules() if isinstance(one, Block)]
    if wanted and not blocks:
        raise UserError(
            "compute.recompute given with networks that have no residual blocks to compute anew: leave it out, or "
            "choose networks such as resnet, biggan-deep or, for translators, stargan"
        )
    for block in blocks:
        block.recompute = wanted


def in_weights_precision(on: Tensor) -> AbstractContextManager:
    """No autocast where this tensor is."""
    return torch.autocast("cuda" if on.is_cuda else "cpu", enabled=False)


class Unconditional(nn.Module):
    """A norm that ignores the condition."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        return self.norm(x)


class Conditional(nn.Module):
    """A norm without gain and bias, followed by 1 + gain(condition) and bias(condition) (Dumoulin et al. 2017)."""

    def __init__(self, norm: nn.Module, gain: nn.Module, bias: nn.Module) -> None:
        super().__init__()
        self.norm, self.gain, self.bias = norm, gain, bias

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return torch.addcmul(bias[..., None, None], self.norm(x), gain[..., None, None])


class Attention(nn.Module):
    """Self-attention between positions, x + γ·o(softmax(q·k) v) with γ = 0 at first (Zhang et al. 2019, eq. 1–3).

    Queries and keys have c/8 channels. `pooled`: keys and values are max-pooled 2×2 and values have c/2 channels
    (the authors' released code, and BigGAN); else every position attends to every one, with values of c channels
    (the paper's eq. 1–2), and the 1×1 convolutions have biases.
    """

    def __init__(self, channels: int, *, pooled: bool) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2) if pooled else channels
        self.query = nn.Conv2d(channels, inner, 1, bias=not pooled)
        self.key = nn.Conv2d(channels, inner, 1, bias=not pooled)
        self.value = nn.Conv2d(channels, values, 1, bias=not pooled)
        self.pool = nn.MaxPool2d(2) if pooled else nn.Identity()
        self.output = nn.Conv2d(values, channels, 1, bias=False) if pooled else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.addcmul(x, self.gamma, self.output(self.attend(x)))

    def attend(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Each position's mean of the values, weighted by its attention."""
        query, key = self._positions(self.query(x)), self._positions(self.pool(self.key(x)))
        value = self._positions(self.pool(self.value(x))).contiguous()
        # kernels that keep no n × k weights want an axis of heads, and equally many channels: zeros change no product
        missing = (0, value.shape[2] - query.shape[2])
        query, key, value = (one[:, None] for one in (F.pad(query, missing), F.pad(key, missing), value))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0]
        return attended.transpose(1, 2).unflatten(2, x.shape[2:])

    def maps(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n i j"]:
        """How much each of the n positions, row by row, attends to each position of the (pooled) keys; sums to 1."""
        key = self.pool(self.key(x))
        weights = (self._positions(self.query(x)) @ self._positions(key).transpose(1, 2)).softmax(2)
        return weights.unflatten(2, key.shape[2:])

    @staticmethod
    def _positions(x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


def attention_at(
    wanted: Sequence[int], channels: dict[int, int], part: str, *, pooled: bool
) -> Callable[[int], nn.Module]:
    """Resolution → attention where it is wanted, else the identity; `channels` are those of each resolution.

    Raises UserError for a resolution that `part` does not have.
    """
    for resolution in wanted:
        if resolution not in channels:
            raise UserError(
                f"{part}.attention at {resolution} given: expected some of {', '.join(map(str, channels))} at this size"
            )
    return lambda resolution: Attention(channels[resolution], pooled=pooled) if resolution in wanted else nn.Identity()


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
