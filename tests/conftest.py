"""Shape checks on every annotated function, a private cache, and small data sets that the tests make."""

import os
import shutil
import tempfile

if "PYTEST_XDIST_WORKER" in os.environ:  # a process per core, of one thread: two of two would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"

from jaxtyping import install_import_hook

hook = install_import_hook("condgan", "beartype.beartype")
hook.__enter__()
os.environ["CONDGAN_CACHE"] = tempfile.mkdtemp(prefix="condgan-tests-")

from collections.abc import Callable  # noqa: E402
from functools import cache  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.evaluation import seeded_inception  # noqa: E402
from condgan.recipe import load  # noqa: E402
from condgan.run import train_run  # noqa: E402

TINY = [
    "generator.width=8", "generator.latent_dim=12", "backbone.width=4", "schedule.batch=16", "schedule.images=320",
    "schedule.log=64", "schedule.sample=160", "schedule.save=64", "compute.compile=false",
]  # fmt: skip
"""Overrides that make any of the digits' recipes train in a second."""

TINY_TRANSLATOR = [
    "generator.width=4", "generator.blocks=1", "backbone.width=4", "schedule.batch=16", "schedule.images=160",
    "schedule.decay=64", "schedule.log=32", "schedule.sample=160", "schedule.save=64", "objective.identity=1.0",
    "compute.compile=false",
]  # fmt: skip
"""The same for digits-stargan."""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def write_image(path: Path, value: int = 128, size: tuple[int, int] = (20, 20), mode: str = "L") -> None:
    """A noisy image around a gray value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value + size[0])
    noise = rng.integers(-20, 20, (size[1], size[0], 3)) + value
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).convert(mode).save(path)


@pytest.fixture
def rough_judges(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let judges learn for a second only, in a cache of their own."""
    for name in ("ENOUGH", "ENOUGH_OF_ATTRIBUTES"):
        monkeypatch.setattr(f"condgan.metrics.features.{name}", 6_400)
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path_factory.mktemp("rough")))


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    @cache
    def train(images: int) -> Path:
        run = tmp_path_factory.mktemp("trained") / "run"
        train_run(load("digits-acgan", [*TINY, f"schedule.images={images}"]), run)
        return run

    return train


@pytest.fixture
def digits_run(_trained: Callable[[int], Path]) -> Callable[..., Path]:
    """Makes a copy of a tiny run of the default recipe, which was trained once."""

    def copied(out: str = "runs/digits-acgan", images: int = 320) -> Path:
        return Path(shutil.copytree(_trained(images), out))

    return copied


@pytest.fixture(scope="session")
def fidelity(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torch-fidelity's Inception with seeded weights, and the file of these."""
    path = tmp_path_factory.mktemp("inception") / "seeded.pth"
    return seeded_inception(path), path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three classes with eight images each, of several sizes and modes."""
    root = tmp_path / "photos"
    for i, name in enumerate(("apple", "banana", "cherry")):
        for j in range(8):
            write_image(root / name / f"{j}.png", 60 * i + 40 + j, (16 + j, 24 - j), ("L", "RGB", "RGBA", "P")[j % 4])
    return root
