"""Evaluate runs and images: find the run, its checkpoint and its data, refuse what does not fit, write the files."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from condgan.data.dataset import Dataset
from condgan.data.open import list_source, read
from condgan.data.survey import quick_look
from condgan.evaluation.cache import cached_statistics
from condgan.evaluation.catalog import curve_names
from condgan.evaluation.class_tree import class_distances, tree_picture
from condgan.evaluation.compare import Comparison, compare_images, find_named_extractor
from condgan.evaluation.images import (
    Real,
    fakes_of,
    is_statistics,
    numbers_said,
    one_size,
    read_fakes_and_real,
    require_enough,
    size_text,
    stored,
    translations_of,
)
from condgan.evaluation.moments import write_normal
from condgan.evaluation.options import EvaluationOptions
from condgan.evaluation.scoring import held_out_strips
from condgan.evaluation.statistics import Images
from condgan.evaluation.verdict import NO_COURSE, verdict_of
from condgan.labels import Labels
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs import checkpoint
from condgan.runs.class_tree import KEPT_ASIDE, LABEL_WEIGHTS, MADE, label_distances
from condgan.runs.directory import is_run, recipe_of, results_of, run_directory
from condgan.runs.models import find_checkpoint, load_model, read_data, require_same_data
from condgan.runs.results import Results
from condgan.runs.stopping import course_of
from condgan.sampling.changes import asked_for
from condgan.sampling.directions import MOVED_BY
from condgan.sampling.latents import Law, draw_latents, latent_dim, latent_law, normal
from condgan.sampling.model import Model, generate, progress_sheet, some_labels
from condgan.sampling.options import EVALUATION_SEED, Sampling, sampling_record, with_sampling
from condgan.sampling.translator import Translator
from condgan.utils import distributed
from condgan.utils.choices import SOURCES
from condgan.utils.errors import UserError
from condgan.utils.figures import curves, directions_sheet, png, sheet, spread
from condgan.utils.files import absolute, file_names, found, path_of, write

CLASSES_IN_A_TREE = 64
"""At most, of a run's own picture of them."""


def evaluate(
    subject: str | Path,
    data: Dataset | str | Path | None = None,
    options: EvaluationOptions = EvaluationOptions(),
    sampling: Sampling = Sampling(),
) -> Results:
    """Compare a run's fakes, or images by a name or path that can be read as a data set, with real images.

    `data`: these, by a name or path, or a file of their statistics; of a run by default its own held-out images. A
    run's fakes are as many as these and of the same classes; a translator's are translations of the held-out images.
    Of a run that is compared by all metrics with its own data, metrics.json, sheet.png and neighbors.png are written,
    of a generator directions.png, of 3 to 64 classes tree.png (with another extractor metrics-EXTRACTOR.json alone).
    Returns {metric: value, …, "real": {metric: ceiling, …}, "across": …, "intervals": {metric: [low, high]},
    "per_class": {class: …}, "per_field": …, "per_attribute": …, "about": …, "verdict": [sentence, …]}; of several
    processes, each of which looks at a part of the images, all return the same, and the leader writes. Raises UserError
    for bad input.
    """
    require_data(data)
    path = run_directory(subject, "images or a run")
    if is_run(path):
        return Results(_evaluate_run(path, data, options, sampling))
    require_subject(subject)
    if data is None:
        raise UserError(
            f"'{subject}' is no run directory (it has no recipe.yaml), and of images --data is needed: give real "
            "images to hold them against"
        )
    if sampling != Sampling():
        raise UserError(
            f"options of a run's sampling given with images '{subject}', which are what they are: leave them out"
        )
    return Results(_evaluate_images(str(subject), data, options))


def require_subject(subject: str | Path) -> None:
    """Raises UserError for a name or path where nothing is."""
    if str(subject) not in SOURCES and not found(path_of(subject)):
        raise UserError(f"'{subject}' does not exist: give a run directory, a folder of images or an npz file of some")


def require_data(data: object) -> None:
    """Raises UserError for real images that are neither a data set nor the name or path of one."""
    if data is not None and not isinstance(data, Dataset):
        path_of(data, "data")


