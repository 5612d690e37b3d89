"""Find copies among fakes: their nearest training images, and how often these are suspiciously near.

Axes: n queries (fakes, or held-out images), m training images, d features, k neighbors, c channels, h × w pixels.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from condgan.evaluation.metrics.distances import tiled_distances
from condgan.utils.figures import sheet


class Nearest(NamedTuple):
    """The nearest training images of n queries, the nearest first; of equally near ones, in any order."""

    distances: Float[Tensor, "n k"]
    """Euclidean, in float64."""
    numbers: Int[Tensor, "n k"]

    @classmethod
    def among(cls, queries: Float[Tensor, "n d"], training: Float[Tensor, "m d"], keep: int) -> "Nearest":
        """Up to `keep` of them for each query; a copy is at distance 0, exactly."""
        training, keep = training.double(), min(keep, len(training))
        queries = queries.to(training)
        tiles = tiled_distances(queries, training)
        numbers = torch.cat([distance.topk(keep, dim=1, largest=False).indices for _, distance in tiles])
        exact = [(queries - training[column]).norm(dim=1) for column in numbers.T]
        return cls(torch.stack(exact, 1), numbers)

    @property
    def relative(self) -> Float[Tensor, " n"]:
        """Distances to the nearest over the mean of those to the others kept (after Carlini et al. 2023); 0/0 is 0.

        They tell copies from images that are merely typical, which lie near many training images.
        """
        assert self.distances.shape[1] > 1
        return (self.distances[:, 0] / self.distances[:, 1:].mean(1)).nan_to_num(nan=0.0)


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
