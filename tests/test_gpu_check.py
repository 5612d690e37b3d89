"""What is asked of a GPU, asked of a CPU as far as it can answer; and how it is asked, and kept."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from benchmarks import gpu_check
from benchmarks.gpu_steps import BACKBONES, Finding, Plan, Skipped, finding
from condgan.evaluation.classifier import SmallClassifier
from condgan.evaluation.extractors import Extractor
from condgan.labels import Labels, LabelSpec
from condgan.networks import BACKBONES as ALL_BACKBONES
from condgan.recipes.load import load
from condgan.utils import device
from condgan.utils.device import runs_on, tf32
from condgan.utils.errors import UserError

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"
QUICK = ("arch", "ceilings", "spectral")


def check(*arguments: object) -> tuple[dict[str, dict], str]:
    """The steps of the record that the script for bare machines leaves in out/, and what it prints."""
    Path("wheels").mkdir(exist_ok=True)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    command = ["bash", SCRIPT, "wheels", "out", "--device", "cpu", "--tiny", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(Path("out/record.json").read_text())["steps"], done.stdout


def test_a_cpu_answers_what_it_can() -> None:
    steps, said = check("--only", ",".join(QUICK))
    assert list(steps) == list(QUICK)
    for name, step in steps.items():
        assert step["passed"] is (None if name == "arch" else True), step
        assert name in said
    assert "2 passed, 0 failed" in said
    assert steps["arch"]["skipped"] == "needs a GPU"
    moves = {one["what"]: one["number"] for one in steps["spectral"]["findings"] if "moves" in one["what"]}
    assert moves == {"moves of the generator's in an iteration": 1, "moves of the discriminator's in an iteration": 2}


def test_the_script_for_bare_machines_says_how_it_is_used() -> None:
    done = subprocess.run(["bash", SCRIPT, "wheels"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.split()[0]) == (2, "usage:")


def colored_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for split, each in (("train", 20), ("test", 6)):
            for name in "ab":
                for number in range(each):
                    pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
                    with archive.open(f"{split}/{name}/{number}.png", "w") as file:
                        Image.fromarray(pixels).save(file, "PNG")


@pytest.mark.slow
def test_a_cpu_answers_all_that_it_can() -> None:
    colored_zip(Path("images.zip"))
    most = ",".join(name for name in gpu_check.STEPS if name != "training")
    steps, _ = check("--data", "images.zip", "--minutes", "60", "--only", most)
    later, _ = check("--data", "images.zip", "--minutes", "2", "--only", "training")
    assert list(later) == list(gpu_check.STEPS)
    skipped = {name for name, step in later.items() if step["passed"] is None}
    assert skipped <= {"arch", "layout", "onnx", "compiling"}
    assert all(step["passed"] is not False for step in later.values()), later
    curve = next(one for one in later["training"]["findings"] if one["what"] == "trained")["curve"]
    assert curve[0]["label_agreement"] >= 0
    assert Image.open("out/sheet.png").width > 0
    assert steps.keys() | {"training"} == later.keys()


def test_every_backbone_of_images_is_looked_at() -> None:
    assert BACKBONES.keys() == ALL_BACKBONES.keys() - {"mlp"}
    for name, case in BACKBONES.items():
        assert load(case.recipe, case.overrides).backbone.name == name


def test_an_unknown_step_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_check", "--device", "cpu", "--out", "out", "--only", "archh"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as stop:
        gpu_check.main()
    assert stop.value.code == 2
    assert "unknown step 'archh': did you mean 'arch'?" in capsys.readouterr().err


def finds(plan: Plan) -> Iterator[Finding]:
    yield finding("good", 1, at_least=1)
    yield finding("a number", 5, "apples")


def finds_too_much(plan: Plan) -> Iterator[Finding]:
    yield finding("first", 1, at_least=1)
    yield finding("second", 3, at_most=2)


def raises(plan: Plan) -> Iterator[Finding]:
    yield finding("before", 1)
    raise ZeroDivisionError("by nothing")


def dies(plan: Plan) -> Iterator[Finding]:
    yield finding("before", 1)
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps(plan: Plan) -> Iterator[Finding]:
    yield finding("before", 1)
    (plan.out / "child").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    time.sleep(600)


def cannot_tell(plan: Plan) -> Iterator[Finding]:
    raise Skipped("needs a GPU")
    yield


ENDS = {
    finds: (True, "", 2),
    finds_too_much: (False, "", 2),
    raises: (False, "ZeroDivisionError: by nothing", 1),
    dies: (False, "its process died", 1),
    sleeps: (False, "took longer than it may", 1),
    cannot_tell: (None, "needs a GPU", 0),
}
"""Whether a step passes, why, and how many findings are kept."""


def test_whatever_a_step_does_its_findings_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the process that imports once what all steps need
    record = gpu_check.Record(tmp_path, tiny=True)
    for step, (passed, why, _) in ENDS.items():
        limit = 120 if step is not sleeps else 3
        plan = Plan(tmp_path, None, True, time.time() + limit)
        assert gpu_check.look(step.__name__, step, plan, record) is passed
        assert why in capsys.readouterr().out
    kept = json.loads((tmp_path / "record.json").read_text())["steps"]
    for step, (passed, why, count) in ENDS.items():
        of_step = kept[step.__name__]
        assert (of_step["passed"], len(of_step["findings"])) == (passed, count), step
        assert why in of_step.get("error", "") + of_step.get("skipped", "")
    command = Path(f"/proc/{(tmp_path / 'child').read_text()}/cmdline")
    assert not command.is_file() or not command.read_bytes(), "what it started is stopped, too"
    plan = Plan(tmp_path, None, True, time.time() + 2)
    assert gpu_check.look("cut", sleeps, plan, record, cut=True) is None, "the end of the check is no fault of a step"
    assert gpu_check.chosen_steps("failed,rest", record) == [*gpu_check.STEPS], "none of them has been looked at"


LIMITS = st.floats(allow_nan=False, allow_infinity=False) | st.none()


@given(st.floats(), LIMITS, LIMITS)
def test_a_finding_passes_within_its_limits(number: float, at_most: float | None, at_least: float | None) -> None:
    found = finding("x", number, at_most=at_most, at_least=at_least)
    json.loads(json.dumps(found), parse_constant=pytest.fail)  # JSON knows neither NaN nor infinities
    passed = found["passed"]
    if at_most is None and at_least is None:
        assert passed is None
    elif math.isnan(number):
        assert passed is False
    else:
        assert passed is ((at_most is None or number <= at_most) and (at_least is None or number >= at_least))


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_80", "sm_86"], (8, 9), True),
        (["sm_86"], (8, 0), False),
        (["sm_80", "sm_90"], (12, 0), False),
        (["sm_90", "compute_90"], (12, 0), True),
        (["compute_120"], (9, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),
        (["sm_100f"], (10, 3), True),
        (["compute_90a"], (12, 0), False),
        (["gfx90a"], (9, 0), True),
        ([], (9, 0), False),
    ],
)
def test_a_gpu_runs_code_that_was_built_for_it(built: list[str], capability: tuple[int, int], runs: bool) -> None:
    assert runs_on(built, *capability) is runs


def test_a_gpu_without_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in {
        "is_available": True, "device_count": 1, "get_device_capability": (12, 0), "get_device_name": "New GPU",
        "get_arch_list": ["sm_80", "sm_90"],
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    device._require_code.cache_clear()
    with pytest.raises(UserError, match=r"New GPU of compute capability 12.0 found.* built for sm_80, sm_90: install"):
        device.device()
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_120"])
    assert device.device() == torch.device("cuda", 0)
    device._require_code.cache_clear()


@pytest.mark.parametrize("allowed", [True, False])
def test_float32_is_rounded_or_not_only_meanwhile(allowed: bool) -> None:
    kinds = torch.backends.cudnn, torch.backends.cuda.matmul
    before, seen = [one.allow_tf32 for one in kinds], []

    def fail() -> None:
        with tf32(allowed):
            seen.extend(one.allow_tf32 for one in kinds)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [allowed] * 2
    assert [one.allow_tf32 for one in kinds] == before


class Settings(nn.Module):
    """Says whether convolutions may be rounded to TF32."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 2), float(torch.backends.cudnn.allow_tf32))


def test_images_are_looked_at_in_full_float32() -> None:
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    assert torch.backends.cudnn.allow_tf32, "torch's default"
    assert not Extractor("settings", "00", "none", Settings())(images).features.any()
    model = SmallClassifier(3, LabelSpec.of_classes(["a", "b"]))
    model.backbone = Settings()
    model.classifier = nn.Linear(2, 2)
    assert not model.predict(images, Labels.nothing(LabelSpec.of_classes(["a", "b"]), 3)).features.any()