def _chosen_checkpoint(directory: Path, which: str) -> Path:
    """Find a checkpoint, as the leader does, who may have just written it."""
    number = 0
    with distributed.all_or_fail():
        if distributed.is_main():
            number = int(find_checkpoint(directory, which).name)
    return directory / "checkpoints" / str(distributed.from_main(number))


def real_of_run(
    directory: Path, recipe: Recipe, data: Dataset | str | Path | None, split: str, stated: bool = False
) -> Real:
    """Read the real images of a run: its own, or others that are brought to its size, or `stated`: statistics."""
    if isinstance(data, str | Path):
        if stated:
            return Real(str(data), "stated", statistics=Path(data))
        other = load(directory / "recipe.yaml", [f"data.source={json.dumps(absolute(data))}", "data.held_out=null"])
        with distributed.main_first():
            return Real(str(data), split, read_data(other, skip_bad_images=True))
    if data is None:
        with distributed.main_first():
            data = read_data(recipe, skip_bad_images=True)
    require_same_data(directory, data)
    source = " + ".join(recipe.data.sources)
    return Real(source, split, data, stored(data, source, "train") if split == "held-out" else None)


def _evaluate_run(
    directory: Path, data: Dataset | str | Path | None, options: EvaluationOptions, sampling: Sampling
) -> dict[str, Any]:
    if options.size is not None:
        raise UserError(f"--size {options.size} given with run '{directory}', whose images have a size: leave it out")
    path = _chosen_checkpoint(directory, sampling.which)
    model, recipe = checkpoint.load_checkpoint(path), recipe_of(directory)
    own = data is None or isinstance(data, Dataset)
    stated = is_statistics(data, options.extractor, options.metrics)
    real = real_of_run(directory, recipe, data, options.split or "held-out", stated)
    about: dict[str, Any] = {"checkpoint": path.name}
    if isinstance(model, Translator):
        require_plain(directory, sampling)
        if real.data is None or real.data.spec != model.spec:
            labels = ", ".join(value for field in model.spec.fields for value in field.values)
            raise UserError(
                f"--data {data} given with run '{directory}', a translator: expected images with the labels that it "
                f"knows, {labels}"
            )
        fakes: Images = translations_of(model, real.data.held_out, sampling.seed, options.n)
    else:
        model = with_sampling(model, sampling)
        fakes = fakes_of(model, real, options.n, sampling)
        about |= sampling_record(sampling)
    comparison, about = compare_images(fakes, real, options, about | {"seed": sampling.seed})
    if isinstance(data, str | Path) and fakes.labels is not None:
        about["warnings"] += numbers_said(str(data), fakes.labels.spec.classes)
    metrics = comparison.metrics() | {"about": about}
    metrics["verdict"] = verdict_of(metrics, course_of(directory, recipe) if own else NO_COURSE)
    plain = EvaluationOptions(options.extractor, options.weights, per_class=options.per_class) == options
    drawn = Sampling(sampling.which, sampling.seed, standing=sampling.standing, batch=sampling.batch) == sampling
    if distributed.is_main() and own and plain and drawn:
        with results_of(directory):
            _write_metrics(directory, options.extractor, metrics)
            if options.extractor == "classifier":
                _write_pictures(directory, model, recipe, real.data, comparison)
    return metrics


def require_plain(directory: Path, sampling: Sampling) -> None:
    """Raises UserError for options of latents, which a translator has not."""
    if sampling._replace(which="best", seed=EVALUATION_SEED) != Sampling():
        raise UserError(
            f"options of latents given with run '{directory}', a translator, which has none: leave them out"
        )


