"""Neighbors of images against a search by hand; copies are told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from condgan.runs.class_tree import run_class_distances
from condgan.runs.models import load_model
from condgan.runs.neighbors import NeighborSearch, nearby_sheet
from condgan.sampling.directions import label_response
from condgan.utils.figures import channels_first


@pytest.fixture
def run(digits_run: Callable[..., Path], digits_classifier: None) -> Path:
    return digits_run()


def test_neighbors_are_the_nearest_in_the_classifiers_features(run: Path) -> None:
    search = NeighborSearch.of(run, 95, seed=4)
    assert len(search.made) == 100  # as many of each class
    assert torch.equal(search.made.images, channels_first(load_model(run).sample(None, 10, 4)))
    images = channels_first(load_model(run).sample(["3", "8"], 2, 0))
    found = search.among(images, 5)
    labels = search.made.labels[:4]
    features = search.classifier.predict(images, labels).features.double().numpy()
    for near, known in ((found.made, search.of_made), (found.trained_on, search.of_training)):
        distances = np.linalg.norm(features[:, None] - known.double().numpy(), axis=2)
        assert np.allclose(near.distances[:, :5].numpy(), np.sort(distances, 1)[:, :5], atol=1e-6)
    assert found.made.numbers.shape == (4, 5)
    assert search.names(search.made, [0, 25, 99]) == [("0", "0"), ("2", "5"), ("9", "9")]
    name, file = search.names(search.training, [7])[0]
    assert (name, file) == (search.model.classes[int(search.training.labels.index()[7])], search.training.names[7])


def test_copies_are_told_and_what_is_made_is_found(run: Path) -> None:
    search = NeighborSearch.of(run, 50, seed=4)
    training = search.training.images[[5, 300]]
    found = search.among(training, 3)
    assert found.copies is not None
    assert found.copies.all()
    assert found.trained_on.numbers[:, 0].tolist() == [5, 300]
    assert (found.trained_on.distances[:, 0] < 1e-5).all()
    own = search.among(search.made.images[[7, 31]], 3)
    assert own.made.numbers[:, 0].tolist() == [7, 31]
    lines = search.table(found, [("3", 0), ("8", 1)], 3).decode().splitlines()
    assert len(lines) == 1 + 2 * 2 * 3
    assert lines[4].startswith("3,0,1,training,1,")
    picture = search.sheet(training, found, ["3, no. 0", "8, no. 1"], 3)
    assert picture.width > 7 * 50


def test_latents_nearby_begin_with_the_image_itself(run: Path) -> None:
    model = load_model(run)
    drawn = model.draw(["3"], 2, 0)
    near, same = (np.asarray(nearby_sheet(model, drawn, ["a", "b"], 3, distance, 0)) for distance in (0.5, 0.0))
    own = np.asarray(nearby_sheet(model, drawn, ["a", "b"], 0, 0.5, 0))
    left = own.shape[1] - 2
    assert np.array_equal(near[:, :left], own[:, :left])
    assert not np.array_equal(near, same)


def test_distances_of_classes_are_of_weights_and_features(run: Path) -> None:
    classes, distances = run_class_distances(run, per_class=5)
    assert [*distances] == ["label weights", "generated images", "held-out images"]
    assert len(classes) == 10
    model = load_model(run)
    rows = label_response(model.generator, model.spec).double().numpy()
    assert distances["label weights"][2, 7].item() == pytest.approx(np.linalg.norm(rows[2] - rows[7]))
    search = NeighborSearch.of(run, 50, seed=0)
    means = search.of_made.double().unflatten(0, (10, 5)).mean(1)
    assert distances["generated images"][2, 7].item() == pytest.approx(float((means[2] - means[7]).norm()), rel=1e-5)
