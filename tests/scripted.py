"""Runs of the digits that are scored by a script: of a plateau, of a collapse.

As a program, one of two processes in which training collapses once: `python -m tests.scripted DIRECTORY`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from condgan.recipes.load import load
from condgan.runs import train
from condgan.training.state import State
from condgan.utils import distributed
from tests.conftest import TINY

Script = Callable[[State], dict[str, float]]


class _Scorer:
    """Scores what the script says of the state."""

    def __init__(self, script: Script, state: State) -> None:
        self.script, self.state = script, state

    def score(self, _model: object) -> dict[str, float]:
        return self.script(self.state)

    def sheet(self, _model: object, _seed: int) -> Image.Image:
        return Image.new("RGB", (2, 2))


def train_scripted(directory: Path, script: Script, *overrides: str) -> None:
    """Train a tiny run whose scores a script tells, and do not evaluate it."""
    begin = train._Keeper.__init__

    def keeper(self: Any, directory: Path, recipe: Any, data: Any, state: State) -> None:
        with patch.object(train, "build_scorer", lambda *_: _Scorer(script, state)):
            begin(self, directory, recipe, data, state)

    with patch.object(train._Keeper, "__init__", keeper), patch.object(train, "evaluate", lambda *_, **__: {}):
        train.train_run(load("digits-acgan", [*TINY, *overrides]), directory)


def flat(_state: State) -> dict[str, float]:
    """Always the same."""
    return {"fd_classifier": 5.0, "coverage": 0.8}


def collapses_once(state: State) -> dict[str, float]:
    """Better and better, but for a collapse at 192 images the first time."""
    if state.images == 192 and state.retries == 0:
        return {"fd_classifier": 50.0, "coverage": 0.1}
    return {"fd_classifier": 1_000 / state.images, "coverage": 0.8}


def collapses_always(state: State) -> dict[str, float]:
    """Good up to 128 images, and never again, though each class then has one image that is right."""
    if state.images > 128:
        return {"label_agreement": 1.0, "fd_classifier": 50.0, "coverage": 0.1}
    return {"label_agreement": state.images / 1_000, "fd_classifier": 1_000 / state.images, "coverage": 0.8}


if __name__ == "__main__":
    with distributed.joined():
        train_scripted(Path(sys.argv[1]), collapses_once, "schedule.images=256")
