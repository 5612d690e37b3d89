"""What may not depend on the machine, shape checks on every annotated function, and small data sets that tests make.

What is pinned here is so for this process and, by the environment, for those that tests start, whose commands are also
given `compute.precision=float32`. A test that wants another value sets it.
"""

import atexit
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pin() -> None:
    """Set the environment of this process, and thereby of pytest's workers and of what tests start."""
    home = Path(tempfile.mkdtemp(prefix="condgan-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC_")]:
        del os.environ[name]
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "PYTHONWARNINGS", "LANGUAGE"):
        os.environ.pop(name, None)
    threads = os.environ.get("CONDGAN_TEST_THREADS", "1")  # a process per core: two of two threads would wait
    os.environ |= {
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": "",
        "TZ": "UTC", "LC_ALL": "C.UTF-8",
        "COLUMNS": "80", "LINES": "24", "TERM": "dumb", "NO_COLOR": "1",
        "MPLBACKEND": "agg", "MPLCONFIGDIR": str(home / "matplotlib"),
        "HF_HOME": str(home / "huggingface"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "TORCH_HOME": str(home / "torch"),
        "CONDGAN_CACHE": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip


if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit
    pin()
time.tzset()

from jaxtyping import install_import_hook  # noqa: E402

import tests.checks  # noqa: E402, F401 - the hook names it

hook = install_import_hook("condgan", "tests.checks.checked")
hook.__enter__()

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402
from hypothesis import settings  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

from condgan import timing  # noqa: E402
from condgan.data.readers import digits  # noqa: E402
from condgan.evaluation import classifier  # noqa: E402
from condgan.utils import device  # noqa: E402
from condgan.utils.files import cache_directory  # noqa: E402

settings.register_profile("everywhere", derandomize=True, deadline=None)  # the same examples, however slow
settings.load_profile("everywhere")
cpu_flags, device.cpu_flags = device.cpu_flags, set
images_per_second, timing.images_per_second = timing.images_per_second, lambda _recipe, _labels: 100.0
ENOUGH = {name: getattr(classifier, name) for name in ("ENOUGH", "ENOUGH_OF_ATTRIBUTES")}
classifier.ENOUGH = classifier.ENOUGH_OF_ATTRIBUTES = 6_400
_trained_classifier = classifier.trained_classifier


def _trained_once(*arguments: object, **how: object) -> classifier.SmallClassifier:
    """A classifier that another worker trains just now is waited for."""
    with FileLock(cache_directory() / "classifiers.lock"):
        return _trained_classifier(*arguments, **how)


classifier.trained_classifier = _trained_once
digits._read = functools.cache(digits._read)  # half a second each time

from benchmarks.evaluation import seeded_inception  # noqa: E402
from condgan.data.open import read  # noqa: E402
from condgan.recipes.load import load  # noqa: E402
from condgan.runs.train import train_run  # noqa: E402
from tests.hub import StandIn, served  # noqa: E402

SHARED = cache_directory().parent / "shared"
"""What tests of all workers share."""

TINY = [
    "generator.width=8", "generator.latent_dim=12", "backbone.width=4", "schedule.batch=16", "schedule.images=320",
    "schedule.log=64", "schedule.sample=160", "schedule.save=64", "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
"""Overrides that make any of the digits' recipes train in a second."""

TINY_TRANSLATOR = [
    "generator.width=4", "generator.blocks=1", "backbone.width=4", "schedule.batch=16", "schedule.images=160",
    "schedule.decay=64", "schedule.log=32", "schedule.sample=160", "schedule.save=64", "objective.identity=1.0",
    "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
"""The same for digits-stargan."""


LONGEST = (
    "test_the_commands_and_the_python_work", "test_the_classifier_knows_digits_and_is_trained_once",
    "test_resumed_is_uninterrupted_and_seeds_decide", "test_two_processes_are_one",
    "test_a_killed_run_ends_like_an_uninterrupted_one", "test_torch_fidelity_says_the_same",
    "test_a_signal_saves_and_says_how_to_go_on", "test_another_process_samples_the_same",
    "test_killed_and_restarted_it_gives_the_same", "test_the_classifier_may_learn_first",
)  # fmt: skip
"""Tests that begin first, or one of them would be waited for in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: getattr(item, "originalname", "") not in LONGEST)


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
def good_classifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let classifiers learn as long as those of users do, not a second only; they have a cache of their own."""
    for name, images in ENOUGH.items():
        monkeypatch.setattr(classifier, name, images)
    monkeypatch.setenv("CONDGAN_CACHE", str(cache_directory().with_name("good")))


@pytest.fixture(scope="session")
def trained_digits() -> Callable[[int], Path]:
    """Where a tiny run of the default recipe is, which was trained once for all workers: copy it."""

    def train(images: int) -> Path:
        run = SHARED / str(images) / "run"
        with FileLock(SHARED / f"{images}.lock"):
            if not (run / "metrics.json").exists():
                train_run(load("digits-acgan", [*TINY, f"schedule.images={images}"]), run)
        return run

    return train


@pytest.fixture
def digits_classifier() -> None:
    """Have the digits' classifier in the cache, where commands in processes of their own find it."""
    data = read("digits", 16, 1)
    classifier.trained_classifier(data.train.images, data.train.labels, data.content_hash)


@pytest.fixture
def digits_run(trained_digits: Callable[[int], Path]) -> Callable[..., Path]:
    """Makes a copy of a tiny run of the default recipe, which was trained once."""

    def copied(out: str = "runs/digits-acgan", images: int = 320) -> Path:
        return Path(shutil.copytree(trained_digits(images), out))

    return copied


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A Hub on this machine, which this process asks, as one who may write to alice's repositories."""
    from huggingface_hub import close_session, constants

    with served() as standing:
        for name, value in {
            "ENDPOINT": standing.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": standing.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_alice")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        close_session()
        yield standing
        close_session()


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
