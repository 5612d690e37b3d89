"""Directions against eigenvectors of weights that are put together by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from condgan.labels import Labels
from condgan.networks import GENERATORS
from condgan.networks.resnet import UpBlock
from condgan.sampling.directions import Directions, label_response, latent_directions, latent_response
from condgan.sampling.latents import draw_latents
from condgan.sampling.model import Model
from condgan.types import Generator, ImageShape
from condgan.utils.errors import UserError
from tests.helpers import ABC, tiny

BANANA = Labels.from_index(ABC, torch.tensor([1]))


def made(name: str, **options: Any) -> Generator:
    shape = ImageShape(2, 1, 1) if name == "mlp" else ImageShape(1, 16, 16)
    return GENERATORS[name](shape, ABC, **options).eval().requires_grad_(False)


def array(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().double().numpy()


def of_norms(norms: list[Any], columns: slice) -> np.ndarray:
    return np.concatenate([array(part.weight)[:, columns] for norm in norms for part in (norm.gain, norm.bias)])


def of_hierarchical(generator: Any) -> np.ndarray:
    """Of three parts of four coordinates: the first enters the linear layer, the others a block's norms each."""
    blocks = [block for block in generator.blocks if isinstance(block, UpBlock)]
    assert len(blocks) == 2
    rows = [np.pad(array(generator.linear.weight), ((0, 0), (0, 8)))]
    for i, block in enumerate(blocks):
        own = of_norms([block.norm1, block.norm2], slice(5, None))
        rows.append(np.pad(own, ((0, 0), (4 * (i + 1), 4 * (1 - i)))))
    return np.concatenate(rows)


def of_deep(generator: Any) -> np.ndarray:
    norms = [norm for stage in generator.blocks for block in stage for norm in block.norms]
    return np.concatenate([array(generator.linear.weight)[:, 5:], of_norms(norms, slice(5, None))])


def normalized(generator: Any) -> np.ndarray:
    """The linear layer's weight over its largest singular value, as spectral normalization has it."""
    weight = array(generator.linear.parametrizations.weight.original)
    return weight / np.linalg.svd(weight, compute_uv=False)[0]


HIERARCHICAL = {"width": 4, "latent_dim": 12, "hierarchical": True, "conditioning": "shared", "shared_dim": 5}
NETWORKS: dict[str, tuple[Generator, Callable[[Any], np.ndarray]]] = {
    "mlp": (made("mlp", latent_dim=6), lambda g: array(g.layers[0].weight)[:, :6]),
    "added": (made("acgan", latent_dim=6), lambda g: array(g.linear.weight)),
    "concatenated": (made("acgan", latent_dim=6, conditioning="concatenate"), lambda g: array(g.linear.weight)[:, :6]),
    "multiplied": (
        made("acgan", latent_dim=6, conditioning="multiply"),
        lambda g: array(g.linear.weight) * array(g.condition.embedding.weight)[1],
    ),
    "light": (made("light", width=4, latent_dim=6), normalized),
    "r3gan": (made("r3gan", width=16, latent_dim=6), lambda g: array(g.linear.weight)[:, :6]),
    "sagan": (made("sagan-dcgan", width=4, latent_dim=6), lambda g: array(g.convolutions[0].weight).reshape(6, -1).T),
    "hierarchical": (made("resnet", **HIERARCHICAL), of_hierarchical),
    "deep": (made("biggan-deep", width=4, latent_dim=6, shared_dim=5), of_deep),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_directions_are_eigenvectors_of_what_the_latent_meets_first(name: str) -> None:
    generator, reference = NETWORKS[name]
    a = reference(generator)
    squares, _ = np.linalg.eigh(a.T @ a)
    found = latent_directions(generator, BANANA, a.shape[1])
    vectors, strengths = found.vectors.double().numpy(), found.strengths.double().numpy()
    assert np.allclose(strengths, np.sqrt(squares[::-1].clip(0)), rtol=1e-5, atol=1e-6)
    assert np.allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-6)
    assert np.allclose(vectors @ (a.T @ a), strengths[:, None] ** 2 * vectors, atol=2e-5)
    assert np.allclose(np.linalg.norm(vectors @ a.T, axis=1), strengths, atol=1e-5)
    assert (np.take_along_axis(vectors, np.abs(vectors).argmax(1, keepdims=True), 1) > 0).all()
    few = latent_directions(generator, BANANA, 2)
    assert torch.equal(few.vectors, found.vectors[:2])


def test_a_direction_of_a_hierarchical_latent_stays_in_one_part() -> None:
    vectors = latent_directions(NETWORKS["hierarchical"][0], BANANA, 12).vectors
    parts = vectors.unflatten(1, (3, 4)).square().sum(2)
    assert torch.allclose(parts.amax(1), torch.ones(12), atol=1e-5)


def test_labels_meet_embeddings_or_a_linear_layer_first() -> None:
    shared = NETWORKS["hierarchical"][0]
    assert torch.equal(label_response(shared, ABC), shared.label.weight)
    concatenated = NETWORKS["concatenated"][0]
    assert torch.allclose(label_response(concatenated, ABC), concatenated.linear.weight[:, 6:].T)
    own = NETWORKS["light"][0]
    tables = [part.weight for block in own.blocks for part in (block.norm.gain, block.norm.bias)]
    tables += [own.norm.gain.weight, own.norm.bias.weight]
    assert torch.allclose(label_response(own, ABC), torch.cat(tables, 1))


def test_a_generator_without_labels_has_no_distances_of_classes() -> None:
    assert label_response(made("light", width=4, conditioning="none"), ABC) is None


def test_the_generator_is_left_as_it_is() -> None:
    generator = NETWORKS["added"][0]
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    latent_response(generator, BANANA)
    assert not any(module._forward_hooks for module in generator.modules())
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_images_move_along_directions() -> None:
    model = tiny(3)
    found = model.directions(2)
    images = model.along(found, ["apple", "cherry"], 2, reach=3.0, steps=5, seed=7)
    assert images.shape == (4, 2, 5, 8, 8, 3)
    own = model.sample(["apple", "cherry"], 2, 7)
    assert all(np.array_equal(images[:, d, 2], own) for d in range(2))
    z = draw_latents(7, 2, 2, 4)[1] + 1.5 * found.vectors[1]
    expected = model.generator(z[None], Labels.from_index(ABC, torch.tensor([2])))[0].permute(1, 2, 0)
    assert np.array_equal(images[3, 1, 3], ((expected.numpy() + 1) * 127.5).round().astype(np.uint8))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model: model.directions(5), "directions 5 given: expected 1 to 4"),
        (lambda model: model.directions(2, "aple"), "did you mean 'apple'"),
        (lambda model: model.along(model.directions(2), steps=1), "steps 1 given"),
        (lambda model: model.along(model.directions(2), reach=0.0), "reach 0 given: expected a number above 0"),
        (lambda model: model.along(Directions(torch.eye(3), torch.ones(3))), "those that this model gives"),
    ],
)
def test_impossible_directions_are_refused(ask: Callable[[Model], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask(tiny())
