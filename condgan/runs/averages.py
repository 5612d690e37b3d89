"""Snapshots of a run's averages, and averages of other widths that are put together of them."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save
from torch import Tensor

from condgan.evaluation.catalog import better_first, score_names
from condgan.evaluation.scoring import build_scorer
from condgan.recipes.schema import Recipe
from condgan.runs import checkpoint
from condgan.runs.directory import recipe_of, require_run, run_directory
from condgan.runs.models import find_checkpoint, load_either, read_data, require_same_data
from condgan.sampling.model import Model
from condgan.sampling.translator import Translator
from condgan.training.post_hoc import Profile, coefficients, put_together
from condgan.training.state import State
from condgan.types import Generator
from condgan.utils.console import say
from condgan.utils.errors import UserError, said_of, unknown
from condgan.utils.files import new_directory, remove_directory
from condgan.utils.limits import TooLarge
from condgan.utils.weights import UnfitWeights, load_weights

SNAPSHOTS = "snapshots"
FEWEST_SNAPSHOTS = 2
"""Snapshots: of one alone no other width can be made."""


class BestAverage(NamedTuple):
    """The best of some widths, and what led to it."""

    model: Model | Translator
    checkpoint: Path
    by: str
    """The score."""
    images: int
    """Of training, when the averages were taken."""
    snapshots: int
    as_trained: float
    """The score of the run's own average."""
    scores: dict[float, float]
    """By width."""

    @property
    def best(self) -> float:
        """The width that scores best."""
        sign = better_first(self.by)
        return min(self.scores, key=lambda width: sign * self.scores[width])


def widths_of(recipe: Recipe) -> dict[str, float]:
    """The averages of a recipe that snapshots are kept of, and their widths."""
    every = {"ema": recipe.ema, **recipe.averages}
    return {name: average.width for name, average in every.items() if average.width is not None}


def keep_snapshot(directory: Path, state: State, recipe: Recipe) -> None:
    """Write snapshots/<images> of the averages that have a width, if there are any."""
    if names := widths_of(recipe):
        with new_directory(directory / SNAPSHOTS / str(state.images), replacing=True) as temporary:
            for name in names:
                weights = state.averages[name].module.state_dict()
                data = save({key: value.cpu().contiguous() for key, value in weights.items()})
                (temporary / f"{name}.safetensors").write_bytes(data)


def remove_snapshots_after(directory: Path, images: int) -> None:
    """Remove the snapshots after `images` images, which training will not come by again."""
    for path in _snapshots(directory):
        if int(path.name) > images:
            remove_directory(path)


def _snapshots(directory: Path) -> list[Path]:
    place = directory / SNAPSHOTS
    return checkpoint.checkpoints(place) if place.is_dir() else []


def average_run(run: str | Path, widths: Sequence[float], by: str | None = None) -> BestAverage:
    """Put averages of these widths together of a run's snapshots, score each, and return the best.

    They are of the last snapshot's time, and compared with training images as checkpoints are. `by`: a score, by
    default that by which the run's checkpoints are the best. Raises UserError for a run without snapshots, and for an
    unknown score.
    """
    directory = run_directory(run)
    require_run(directory)
    recipe = recipe_of(directory)
    by, known = by or recipe.schedule.best_by, score_names("translator" if recipe.translates else "generator")
    if by not in known:
        raise unknown("score", by, known)
    kept = widths_of(recipe)
    if not kept:
        raise UserError(
            f"run '{directory}' keeps no average of a width: train another with averages='{{narrow: {{width: 0.05}}, "
            "wide: {width: 0.1}}'"
        )
    path = find_checkpoint(directory, "latest")
    places = [place for place in _snapshots(directory) if int(place.name) <= int(path.name)]
    if len(places) < FEWEST_SNAPSHOTS:
        raise UserError(
            f"run '{directory}' has {len(places)} snapshots: expected {FEWEST_SNAPSHOTS} or more, one for each "
            "schedule.save images; train on, or another with a smaller schedule.save"
        )
    data = read_data(recipe, skip_bad_images=True)
    require_same_data(directory, data)
    scorer, model = build_scorer(recipe, data), load_either(directory, path.name, "float32")
    profiles = {(place, name): Profile(int(place.name), width) for place in places for name, width in kept.items()}
    found = BestAverage(model, path, by, int(places[-1].name), len(places), scorer.score(model)[by], {})
    say(f"as trained  {found.as_trained:10.3f}  {by}")
    for width in widths:
        generator = _reconstructed(model.generator, profiles, Profile(found.images, width))
        one = replace(model, generator=generator)
        found.scores[width] = scorer.score(one)[by]
        say(f"width {width:.3f} {found.scores[width]:10.3f}  {by}")
        if found.best == width:
            found = found._replace(model=one)
    return found


def _reconstructed(like: Generator, profiles: dict[tuple[Path, str], Profile], wanted: Profile) -> Generator:
    """A generator of a wanted average, reading one snapshot after another."""
    made, read = deepcopy(like), deepcopy(like)
    factors = coefficients([*profiles.values()], wanted)

    def parts() -> Iterator[tuple[float, dict[str, Tensor]]]:
        for (place, name), factor in zip(profiles, factors, strict=True):
            file = place / f"{name}.safetensors"
            with said_of(f"snapshot '{file}'", "remove the folder that it is in", UnfitWeights, TooLarge):
                load_weights(read, file)
            yield float(factor), read.state_dict()

    put_together(made, parts())
    return made
