import pytest
import torch

from condgan.build import build_discriminator, build_generator, count_parameters
from condgan.errors import UserError
from condgan.interfaces import ImageShape
from condgan.labels import Labels, LabelSpec
from condgan.nn import BACKBONES, GENERATORS
from condgan.nn.layers import CONDITIONING, LabelEmbedding
from condgan.recipe import load

DIGITS = LabelSpec.of_classes([str(i) for i in range(10)])


@pytest.mark.parametrize("name", ["mnist-acgan", "mnist-acgan-legacy"])
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert count_parameters(load(name), DIGITS) == (1_050_985, 103_243)


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3), (48, 1), (64, 3)])
def test_networks_fit_together_at_any_size(size: int, channels: int) -> None:
    recipe = load(
        "digits-acgan", [f"data.size={size}", f"data.channels={channels}", "generator.width=4", "backbone.width=2"]
    )
    generator, discriminator = build_generator(recipe, DIGITS), build_discriminator(recipe, DIGITS)
    labels = Labels.from_index(DIGITS, torch.arange(10))
    images = generator(torch.randn(10, generator.latent_dim), labels)
    assert images.shape == (10, channels, size, size)
    assert images.abs().max() <= 1
    out = discriminator(images, labels)
    assert out.score.shape == (10,)
    assert out.logits.shape == (10, 10)


def test_a_size_that_does_not_fit_is_refused() -> None:
    for part in (
        lambda: GENERATORS["acgan"](ImageShape(1, 20, 20), DIGITS),
        lambda: BACKBONES["acgan"](ImageShape(1, 20, 20)),
    ):
        with pytest.raises(UserError, match="multiples of 16"):
            part()


def test_label_embedding_looks_up_and_mixes() -> None:
    embedding = LabelEmbedding(DIGITS, 6)
    index = torch.tensor([3, 9])
    assert torch.equal(embedding(Labels.from_index(DIGITS, index).vector()), embedding.weight[index])
    half = Labels(DIGITS, (torch.eye(10)[3] / 2 + torch.eye(10)[9] / 2)[None], torch.ones(1, 1, dtype=torch.bool))
    assert torch.allclose(embedding(half.vector())[0], embedding.weight[index].mean(0))


def test_adding_is_a_concatenation_with_tied_weights() -> None:
    labels, latent = Labels.from_index(DIGITS, torch.arange(10)), torch.randn(10, 6)
    add, linear = CONDITIONING["add"](DIGITS, 6), torch.nn.Linear(6, 4, bias=False)
    both = torch.cat([linear.weight, linear.weight @ add.embedding.weight.T], 1)
    assert torch.allclose(linear(add(latent, labels)), torch.cat([latent, labels.vector()], 1) @ both.T, atol=1e-5)


def test_legacy_norm_barely_normalizes_and_the_default_does() -> None:
    """With an input standard deviation of 0.1, eps 0.8 leaves 0.11 (measured in the tutorial's layer)."""
    spread = {}
    for name in ("mnist-acgan", "mnist-acgan-legacy"):
        backbone = build_discriminator(load(name), DIGITS).backbone
        norm = next(layer for layer in backbone.layers if isinstance(layer, torch.nn.BatchNorm2d))
        torch.nn.init.ones_(norm.weight)
        spread[name] = norm(0.1 * torch.randn(64, 32, 8, 8)).std().item()
    assert spread["mnist-acgan"] == pytest.approx(1, abs=0.01)
    assert spread["mnist-acgan-legacy"] == pytest.approx(0.11, abs=0.01)
