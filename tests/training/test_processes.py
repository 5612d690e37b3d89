"""Several processes: they train as one does, and go on where one of them was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgan.networks.blocks import Dropout2d
from condgan.recipes.load import load
from condgan.runs.train import train_run
from condgan.utils import distributed
from condgan.utils.errors import UserError
from tests.conftest import TINY
from tests.helpers import condgan, refused
from tests.losses_of_processes import main as first_losses

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)


def test_a_process_draws_its_part_of_what_one_draws(second_of_two: None) -> None:
    torch.manual_seed(0)
    mine = distributed.draw_rows(torch.randn, 3, 2)
    torch.manual_seed(0)
    assert torch.equal(mine, torch.randn(6, 2)[3:])
    with distributed.stacked_batches(2):
        assert distributed.local_rows(torch.arange(8)).tolist() == [2, 3, 6, 7]
    assert distributed.local_rows(torch.arange(8)).tolist() == [4, 5, 6, 7]


def test_dropout_is_that_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(8, 5, 2, 2)
    torch.manual_seed(0)
    whole = Dropout2d(0.5)(x)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        own = slice(4 * rank, 4 * rank + 4)
        assert torch.equal(Dropout2d(0.5)(x[own]), whole[own])


def test_a_batch_that_processes_cannot_share_is_refused(second_of_two: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="schedule.batch 3 given with 2 processes and schedule.accumulate 1"):
        train_run(load("digits-acgan", ["schedule.batch=3"]), tmp_path / "run")


def test_a_dry_run_is_of_these_processes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "any_rank", lambda flag: flag)
    monkeypatch.setattr("torch.distributed.barrier", lambda: None)
    refused(condgan(capsys, "train", "schedule.batch=33", "--dry-run"), "schedule.batch 33 given with 2 processes")
    done = condgan(capsys, "train", "schedule.batch=64", "--dry-run")
    assert "in each of 2 processes" in done.out
    assert "for 32 images at a time" in done.out


def python(*arguments: str, directory: Path = ROOT, check: bool = True) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


def losses(*arguments: str, processes: int) -> list[dict[str, float]]:
    """The first of a recipe, of this process or of two that torchrun starts."""
    if processes == 1:
        with redirect_stdout(StringIO()) as said:
            try:
                first_losses(*arguments)
            finally:
                torch.set_default_dtype(torch.float32)
        return [json.loads(line) for line in said.getvalue().splitlines()]
    return [json.loads(line) for line in python(*TORCHRUN, "-m", "tests.losses_of_processes", *arguments).splitlines()]


GROUP_ENDS = """
from pathlib import Path
import torch
from condgan.utils import distributed

def learn():
    module = distributed.parallel(torch.nn.Linear(3, 3))
    module(torch.ones(2, 3)).sum().backward()

with distributed.joined():
    learn()
