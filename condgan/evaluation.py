"""Judging and opening what a run has learned: its checkpoints, their metrics, and truncation curves."""

import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from condgan import checkpoint
from condgan.build import count_parameters, device
from condgan.data.sources import Dataset, Split, read
from condgan.errors import UserError
from condgan.files import write
from condgan.interfaces import Generator
from condgan.labels import Labels, LabelSpec
from condgan.metrics.conditional import agreement, compare
from condgan.metrics.features import Judge, Judged, trained_judge
from condgan.recipe import Recipe, load
from condgan.sample import Law, Model, draw_latents, generate, latent_law, normal, progress_sheet
from condgan.sheets import curves, png, sheet, spread

EVALUATION_SEED = 0


def resume_command(directory: Path) -> str:
    """The command that goes on with a run, whatever settings it began with."""
    return shlex.join(["condgan", "train", str(directory / "recipe.yaml"), "--out", str(directory)])


def read_data(recipe: Recipe, skip_bad_images: bool = False) -> Dataset:
    """The recipe's data set. Raises UserError if it names none, it cannot be read, or its size does not fit."""
    if recipe.data.source is None:
        raise UserError(
            f"recipe '{recipe.name}' has no data of its own: "
            "give --data PATH, a folder of class folders or a zip of one"
        )
    count_parameters(recipe, LabelSpec.of_classes(["a", "b"]))  # refuses a size before anything is read
    data = read(recipe.data.source, recipe.data.size, recipe.data.channels, skip_bad_images)
    names = ", ".join(data.spec.classes)
    if len(data.spec.classes) < 2 and recipe.conditional:
        raise UserError(
            f"data '{recipe.data.source}' has one class only, '{names}': a class-conditional model needs two or more; "
            "for one without labels set objective.name=gan and head.name=plain"
        )
    return data


def load_model(directory: str | Path, which: str = "best") -> Model:
    """The averaged generator of a run: of its best checkpoint, its latest, or the one after `which` images."""
    return checkpoint.load_model(find_checkpoint(Path(directory), which))


def find_checkpoint(directory: Path, which: str = "best") -> Path:
    """A whole checkpoint of a run: best, latest, or by its number of images."""
    if not (directory / "recipe.yaml").is_file():
        raise UserError(
            f"'{directory}' is no run directory (it has no recipe.yaml): "
            "give one that `condgan train` wrote, such as runs/digits-acgan"
        )
    paths = checkpoint.checkpoints(directory / "checkpoints")
    if not paths:
        raise UserError(f"run '{directory}' has no checkpoint yet: train it on with {resume_command(directory)}")
    names = ", ".join(path.name for path in paths)
    if which.isdecimal():
        wanted = [path for path in paths if path.name == which]
        if not wanted:
            raise UserError(f"run '{directory}' has no checkpoint {which}: it has {names}, best or latest")
        if (reason := checkpoint.damage(wanted[0])) is not None:
            raise UserError(f"checkpoint '{wanted[0]}' is damaged ({reason}): choose another one with --checkpoint")
        return wanted[0]
    if which not in ("best", "latest"):
        raise UserError(f"checkpoint '{which}' given: expected best, latest or one of {names}")
    by = load(directory / "recipe.yaml").schedule.best_by
    wanted = [*(checkpoint.ranked(paths, by) if which == "best" else []), *reversed(paths)]
    whole = next((path for path in wanted if checkpoint.damage(path) is None), None)
    if whole is None:
        raise UserError(
            f"all checkpoints of '{directory}' are damaged ({checkpoint.damage(paths[-1])}): start over with --fresh"
        )
    return whole


def evaluate(
    directory: str | Path,
    which: str = "best",
    seed: int = EVALUATION_SEED,
    data: Dataset | None = None,
    standing: int | None = None,
) -> dict[str, Any]:
    """Judge as many fakes as there are held-out images, of the same classes; write metrics.json and sheet.png.

    `standing`: batch norms know the standing statistics of so many batches.
    """
    directory = Path(directory)
    path = find_checkpoint(directory, which)
    model = checkpoint.load_model(path)
    if standing is not None:
        model = model.with_standing_statistics(standing, seed)
    recipe = load(directory / "recipe.yaml")
    data = data or read_data(recipe, skip_bad_images=True)
    require_same_data(directory, data)
    bench = bench_of(data)
    metrics = bench.compare(model, seed)
    metrics["about"] = {
        "checkpoint": path.name,
        "fakes": len(data.held_out),
        "real": len(data.held_out),
        "reference": "held-out images; ceilings of fd_classifier, density and coverage: as many training images",
        "extractor": "classifier trained on the training images" if len(model.classes) > 1 else "untrained network",
        "extractor_accuracy": agreement(bench.held_out),
        "batch_norm": _batch_norm(standing),
        "seed": seed,
    }
    write(directory / "sheet.png", png(progress_sheet(model.generator, model.spec, recipe.seed)))
    write(directory / "metrics.json", json.dumps(metrics, indent=1).encode())
    return metrics


