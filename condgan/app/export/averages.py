"""An average of another width than a run was trained with, as a folder that is read as a run."""

import json
from collections.abc import Sequence
from pathlib import Path

from condgan.runs import checkpoint
from condgan.runs.averages import BestAverage, average_run
from condgan.runs.directory import recipe_of, run_directory
from condgan.sampling.model import Model, progress_sheet
from condgan.utils.arguments import several
from condgan.utils.errors import UserError, shown
from condgan.utils.figures import curves, png
from condgan.utils.files import found, new_directory, path_of, read_bytes, require_outside_runs, write
from condgan.utils.limits import TEXT
from condgan.utils.options import WIDTH_LIMITS

SOME_WIDTHS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2)
CURVE_JSON, CURVE_PNG = "averages.json", "averages.png"


def average(
    run: str | Path, out: str | Path, widths: Sequence[float] = SOME_WIDTHS, by: str | None = None
) -> BestAverage:
    """Put averages of other widths together after training, and write the best into a new folder, with the curve.

    A width is the standard deviation of when an average's weights are from, as a share of the training. The run keeps
    snapshots of some averages with a width (`averages` in its recipe). `by`: a score of checkpoints. Raises UserError
    for bad input.
    """
    directory, out = run_directory(run), path_of(out, "folder")
    require_outside_runs(out, f"--out {out}")
    if found(out):
        raise UserError(f"--out {out} given, which is there already: give a new folder")
    averaged = average_run(directory, _widths(widths), by)
    recipe, model, path = recipe_of(directory), averaged.model, averaged.checkpoint
    own = checkpoint.sampled_contents(path, model.generator, recipe, checkpoint.needed_files(recipe))
    files = {f"checkpoints/{path.name}/{name}": data for name, data in own.items()}
    files |= {name: read_bytes(directory / name, TEXT) for name in ("recipe.yaml", "environment.json")}
    if isinstance(model, Model):
        files["sheet.png"] = png(progress_sheet(model.generator, model.spec, recipe.seed))
    told = {
        "by": averaged.by, "images": averaged.images, "snapshots": averaged.snapshots,
        "as_trained": averaged.as_trained, "best": averaged.best,
        "widths": [{"width": width, "score": score} for width, score in sorted(averaged.scores.items())],
    }  # fmt: skip
    files |= {CURVE_JSON: json.dumps(told, indent=1).encode(), CURVE_PNG: _plot(averaged, directory.name)}
    with new_directory(out) as temporary:
        for name, data in files.items():
            write(temporary / name, data)
    return averaged


def _widths(given: Sequence[float]) -> list[float]:
    """Each once. Raises UserError for one that no average has."""
    widths, (least, most) = dict.fromkeys(several("widths", given)), WIDTH_LIMITS
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int | float) or not least <= width <= most:
            raise UserError(f"width {shown(str(width))} given: expected numbers from {least} to {most}")
    if not widths:
        raise UserError("no width given: expected some, such as 0.05 and 0.1")
    return sorted(widths)


def _plot(averaged: BestAverage, name: str) -> bytes:
    widths = sorted(averaged.scores)
    title = f"{name}\n{averaged.images:,} images, {averaged.snapshots} snapshots"
    trained = {"as trained": {averaged.by: averaged.as_trained}}
    return curves(widths, {averaged.by: [averaged.scores[width] for width in widths]}, trained, "width", title)
