"""Runs as a page serves them: few models in memory, each loaded once, whatever threads ask.

What is kept is known by the checkpoints and files that there are, so that a run may train on meanwhile.
"""

from functools import cache, lru_cache
from pathlib import Path
from threading import RLock

from condgan.build import image_shape
from condgan.data.dataset import Split
from condgan.runs.checkpoint import checkpoints
from condgan.runs.directory import recipe_of
from condgan.runs.models import find_checkpoint, held_out_split, load_model, load_translator
from condgan.sampling.model import Model
from condgan.sampling.options import Sampling, with_sampling
from condgan.sampling.translator import Translator
from condgan.types import ImageShape

MODELS = 4
"""How many are kept in memory, and as many again with standing statistics."""
_LOADING = RLock()


def translates(run: Path) -> bool:
    """Whether a run's images are made of images."""
    return recipe_of(run).translates


def shape_of(run: Path) -> ImageShape:
    """What images of a run look like."""
    return image_shape(recipe_of(run))


def checkpoint_names(run: Path) -> tuple[str, ...]:
    """The checkpoints of a run, by their numbers of images, oldest first."""
    return tuple(path.name for path in checkpoints(run / "checkpoints"))


def resolved(run: Path, which: str) -> str:
    """The checkpoint that best or latest is by now. Raises UserError where there is none yet."""
    with _LOADING:
        return _resolved(run, which, checkpoint_names(run))


def generator_of(run: Path, sampling: Sampling) -> Model:
    """A run's model, of one checkpoint by its number, with the batch norms that are asked for; latents are normal."""
    with _LOADING:
        return _loaded(run, sampling.which) if sampling.standing is None else _standing(run, sampling)


def translator_of(run: Path, which: str) -> Translator:
    """A run's translator, of one checkpoint by its number."""
    with _LOADING:
        return _translator(run, which)


def held_out_of(run: Path) -> Split:
    """The images that a run was not trained on. Raises UserError where its data are not here."""
    with _LOADING:
        return _held_out(run)


@lru_cache(256)
def _resolved(run: Path, which: str, _names: tuple[str, ...]) -> str:
    return find_checkpoint(run, which).name


@lru_cache(MODELS)
def _loaded(run: Path, which: str) -> Model:
    return load_model(run, which)


@lru_cache(MODELS)
def _standing(run: Path, sampling: Sampling) -> Model:
    return with_sampling(_loaded(run, sampling.which), sampling).with_latents()


@lru_cache(MODELS)
def _translator(run: Path, which: str) -> Translator:
    return load_translator(run, which)


@cache
def _held_out(run: Path) -> Split:
    return held_out_split(run)
