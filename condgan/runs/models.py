"""Load what a run directory holds: its data, its checkpoints, the models in them."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from condgan.data.dataset import Dataset, Split, unlabeled, with_examples
from condgan.data.open import read
from condgan.data.readers.labels import EXPECTED
from condgan.estimate import count_parameters
from condgan.labels import LabelSpec
from condgan.recipes.schema import Recipe
from condgan.runs import checkpoint
from condgan.runs.directory import recipe_of, require_run, resume_command, run_directory
from condgan.runs.schemas import environment_of
from condgan.sampling.model import Model
from condgan.sampling.translator import Translator
from condgan.utils.arguments import plain
from condgan.utils.choices import Precision
from condgan.utils.console import note
from condgan.utils.device import can_compile, device
from condgan.utils.device import precision as choose_precision
from condgan.utils.errors import UserError, shown, unknown


def read_data(recipe: Recipe, skip_bad_images: bool = False) -> Dataset:
    """The recipe's data set. Raises UserError if it names none, it cannot be read, or it does not fit."""
    options = recipe.data
    if options.source is None:
        raise UserError(f"recipe '{recipe.name}' has no data of its own: expected --data PATH; {EXPECTED}")
    if options.stream and options.resident:
        raise UserError("data.resident=true given with data.stream=true, which leaves images undecoded: leave one out")
    count_parameters(recipe, LabelSpec.of_classes(["a", "b"]))  # refuses a size before anything is read
    data = read(
        options.source, options.size, options.channels, attributes=options.attributes, exclusive=options.exclusive,
        number=options.number, vicinity=options.vicinity, hard_vicinity=options.hard_vicinity,
        paired=options.paired, background=options.background, crop=options.crop, held_out=options.held_out,
        root=options.root, skip_bad_images=skip_bad_images, stream=options.stream,
    )  # fmt: skip
    if not recipe.conditional and len(data.spec.fields) == 1:
        data = unlabeled(data)
    fields = data.spec.fields
    named = "' and '".join(options.sources)
    if recipe.conditional and (lonely := next((one for one in fields if one.exclusive and len(one.values) < 2), None)):
        raise UserError(
            f"data '{named}' has one class only, '{lonely.values[0]}': a conditional model needs two or more; "
            "for one without labels set objective.name=gan and head.name=plain"
        )
    if not recipe.translates and len(fields) > 1:
        raise UserError(
            f"data '{named}' are several data sets, which recipe '{recipe.name}' cannot learn together: give one, or "
            "choose a translator such as sprites-stargan"
        )
    if recipe.translates and (number := next((one.name for one in fields if one.range is not None), None)):
        raise UserError(
            f"data.number={number} given with recipe '{recipe.name}', which translates: expected classes or "
            "attributes; choose a recipe such as any-projection"
        )
    if recipe.translates and data.train.labels.partial:
        raise UserError(
            f"data '{named}' has images whose labels are not all known, which a translator needs: label them, or "
            "choose a recipe that makes images of labels, such as any-projection"
        )
    if options.number is None and (options.vicinity is not None or options.hard_vicinity):
        raise UserError("a vicinity given without data.number, which it is of: leave it out")
    return data if recipe.translates else with_examples(data)


def load_model(
    directory: str | Path,
    which: str | int = "best",
    precision: Precision = "auto",
    compiled: bool = False,
    average: str = "ema",
) -> Model:
    """The averaged generator of a run: of its best checkpoint, its latest, or the one after `which` images.

    A text such as "alice/digits" or "alice/digits@v1" that is no path here is a model on the Hub. It computes in
    bfloat16 where the hardware does, unless `precision` is "float32". `compiled`: a minute later, and then faster.
    `average`: by its name, where the recipe keeps more than `ema`. Raises UserError for a run that translates, for an
    average that there is not, and where nothing can be compiled.
    """
    model = load_either(directory, which, precision, compiled, average)
    if isinstance(model, Translator):
        raise UserError(
            f"run '{directory}' translates images and has none of its own: use condgan translate, or load_translator"
        )
    return model


