"""The notebooks of examples/ are small, whole, and do what they show."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import TINY, TINY_TRANSLATOR
from tests.notebooks import executed, notebooks

NAMES = {"digits", "your-own-images", "translating"}
BYTES = 100_000
"""Of a notebook with its pictures."""


def test_all_are_there() -> None:
    assert {path.stem for path in notebooks()} == NAMES


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_small_and_shows_what_its_cells_gave(path: Path) -> None:
    assert len(path.read_bytes()) < BYTES
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if not any(cell["outputs"] for cell in cells):
        pytest.skip("keeps nothing of what it shows")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run in order, in one go"
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
        for cell in cells
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2
    assert all(min(picture.size) >= 48 for picture in pictures)
    assert "<table>" in "".join(cells[-1]["outputs"][-1]["data"]["text/html"])
    assert "/tmp" not in path.read_text()


def test_cells_share_names_and_show_their_last_expression() -> None:
    def cell(source: str) -> dict:
        return {"cell_type": "code", "source": source.splitlines(keepends=True)}

    found = executed({"cells": [cell("a = 3\nprint(a)"), {"cell_type": "markdown"}, cell("a + 1"), cell("a = 2")]})
    first, text, second, third = found["cells"]
    assert first["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["3\n"]}]
    assert text == {"cell_type": "markdown"}
    assert second["outputs"][0]["data"] == {"text/plain": ["4"]}
    assert (third["outputs"], third["execution_count"]) == ([], 3)


@pytest.mark.slow
@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_as_much(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained for a second each."""
    from condgan.runs import chosen

    planned = chosen.plan_run
    small = [*(TINY_TRANSLATOR if path.stem == "translating" else TINY), "schedule.images=160"]
    monkeypatch.setattr(
        "condgan.app.run.plan_run", lambda sources, given, *how: planned(sources, [*given, *small], *how)
    )
    notebook = json.loads(path.read_text())
    shown = [_kinds(cell) for cell in executed(notebook)["cells"]]
    assert any("image/png" in kinds for kinds in shown)
    assert "text/html" in str(shown)
    if any(cell.get("outputs") for cell in notebook["cells"]):
        assert shown == [_kinds(cell) for cell in notebook["cells"]]


def _kinds(cell: dict) -> list[str]:
    """What a cell shows, by kinds."""
    return [kind for output in cell.get("outputs", []) for kind in output.get("data", ["stream"])]
