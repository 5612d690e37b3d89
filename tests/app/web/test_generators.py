"""What the page makes of a generator is what `condgan sample` makes, to the bit, whoever asks at the same time."""

import io
import json
import math
import shlex
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from condgan.app.web import generators, served
from condgan.app.web.generators import (
    MADE_OF,
    Grid,
    alike,
    along_grid,
    between_grid,
    drawn_latents,
    grid_images,
    grid_zip,
    inverted_grid,
    mixture_grid,
    most_images,
    nearby_grid,
    pick,
    sample_grid,
)
from condgan.runs.models import load_model
from condgan.sampling.interpolate import spherical
from condgan.sampling.options import Sampling
from condgan.utils.errors import UserError
from tests.helpers import condgan

NEWEST = Sampling("320")


def unzipped(content: bytes) -> tuple[dict[str, np.ndarray], dict]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    images = {name: np.asarray(Image.open(archive.open(name))) for name in archive.namelist() if name != MADE_OF}
    return images, json.loads(archive.read(MADE_OF))


@pytest.mark.parametrize(
    ("sampling", "options"),
    [
        (NEWEST, {}),
        (NEWEST._replace(seed=7, truncation=0.5), {"truncation": 0.5}),
        (NEWEST._replace(seed=3, truncation=0.7, standing=2), {"truncation": 0.7, "standing": 2}),
        (NEWEST._replace(standing=1), {"standing": 1}),
    ],
)
def test_images_are_those_of_the_model(digits_run: Callable[..., Path], sampling: Sampling, options: dict) -> None:
    model = load_model(run := digits_run(), 320).with_latents(options.get("truncation"))
    if "standing" in options:
        model = model.with_standing_statistics(options["standing"], sampling.seed)
    of_classes = sample_grid(run, sampling, ["3", "8"], 4)
    assert np.array_equal(grid_images(of_classes), model.sample(["3", "8"], 4, sampling.seed))
    assert of_classes.captions[4:6] == ["8, no. 0", "8, no. 1"]
    mixed = mixture_grid(run, sampling, {"3": 0.25, "8": 0.1 + 0.2, "9": 0.0}, 4)
    assert np.array_equal(grid_images(mixed), model.sample({"3": 0.25, "8": 0.3}, 4, sampling.seed))
    alone = mixture_grid(run, sampling, {"3": 0.5, "9": 0.0}, 4)
    assert np.array_equal(grid_images(alone), model.sample("3", 4, sampling.seed))


