"""A run as one object: what trains returns it, and it samples, translates, is evaluated and given to others."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from condgan.app.export.push import push
from condgan.app.export.subject import ExportOptions
from condgan.app.export.write import export
from condgan.app.web.start import PORT, serve_runs
from condgan.data.dataset import Dataset
from condgan.evaluation.options import EvaluationOptions
from condgan.recipes.schema import Recipe
from condgan.runs.chosen import plan_run
from condgan.runs.directory import recipe_of, require_run, run_directory
from condgan.runs.evaluate import evaluate
from condgan.runs.invert import invert_pictures
from condgan.runs.models import load_model, load_translator
from condgan.runs.results import Results, results_in
from condgan.runs.train import train_run
from condgan.sampling.changes import Changes
from condgan.sampling.invert import Inverted
from condgan.sampling.model import ClassChoice, Model
from condgan.sampling.options import Sampling
from condgan.sampling.translator import GivenPictures, Translator
from condgan.utils.arguments import plain, positive, several
from condgan.utils.choices import ExportFormat
from condgan.utils.console import say
from condgan.utils.errors import UserError, shown
from condgan.utils.files import absolute, found, path_of, read_bytes
from condgan.utils.limits import ENCODED


class Run:
    """A run directory, or a model on the Hub, as in `condgan.load`.

    In a notebook it shows its sheet: a column per class, or a translator's rows of translations.

    Raises UserError for a directory that is not that of a run.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = run_directory(directory)
        require_run(self.directory)

    def __repr__(self) -> str:
        return f"Run('{self.directory}')"

    @property
    def recipe(self) -> Recipe:
        """All settings of the training."""
        return recipe_of(self.directory)

    @property
    def results(self) -> Results | None:
        """What its evaluation told, as it lies in its directory; None where it was not evaluated yet."""
        return results_in(self.directory)

    @cached_property
    def model(self) -> Model:
        """Its best generator. Raises UserError for a translator."""
        return load_model(self.directory)

    @cached_property
    def translator(self) -> Translator:
        """Its best translator. Raises UserError for a run that makes images from labels."""
        return load_translator(self.directory)

    def sample(self, classes: ClassChoice = None, per_class: int = 16, seed: int = 0) -> UInt8[np.ndarray, "n h w *c"]:
        """Images of its best generator, class by class; see `Model.sample`."""
        return self.model.sample(classes, per_class, seed)

    def pictures(self, classes: ClassChoice = None, per_class: int = 16, seed: int = 0) -> list[Image.Image]:
        """The same as PIL images."""
        return self.model.pictures(classes, per_class, seed)

    def sheet(self, classes: ClassChoice = None, per_class: int = 8, seed: int = 0) -> Image.Image:
        """The same as one picture, a column per class."""
        return self.model.sheet(classes, per_class, seed)

    def translate(self, pictures: GivenPictures, changes: Changes) -> list[Image.Image]:
        """Pictures with changed labels, by its best translator; see `Translator.translate`."""
        return self.translator.translate(pictures, changes)

    def every_domain(self, pictures: GivenPictures) -> list[dict[str, Image.Image]]:
        """Of each picture, its translation to each domain."""
        return self.translator.every_domain(pictures)

    def invert(self, pictures: GivenPictures, classes: int = 3, steps: int = 200, seed: int = 0) -> Inverted:
        """The latents and classes of its best generator whose images are nearest to pictures; see `invert_pictures`."""
        return invert_pictures(self.directory, pictures, classes, steps=steps, seed=seed)

    def evaluate(
        self,
        data: Dataset | str | Path | None = None,
        options: EvaluationOptions = EvaluationOptions(),
        sampling: Sampling = Sampling(),
    ) -> Results:
        """Compare its images with real ones; see `condgan.evaluate`."""
        return evaluate(self.directory, data, options, sampling)

    def export(
        self,
        out: str | Path,
        format: ExportFormat = "safetensors",
        which: str | int = "best",
        options: ExportOptions = ExportOptions(),
        license: str | Path | None = None,
    ) -> list[str]:
        """Write its model into a new folder for others; see `condgan.export`."""
        return export(self.directory, out, format, which, options, license)

    def push(self, name: str, license: str, which: str | int = "best") -> str:
        """Put its model on the Hub, and return its page there; see `condgan.push`."""
        return push(self.directory, name, license, which)

    def app(self, port: int = PORT, which: str | int = "best") -> None:
        """Serve a page of it on this machine until Ctrl-C, as `condgan app` does.

        Raises UserError where it cannot start.
        """
        serve_runs([self.directory], str(plain(which)), port)

    def _repr_png_(self) -> bytes | None:
        """Its sheet, as notebooks show it, where there is one yet."""
        path = self.directory / "sheet.png"
        return read_bytes(path, ENCODED) if found(path) else None


def train_on(
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    minutes: int | float | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    translate: bool = False,
    out: str | Path | None = None,
    fresh: bool = False,
) -> Run:
    """Train on images, by their name or path, as `condgan train --data` does; the same call goes on where it stopped.

    A recipe is chosen for them, such that training takes so many `minutes`, unless `recipe` names one; `translate`: one
    that turns images of one class into another. `overrides`: options of the recipe, such as "data.size=32". `out`: the
    run directory, by default runs/NAME; `fresh`: a new one beside it. Without data those of the recipe, by default
    digits. What is found and chosen is told on stderr. Raises UserError for bad input, Interrupted and Diverged as
    `train_run` does.
    """
    sources = [] if data is None else [absolute(path_of(one, "data")) for one in several("data", data)]
    if data is not None and not sources:
        raise UserError("no data given: expected a name such as 'digits', the path of some images, or several")
    given = several("overrides", overrides)
    if wrong := next((one for one in given if not isinstance(one, str)), None):
        raise UserError(f"{shown(repr(wrong))} given: expected an override such as 'g_opt.lr=1e-4'")
    minutes = None if minutes is None else positive("minutes", minutes)
    place = None if out is None else path_of(out, "run directory")
    plan = plan_run(sources, given, recipe, None, minutes, translate, place, fresh)
    for line in plan.said:
        say(line)
    train_run(plan.recipe, plan.directory)
    return Run(plan.directory)
