"""What a training advises in the end."""

import json
from pathlib import Path

import pytest

from condgan.app.cli.closing import print_next_steps
from condgan.recipes.load import load
from condgan.runs import checkpoint

DESCRIPTION = {"format": 1, "iteration": 1, "scores": {}, "recipe": {}, "sha256": dict.fromkeys(checkpoint.FILES, ""),
               "labels": [{"name": "class", "values": ["a"], "exclusive": True}]}  # fmt: skip


def closing(
    capsys: pytest.CaptureFixture[str], distances: list[float], *overrides: str, recipe: str = "digits-acgan",
    retries: int = 0,
) -> list[str]:  # fmt: skip
    """The lines after a run of 100 images between any two of these scores."""
    history = [[100 * (i + 1), {"fd_classifier": one, "coverage": 1 / one}] for i, one in enumerate(distances)]
    place = Path("run/checkpoints") / str(100 * len(distances))
    place.mkdir(parents=True)
    description = DESCRIPTION | {"images": 100 * len(distances), "history": history, "retries": retries}
    (place / "state.json").write_text(json.dumps(description))
    print_next_steps(load(recipe, ["schedule.images=400", *overrides]), Path("run"))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == ""
    assert len(lines) <= 5
    return lines


GO_ON = "condgan train run/recipe.yaml --out run"


@pytest.mark.parametrize(
    ("distances", "overrides", "retries", "advice"),
    [
        ([9, 8, 7, 5], [], 0, f"train longer   {GO_ON} schedule.images=800"),
        ([9, 8, 7, 7], [], 0, f"train longer   {GO_ON} schedule.images=800"),
        ([9, 8], ["schedule.images=200"], 0, f"train longer   {GO_ON} schedule.images=400"),
        ([9, 8, 7, 7], ["schedule.decay=50"], 0,
         f"train longer   {GO_ON} schedule.images=800 schedule.decay=100 --fresh"),
        ([9, 8, 8], ["schedule.patience=100"], 0, f"go on anyway   {GO_ON} schedule.patience=null"),
        ([9, 1, 90], [], 2, f"start over     {GO_ON} --fresh g_opt.lr=… d_opt.lr=…, with smaller ones"),
        ([9, 1, 90], ["schedule.patience=100"], 2,
         f"start over     {GO_ON} --fresh g_opt.lr=… d_opt.lr=…, with smaller ones"),
    ],
)  # fmt: skip
def test_what_to_do_next_follows_from_how_it_ended(
    capsys: pytest.CaptureFixture[str], distances: list[float], overrides: list[str], retries: int, advice: str
) -> None:
    assert closing(capsys, distances, *overrides, retries=retries) == [
        "look at        run/sheet.png",
        "sample it      condgan sample run --out DIR",
        advice,
        "see all of it  condgan report run",
    ]


def test_a_translator_translates(capsys: pytest.CaptureFixture[str]) -> None:
    lines = closing(capsys, [9, 8, 7, 7], "schedule.decay=0", recipe="digits-stargan")
    assert lines[1] == "translate it   condgan translate run IMAGE --every-domain --out DIR"
