"""Images that a model made are found again in it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgan.labels import Labels
from condgan.networks import Discriminator
from condgan.networks.heads import ClassifierHead
from condgan.networks.mlp import MLPBackbone
from condgan.runs.invert import invert_pictures, reader_of
from condgan.runs.models import load_model
from condgan.sampling.invert import inversion_table, invert
from condgan.sampling.model import Drawn
from condgan.types import ImageShape, to_float
from condgan.utils.errors import UserError
from condgan.utils.figures import channels_first
from tests.helpers import ABC, tiny


def reading() -> Discriminator:
    """A discriminator that reads labels, untrained."""
    backbone = MLPBackbone(ImageShape(3, 8, 8), width=16)
    return Discriminator(backbone, ClassifierHead(backbone.features, ABC)).eval().requires_grad_(False)


@pytest.mark.parametrize("guided", [False, True])
def test_images_of_the_model_are_found_again(guided: bool) -> None:
    model = tiny(3)
    images = channels_first(model.sample(per_class=4, seed=5))
    found = invert(model, images, reading() if guided else None, steps=150, seed=1)
    wanted = torch.arange(3).repeat_interleave(4)
    assert found.latents.shape == (12, 3, 4)
    assert float((found.classes[:, 0] == wanted).float().mean()) >= 0.8
    assert (found.errors[:, 0] < 0.2 * found.of_random).all()
    made = channels_first(model.make(Drawn(found.latents[:, 0], torch.eye(3)[found.classes[:, 0]])))
    assert torch.equal(made, found.images[:, 0])
    difference = (made.double() - images.double()).square().flatten(1).mean(1).sqrt()
    assert torch.allclose(found.errors[:, 0].double(), difference, atol=1e-3)
    assert torch.equal(found.classes.sort(1).values, torch.arange(3).expand(12, -1))
    assert float(found.latents.square().mean()) < 4


def test_a_seed_decides() -> None:
    model = tiny(3)
    images = channels_first(model.sample("apple", 2, seed=5))
    first, again, other = (invert(model, images, steps=5, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.latents, other.latents)


def test_only_classes_that_the_discriminator_sees_are_tried() -> None:
    model, reader = tiny(3), reading()
    images = channels_first(model.sample(per_class=3, seed=5))
    logits = reader(to_float(images), Labels.nothing(ABC, len(images))).logits
    found = invert(model, images, reader, classes=1, steps=2)
    assert torch.equal(found.classes[:, 0], logits.argmax(1))


def test_one_alone_is_found_as_among_others() -> None:
    """Each start descends for itself: what else is in the batch does not matter, but for scales and rounding."""
    model = tiny(3)
    images = channels_first(model.sample(per_class=2, seed=5))
    every = invert(model, images, steps=150)
    alone = invert(model, images[[3]], steps=150)
    assert torch.equal(alone.classes[0, 0], every.classes[3, 0])
    assert float(alone.errors[0, 0]) == pytest.approx(float(every.errors[3, 0]), abs=0.5)


def test_pictures_of_any_kind_are_found_in_a_run(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    (image,) = load_model(run).pictures("4", 1, seed=9)
    wide = Image.new("RGB", (48, 32), "black")
    wide.paste(image.resize((32, 32), Image.Resampling.NEAREST).convert("RGB"), (8, 0))
    found = invert_pictures(run, [wide, image, np.asarray(image)], steps=40)
    assert found.images.shape == (3, 3, 1, 16, 16)
    assert (found.errors[:, 0] < found.of_random).all()
    assert torch.equal(found.errors[1], found.errors[2])
    lines = inversion_table(found, ["a", "b", "c"], load_model(run).classes).decode().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("image,rank,class,error,random,z0,z1")
    assert len(lines[1].split(",")) == 5 + 12
    assert lines[4].startswith("b,1,")


def test_without_a_discriminator_pixels_alone_decide(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    assert reader_of(run, "320") is not None
    (run / "checkpoints" / "320" / "discriminator.safetensors").unlink()
    assert reader_of(run, "320") is None
    found = invert_pictures(run, load_model(run).pictures("4", 1), classes=2, starts=2, steps=3)
    assert found.classes.shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes 0 given: expected 1 or more"),
        ({"starts": 0}, "starts 0 given"),
        ({"steps": 0}, "steps 0 given"),
        ({"seed": -1}, "seed -1 given"),
    ],
)
def test_impossible_searches_are_refused(options: dict[str, int], message: str) -> None:
    model = tiny(3)
    with pytest.raises(UserError, match=message):
        invert(model, channels_first(model.sample("apple", 1)), **options)


def test_no_picture_is_refused(digits_run: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no picture given"):
        invert_pictures(digits_run(), [])
