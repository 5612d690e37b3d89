"""Self-attention over the positions of a map.

Axes: b images, c channels, h × w pixels, n = h·w positions, k attended positions."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from condgan.utils.errors import UserError

FEW_WEIGHTS = 2**17
"""Of an image's attention, up to which two products and a softmax are the fastest on a CPU, and need little memory."""


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
        if x.is_cpu and query.shape[1] * key.shape[1] <= FEW_WEIGHTS:
            attended = (query @ key.transpose(1, 2)).softmax(2) @ value
        else:  # kernels that keep no n × k weights want an axis of heads, and equally many channels: zeros do no harm
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
