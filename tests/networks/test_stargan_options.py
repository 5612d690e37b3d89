"""StarGAN's mask and skip connections, beside the same computed by hand."""

import pytest
import torch

from condgan.labels import Labels, LabelSpec
from condgan.networks.stargan import StarGANGenerator
from condgan.types import ImageShape

ABC = LabelSpec.of_classes(["a", "b", "c"])


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("skips", [False, True])
def test_options_are_what_they_say(skips: bool, attention: bool) -> None:
    torch.manual_seed(0)
    generator = StarGANGenerator(ImageShape(3, 16, 16), ABC, width=4, blocks=2, skips=skips, attention=attention)
    images, labels = torch.rand(2, 3, 16, 16) * 2 - 1, Labels.from_index(ABC, torch.tensor([0, 2]))
    planes = labels.values[:, :, None, None].expand(-1, -1, 16, 16)
    full = generator.first(torch.cat([images, planes], 1))
    half = generator.to_half(full)
    back = generator.from_quarter(generator.blocks(generator.to_quarter(half)))
    back = generator.from_half(back + half * skips) + full * skips
    drawn = generator.last(back)
    expected = torch.tanh(drawn[:, :3])
    if attention:
        mask = 1 / (1 + torch.exp(-drawn[:, 3:]))
        expected = mask * expected + (1 - mask) * images
    assert drawn.shape[1] == 3 + attention
    torch.testing.assert_close(generator(images, labels), expected)


def test_a_mask_of_nothing_keeps_the_image() -> None:
    generator = StarGANGenerator(ImageShape(1, 8, 8), ABC, width=2, blocks=0, attention=True)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    generator.last.register_forward_hook(lambda _layer, _inputs, output: output - 1e4)
    assert torch.equal(generator(images, Labels.from_index(ABC, torch.tensor([0, 1]))), images)