@pytest.mark.parametrize("mixture", [False, True])
def test_the_command_of_a_zip_makes_the_same_files(
    digits_run: Callable[..., Path], mixture: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run, sampling = digits_run(), Sampling("256", seed=5, truncation=0.6, standing=1)
    if mixture:
        grid = mixture_grid(run, sampling, {"3": 0.25, "8": 0.35}, 3)
    else:
        grid = sample_grid(run, sampling, ["3", "8"], 3)
    images, about = unzipped(grid_zip(grid))
    assert len(images) == (3 if mixture else 6)
    verb, *arguments = shlex.split(about["command"])
    assert verb == "condgan"
    assert condgan(capsys, *arguments).code == 0
    for name, image in images.items():
        assert np.array_equal(image, np.asarray(Image.open(Path("images") / name))), name
    assert (about["checkpoint"], about["seed"], about["truncation"], about["standing"]) == ("256", 5, 0.6, 1)
    assert [one["file"] for one in about["images"]] == [*images]


def test_latents_of_a_zip_make_its_images(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    seen = sample_grid(run, NEWEST._replace(truncation=0.8), ["1", "4"], 2)
    model = load_model(run, 320)
    for grid in (nearby_grid(run, pick(seen, 0), 0.5), between_grid(run, pick(seen, 1), pick(seen, 2))):
        images, about = unzipped(grid_zip(grid))
        latents = torch.tensor([one["latent"] for one in about["images"]])
        weights = torch.tensor([[one["weights"].get(name, 0.0) for name in model.classes] for one in about["images"]])
        assert "command" not in about
        assert latents.abs().max() <= 0.8
        assert np.array_equal(model.make(generators.Drawn(latents, weights)), np.stack([*images.values()]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(distance=st.floats(0, 1), truncation=st.none() | st.floats(0.1, 2))
def test_what_is_like_an_image(digits_run: Callable[..., Path], distance: float, truncation: float | None) -> None:
    run = Path("runs/digits-acgan")
    run = run if run.exists() else digits_run()
    sampling = NEWEST._replace(truncation=truncation)
    seen = sample_grid(run, sampling, ["5"], 2)
    grid = nearby_grid(run, pick(seen, 1), distance)
    own, others = grid.drawn.latents[0], grid.drawn.latents[1:]
    assert torch.equal(own, seen.drawn.latents[1])
    new = (others - math.cos(distance * math.pi / 2) * own) / max(math.sin(distance * math.pi / 2), 1e-9)
    if distance > 0.01:
        again = nearby_grid(run, pick(seen, 0), 1.0).drawn.latents[1:]
        assert torch.allclose(new, again, atol=1e-3)  # turned toward the same random ones, whose law is normal
    assert torch.equal(grid.drawn.weights, seen.drawn.weights[:1].expand(len(grid), -1))
    assert truncation is None or drawn_latents(grid).abs().max() <= truncation + 1e-6


def test_the_way_between_two_images(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    seen = sample_grid(run, NEWEST, ["1", "4"], 1)
    grid = between_grid(run, pick(seen, 0), pick(seen, 1))
    images = grid_images(grid)
    assert np.array_equal(images[[0, -1]], grid_images(seen))
    t = torch.linspace(0, 1, len(grid))[:, None]
    first, last = (seen.drawn.latents[[end]].expand(len(grid), -1) for end in (0, 1))
    assert torch.allclose(grid.drawn.latents, spherical(first, last, t), atol=1e-6)
    assert torch.allclose(grid.drawn.weights[:, [1, 4]], torch.cat([1 - t, t], 1))
    assert grid.captions[0] == "1, no. 0"
    assert grid.captions[-1] == "4, no. 0"


def test_an_image_moves_along_a_direction(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    seen = sample_grid(run, NEWEST._replace(truncation=0.8), ["1", "4"], 1)
    grid = along_grid(run, pick(seen, 1), 2, 4.0)
    middle = len(grid) // 2
    assert np.array_equal(grid_images(grid)[middle], grid_images(seen)[1])
    assert grid.captions[middle] == "4, no. 0"
    direction = load_model(run, 320).directions(2, "4").vectors[1]
    steps = torch.linspace(-4, 4, len(grid))[:, None] * direction
    assert torch.allclose(grid.drawn.latents, seen.drawn.latents[[1]] + steps, atol=1e-6)
    assert torch.equal(grid.drawn.weights, seen.drawn.weights[[1]].expand(len(grid), -1))


def test_a_picture_is_found(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    (image,) = load_model(run, 320).pictures("4", 1, seed=9)
    image.convert("RGB").save("mine.png")
    grid, picture = inverted_grid(run, "320", Path("mine.png"))
    assert np.array_equal(picture, np.asarray(image))
    images = grid_images(grid)
    errors = np.sqrt(np.square(images.astype(float) - np.asarray(image)).mean((1, 2)))
    assert len(grid) == generators.TRIED_CLASSES
    assert [caption.partition(": ")[2] for caption in grid.captions] == [f"{error:.1f}" for error in errors]
    assert np.array_equal(grid_images(nearby_grid(run, pick(grid, 0), 0.0))[0], images[0])
    Path("bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="'bad.png' is unreadable"):
        inverted_grid(run, "320", Path("bad.png"))


def test_what_is_most_like_an_image(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    seen = sample_grid(run, NEWEST._replace(seed=1), ["4"], 3)
    found = alike(run, pick(seen, 2))
    assert np.array_equal(found.images[0], grid_images(seen)[2])  # of the seed that is searched among
    assert found.captions[0] == "made: 4, 2"
    assert len(found.images) == 2 * generators.NEIGHBORS_OF_EACH
    assert found.captions[-1].startswith("real: ")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: sample_grid(run, NEWEST, [], 1), "no class given"),
        (lambda run: sample_grid(run, NEWEST, ["<b>"], 1), "unknown class '<b>'"),
        (lambda run: sample_grid(run, NEWEST, ["3", "8"], 33), "66 images asked for: expected at most 64"),
        (lambda run: sample_grid(run, NEWEST, ["3"], 0), "images of each class 0 given"),
        (lambda run: mixture_grid(run, NEWEST, {"3": 0.0}, 1), "a mixture without a share above 0"),
        (lambda run: mixture_grid(run, NEWEST, {"3": 0.5, "x": 1.0}, 1), "unknown class 'x'"),
        (lambda run: sample_grid(run, NEWEST._replace(seed=-1), ["3"], 1), "seed -1 given"),
        (lambda run: sample_grid(run, Sampling("999"), ["3"], 1), "no checkpoint 999"),
        (lambda run: pick(sample_grid(run, NEWEST, ["3"], 2), 2), "image 2 given: expected 0 to 1"),
        (lambda run: nearby_grid(run, pick(sample_grid(run, NEWEST, ["3"], 1), 0), 1.5), "distance 1.5 given"),
        (lambda run: along_grid(run, pick(sample_grid(run, NEWEST, ["3"], 1), 0), 13, 1), "direction 13 given"),
        (lambda run: along_grid(run, pick(sample_grid(run, NEWEST, ["3"], 1), 0), 1, 0), "reach 0 given"),
    ],
)
def test_bad_input_is_refused(digits_run: Callable[..., Path], ask: Callable[[Path], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask(digits_run())


def test_large_images_are_fewer(digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = digits_run()
    assert most_images(run) == 64
    monkeypatch.setattr(generators, "MOST_PIXELS", 5 * 16 * 16)
    assert most_images(run) == 5
    with pytest.raises(UserError, match="expected at most 5"):
        sample_grid(run, NEWEST, ["3"], 6)


def test_a_checkpoint_that_comes_is_found(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    newest = run / "checkpoints" / "320"
    hidden = newest.rename(run / "320")
    before = served.resolved(run, "latest")
    hidden.rename(newest)
    assert (before, served.resolved(run, "latest")) == ("256", "320")


def test_threads_get_what_they_ask_for(digits_run: Callable[..., Path]) -> None:
    run = digits_run()
    asked = [
        NEWEST._replace(seed=seed, truncation=truncation, standing=standing)
        for seed in range(4)
        for truncation in (None, 0.5)
        for standing in (None, 1)
    ]

    def ask(sampling: Sampling) -> tuple[Grid, np.ndarray]:
        grid = sample_grid(run, sampling, ["3", "8"], 2)
        return grid, grid_images(grid)

    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(ask, asked * 2)]
    for sampling, (grid, images) in zip(asked * 2, made, strict=True):
        model = load_model(run, 320).with_latents(sampling.truncation)
        model = model if sampling.standing is None else model.with_standing_statistics(1, sampling.seed)
        assert grid.sampling == sampling
        assert np.array_equal(images, model.sample(["3", "8"], 2, sampling.seed)), sampling