def _batch_norm(standing: int | None) -> str:
    return "running statistics" if standing is None else f"standing statistics of {standing} batches"


def truncation_curve(
    directory: str | Path,
    out: str | Path,
    at: Sequence[float],
    scaled: bool = False,
    standing: int | None = None,
    which: str = "best",
    seed: int = EVALUATION_SEED,
) -> list[dict[str, Any]]:
    """Judge a run's fakes as `evaluate` does, at each truncation and at last without; returns the overall metrics.

    `scaled`: latents times a factor instead. `standing`: batch norms know the standing statistics of so many batches,
    at each truncation anew. Writes truncation.csv (…_real: the same of real images), truncation.png and sheet.png, in
    which all rows share their latents' draws and their classes. Raises UserError for a truncation that is not above 0.
    """
    directory, out = Path(directory), Path(out)
    what = "latent_scale" if scaled else "truncation"
    at = sorted(set(at))
    laws: dict[float | None, Law] = {value: latent_law(**{what: value}) for value in at} | {None: normal}
    path = find_checkpoint(directory, which)
    model = checkpoint.load_model(path)
    data = read_data(load(directory / "recipe.yaml"), skip_bad_images=True)
    require_same_data(directory, data)
    bench = bench_of(data)
    columns = [number for number in spread(len(model.classes), 40) for _ in range(max(1, 20 // len(model.classes)))]
    metrics, rows = [], []
    for law in laws.values():
        point = replace(model, law=law)
        if standing is not None:
            point = point.with_standing_statistics(standing, seed)
        metrics.append({name: pair for name, pair in bench.compare(point, seed).items() if name != "per_class"})
        rows.append(fakes_of(point.generator, Labels.from_index(model.spec, torch.tensor(columns)), seed, law))
    about = {
        "checkpoint": path.name,
        "fakes": len(data.held_out),
        "batch_norm": _batch_norm(standing),
        "seed": seed,
    }
    fake, real = ([{name: pair[kind] for name, pair in one.items()} for one in metrics] for kind in ("fake", "real"))
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([what, *fake[0], *(f"{name}_real" for name in real[0]), *about])
    writer.writerows(
        [value, *one.values(), *ceiling.values(), *about.values()]
        for value, one, ceiling in zip(laws, fake, real, strict=True)
    )
    *truncated, untruncated = fake
    label = what.replace("_", " ")
    plot = curves(
        at,
        {name: [one[name] for one in truncated] for name in untruncated},
        {f"no {label}": untruncated, "real images": real[0]},
        label,
        f"{directory.name}, checkpoint {path.name}: {len(data.held_out):,} fakes, {about['batch_norm']}, seed {seed}",
    )
    names = ["none" if value is None else f"{value:g}" for value in laws]
    looks = sheet(torch.cat(rows), [model.classes[number] for number in columns], names)
    for name, content in {"truncation.csv": table.getvalue().encode(), "truncation.png": plot}.items():
        write(out / name, content)
    write(out / "sheet.png", png(looks))
    return metrics


def require_same_data(directory: Path, data: Dataset) -> None:
    """Raises UserError unless the data are those that the run began with."""
    then = json.loads((directory / "environment.json").read_text())["data"]
    if then["sha256"] != data.content_hash:
        raise UserError(
            f"the data of run '{directory}' has changed ({then['train']} + {then['held_out']} images then, "
            f"{len(data.train)} + {len(data.held_out)} now): give back the old data, or start over with --fresh"
        )


@dataclass(frozen=True)
class Bench:
    """What fakes are judged against: held-out images and as many training images, of the same classes."""

    judge: Judge
    held_out: Judged
    training: Judged

    def compare(self, model: Model, seed: int) -> dict[str, Any]:
        """The metrics of as many fakes as there are held-out images, of the same classes."""
        labels = self.held_out.labels
        fakes = fakes_of(model.generator, labels, seed, model.law)
        return compare(self.judge.judge(fakes, labels), self.held_out, self.training)


def bench_of(data: Dataset) -> Bench:
    """The judge of a data set, and what it has seen of the real images."""
    judge, training = judge_of(data), like(data.held_out.labels, data.train)
    held_out = judge.judge(data.held_out.images, data.held_out.labels)
    return Bench(judge, held_out, judge.judge(training.images, training.labels))


def fakes_of(generator: Generator, labels: Labels, seed: int, law: Law = normal) -> UInt8[Tensor, "n c h w"]:
    """An image for each of some labels, from the seed's latents."""
    return generate(generator, draw_latents(seed, 0, len(labels), generator.latent_dim, law), labels)


def like(labels: Labels, split: Split) -> Split:
    """Images of a split with the class counts of some labels, as far as there are enough; always the same."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    wanted, have = labels.index(), split.labels.index()[order]
    chosen = [order[have == number][:count] for number, count in enumerate(wanted.bincount().tolist())]
    index = torch.cat(chosen)
    return Split(split.images[index], split.labels[index])


def judge_of(data: Dataset) -> Judge:
    """The judge of a data set, from the cache where it has one."""
    return trained_judge(data.train.images, data.train.labels, data.content_hash, device())
