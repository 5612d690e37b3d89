"""A slice of the campaign, and that the campaign itself sees faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.campaign.cases import SECRET, Command
from benchmarks.campaign.process import MEMORY, Outcome, faults

SLICES = {"images,archives,hdf5": 50, "yaml,options": 15, "checkpoints,disk": 6}
"""How many cases of each of these kinds; about two minutes of one core in all."""


@pytest.mark.usefixtures("digits_classifier")
@pytest.mark.parametrize("kinds", SLICES)
def test_a_slice_of_the_campaign_shows_no_fault(kinds: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.campaign", "--only", kinds, "--cases", str(SLICES[kinds])]
    done = subprocess.run([*command, "--out", str(tmp_path / "record.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["faults"] == []
    tallies = [record["kinds"][kind] for kind in kinds.split(",")]
    assert all(tally["cases"] == SLICES[kinds] for tally in tallies)
    for what in ("accepted", "refused"):
        assert sum(tally[what] for tally in tallies) > 0


@pytest.mark.parametrize(
    ("fault", "outcome", "command"),
    [
        ("traceback", {"code": 1, "err": b"Traceback (most recent call last)"}, {}),
        ("traceback", {"code": 3}, {}),
        ("signal", {"code": -7}, {}),
        ("hang", {"code": -9, "hanging": True}, {}),
        ("no line", {"code": 2, "err": b"oh"}, {}),
        ("no line", {"code": 2, "err": b"condgan: " + b"a" * 5_000}, {}),
        ("lost", {"code": 2, "err": b"condgan: no"}, {"must": True}),
        ("memory", {"code": 0, "memory": MEMORY + 1}, {}),
        ("library's words", {"code": 0, "err": b"x.py:1: UserWarning: oh"}, {}),
        ("terminal codes", {"code": 0, "out": b"\x1b[31m"}, {}),
        ("secret", {"code": 0, "out": SECRET}, {}),
    ],
)
def test_the_campaign_sees_a_fault(fault: str, outcome: dict, command: dict) -> None:
    plain = {"seconds": 0.1, "memory": 1, "out": b"", "err": b""}
    assert faults(Command(["data"], **command), Outcome(**plain | outcome), []) == [fault]


def test_the_campaign_sees_what_a_refused_command_changed() -> None:
    refused = Outcome(2, 0.1, 1, b"", b"condgan: no")
    assert faults(Command(["data"]), refused, ["x"]) == ["changed"]
    assert faults(Command(["data"], may_change=True), refused, ["x"]) == []
    assert faults(Command(["data"]), refused, []) == []


def test_a_case_is_made_again_by_its_number(tmp_path: Path) -> None:
    def files(out: Path) -> dict[str, bytes]:
        command = [sys.executable, "-m", "benchmarks.campaign", "--case", "archives/3", "--keep", str(out)]
        subprocess.run(command, capture_output=True, env=os.environ)
        return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}

    first = files(tmp_path / "a")
    assert first
    assert first == files(tmp_path / "b")
