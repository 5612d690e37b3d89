"""Runs as a page serves them: few models in memory, each loaded once, whatever threads ask.

What is kept is known by the checkpoints and files that there are, so that a run may train on meanwhile.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from condgan.build import image_preprocessing, image_shape
from condgan.data.dataset import Split
from condgan.data.preprocessing import Preprocessing
from condgan.networks import Discriminator
from condgan.runs.checkpoint import checkpoints
from condgan.runs.directory import recipe_of
from condgan.runs.invert import reader_of
from condgan.runs.models import find_checkpoint, held_out_split, load_model, load_translator
from condgan.runs.neighbors import OTHERS, NeighborSearch
from condgan.sampling.model import Model
from condgan.sampling.options import Sampling, with_sampling
from condgan.sampling.translator import Translator
from condgan.types import ImageShape

MODELS = 4
"""How many are kept in memory of each kind: generators, these with standing statistics, translators."""
SEARCHED_PIXELS = 1 << 22
"""Of the generated images that neighbors are searched among, unless these are few."""
RESOLVED, HELD_OUT_SPLITS = 256, 64
"""How many checkpoints by name are known, and of how many runs held-out images."""
T = TypeVar("T")


class Kept(Generic[T]):
    """What is made by keys, each once for all threads, of which the last few are kept; no key waits for another.

    What is being made stays meanwhile. What cannot be made takes no place, and is tried again when it is asked for.
    """

    def __init__(self, make: Callable[..., T], most: int) -> None:
        self.make, self.most = make, most
        self._lock = Lock()
        self._entries: dict[tuple[Any, ...], _Entry[T]] = {}

    def __call__(self, *key: Any) -> T:
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry(Lock(), [])
            self._entries[key] = entry  # as the last one that was asked for
        with entry.lock:
            if not entry.made:
                try:
                    entry.made.append(self.make(*key))
                except BaseException:
                    self._forget(key)
                    raise
                self._keep_few()
            return entry.made[0]

    def _forget(self, key: tuple[Any, ...]) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def _keep_few(self) -> None:
        with self._lock:
            made = [key for key, entry in self._entries.items() if entry.made]
            for key in made[: -self.most]:
                del self._entries[key]


class _Entry(NamedTuple, Generic[T]):
    lock: Lock
    made: list[T]
    """It, once it is made."""


def translates(run: Path) -> bool:
    """Whether a run's images are made of images."""
    return recipe_of(run).translates


def shape_of(run: Path) -> ImageShape:
    """What images of a run look like."""
    return image_shape(recipe_of(run))


def preprocessing_of(run: Path) -> Preprocessing:
    """How pictures become images of a run."""
    return image_preprocessing(recipe_of(run))


def checkpoint_names(run: Path) -> tuple[str, ...]:
    """The checkpoints of a run, by their numbers of images, oldest first."""
    return tuple(path.name for path in checkpoints(run / "checkpoints"))


def resolved(run: Path, which: str) -> str:
    """The checkpoint that best or latest is by now. Raises UserError where there is none yet."""
    return _resolved(run, which, checkpoint_names(run))


def generator_of(run: Path, sampling: Sampling) -> Model:
    """A run's model, of one checkpoint by its number, with the batch norms that are asked for; latents are normal."""
    return _loaded(run, sampling.which) if sampling.standing is None else _standing(run, sampling)


def _measured(run: Path, sampling: Sampling) -> Model:
    return with_sampling(_loaded(run, sampling.which), sampling).with_latents()


_resolved = Kept(lambda run, which, _names: find_checkpoint(run, which).name, RESOLVED)
_loaded: Kept[Model] = Kept(load_model, MODELS)
_standing = Kept(_measured, MODELS)
translator_of: Kept[Translator] = Kept(load_translator, MODELS)
"""A run's translator, of one checkpoint by its number."""


def _search(run: Path, which: str) -> NeighborSearch:
    shape = shape_of(run)
    most = max(1, SEARCHED_PIXELS // (shape.height * shape.width))
    return NeighborSearch.of(run, min(OTHERS, most), which=which)


discriminator_of: Kept[Discriminator | None] = Kept(reader_of, MODELS)
"""A checkpoint's discriminator by its number, where it has one."""
search_of: Kept[NeighborSearch] = Kept(_search, MODELS)
"""What neighbors of images are searched among. Raises UserError where the run's data are not here."""
held_out_of: Kept[Split] = Kept(held_out_split, HELD_OUT_SPLITS)
"""The images that a run was not trained on. Raises UserError where its data are not here."""
