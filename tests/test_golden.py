"""The golden losses of every recipe, which tell each from every other one, and the command that writes them."""

import itertools
import json
from pathlib import Path

import pytest

from tests import golden
from tests.golden import GOLDEN, all_names, first_losses, written

TOLERANCE = {"rel": 1e-5, "abs": 1e-7}


def close(mine: list[dict[str, float]], others: list[dict[str, float]]) -> bool:
    """Whether they are the same but for rounding."""
    return all(
        mine.keys() == other.keys() and mine == pytest.approx(other, **TOLERANCE)
        for mine, other in zip(mine, others, strict=True)
    )


@pytest.mark.parametrize("name", all_names())
def test_golden_losses(name: str) -> None:
    for mine, expected in zip(first_losses(name), written()[name], strict=True):
        assert mine == pytest.approx(expected, **TOLERANCE)


def test_every_recipe_has_golden_losses_of_its_own() -> None:
    """And no two have the same: else what tells them apart might change unseen."""
    losses = written()
    assert list(losses) == all_names()
    pairs = itertools.combinations(losses, 2)
    assert [(one, other) for one, other in pairs if close(losses[one], losses[other])] == []


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["golden", *arguments])
    return golden.main()


def test_the_command_writes_the_named_recipes_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old = written()
    changed = {name: [{"D/adv": 0.5, "D/other": 0.25}] for name in ("digits-acgan", "digits-biggan")}
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({**old, **changed, "no-more": []}))
    monkeypatch.setattr(golden, "GOLDEN", path)
    new = [{"D/adv": 1.5}, {"D/adv": 2.5}]
    monkeypatch.setattr(golden, "first_losses", lambda name: new)
    assert command(monkeypatch, "digits-acgan") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "digits-acgan 0 D/adv: 0.5 → 1.5", "digits-acgan 0 D/other: 0.25 → none", "digits-acgan 1 D/adv: none → 2.5",
    ]  # fmt: skip
    assert written() == {**old, **changed, "digits-acgan": new}


def test_the_committed_file_is_as_the_command_writes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    committed = GOLDEN.read_text()
    monkeypatch.setattr(golden, "GOLDEN", tmp_path / "golden.json")
    (tmp_path / "golden.json").write_text(committed)
    monkeypatch.setattr(golden, "first_losses", json.loads(committed).__getitem__)
    assert command(monkeypatch, "mnist-acgan") == 0
    assert (tmp_path / "golden.json").read_text() == committed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: python -m tests.golden NAME…"),
        (["digits-acgan", "digit-acgan"], "tests.golden: unknown recipe 'digit-acgan': did you mean 'digits-acgan'?"),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = GOLDEN.read_text()
    assert command(monkeypatch, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(said)
    assert GOLDEN.read_text() == before