def _write_pictures(
    directory: Path, model: Model | Translator, recipe: Recipe, data: Dataset | None, comparison: Comparison
) -> None:
    """Write sheet.png, where neighbors were searched neighbors.png, and what a generator has learned."""
    if isinstance(model, Translator):
        assert data is not None
        picture = held_out_strips(model, data)
    else:
        picture = progress_sheet(model.generator, model.spec, recipe.seed)
    write(directory / "sheet.png", png(picture))
    if (neighbors := comparison.neighbors()) is not None:
        write(directory / "neighbors.png", png(neighbors))
    if isinstance(model, Model):
        shown = model.classes[0] if model.spec.exclusive else model.settings()[0]
        directions = model.directions(of=shown)
        moved = model.along(directions, shown, reach=MOVED_BY)
        write(directory / "directions.png", png(directions_sheet(moved, directions.strengths.tolist(), MOVED_BY)))
        if (tree := _tree(model, comparison)) is not None:
            write(directory / "tree.png", tree)


def _tree(model: Model, comparison: Comparison) -> bytes | None:
    """Draw which classes are alike; None of few and of many, and where a generator sees no label."""
    if not (model.spec.exclusive and 2 < len(model.classes) <= CLASSES_IN_A_TREE):
        return None
    if (of_labels := label_distances(model)) is None:
        return None
    distances = {LABEL_WEIGHTS: of_labels}
    if (means := comparison.class_means()) is not None:
        made, real = means
        distances |= {MADE: class_distances(made), KEPT_ASIDE: class_distances(real)}
    return tree_picture(distances, model.classes)


