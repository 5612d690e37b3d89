"""R3GAN's networks: the published sizes, resampling and start."""

import math

import numpy as np
import pytest
import torch

from condgan.build import empty_networks
from condgan.labels import Labels, LabelSpec
from condgan.networks.r3gan import Doubling, GroupedBlock, Halving, R3GANBackbone, R3GANGenerator
from condgan.recipes.load import load
from condgan.types import ImageShape

TEN = LabelSpec.of_classes([str(i) for i in range(10)])
SHAPE = ImageShape(3, 32, 32)


def test_the_recipe_has_the_published_parameters() -> None:
    """Counted by hand from the preset; the score's part without the label, 769, is ours."""
    block = 2 * 768 * 1536 + 1536 * 16 * 9 + 2 * 1536
    of_generator = 768 * 16 + (64 + 64) * 768 + 10 * 64 + 8 * block + 768 * 3
    of_discriminator = 3 * 768 + 8 * block + 768 * 16 + 768 * 768 + 10 * 768
    networks = empty_networks(load("r3gan-cifar10"), TEN)
    counted = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counted == [of_generator, of_discriminator + 769]


def weighted(image: np.ndarray, axis: int) -> np.ndarray:
    """Means by (1, 3, 3, 1) / 8 of every second four, zeros beyond the edges."""
    padded = np.pad(np.moveaxis(image, axis, 0), [(1, 1), (0, 0)])
    rows = [
        (padded[i] + 3 * padded[i + 1] + 3 * padded[i + 2] + padded[i + 3]) / 8 for i in range(0, len(padded) - 2, 2)
    ]
    return np.moveaxis(np.array(rows), 0, axis)


def test_what_no_file_holds_is_there_before_weights_are_loaded() -> None:
    networks = empty_networks(load("digits-r3gan"), LabelSpec.of_classes(["a", "b"]))
    kept = [one for network in networks for name, one in network.named_buffers() if name not in network.state_dict()]
    assert kept
    assert not any(one.is_meta for one in kept)


def test_halving_is_by_weighted_means() -> None:
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    found = Halving(3, 3).double()(images)
    for image, one in zip(images.flatten(0, 1).numpy(), found.flatten(0, 1).numpy(), strict=True):
        assert one == pytest.approx(weighted(weighted(image, 0), 1))


def test_doubling_is_bilinear_after_channels_are_mixed() -> None:
    doubling = Doubling(3, 2).double()
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    mixed = torch.einsum("bchw,ec->behw", images, doubling.channels.weight[:, :, 0, 0])
    found = doubling(images)
    between = (9 * mixed[:, :, 1, 1] + 3 * mixed[:, :, 1, 2] + 3 * mixed[:, :, 2, 1] + mixed[:, :, 2, 2]) / 16
    assert found[:, :, 3, 3].detach().numpy() == pytest.approx(between.detach().numpy())


def test_a_block_adds_nothing_at_first_and_works_in_groups() -> None:
    block = GroupedBlock(8, groups=4, blocks=16)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x)
    gain = math.sqrt(2 / 1.04) / 2
    assert block.widen.weight.std().item() == pytest.approx(gain / math.sqrt(8), rel=0.25)
    assert block.grouped.weight.std().item() == pytest.approx(gain / math.sqrt(4 * 9), rel=0.15)
    block.narrow.weight.data[:, :8, 0, 0] = torch.eye(8)
    changed = x.clone()
    block.widen.weight.data.zero_()
    block.widen.weight.data[:8, :, 0, 0] = torch.eye(8)
    changed[:, 0] += 1
    differs = (block(changed) - changed - (block(x) - x)).abs().amax((0, 2, 3)) > 1e-6
    assert differs.tolist() == [True] * 4 + [False] * 4, "the first of four groups of four sees the first channel"


def test_images_and_features_have_the_variance_of_their_inputs_at_first() -> None:
    """He et al. 2015: layers keep it, as blocks do."""
    torch.manual_seed(0)
    generator = R3GANGenerator(SHAPE, TEN, width=256, group=16, blocks=1)
    images = generator(torch.randn(64, 64), Labels.from_index(TEN, torch.arange(64) % 10))
    assert images.shape == (64, 3, 32, 32)
    assert 0.1 < images.var().item() < 1, "doubling smooths"
    features = R3GANBackbone(SHAPE, width=256, group=16, blocks=1)(torch.randn(64, 3, 32, 32))
    assert features.shape == (64, 256)
    assert features.isfinite().all()


def test_channels_halve_beyond_32_pixels_and_groups_with_them() -> None:
    backbone = R3GANBackbone(ImageShape(3, 128, 128), width=64, group=16, blocks=1)
    grouped = [
        (one.grouped.in_channels, one.grouped.groups) for one in backbone.modules() if isinstance(one, GroupedBlock)
    ]
    assert grouped == [(32, 2), (64, 4), (128, 8), (128, 8), (128, 8), (128, 8)]


@pytest.mark.parametrize(
    ("width", "group", "groups"), [(768, 16, 96), (1536, 32, 96), (4, 16, 1), (44, 16, 4), (20, 16, 2), (8, 1, 16)]
)
def test_groups_divide_the_channels(width: int, group: int, groups: int) -> None:
    with torch.device("meta"):
        backbone = R3GANBackbone(SHAPE, width=width, group=group)
    assert {one.grouped.groups for one in backbone.modules() if isinstance(one, GroupedBlock)} == {groups}
