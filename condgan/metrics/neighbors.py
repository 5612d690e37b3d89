"""Whether fakes are copies: their nearest training images, and how often these are suspiciously near.

Axes: n queries (fakes, or held-out images), m training images, d features, k neighbors, c channels, h × w pixels.
"""

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from condgan.sheets import sheet

CHUNK = 512


class Nearest:
    """The k nearest neighbors of queries among features that come in chunks.

    The same to the last bit in whatever chunks and order they come: all features are rounded to a grid, finer than 2⁻²³
    of the longest query, on which squared distances are whole numbers below 2⁵³ (of features up to four times as long
    as that query), so that float64 has nothing to round in a matrix product.
    """

    def __init__(self, queries: Float[Tensor, "n d"], keep: int = 1) -> None:
        longest = queries.double().norm(dim=1).max()
        self._grid = torch.exp2(torch.frexp(longest).exponent - 24.0).double()
        self._queries = self._on_grid(queries)
        self._keep = keep
        self._seen = 0
        # A distance's float32 bits, which as integers are in the same order, above the number: where distances are
        # equal the lower number is nearer, so the k smallest are always the same ones.
        self._keys = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)

    def update(self, features: Float[Tensor, "m d"], start: int | None = None) -> None:
        """See the next features, numbered from `start` on, by default from where the last ones ended."""
        if start is not None:
            self._seen = start
        for chunk in features.to(self._queries.device).split(CHUNK):
            others = self._on_grid(chunk)
            products = self._queries @ others.T
            squares = self._queries.square().sum(1, keepdim=True) - 2 * products + others.square().sum(1)
            bits = (squares.sqrt() * self._grid).float().view(torch.int32).long()
            numbers = torch.arange(self._seen, self._seen + len(chunk), device=bits.device)
            self._add(bits << 32 | numbers)
            self._seen += len(chunk)

    def merge(self, other: "Nearest") -> None:
        """See what another one of the same queries has seen."""
        self._add(other._keys.to(self._keys.device))
        self._seen = max(self._seen, other._seen)

    @property
    def distances(self) -> Float[Tensor, "n k"]:
        """Euclidean distances in float32, the nearest first; k is at most what was seen."""
        return (self._keys >> 32).int().view(torch.float32)

    @property
    def numbers(self) -> Int[Tensor, "n k"]:
        """The places of the neighbors in the stream."""
        return self._keys & 0xFFFFFFFF

    @property
    def relative(self) -> Float[Tensor, " n"]:
        """Distances to the nearest over the mean of those to the others kept (after Carlini et al. 2023); 0/0 is 0.

        They tell copies from images that are merely typical, which lie near many training images.
        """
        assert self._keep > 1
        return (self.distances[:, 0] / self.distances[:, 1:].mean(1)).nan_to_num(nan=0.0)

    def _on_grid(self, features: Tensor) -> Tensor:
        return (features.double() / self._grid).round()

    def _add(self, keys: Int[Tensor, "n _"]) -> None:
        keys = torch.cat([self._keys, keys], 1)
        self._keys = keys.topk(min(self._keep, keys.shape[1]), largest=False).values


def copies(fake: Float[Tensor, " n"], real: Float[Tensor, " m"], share: float = 0.01) -> float:
    """The share of fakes nearer to their nearest training image than the nearest 1 % of held-out images are to theirs.

    `fake` and `real` are these distances, absolute or relative. A generator that draws from the data's distribution has
    0.01 on average, whatever n, m and the ties among distances; one that copies has far more. A fake counts by the
    chance that its smoothed conformal p-value (Vovk et al. 2005), its rank among held-out images with ties broken at
    random, is at most `share`. So a copy counts for less where held-out images, too, are in the training set; and of
    m < 99 held-out images, which cannot tell what 1 % are, it counts for (m + 1) / 100.
    """
    ordered = real.sort().values
    fake = fake.contiguous()
    nearer = torch.searchsorted(ordered, fake)
    equal = torch.searchsorted(ordered, fake, right=True) - nearer
    counts = (share * (len(real) + 1) - nearer) / (1 + equal)
    return float(counts.double().clamp(0, 1).mean())


def neighbor_sheet(
    fakes: UInt8[Tensor, "n c h w"], neighbors: UInt8[Tensor, "n k c h w"], distances: Float[Tensor, "n k"]
) -> Image.Image:
    """A row per fake: itself, then its nearest training images; on the left their distances, in the same order."""
    cells = torch.cat([fakes[:, None], neighbors], 1).flatten(0, 1)
    columns = ["fake", "nearest", *map(str, range(2, neighbors.shape[1] + 1))]
    return sheet(cells, columns, ["  ".join(f"{distance:.3g}" for distance in row) for row in distances.tolist()])
