"""Training that is killed at random moments ends like one that never was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kills import Ended


def kills(count: int, case: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.kills", "--count", str(count), "--only", case, "--out", "record.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(Path("record.json").read_text())


@pytest.mark.usefixtures("digits_classifier")
def test_runs_that_are_killed_end_like_one_that_never_was() -> None:
    record = kills(3, "classes")
    assert (record["kills"], record["lost_runs"], record["differing_bits"]) == (3, 0, 0)
    assert record["runs"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("case", ["classes", "translator", "processes"])
def test_forty_kills_change_nothing(case: str) -> None:
    record = kills(40, case)
    assert (record["kills"], record["lost_runs"], record["differing_bits"]) == (40, 0, 0)


def test_every_differing_bit_counts() -> None:
    one = Ended({"weights": b"\x00\x0f", "log": b"[]"})
    assert one.differing_bits(one) == 0
    assert one.differing_bits(Ended({"weights": b"\x01\x0e", "log": b"[]"})) == 2
    assert one.differing_bits(Ended({"weights": b"\x00", "more": b"1"})) == 16 + 16 + 8