print(*(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no names to read")
def test_no_thread_outlives_the_group(tmp_path: Path) -> None:
    """One that does may want Python while it ends, and abort the process."""
    script = tmp_path / "group.py"
    script.write_text(GROUP_ENDS)
    assert "gloo" not in python(*TORCHRUN, str(script))


CASES = {
    "a state, pairs of a batch and an augmentation": [
        "digits-projection",
        "objective.name=opened",
        "objective.adversarial=relativistic",
        "objective.penalties={lecam: 0.3, consistency: 10, approximate_r2: 1, centering: 0.1}",
        "schedule.fake_labels=batch",
        "augment.name=brightness",
        "generator.width=4",
        "backbone.width=4",
        "averages.slow.half_life=1000",
    ],
    "adaptive augmentation": [
        "digits-projection",
        "generator.width=4",
        "backbone.width=4",
        "augment={name: ada, interval: 2, images: 500, target: -0.9, flip: true}",
    ],
    "augmentation": ["digits-projection", "generator.width=4", "backbone.width=4", "augment.name=diffaugment"],
    "classifier": ["digits-acgan"],
    "pretrained": ["digits-acgan", "schedule.init_classifier=128", "head.name=twin"],
    "parts": [
        "digits-projection",
        "generator.width=4",
        "backbone.width=4",
        "generator.norm=group",
        "schedule.accumulate=2",
        "schedule.d_steps=2",
    ],
    "parts and weights that no image reads": [
        "digits-projection",
        "generator.norm=group",
        "schedule.accumulate=2",
        "head.name=twin",
        "objective.name=acgan",
        "objective.penalties={orthogonal_discriminator: 1e-4}",
    ],
    "attention": ["digits-sagan"],
    "embeddings that are compared": ["digits-projection", "objective.name=reacgan", "head.name=contrastive"],
    "the best fakes": ["digits-projection", "objective={name: gan, top: {start: 0.9, end: 0.5, images: 128}}"],
    "means of features": ["digits-projection", "objective={name: mhgan}", "head.name=classes-and-fake"],
    "frozen stages": ["digits-projection", "generator.norm=group", "transfer={run: elsewhere, frozen: 2}"],
    "gradient penalty": ["digits-projection", "objective.penalties={gradient_penalty: 10, r1: 1}"],
    "orthogonal penalties": [
        "digits-biggan",
        "objective.penalties={orthogonal_generator: 1e-4, orthogonal_discriminator: 1e-4}",
        "compute.recompute=true",
    ],
    "translator": ["digits-stargan", "data.flip=true"],
}


FAST = ("parts", "a state, pairs of a batch and an augmentation")
"""The cases that are not slow: parts of batches, their labels and latents, two steps of a player; openings."""


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in FAST)) for case in CASES])
def test_two_processes_are_one(case: str) -> None:
    for one, two in zip(*(losses(*CASES[case], processes=count) for count in (1, 2)), strict=True):
        assert two == pytest.approx(one, rel=1e-8, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("number", ["data.number=number"]),
        ("class", []),
        ("class", ["objective.name=tacgan", "head.name=twin"]),
        ("hat,beard", ["data.attributes=[hat, beard]"]),
    ],
    ids=["numbers", "partly known classes", "partly known classes, and a twin", "partly known attributes"],
)
def test_two_processes_are_one_with_labels_as_they_are(tmp_path: Path, column: str, options: list[str]) -> None:
    rng = np.random.default_rng(0)
    lines = [f"file,{column}"]
    for i in range(160):
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / f"{i:03}.png")
        cells = {"number": f"{i / 7:.3f}", "class": "abc"[i % 3], "hat,beard": f"{i % 2},{i // 2 % 2}"}[column]
        lines.append(f"{i:03}.png,{',' * cells.count(',') if i % 3 == 1 else cells}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    case = ["digits-projection", f"data.source={tmp_path}", "generator.width=4", "backbone.width=4", *options]
    for one, two in zip(*(losses(*case, processes=count) for count in (1, 2)), strict=True):
        assert two == pytest.approx(one, rel=1e-8, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "near"), [("classifier", 1e-5), ("gradient penalty", 1e-4)])
def test_two_processes_are_one_in_single_precision(case: str, near: float) -> None:
    """A second derivative's rounding is 2e-5 on some CPUs."""
    one, two = (losses("--single", *CASES[case], processes=count) for count in (1, 2))
    assert two[0] == pytest.approx(one[0], rel=near, abs=1e-5)
    assert two[1] == pytest.approx(one[1], rel=near, abs=1e-5)


@pytest.mark.slow
def test_batch_norms_of_their_own_are_something_else() -> None:
    own = losses("digits-acgan", "compute.sync_batch_norm=false", processes=2)
    assert own[0] != pytest.approx(losses("digits-acgan", processes=1)[0], rel=1e-3)


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_the_run_goes_on(tmp_path: Path) -> None:
    arguments = ["-m", "condgan", "train", *TINY, "schedule.images=3200", "schedule.save=640", "schedule.log=640"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launched = subprocess.Popen(
        [sys.executable, *TORCHRUN, "--max-restarts", "1", *arguments, "--out", "run"],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    patience = time.monotonic() + 120
    while not (tmp_path / "run/checkpoints/1280").is_dir():
        assert time.monotonic() < patience
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(launched.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, said = launched.communicate(timeout=300)
    assert launched.returncode == 0, said
    assert "condgan: stopped, because another process failed or is gone" in said
    assert "resuming run at " in said
    seen = [json.loads(line)["images"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert seen == sorted(set(seen))
    assert (tmp_path / "run/checkpoints/3200").is_dir()
    assert json.loads((tmp_path / "run/metrics.json").read_text())["about"]["checkpoint"] == "3200"


def test_alone_there_is_nobody_to_exchange_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    assert (distributed.size(), distributed.rank()) == (2, 1)
    with distributed.alone():
        assert (distributed.size(), distributed.rank()) == (1, 0)
        assert distributed.all_gather(torch.arange(3)).tolist() == [0, 1, 2]
    assert (distributed.size(), distributed.rank()) == (2, 1)


@pytest.mark.slow
def test_two_processes_train_and_score_a_translator() -> None:
    """The main one scores it, while the other goes on."""
    overrides = ["generator.width=4", "generator.blocks=1", "backbone.width=4", "schedule.batch=8", "schedule.save=16"]
    overrides += ["schedule.images=32", "schedule.decay=0", "schedule.log=16", "compute.compile=false"]
    python(*TORCHRUN, "-m", "condgan", "train", "digits-stargan", *overrides, directory=Path.cwd())
    log = Path("runs/digits-stargan/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in log] == [16, 32]
    assert all("fd_classifier" in json.loads(line) for line in log)
