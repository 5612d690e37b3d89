"""Put averages of other widths together after training."""

import json
from pathlib import Path
from typing import Annotated

import click

from condgan.app.cli.options import RunArgument, numbers
from condgan.app.cli.usage import Option
from condgan.runs.directory import require_run, run_directory
from condgan.utils.errors import UserError

RANGE_POINTS = 7
"""Of a range of widths."""


def ema_command(
    run: RunArgument,
    out: Annotated[Path, Option("A new folder for the best average, which condgan reads as a run.")],
    width: Annotated[
        str, Option("Widths with commas between, each a share of the training; or FROM..TO.")
    ] = "0.02..0.2",
    by: Annotated[str | None, Option("The score that decides; by default the one that checkpoints have.")] = None,
    as_json: Annotated[bool, Option("Print the curve as JSON.", "--json")] = False,
) -> None:
    """Put averages of other widths together after training, and write the best.

    For runs with averages of a width, such as averages='{narrow: {width: 0.05}, wide: {width: 0.1}}'.
    """
    directory = run_directory(run)
    require_run(directory)
    widths = _widths(width)
    from condgan.app.export.averages import average

    averaged = average(directory, out, widths, by)
    if as_json:
        click.echo(json.dumps({"by": averaged.by, "best": averaged.best, "scores": averaged.scores}))
        return
    score, trained = averaged.scores[averaged.best], averaged.as_trained
    click.echo(f"the best width is {averaged.best:.3g}: {averaged.by} {score:.3f}, {trained:.3f} as trained")
    if len(widths) > 1 and averaged.best in (min(widths), max(widths)):
        click.echo("it is at the end of those tried: others beyond may be better")
    click.echo(f"wrote {out}; next: condgan sample {out} --out images")


def _widths(text: str) -> list[float]:
    """Numbers with commas between, or some from one to another, each as many times the one before."""
    first, dots, last = text.replace("…", "..").partition("..")
    if not dots:
        return numbers(text)
    ends = [*numbers(first), *numbers(last)]
    if len(ends) != 2 or not 0 < ends[0] < ends[1]:
        raise UserError(f"width '{text}' given: expected two numbers, the smaller one first, such as 0.05..0.2")
    return [ends[0] * (ends[1] / ends[0]) ** (i / (RANGE_POINTS - 1)) for i in range(RANGE_POINTS)]
