"""A metric is a row of one table."""

import json
from pathlib import Path

import pytest

from condgan.app.cli.tables import metric_table
from condgan.evaluation import catalog
from condgan.evaluation.catalog import Metric, MetricNumber
from tests.conftest import TINY
from tests.helpers import condgan


def test_a_new_metric_is_a_function_and_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training's scores, JSON, tables and report have it, and checkpoints can be chosen by it."""
    number = MetricNumber("length", "Length", "higher", "of features", column=True, scores=("generator",))
    row = Metric((number,), frozenset({"features"}), lambda fake, _: [float(fake.features.norm())], "own", alone=True)
    monkeypatch.setitem(catalog.METRICS, "length", row)
    done = condgan(capsys, "train", "digits-acgan", *TINY, "schedule.best_by=length", "--out", "run")
    assert done.code == 0, done.err
    metrics = json.loads(Path("run/metrics.json").read_text())
    table = metric_table(metrics, full=True).splitlines()
    assert any(line.startswith("length ") for line in table)
    assert "length" in next(line for line in table if "intra_class_diversity" in line and "recall" in line)
    assert metrics["length"] > 0 < metrics["real"]["length"]
    assert metrics["per_class"]["3"]["length"] > 0
    states = [json.loads(path.read_text()) for path in Path("run/checkpoints").glob("*/state.json")]
    assert metrics["about"]["checkpoint"] == str(max(states, key=lambda one: one["scores"]["length"])["images"])
    assert condgan(capsys, "report", "run").code == 0
    page = Path("run/report.html").read_text()
    assert "Length" in page
    assert "of features" in page
