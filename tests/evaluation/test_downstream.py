"""Classifiers as users of fakes would train them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from condgan.evaluation import downstream as module
from condgan.evaluation.downstream import Downstream, find_classifier, small_resnet, training_batches
from condgan.utils.errors import UserError

EVEN = torch.ones(2)


def halves(count: int, seed: int = 0, channels: int = 1, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose left or right half is bright: the class."""
    rng = np.random.default_rng(seed)
    index = rng.integers(2, size=count)
    images = rng.integers(0, 120, (count, channels, size, size))
    for image, side in zip(images, index, strict=True):
        image[:, :, size // 2 * side : size // 2 * (side + 1)] += 100
    return torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(index)


def learner(steps: int = 60, flips: bool = False, name: str = "small", size: int = 16) -> Downstream:
    return Downstream(find_classifier(name, 2, size), name, steps, flips)


@pytest.mark.parametrize("augmentation", [None, "crops", "RandAugment"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_can_be_told_is_learned(augmentation: str | None, channels: int) -> None:
    (images, classes), (others, truth) = halves(100, 0, channels), halves(200, 1, channels)
    tell = learner().learn(images, classes, EVEN, augmentation, 0)
    assert float((tell(others) == truth).double().mean()) > 0.9


def test_a_seed_gives_a_classifier_and_another_seed_another() -> None:
    images, classes = halves(60)
    noise = torch.randint(256, (400, 1, 16, 16), dtype=torch.uint8)
    one, again, other = (learner(5).learn(images, classes, EVEN, "RandAugment", seed)(noise) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_class_of_more_weight_is_told_more_often() -> None:
    images = torch.randint(256, (100, 1, 16, 16), dtype=torch.uint8)
    classes = torch.arange(100) % 2  # of which images say nothing
    told = [learner(10).learn(images, classes, torch.tensor(w), None, 0)(images) for w in ([9.0, 0.1], [0.1, 9.0])]
    assert told[0].double().mean() < 0.2
    assert told[1].double().mean() > 0.8


def test_training_is_as_long_as_asked_for_and_its_length_is_that_of_the_real_images() -> None:
    drawn = 0

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LazyLinear(2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            nonlocal drawn
            drawn += self.training and len(images) == module.LEARNED_AT_ONCE
            return self.layer(images.flatten(1))

    images, classes = halves(500)
    Downstream(Counting, "counting", 7).learn(images, classes, EVEN, None, 0)
    assert drawn == 7
    lengths = [training_batches(count) * module.LEARNED_AT_ONCE for count in (10, 1_000, 10_000, 10**6)]
    expected = [module.LEAST_SEEN, 60_000, module.MOST_SEEN, 3 * 10**6]
    assert lengths == pytest.approx(expected, abs=module.LEARNED_AT_ONCE)


def test_crops_shift_by_an_eighth_and_flips_mirror_where_they_may() -> None:
    images = torch.arange(256).reshape(1, 1, 16, 16).to(torch.uint8).expand(64, -1, -1, -1)
    torch.manual_seed(0)
    assert module._augmentation(None, True)(images) is images
    shifted = module._augmentation("crops", False)(images)
    assert shifted.shape == images.shape
    assert shifted.dtype == torch.uint8
    where = {(int(one[0, 8, 8]) // 16 - 8, int(one[0, 8, 8]) % 16 - 8) for one in shifted}
    assert 1 < len(where) <= 4, "groups of 16 images are shifted alike"
    assert all(max(abs(dy), abs(dx)) <= 2 for dy, dx in where)
    inner = [int(one[0, 8, 9]) - int(one[0, 8, 8]) for one in shifted]
    assert set(inner) == {1}
    flipped = module._augmentation("crops", True)(images)
    steps = {int(one[0, 8, 9]) - int(one[0, 8, 8]) for one in flipped}
    assert steps == {1, -1}


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64, 128])
def test_the_small_network_takes_any_size(size: int) -> None:
    network = small_resnet(5, size).eval()
    sizes: list[int] = []
    blocks = [one for one in network if type(one).__name__ == "BasicBlock"]
    for block in blocks:
        block.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 5)
    assert len(blocks) == 3
    assert min(size, 16) <= sizes[0] < 32


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet10t", "googlenet"])
def test_networks_of_others_are_found_by_their_names(name: str) -> None:
    images, classes = halves(4, 0, 3, 32)
    tell = Downstream(find_classifier(name, 2, 32), name, 1).learn(images, classes, EVEN, None, 0)
    assert set(tell(images).tolist()) <= {0, 1}


OWN = """
import torch
from torch import nn

def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

def fixed(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes)).requires_grad_(False)

def maps(num_classes):
    return nn.Conv2d(3, num_classes, 1)

def text(num_classes):
    return "network"

def broken(num_classes):
    raise RuntimeError("no such\\nthing")

def nothing():
    return linear(2)

def small(num_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, num_classes))
"""


def test_a_network_of_ones_own_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_downstream.py").write_text(OWN)
    images, classes = halves(100)
    tell = learner(name="mine_downstream:linear").learn(images, classes, EVEN, None, 0)
    assert float((tell(images) == classes).double().mean()) > 0.9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "unknown classifier 'resnet': did you mean 'resnet"),
        ("timm:nope", "unknown timm model 'nope'"),
        ("nowhere_at_all:linear", "classifier 'nowhere_at_all:linear' cannot be imported"),
        ("mine_refused:absent", "'mine_refused' has no 'absent'"),
        ("mine_refused:nothing", r"cannot be called as nothing\(num_classes=2\)"),
        ("mine_refused:broken", r"classifier 'mine_refused:broken' cannot be made \(no such thing\)"),
        ("mine_refused:text", "makes a str: expected a torch.nn.Module"),
        ("mine_refused:fixed", "has nothing to train"),
        ("mine_refused:maps", r"returns \(2, 2, 16, 16\): expected logits, images × 2 classes"),
        ("mine_refused:small", "fails on images of 16 × 16"),
    ],
)
def test_what_is_no_classifier_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_refused.py").write_text(OWN)
    with pytest.raises(UserError, match=message) as refusal:
        learner(1, name=name).learn(*halves(4), EVEN, None, 0)
    assert "\n" not in str(refusal.value)
