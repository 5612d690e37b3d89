"""What an evaluation told: a dict of numbers that notebooks show as a table."""

from html import escape
from pathlib import Path
from typing import Any

from condgan.runs.report.metrics import judgement
from condgan.runs.schemas import Metrics, read_as


class Results(dict[str, Any]):
    """The numbers by name, and the rest that `condgan.evaluate` returns."""

    def _repr_html_(self) -> str:
        """The verdict, each number beside that of real images, and what the numbers were measured with."""
        told = judgement(self)
        rows = [_row("td", one.metric.title, one.value, one.real or "", one.metric.better) for one in told.told]
        head = _row("th", "", "generated", "real images", "")
        said = "".join(f"<p>{escape(one)}</p>" for one in self.get("verdict", []))
        warned = "".join(f"<p>warning: {escape(one)}</p>" for one in told.warnings)
        how = "".join(_row("td", what, value) for what, value in told.measured)
        return f"{said}<table>{head}{''.join(rows)}</table>{warned}<p>measured with</p><table>{how}</table>"


def _row(cell: str, *texts: str) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in texts) + "</tr>"


def results_in(directory: Path) -> Results | None:
    """What a run's metrics.json tells, None where there is none. Raises UserError for a damaged one."""
    metrics = read_as(directory / "metrics.json", Metrics, f"make it anew with condgan evaluate {directory}")
    return None if metrics is None else Results(metrics.model_dump(mode="json", exclude_unset=True))