def _write_metrics(directory: Path, extractor: str, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json, or with another extractor than the classifier metrics-EXTRACTOR.json."""
    name = "metrics.json" if extractor == "classifier" else f"metrics-{file_names([extractor])[0]}.json"
    write(directory / name, json.dumps(metrics, indent=1).encode())


def _evaluate_images(subject: str, data: str | Path | Dataset, options: EvaluationOptions) -> dict[str, Any]:
    """Compare images with others, all of the same size."""
    trained = options.extractor == "classifier"
    split = options.split or ("held-out" if trained else "all")
    stated = is_statistics(data, options.extractor, options.metrics)
    fakes, real, odd = read_fakes_and_real(subject, data, split, options.size, trained, options.skip_bad_images, stated)
    about: dict[str, Any] = {"source": subject, "size": size_text(fakes)}
    if options.n is not None:
        fakes = fakes.evenly_spaced(require_enough(options.n, len(fakes), f"images in '{subject}'"))
    comparison, about = compare_images(fakes, real, options, about)
    about["warnings"] += odd
    metrics = comparison.metrics() | {"about": about}
    return metrics | {"verdict": verdict_of(metrics)}


def statistics(source: str, out: Path, options: EvaluationOptions) -> dict[str, Any]:
    """Write the mean and covariance of real images' features to an npz file, for `evaluate`, pytorch-fid and others.

    Returns what they are of. Raises UserError for bad input.
    """
    if options.extractor == "classifier":
        raise UserError("statistics of the classifier asked for, which each data set has its own: give --extractor")
    size = options.size or one_size({source: quick_look(list_source(source))})
    with distributed.main_first():
        data = read(source, size, 3, skip_bad_images=options.skip_bad_images)
    extractor = find_named_extractor(options)
    images = stored(data, source, options.split or "all")
    found = cached_statistics(images, data.content_hash, extractor, None, frozenset({"moments"}))
    assert found.normal is not None
    about = {
        "source": Path(source).name,
        "sha256": data.content_hash,
        "split": options.split or "all",
        "real": len(images),
        "size": size_text(images),
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
    }
    if distributed.is_main():
        write_normal(out, found.normal, about)
    return about


@dataclass(frozen=True)
class TruncationCurve:
    """The numbers of a run's fakes at each truncation and at last without, and images of each."""

    what: str
    """truncation, or latent_scale."""
    laws: Mapping[float | None, Law]
    names: Sequence[str]
    metrics: Sequence[dict[str, Any]]
    images: torch.Tensor
    """A row per law, which all share their latents' draws and their classes."""
    columns: Sequence[str]
    """The classes of the images of a row."""
    about: Mapping[str, Any]

    def table(self) -> str:
        """A line per law as CSV; …_real: the same of real images."""
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow([self.what, *self.names, *(f"{name}_real" for name in self.names), *self.about])
        for value, metrics in zip(self.laws, self.metrics, strict=True):
            numbers = [kind[name] for kind in (metrics, metrics["real"]) for name in self.names]
            writer.writerow([value, *numbers, *self.about.values()])
        return table.getvalue()

    def plot(self, title: str) -> bytes:
        """Draw each number against the truncation."""
        *truncated, untruncated = self.metrics
        label = self.what.replace("_", " ")
        return curves(
            [value for value in self.laws if value is not None],
            {name: [one[name] for one in truncated] for name in self.names},
            {
                f"no {label}": {name: untruncated[name] for name in self.names},
                "real images": {name: self.metrics[0]["real"][name] for name in self.names},
            },
            label,
            title,
        )

    def sheet(self) -> bytes:
        """Draw a row of images per law."""
        names = ["none" if value is None else f"{value:g}" for value in self.laws]
        return png(sheet(self.images, [*self.columns], names))


def truncation_curve(
    directory: str | Path,
    out: str | Path,
    at: Sequence[float],
    scaled: bool = False,
    standing: int | None = None,
    which: str = "best",
    seed: int = EVALUATION_SEED,
) -> list[dict[str, Any]]:
    """Compare a run's fakes as `evaluate` does, at each truncation and at last without; returns the overall metrics.

    `scaled`: latents times a factor instead. `standing`: batch norms know the standing statistics of so many batches,
    at each truncation anew. Writes truncation.csv, truncation.png and sheet.png. Raises UserError for a truncation that
    is not above 0.
    """
    directory, out = path_of(directory, "run"), path_of(out, "folder")
    what = "latent_scale" if scaled else "truncation"
    laws: dict[float | None, Law] = {value: latent_law(**{what: value}) for value in sorted(set(at))} | {None: normal}
    path = _chosen_checkpoint(directory, which)
    model = load_model(directory, path.name, "float32")
    real = real_of_run(directory, recipe_of(directory), None, "held-out")
    curve = _curve(model, real, what, laws, Sampling(path.name, seed, standing=standing))
    if distributed.is_main():
        about = curve.about
        title = (
            f"{directory.name}, checkpoint {path.name}: {about['fakes']:,} fakes, {about['batch_norm']}, seed {seed}"
        )
        write(out / "truncation.csv", curve.table().encode())
        write(out / "truncation.png", curve.plot(title))
        write(out / "sheet.png", curve.sheet())
    return [*curve.metrics]


def _curve(
    model: Model, real: Real, what: str, laws: Mapping[float | None, Law], sampling: Sampling
) -> TruncationCurve:
    """Compare the fakes of each law with real images."""
    assert real.data is not None
    every = [*model.classes] if model.spec.exclusive else model.group_names()
    columns = [number for number in spread(len(every), 40) for _ in range(max(1, 20 // len(every)))]
    shown_labels = Labels.from_index(model.spec, torch.tensor(columns) % model.spec.width)
    if not model.spec.exclusive:
        base = some_labels(model.spec, len(columns), sampling.seed)
        settings = model.settings()
        values = [asked_for(base[place : place + 1], settings[number]).values for place, number in enumerate(columns)]
        shown_labels = Labels(model.spec, torch.cat(values), base.known)
    names = curve_names(len(every))
    metrics, rows = [], []
    for law in laws.values():
        point = with_sampling(replace(model, law=law), sampling)
        fakes = fakes_of(point, real, None, sampling)
        metrics.append(compare_images(fakes, real, EvaluationOptions(metrics=names), {})[0].metrics())
        latents = draw_latents(sampling.seed, 0, len(columns), latent_dim(point.generator), law)
        rows.append(generate(point.generator, latents, shown_labels))
    about = {
        "checkpoint": sampling.which,
        "fakes": len(real.data.held_out),
        "batch_norm": sampling_record(sampling)["batch_norm"],
        "seed": sampling.seed,
    }
    shown = [every[number] for number in columns]
    return TruncationCurve(what, laws, names, metrics, torch.cat(rows), shown, about)
