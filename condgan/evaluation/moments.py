"""Means and covariances of features, summed in float64 chunk by chunk.

Axes: n images, m of them, d features, g groups of images, k classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from condgan.data.readers.npz import npz_array, npz_keys
from condgan.utils.errors import UserError, shown
from condgan.utils.files import new_file
from condgan.utils.limits import TEXT

GROUPS = 16
"""Into which images fall at random, so that their spread tells how sure a number is."""

ROUNDING = 1e-4
"""How far a covariance may be from one, as a share of its largest value."""


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


class AboutStatistics(BaseModel):
    """What statistics are of, as far as comparisons ask for it."""

    model_config = ConfigDict(extra="allow", strict=True)

    extractor: str
    extractor_sha256: str
    real: int = Field(ge=2)
    size: str


def read_normal(path: Path) -> tuple[Normal, dict[str, Any]]:
    """Read such a file; others' files do not tell what they are of. Raises UserError for any other."""
    keys = npz_keys(path)
    if lacking := next((name for name in ("mu", "sigma") if name not in keys), None):
        raise UserError(f"'{path}' has no {lacking}: expected statistics, an npz file with mu and sigma")
    mean, covariance = npz_array(path, "mu"), npz_array(path, "sigma")
    plain = mean.dtype.kind in "fiu" and covariance.dtype.kind in "fiu"
    if not plain or mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise UserError(
            f"'{path}' holds mu of {shown(mean.dtype)}, of shape {mean.shape}, and sigma of {shown(covariance.dtype)}, "
            f"of shape {covariance.shape}: expected numbers of shapes (d) and (d, d)"
        )
    normal = Normal(*(torch.from_numpy(one.astype(np.float64)) for one in (mean, covariance)))
    if wrong := _wrong(normal):
        raise UserError(f"'{path}' holds mu and sigma that are no mean and covariance ({wrong}): make it anew")
    return normal, _about(path) if "about" in keys else {}


def _wrong(normal: Normal) -> str | None:
    """Why it is no normal distribution; rounding in float32 is none."""
    mean, covariance = normal
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        return "expected finite ones"
    least = ROUNDING * float(covariance.abs().max())
    if float((covariance - covariance.T).abs().max()) > least:
        return "sigma is not symmetric"
    shifted = (covariance + covariance.T) / 2 + max(least, 1e-300) * torch.eye(len(mean), dtype=torch.float64)
    if bool(torch.linalg.cholesky_ex(shifted).info):
        return "sigma has negative eigenvalues"
    return None


def _about(path: Path) -> dict[str, Any]:
    """What a file says that its statistics are of; nothing where it is another program's."""
    text = npz_array(path, "about", TEXT)
    try:
        about = json.loads(str(text))
        if not isinstance(about, dict) or not about.keys() >= AboutStatistics.model_fields.keys():
            return {}
        return AboutStatistics.model_validate(about).model_dump()
    except (ValueError, RecursionError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("about",), "msg": str(error)}
        raise UserError(
            f"'{path}' does not tell what its statistics are of ({shown(what['loc'][0])}: {shown(what['msg'])}): "
            "make it anew with condgan statistics"
        ) from None


def class_centroids(features: Float[Tensor, "m d"], classes: Int[Tensor, " m"], count: int) -> Float[Tensor, "k d"]:
    """The mean of each class's features; NaN where it has no image. A class of −1 is none."""
    known = classes >= 0
    features, classes = features[known], classes[known]
    sums = torch.zeros(count, features.shape[1], dtype=torch.float64).index_add_(0, classes, features.double())
    return sums / classes.bincount(minlength=count)[:, None]
