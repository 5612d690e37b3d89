"""When a run ends before its last image, and when it goes back: what the scores of its checkpoints say."""

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from condgan.evaluation.catalog import better_first
from condgan.evaluation.verdict import Course, Trend
from condgan.recipes.schema import Recipe, Schedule
from condgan.runs import checkpoint
from condgan.training.state import Scored

RETRIES = 2
"""How often training goes back, each time to go on at half the rates."""
FARTHER = 3.0
"""A collapse: the Fréchet distance is more than so many times the best one, …"""
VARIED = 0.5
"""… and coverage (of a translator, label agreement) is less than this share of the best one, …"""
ENOUGH_VARIED = 0.1
"""… which was at least this much, or nothing was there that could collapse."""
LATE = 0.75
"""The scores after this share of the images are the late ones, which are held against those before."""
FEWEST = 3
"""Scores of which there is a trend."""
BETTER_BY, WORSE_BY = 0.05, 0.25
"""Shares by which the best of the late scores is better, or worse, than the best of those before."""


class Decision(IntEnum):
    """What becomes of a run after a score."""

    GO_ON = 0
    GO_BACK = 1
    STOP = 2


def decide(history: Sequence[Scored], retries: int, schedule: Schedule) -> tuple[Decision, str]:
    """Whether a run goes on after its last score, and why not: a collapse, or no better score for too long.

    A function of what a checkpoint keeps, so that a resumed run decides the same.
    """
    if told := _collapse(history):
        if retries < RETRIES:
            return Decision.GO_BACK, f"training collapsed: {told}"
        return Decision.STOP, f"stopped: training collapsed once more: {told}; its best checkpoint is kept"
    best = best_of(history, schedule.best_by)
    if best and schedule.patience is not None and history[-1].images - best.images >= schedule.patience:
        return Decision.STOP, (
            f"stopped at {history[-1].images:,} images: no {schedule.best_by} was better than the "
            f"{best.scores[schedule.best_by]:.3g} at {best.images:,} images"
        )
    return Decision.GO_ON, ""


def _collapse(history: Sequence[Scored]) -> str:
    """How the last model is so much worse than those before that it has collapsed, or nothing."""
    distance = "fd_classifier"
    varied = "coverage" if any("coverage" in one.scores for one in history) else "label_agreement"
    known = [one.scores for one in history if {distance, varied} <= one.scores.keys()]
    if len(known) < 2 or known[-1] is not history[-1].scores:
        return ""
    *before, now = known
    nearest, most = min(one[distance] for one in before), max(one[varied] for one in before)
    if most < ENOUGH_VARIED or now[distance] <= FARTHER * nearest or now[varied] >= VARIED * most:
        return ""
    return f"{distance} {now[distance]:.3g} after {nearest:.3g}, {varied} {now[varied]:.3g} after {most:.3g}"


def best_of(history: Sequence[Scored], by: str) -> Scored | None:
    """The best model by a score, the first of equals."""
    sign, known = better_first(by), [one for one in history if by in one.scores]
    return min(known, key=lambda one: sign * one.scores[by], default=None)


def course(history: Sequence[Scored], retries: int, by: str) -> Course:
    """How the score that decides went: whether the last quarter of the images made it better, or worse."""
    trend: Trend | None = None
    best, known = best_of(history, by), [one for one in history if by in one.scores]
    early = [one for one in known if one.images <= LATE * known[-1].images]
    late = [one for one in known if one.images > LATE * known[-1].images]
    if len(known) >= FEWEST and early and late:
        before, now = (best_of(part, by) for part in (early, late))
        assert before is not None
        assert now is not None
        gain = better_first(by) * (before.scores[by] - now.scores[by])
        size = abs(before.scores[by])
        trend = "improving" if gain > BETTER_BY * size else "worse" if -gain > WORSE_BY * size else "flat"
    return Course(trend, 0 if best is None else best.images, retries)


def progress_of(directory: Path) -> tuple[int, list[Scored]]:
    """How often a run went back, and all of its scores, as its newest checkpoint tells."""
    kept = checkpoint.checkpoints(directory / "checkpoints")
    return checkpoint.progress(kept[-1]) if kept else (0, [])


def course_of(directory: Path, recipe: Recipe) -> Course:
    """How the scores of a run went."""
    retries, history = progress_of(directory)
    return course(history, retries, recipe.schedule.best_by)
