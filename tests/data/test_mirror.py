"""Whether mirrored images are told from the originals, and when flips are fine."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condgan.data import glance as looks
from condgan.data import mirror
from condgan.data.glance import glance, share_in_place
from condgan.data.mirror import Mirrored, tell_mirrored
from condgan.data.open import list_source
from condgan.labels import LabelSpec, LabelTable
from tests.conftest import write_image


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "SIDE", 16)
    monkeypatch.setattr(looks, "AT_MOST", 600)
    monkeypatch.setattr(mirror, "STEPS", 50)


def noise(count: int) -> Tensor:
    """Smooth random images of 16 pixels, of which mirrored ones are as likely."""
    rough = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    return (255 * F.avg_pool2d(rough, 3, 1, 1)).to(torch.uint8)


def halves(count: int) -> LabelTable:
    return LabelTable.from_index(LabelSpec.of_classes(["left", "right"]), torch.arange(count) % 2)


def test_mirrored_digits_are_told() -> None:
    found = tell_mirrored(*glance(list_source("digits"), 1))
    assert found is not None
    assert found.of == 300, "half of the images leave no doubt"
    assert found.share > 0.8
    assert not found.alike


def test_images_whose_mirror_images_are_as_likely_may_be_flipped() -> None:
    images = noise(600)
    found = tell_mirrored(images, halves(600))
    assert abs(found.share - 0.5) < 0.12, "more than four standard deviations"
    assert found.alike


def test_a_class_that_is_the_mirror_image_of_another_may_not() -> None:
    images = noise(600)
    images[0::2, :, 6:10, 2:5] = 255
    images[1::2, :, 6:10, 11:14] = 255
    assert tell_mirrored(images, halves(600)).share > 0.9
    same = LabelTable.from_index(LabelSpec.of_classes(["any"]), torch.zeros(600).long())
    assert tell_mirrored(images, same).alike, "without labels nothing tells them"


@pytest.mark.parametrize(("told", "asked"), [(150, 1), (190, 2), (210, 2), (240, 1)])
def test_a_second_network_is_asked_where_the_first_leaves_doubt(
    monkeypatch: pytest.MonkeyPatch, told: int, asked: int
) -> None:
    monkeypatch.setattr(mirror, "_told", lambda *_: told)
    assert tell_mirrored(noise(600), halves(600)) == Mirrored(asked * told, asked * 300)


def test_the_random_numbers_stay_as_they_are() -> None:
    before = torch.random.get_rng_state()
    tell_mirrored(noise(500), halves(500))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_few_images_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):
        write_image(tmp_path / "few" / "a" / f"{i}.png", 30 * i)
    few = list_source(str(tmp_path / "few"))
    assert tell_mirrored(*glance(few, 1)) is None
    monkeypatch.setattr(mirror, "AT_LEAST", 4)
    found = tell_mirrored(*glance(few, 1))
    assert found is not None
    assert found.of == 5, "the sixth is held out"
    (tmp_path / "few" / "a" / "0.png").write_text("no image")
    (tmp_path / "few" / "a" / "1.png").write_text("no image")
    images, labels = glance(list_source(str(tmp_path / "few")), 1)
    assert len(images) == len(labels) >= 3, "what cannot be read is left out"


def test_what_has_its_place_is_told_from_what_has_none() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (3, 8, 8))
    assert share_in_place(torch.from_numpy(np.repeat(one[None], 5, 0)).byte()) == 1
    noises = torch.from_numpy(rng.integers(0, 256, (300, 3, 8, 8))).byte()
    assert share_in_place(noises) == pytest.approx(0, abs=0.005)
    assert share_in_place(noises[:2]) == pytest.approx(0, abs=0.15), "chance, which two have much of, is taken away"
    mixed = torch.from_numpy((one + rng.integers(0, 256, (300, 3, 8, 8))) // 2).byte()
    of_one, of_noise = one.var(axis=(1, 2)).mean(), (255**2 + 2 * 255) / 12
    assert share_in_place(mixed) == pytest.approx(of_one / (of_one + of_noise), abs=0.02)
    assert share_in_place(noises[:1]) == 1


def test_digits_have_their_place() -> None:
    assert share_in_place(glance(list_source("digits"), 1).images) > 0.4


@pytest.mark.parametrize(("told", "of"), [(50, 100), (0, 7), (300, 400), (1, 2)])
def test_the_confidence_is_wilsons(told: int, of: int) -> None:
    """The bounds are the shares q from which the observed one lies 1.96 standard deviations away."""
    q = np.linspace(0, 1, 1_000_001)[1:-1]
    inside = np.abs(told / of - q) <= 1.96 * np.sqrt(q * (1 - q) / of)
    assert abs(Mirrored(told, of).bound(1.96) - q[inside].max()) < 1e-5
    assert abs(Mirrored(told, of).bound(-1.96) - q[inside].min()) < 1e-5


def test_the_fewer_images_the_less_may_be_told() -> None:
    assert Mirrored(1200, 2000).alike
    assert not Mirrored(60, 100).alike
