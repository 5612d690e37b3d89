"""Distances of classes and their trees, against the definition of average linkage."""

import csv
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from condgan.evaluation.class_tree import (
    average_linkage,
    class_distances,
    confused_classes,
    distance_table,
    tree_picture,
)
from condgan.utils.errors import UserError

NAMES = [f"class {number}" for number in range(7)]
VECTORS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def joined_by_hand(distances: np.ndarray) -> list[tuple[frozenset[int], float]]:
    """The groups that come of joining the two with the least mean distance of members, again and again."""
    groups, found = [frozenset([i]) for i in range(len(distances))], []
    while len(groups) > 1:
        far = {
            (a, b): float(np.mean([distances[i, j] for i in a for j in b]))
            for a, b in itertools.combinations(groups, 2)
        }
        a, b = min(far, key=lambda pair: far[pair])
        found.append((a | b, far[a, b]))
        groups = [one for one in groups if one not in (a, b)] + [a | b]
    return found


def test_distances_are_euclidean() -> None:
    expected = np.linalg.norm(VECTORS.double().numpy()[:, None] - VECTORS.double().numpy(), axis=2)
    found = class_distances(VECTORS)
    assert np.allclose(found.numpy(), expected)
    assert torch.equal(found, found.T)
    with pytest.raises(UserError, match="a tree of one class"):
        class_distances(VECTORS[:1])


def test_groups_are_joined_by_their_mean_distance() -> None:
    distances = class_distances(VECTORS)
    groups: list[frozenset[int]] = [frozenset([i]) for i in range(7)]
    found = []
    for a, b, distance, count in average_linkage(distances):
        groups.append(groups[int(a)] | groups[int(b)])
        assert len(groups[-1]) == count
        found.append((groups[-1], distance))
    expected = joined_by_hand(distances.numpy())
    assert [group for group, _ in found] == [group for group, _ in expected]
    assert np.allclose([distance for _, distance in found], [distance for _, distance in expected])


def test_classes_that_are_nearer_than_real_ones_come_first() -> None:
    real = class_distances(VECTORS)
    made = real.clone()
    made[2, 5] = made[5, 2] = 0.25 * real[2, 5]
    pairs = confused_classes(made, real, NAMES)
    assert len(pairs) == 21
    assert pairs[0][:2] == ("class 2", "class 5")
    assert pairs[0].ratio == pytest.approx(0.25)
    assert pairs[-1].ratio == pytest.approx(1)


def test_the_table_has_a_line_for_each_pair() -> None:
    kinds = {"a": class_distances(VECTORS), "b": class_distances(2 * VECTORS)}
    rows = list(csv.DictReader(io.StringIO(distance_table(kinds, NAMES).decode())))
    assert [(row["class"], row["other"]) for row in rows] == [*itertools.combinations(NAMES, 2)]
    for row in rows:
        first, second = NAMES.index(row["class"]), NAMES.index(row["other"])
        assert float(row["a"]) == pytest.approx(float(kinds["a"][first, second]), rel=1e-5)
        assert float(row["b"]) == pytest.approx(2 * float(row["a"]), rel=1e-4)


def test_trees_stand_side_by_side() -> None:
    one = class_distances(VECTORS)
    alone, both = (Image.open(io.BytesIO(tree_picture(dict.fromkeys(kinds, one), NAMES))) for kinds in ("a", "ab"))
    assert both.width == 2 * alone.width
    assert both.height == alone.height
    many = class_distances(torch.randn(300, 3))
    names = ["a very long name of a class " * 3] * 300
    assert Image.open(io.BytesIO(tree_picture({"a": many}, names))).height > 10 * alone.height
