"""How far classes are from each other, as trees: which are alike to a generator, and which in real images.

Axes: k classes, d numbers of each.
"""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from condgan.utils.errors import UserError, shown
from condgan.utils.files import csv_bytes

CLASS_HEIGHT, PANEL_WIDTH = 0.19, 3.6
"""Inches of a class's line in a tree, and of a tree."""
LONGEST_CLASS = 24
"""Characters of a class's name that are shown."""


class ClassPair(NamedTuple):
    """Two classes, and how far apart a generator's images of them are, relative to real ones."""

    first: str
    second: str
    ratio: float


def class_distances(vectors: Float[Tensor, "k d"]) -> Float[Tensor, "k k"]:
    """Euclidean distances between classes, in float64. Raises UserError for a single class."""
    if len(vectors) < 2:
        raise UserError("a tree of one class asked for: expected a run of two or more")
    differences = torch.cdist(vectors.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return (differences + differences.T) / 2


def average_linkage(distances: Float[Tensor, "k k"]) -> Float[np.ndarray, "m 4"]:
    """The tree that joins the two nearest groups again and again, in SciPy's form (UPGMA: Sokal & Michener 1958).

    Groups are as far apart as their members are on average.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(distances.numpy(), checks=False), "average")


def confused_classes(made: Float[Tensor, "k k"], real: Float[Tensor, "k k"], classes: Sequence[str]) -> list[ClassPair]:
    """All pairs of classes, first those whose generated images are nearest to each other relative to real ones."""
    first, second = torch.triu_indices(len(classes), len(classes), 1)
    ratios = made[first, second] / real[first, second].clamp(min=1e-12)
    order = ratios.argsort(stable=True)
    triples = zip(first[order].tolist(), second[order].tolist(), ratios[order].tolist(), strict=True)
    return [ClassPair(classes[int(a)], classes[int(b)], ratio) for a, b, ratio in triples]


def distance_table(distances: Mapping[str, Float[Tensor, "k k"]], classes: Sequence[str]) -> bytes:
    """A line for each pair of classes as CSV, with a column for each kind of distance."""
    pairs = torch.triu_indices(len(classes), len(classes), 1)
    columns = torch.stack([one[pairs[0], pairs[1]] for one in distances.values()], 1)
    return csv_bytes(
        [
            ["class", "other", *distances],
            *(
                [classes[first], classes[second], *(f"{number:.6g}" for number in numbers)]
                for (first, second), numbers in zip(pairs.T.tolist(), columns.tolist(), strict=True)
            ),
        ]
    )


def tree_picture(distances: Mapping[str, Float[Tensor, "k k"]], classes: Sequence[str]) -> bytes:
    """The PNG file of a tree for each kind of distance, side by side."""
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import dendrogram

    size = (PANEL_WIDTH * len(distances), 0.9 + CLASS_HEIGHT * len(classes))
    figure = Figure(figsize=size, layout="constrained")
    names = [shown(name, LONGEST_CLASS) for name in classes]
    for axis, (kind, one) in zip(np.ravel(figure.subplots(1, len(distances))), distances.items(), strict=True):
        dendrogram(
            average_linkage(one), ax=axis, labels=names, orientation="left", color_threshold=0,
            above_threshold_color="C0", leaf_font_size=9,
        )  # fmt: skip
        axis.set_title(kind, fontsize="medium")
        axis.set_xlabel("distance", fontsize="small")
        axis.tick_params(axis="x", labelsize="small")
        for side in ("top", "left", "right"):
            axis.spines[side].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
