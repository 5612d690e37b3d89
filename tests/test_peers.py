"""Other people's loops are driven a step at a time, as they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import peers
from benchmarks.peers import Batches, Peer, Script
from benchmarks.throughput import Case

SCRIPT = """
import os
import sys

import torch
from torchvision import datasets

os.makedirs("../../data/mnist", exist_ok=True)
loader = torch.utils.data.DataLoader(datasets.MNIST("../../data/mnist"), batch_size=int(sys.argv[2]))
layer = torch.nn.Linear(1024, 10)
rates = torch.optim.SGD(layer.parameters(), 0.1)
for epoch in range(2):
    for number, (images, labels) in enumerate(loader):
        rates.zero_grad()
        torch.nn.functional.cross_entropy(layer(images.flatten(1)), labels).backward()
        rates.step()
        print(number)
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that waits for its next batch is the main module until it ends."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def test_a_call_is_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = Batches(torch.tensor(3), torch.tensor(4))
    script = tmp_path / "train.py"
    script.write_text(
        f"import sys\nfrom {__name__} import given\nfor a, b in given[0]:\n    print(a + b, *sys.argv[1:])\n"
    )
    given[:] = [batches]
    step = Script(str(script), batches, "--rate", 0.5)
    said = []
    for _ in range(3):
        said.append(capsys.readouterr().out)
        step()
    assert said == ["", "tensor(7) --rate 0.5\n", "tensor(7) --rate 0.5\n"]


given: list[Batches] = []


@pytest.mark.parametrize(("line", "said"), [("1 / 0", "division"), ("pass", "has ended")])
def test_what_a_script_raises_is_raised(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "train.py").write_text(line)
    with pytest.raises((ZeroDivisionError, RuntimeError), match=said):
        Script(str(tmp_path / "train.py"), Batches())


@pytest.mark.slow
def test_a_checkout_is_measured_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "PyTorch-GAN" / "implementations" / "acgan"
    folder.mkdir(parents=True)
    (folder / "acgan.py").write_text(SCRIPT)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(tmp_path / "PyTorch-GAN"), *words], check=True)
    small = ("schedule.batch=8", "generator.width=4", "backbone.width=4")
    monkeypatch.setitem(peers.PEERS, "tutorial", Peer("PyTorch-GAN", "implementations/acgan", peers.acgan_tutorial,
                                                      Case("mnist-acgan", small)))  # fmt: skip
    out = tmp_path / "record.json"
    arguments = [str(tmp_path), "--only", "tutorial", "SAGAN, 64 px", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["peers", *arguments])
    peers.main()
    (row,) = json.loads(out.read_text())["rows"]
    assert row["checkout"].startswith("PyTorch-GAN@")
    assert 0 < row["theirs_s"] == pytest.approx(row["ratio"] * row["ours_s"], rel=0.01)
