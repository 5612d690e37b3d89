"""Where a run stands, and its report, as they are now. Both are made anew only where a file of the run has changed."""

import stat
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from condgan.app.web.served import checkpoint_names
from condgan.runs.checkpoint import trained_images
from condgan.runs.directory import recipe_of
from condgan.runs.log_file import records
from condgan.runs.report import report_page
from condgan.runs.report.pictures import EmbeddedPicture, embedded_picture
from condgan.utils.console import duration
from condgan.utils.files import TEMPORARY, entries

Stamp = tuple[tuple[str, int], ...]


class Progress(NamedTuple):
    """How far a run is."""

    images: int | None
    """None of converted weights."""
    total: int | None
    """Images of training; None where there is no log, but a checkpoint, as of a run that was pulled or converted."""
    facts: str
    """Speed, time left and the last score, in a line."""
    samples: EmbeddedPicture | None
    """The newest sheet."""
    logged: float | None
    """When the last line of the log was written, in seconds since the epoch."""


def run_progress(run: Path) -> Progress:
    """How far a run is by its log."""
    return _progress(run, _stamp(run, run / "samples"), checkpoint_names(run))


def report_of(run: Path) -> str:
    """A run's report as a page of HTML that is complete in itself."""
    return _report(run, _stamp(run, run / "samples"))


def since(moment: float) -> str:
    """How long ago something was, such as 5 s ago."""
    return f"{duration(time.time() - moment)} ago"


def _stamp(*folders: Path) -> Stamp:
    """What tells whether files have changed."""
    found: list[tuple[str, int]] = []
    for path in (path for folder in folders for path in entries(folder) if not path.name.startswith(TEMPORARY)):
        with suppress(FileNotFoundError):  # removed meanwhile
            about = path.stat()
            found += [(str(path), about.st_mtime_ns)] if stat.S_ISREG(about.st_mode) else []
    return tuple(found)


@lru_cache(16)
def _progress(run: Path, stamp: Stamp, names: tuple[str, ...]) -> Progress:
    schedule = recipe_of(run).schedule
    log = [record for _, record in records(run / "log.jsonl")]
    if names and not log:
        return Progress(trained_images(run / "checkpoints" / names[-1]), None, "", None, None)
    images = int(log[-1]["images"]) if log else 0
    rate = log[-1].get("images_per_second", 0) if log else 0
    scores = [record[schedule.best_by] for record in log if schedule.best_by in record]
    left = max(0, schedule.images - images)
    facts = [
        *([f"{rate:,.0f} images a second"] if rate and left else []),
        *([f"about {duration(left / rate)} left"] if rate and left else []),
        *([f"{schedule.best_by} {scores[-1]:.3g}"] if scores else []),
    ]
    sheets = [path for path in entries(run / "samples") if path.suffix == ".png" and path.stem.isdecimal()]
    newest = max(sheets, key=lambda path: int(path.stem), default=None)
    samples = newest and embedded_picture(newest, f"samples after {int(newest.stem):,} images")
    logged = dict(stamp).get(str(run / "log.jsonl"))
    return Progress(images, schedule.images, ", ".join(facts), samples, logged and logged / 1e9)


@lru_cache(4)
def _report(run: Path, _stamp: Stamp) -> str:
    return report_page(run)