def load_translator(
    directory: str | Path,
    which: str | int = "best",
    precision: Precision = "auto",
    compiled: bool = False,
    average: str = "ema",
) -> Translator:
    """The averaged generator of a run that translates images, with its discriminator; the rest as in `load_model`.

    Raises UserError for a run that makes images from labels.
    """
    model = load_either(directory, which, precision, compiled, average)
    if isinstance(model, Model):
        raise UserError(f"run '{directory}' is no translator, it makes images from labels: use condgan sample, or load")
    return model


def load_either(
    directory: str | Path,
    which: str | int = "best",
    precision: Precision = "auto",
    compiled: bool = False,
    average: str = "ema",
) -> Model | Translator:
    """The averaged generator of a run of either kind; the rest as in `load_model`."""
    if compiled and not can_compile():
        raise UserError("a compiled model asked for, and no C++ compiler found: install one such as g++, or leave it")
    choose_precision(precision, device())
    directory = run_directory(directory)
    require_run(directory)
    recipe = recipe_of(directory)
    if average not in (known := ("ema", *recipe.averages)):
        raise unknown("average", average, known)
    path = find_checkpoint(directory, which, needed=checkpoint.needed_files(recipe, average))
    model = checkpoint.load_checkpoint(path, average)
    return replace(model, precision=precision, compiled=compiled)


def held_out_split(directory: str | Path) -> Split:
    """The images of a run's data that it was not trained on."""
    data = read_data(recipe_of(Path(directory)), skip_bad_images=True)
    require_same_data(Path(directory), data)
    return data.held_out


def find_checkpoint(
    directory: Path, which: str | int = "best", option: str = "--checkpoint ", needed: Collection[str] = ()
) -> Path:
    """A checkpoint of a run: best, latest, or by its number of images; `option`: what another is named after.

    The files that are needed of it, by default those that images are made by, are whole.
    """
    require_run(directory)
    needed = needed or checkpoint.needed_files(recipe_of(directory))
    which = str(plain(which))
    paths = checkpoint.checkpoints(directory / "checkpoints")
    if not paths:
        raise UserError(f"run '{directory}' has no checkpoint yet: train it on with {resume_command(directory)}")
    names = ", ".join(path.name for path in paths)
    if which.isdecimal():
        wanted = [path for path in paths if path.name == which]
        if not wanted:
            raise UserError(f"run '{directory}' has no checkpoint {which}: it has {names}, best or latest")
        if (reason := checkpoint.damage(wanted[0], needed)) is not None:
            raise UserError(f"checkpoint '{wanted[0]}' is damaged ({reason}): choose another one with {option.strip()}")
        return wanted[0]
    if which not in ("best", "latest"):
        raise UserError(f"checkpoint '{shown(which)}' given: expected best, latest or one of {names}")
    by = recipe_of(directory).schedule.best_by
    scored = checkpoint.ranked(paths, by) if which == "best" else []
    damaged: dict[Path, str] = {}
    for path in dict.fromkeys([*scored, *reversed(paths)]):
        if (reason := checkpoint.damage(path, needed)) is not None:
            damaged[path] = reason
            continue
        for other, why in damaged.items():
            note(f"checkpoint '{other}' is damaged ({why}): {path.name} is used")
        _tell_newer(path, paths, scored, by, option)
        return path
    raise UserError(f"all checkpoints of '{directory}' are damaged ({damaged[paths[-1]]}): start over with --fresh")


def _tell_newer(path: Path, paths: list[Path], scored: list[Path], by: str, option: str) -> None:
    """Say where the best checkpoint is only the best of those that were scored, as after Ctrl-C."""
    if path in scored and (newer := [one for one in paths[paths.index(path) + 1 :] if one not in scored]):
        note(
            f"checkpoint {path.name} is used, the best by {by}; {newer[-1].name} is newer and has no such score: "
            f"choose it with {option}latest"
        )


def require_same_data(directory: Path, data: Dataset) -> None:
    """Raises UserError unless the data are known to be those that the run began with."""
    began = environment_of(directory)
    if began is None:
        raise UserError(
            f"run '{directory}' has no environment.json, without which nobody can tell whether the data are those that "
            "it began with: put it back, or start over with --fresh; what was exported has none, give evaluate --data"
        )
    then = began.data
    if then.sha256 != data.content_hash:
        raise UserError(
            f"the data of run '{directory}' has changed ({then.train} + {then.held_out} images then, "
            f"{len(data.train)} + {len(data.held_out)} now): give back the old data, or start over with --fresh"
        )
