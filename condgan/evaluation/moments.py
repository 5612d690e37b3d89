"""Means and covariances of features, summed in float64 chunk by chunk.

Axes: n images, d features, g groups of images.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from condgan.utils.errors import UserError
from condgan.utils.files import new_file

GROUPS = 16
"""Into which images fall at random, so that their spread tells how sure a number is."""


class Normal(NamedTuple):
    """The normal distribution fitted to images' features, in float64."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]


@dataclass(frozen=True)
class Moments:
    """Sums over the images of each group; those of several chunks or processes are added with +."""

    count: Float[Tensor, " g"]
    total: Float[Tensor, "g d"]
    outer: Float[Tensor, "g d d"]

    @classmethod
    def nothing(cls, dim: int, groups: int = 1, device: torch.device | str = "cpu") -> "Moments":
        """Of no images."""
        shapes = (groups,), (groups, dim), (groups, dim, dim)
        return cls(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Moments":
        """Of some images, as one group."""
        moments = cls.nothing(features.shape[1], device=features.device)
        moments.add(features)
        return moments

    def add(self, features: Float[Tensor, "n d"], group: Int[Tensor, " n"] | None = None) -> None:
        """Count some more images, of the first group or each of its own."""
        features = features.double()
        numbers = range(len(self.count)) if group is not None else [0]
        for number in numbers:
            own = features if group is None else features[group == number]
            self.count[number] += len(own)
            self.total[number] += own.sum(0)
            self.outer[number].addmm_(own.T, own)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def normal(self) -> Normal:
        """Of all images; the covariance is the unbiased one."""
        count, total, outer = self.count.sum(), self.total.sum(0), self.outer.sum(0)
        mean = total / count
        return Normal(mean, (outer - count * mean.outer(mean)) / (count - 1))


def groups_of(count: int, index: Int[Tensor, " n"] | None = None) -> Int[Tensor, " n"]:
    """A random group for each of so many images, always the same; with the same share of each class, where known.

    For fakes' classes are asked for, not drawn: their counts must not add to what differs between groups.
    """
    order = np.random.default_rng(0).permutation(count)
    if index is not None:
        order = order[np.argsort(index.numpy()[order], kind="stable")]
    group = np.empty(count, np.int64)
    group[order] = np.arange(count) % GROUPS
    return torch.from_numpy(group)


def write_normal(path: Path, normal: Normal, about: Mapping[str, Any]) -> None:
    """An npz file with `mu` and `sigma`, which pytorch-fid and BigGAN-PyTorch read too, and what they are of."""
    mean, covariance = (part.cpu().numpy() for part in normal)
    with new_file(path) as file, file.open("wb") as out:
        np.savez(out, mu=mean, sigma=covariance, about=np.array(json.dumps(about)))


def read_normal(path: Path) -> tuple[Normal, dict[str, Any]]:
    """Read such a file; others' files do not tell what they are of. Raises UserError for any other."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
            about = json.loads(str(file["about"])) if "about" in file.files else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"'{path}' cannot be read as statistics ({error}): expected an npz file with mu and sigma"
        ) from None
    finite = bool(np.isfinite(mean).all() and np.isfinite(covariance).all())
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or not finite:
        raise UserError(
            f"'{path}' holds mu of shape {mean.shape} and sigma of shape {covariance.shape}: expected finite ones of "
            "(d) and (d, d)"
        )
    ours = isinstance(about, dict) and about.keys() >= {"extractor", "extractor_sha256", "real", "size"}
    return Normal(torch.from_numpy(mean), torch.from_numpy(covariance)), about if ours else {}
