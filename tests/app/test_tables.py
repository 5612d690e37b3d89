"""What the command line prints of numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condgan.app.cli.tables import metric_table
from tests.helpers import condgan

NUMBERS = {"label_agreement": 0.9, "fd_classifier": 3.0, "score_classifier_mean": 8.0, "precision": 0.8, "recall": 0.7,
           "density": 1.0, "coverage": 0.6, "intra_class_diversity": 7.0, "ms_ssim": 0.1, "copies": 0.0}  # fmt: skip
ABOUT = {"fakes": 100, "real": 90, "split": "held-out", "extractor": "classifier", "source": "x"}


def row(images: int) -> dict[str, Any]:
    return {"label_agreement": 0.5, "fd_classifier": 9.0, "judged": {"cat": images}}


METRICS = NUMBERS | {
    "real": NUMBERS, "per_class": {"cat": row(20), "dog": row(19), "eel": row(1)}, "about": ABOUT,
    "verdict": ["Classes are right.", "Pictures are grainier."],
}  # fmt: skip


def names(table: str) -> list[str]:
    return [line.split()[0] for line in table.splitlines() if line]


def test_a_table_is_the_verdict_and_five_rows() -> None:
    lines = metric_table(METRICS).splitlines()
    assert lines[:3] == ["Classes are right.", "Pictures are grainier.", ""]
    assert [line.split()[0] for line in lines[4:9]] == [
        "label_agreement", "fd_classifier", "precision", "coverage", "intra_class_diversity",
    ]  # fmt: skip
    assert lines[9] == ""
    assert lines[-1] == "--full shows all 10 numbers, and those of each class"
    assert "cat" not in names("\n".join(lines))


def test_in_full_all_is_told_but_classes_of_few_images() -> None:
    table = metric_table(METRICS, full=True)
    assert set(NUMBERS) <= set(names(table))
    assert "cat" in names(table)
    assert not {"dog", "eel"} & set(names(table))
    assert "2 classes of fewer than 20 images left out" in table
    assert "--full" not in table


@pytest.mark.parametrize(
    ("numbers", "rows"),
    [
        (["fid", "copies", "is_mean", "recall"], ["fid", "is_mean", "recall"]),
        (["attribute_accuracy", "kept_accuracy", "target_mae", "label_agreement", "fd_classifier", "coverage",
          "reconstruction_l1"],
         ["attribute_accuracy", "kept_accuracy", "target_mae", "label_agreement", "fd_classifier"]),
        (["copies", "identity_l1"], ["copies", "identity_l1"]),
        (["mine"], ["mine"]),
    ],
)  # fmt: skip
def test_the_most_telling_rows_are_those_that_there_are(numbers: list[str], rows: list[str]) -> None:
    table = metric_table(dict.fromkeys(numbers, 0.5) | {"about": ABOUT})
    assert names(table)[1 : len(rows) + 1] == rows
    assert ("--full" in table) == (len(rows) < len(numbers))


def test_evaluate_says_the_verdict_and_keeps_it(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    run = digits_run(images=64)
    said = condgan(capsys, "evaluate", run).out
    verdict = json.loads((run / "metrics.json").read_text())["verdict"]
    assert 1 <= len(verdict) <= 4
    assert said.splitlines()[: len(verdict)] == verdict
    assert names(said)[len(verdict) + 1 :][:2] == ["label_agreement", "fd_classifier"]
    full = condgan(capsys, "evaluate", run, "--full").out
    assert {"copies", "ms_ssim", *map(str, range(10))} <= set(names(full)) - set(names(said))
    asked = condgan(capsys, "evaluate", run, "--metrics", "density,ms_ssim").out
    assert {"density", "ms_ssim"} <= set(names(asked))
    condgan(capsys, "report", run)
    assert verdict[0] in (run / "report.html").read_text()
