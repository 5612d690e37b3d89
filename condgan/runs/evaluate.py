"""Judging images, a run's or anybody's, against real ones; statistics of these; truncation curves."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from condgan.data.dataset import Dataset
from condgan.data.open import list_source, read
from condgan.data.survey import quick_look
from condgan.evaluation.catalog import METRICS, ask
from condgan.evaluation.classifier import classifier as as_extractor
from condgan.evaluation.compare import Look, Reference, evidence_of
from condgan.evaluation.extractors import Extractor, find_extractor
from condgan.evaluation.images import SUBSETS, stored
from condgan.evaluation.moments import read_normal, write_normal
from condgan.evaluation.scoring import EVALUATION_SEED, TranslatorScorer, judge_of
from condgan.evaluation.statistics import FeatureStatistics, Images, Need
from condgan.labels import Labels
from condgan.recipes.load import load
from condgan.runs import checkpoint
from condgan.runs.models import find_checkpoint, load_model
from condgan.runs.subjects import (
    PUBLISHED,
    Real,
    Sampling,
    both,
    enough,
    fakes_of,
    one_size,
    real_of_run,
    size_said,
    told,
    translations_of,
    with_sampling,
)
from condgan.sampling.latents import Law, draw_latents, latent_dim, latent_law, normal
from condgan.sampling.model import Model, generate, progress_sheet
from condgan.sampling.translator import Translator
from condgan.utils import distributed
from condgan.utils.choices import SOURCES
from condgan.utils.device import device
from condgan.utils.errors import UserError, unknown
from condgan.utils.figures import curves, png, sheet, spread
from condgan.utils.files import file_names, write


@dataclass(frozen=True)
class EvaluationOptions:
    """What is asked of images, whosever they are."""

    extractor: str = "classifier"
    weights: Path | None = None
    metrics: Sequence[str] | None = None
    """By their names; None: all that can be told."""
    n: int | None = None
    """Fakes to judge."""
    split: str | None = None
    """Of the real images: train, held-out or all. None: held-out for a run, and for the classifier, which is trained
    on the others; else all."""
    per_class: bool | None = None
    """None: where all metrics are asked for with the classifier, whose numbers per class cost little."""
    size: int | str | None = None
    """What pictures of different sizes are brought to."""
    skip_bad_images: bool = False

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise UserError(f"--n {self.n} given: expected 1 or more")
        if self.split not in (None, *SUBSETS):
            raise unknown("split", self.split, SUBSETS)


def evaluate(
    subject: str | Path,
    data: Dataset | str | Path | None = None,
    question: EvaluationOptions = EvaluationOptions(),
    sampling: Sampling = Sampling(),
) -> dict[str, Any]:
    """Judge a run, or images by a name or path that can be read as a data set, against real images.

    `data`: these, by a name or path, or a file of their statistics; of a run by default its own held-out images. A
    run's fakes are as many as these and of the same classes; a translator's are translations of its held-out images.
    Of a run that is judged by all metrics on its own data, metrics.json, sheet.png and neighbors.png are written (with
    another extractor metrics-EXTRACTOR.json). Returns {metric: value, …, "real": {metric: ceiling, …}, "intervals":
    {metric: [low, high]}, "per_class": {class: …}, "about": …}; of several processes, each of which looks at a part of
    the images, all return the same, and the leader writes. Raises UserError for bad input.
    """
    path = Path(subject).expanduser()
    if (path / "recipe.yaml").is_file():
        return _evaluate_run(path, data, question, sampling)
    if str(subject) not in SOURCES and not path.exists():
        raise UserError(f"'{subject}' does not exist: give a run directory, a folder of images or an npz file of some")
    if data is None:
        raise UserError(
            f"'{subject}' is no run directory (it has no recipe.yaml), and of images --data is needed: give real "
            "images to hold them against"
        )
    if sampling != Sampling():
        raise UserError(
            f"options of a run's sampling given with images '{subject}', which are what they are: leave them out"
        )
    return _evaluate_images(str(subject), data, question)


def _chosen_checkpoint(directory: Path, which: str) -> Path:
    """The leader's choice, who may have just written it."""
    number = 0
    with distributed.all_or_fail():
        if distributed.is_main():
            number = int(find_checkpoint(directory, which).name)
    return directory / "checkpoints" / str(distributed.from_main(number))


def _evaluate_run(
    directory: Path, data: Dataset | str | Path | None, question: EvaluationOptions, sampling: Sampling
) -> dict[str, Any]:
    if question.size is not None:
        raise UserError(f"--size {question.size} given with run '{directory}', whose images have a size: leave it out")
    path = _chosen_checkpoint(directory, sampling.which)
    model, recipe = checkpoint.load_checkpoint(path), load(directory / "recipe.yaml")
    own = data is None or isinstance(data, Dataset)
    real = real_of_run(directory, recipe, data, question.split or "held-out")
    about: dict[str, Any] = {"checkpoint": path.name}
    if isinstance(model, Translator):
        if sampling._replace(which="best", seed=EVALUATION_SEED) != Sampling():
            raise UserError(
                f"options of latents given with run '{directory}', a translator, which has none: leave them out"
            )
        if real.data is None or not own:
            raise UserError(
                f"--data given with run '{directory}', whose translations are of its own data: leave it out"
            )
        if question == EvaluationOptions():
            with distributed.main_first():
                bench = TranslatorScorer.of(real.data)
                _ = bench.content_judge  # which is trained when first asked for
            metrics = bench.compare(model, sampling.seed)
            metrics["about"] = about | bench.about | {"seed": sampling.seed}
            if distributed.is_main():
                write(directory / "sheet.png", png(bench.sheet(model, recipe.seed)))
                write(directory / "metrics.json", json.dumps(metrics, indent=1).encode())
            return metrics
        fakes: Images = translations_of(model, real.data, sampling.seed, question.n)
    else:
        model = with_sampling(model, sampling)
        fakes = fakes_of(model, real, question.n, sampling)
        about |= told(sampling)
    look, about = look_at(fakes, real, question, about | {"seed": sampling.seed})
    metrics = look.metrics() | {"about": about}
    plain = EvaluationOptions(question.extractor, question.weights, per_class=question.per_class) == question
    drawn = Sampling(sampling.which, sampling.seed, standing=sampling.standing, batch=sampling.batch) == sampling
    if distributed.is_main() and own and plain and drawn and isinstance(model, Model):
        extractor = file_names([question.extractor])[0]
        name = "metrics.json" if question.extractor == "classifier" else f"metrics-{extractor}.json"
        if question.extractor == "classifier":
            write(directory / "sheet.png", png(progress_sheet(model.generator, model.spec, recipe.seed)))
            if (neighbors := look.neighbors()) is not None:
                write(directory / "neighbors.png", png(neighbors))
        write(directory / name, json.dumps(metrics, indent=1).encode())
    return metrics


def _evaluate_images(subject: str, data: str | Path | Dataset, question: EvaluationOptions) -> dict[str, Any]:
    """Images against others, all of the same size."""
    trained = question.extractor == "classifier"
    split = question.split or ("held-out" if trained else "all")
    fakes, real, odd = both(subject, data, split, question.size, trained, question.skip_bad_images)
    about: dict[str, Any] = {"source": subject, "size": size_said(fakes)}
    fakes = fakes if question.n is None else fakes.some(enough(question.n, len(fakes), f"images in '{subject}'"))
    look, about = look_at(fakes, real, question, about)
    about["warnings"] += odd
    return look.metrics() | {"about": about}


def look_at(
    fakes: Images, real: Real, question: EvaluationOptions, about: dict[str, Any]
) -> tuple[Look, dict[str, Any]]:
    """Look at fakes and real images with what was asked for; and what is told with all numbers."""
    extractor = _extractor(real, question)
    sample = (real.images or fakes).at(torch.tensor([0]))
    asked = ask(question.extractor, question.metrics, _absent(extractor, sample, fakes, real))
    if question.metrics is not None:
        asked.require(len(fakes), None if real.images is None else len(real.images))
    asked = replace(asked, per_class=_per_class(question, fakes, real))
    judge = None
    if "judged" in asked.needs:
        assert real.data is not None
        judge = extractor if question.extractor == "classifier" else _classifier(real.data)
    warnings: list[str] = []
    others = real.others(fakes)
    if real.statistics is not None:
        evidence, said = _stated(real.statistics, extractor, sample)
        warnings += said
        reference = Reference(extractor, judge, asked, evidence, None, None, None)
    else:
        assert real.data is not None
        assert real.images is not None
        reference = Reference.of(real.images, others, real.training, real.data.content_hash, extractor, judge, asked)
    look = reference.look(fakes)
    about |= {
        "fakes": len(fakes),
        "real": reference.real.count,
        "ceilings": None if others is None else len(others),
        "split": real.split,
        "reference": real.source,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
    }
    if judge is not None:
        assert real.data is not None
        held_out = stored(real.data, real.source, "held-out")
        needs: frozenset[Need] = frozenset({"judged"})
        about["extractor_accuracy"] = evidence_of(held_out, real.data.content_hash, judge, judge, needs).agreement
        about["classifier_sha256"] = judge.sha256
    if "fd" in asked.names:
        warnings += _doubts(asked.names["fd"][0], look, reference)
    if others is not None and len(others) < 0.9 * len(fakes):
        warnings.append(f"real images' numbers are of {len(others):,} images, not {len(fakes):,}: there are no more")
    if fakes.labels is not None and fakes.labels.spec.exclusive:
        counts = zip(fakes.labels.spec.classes, fakes.labels.counts().tolist(), strict=True)
        none = [name for name, count in counts if not count]
        if none:
            warnings.append(f"{len(none)} of {fakes.labels.spec.width} classes have no fakes, such as '{none[0]}'")
    if question.extractor == "classifier" and real.data is not None and real.data.spec.width == 1:
        warnings.append(
            "of one class the classifier has nothing to learn: its features are those of an untrained network"
        )
    if not extractor.known:
        warnings.append(f"these are not the weights that '{extractor.name}' is known by: compare with no others")
    return look, about | {"warnings": warnings}


def _absent(extractor: Extractor, sample: UInt8[Tensor, "1 c h w"], fakes: Images, real: Real) -> dict[str, str]:
    """The metrics that cannot be told, and why not."""
    absent: dict[str, str] = {}
    spec = None if fakes.labels is None else fakes.labels.spec
    if real.training is None:
        absent["copies"] = "it needs the training images that fakes may be copies of: --split held-out has them"
    if extractor(sample).logits is None:
        absent["is"] = f"extractor '{extractor.name}' tells no classes"
    if not extractor.maps(sample):
        absent["perceptual"] = f"extractor '{extractor.name}' has no feature maps, which it compares"
    if extractor.name == "classifier" and real.data is not None and not real.data.spec.exclusive:
        absent["is"] = "the classifier reads attributes, of which an image may have several"
    if spec is None:
        needed = "it needs labels that both sides share: give images in class folders of the same names"
        absent |= dict.fromkeys(("agreement", "spread", "perceptual", "ms_ssim"), needed)
    elif not spec.exclusive:
        absent |= dict.fromkeys(("spread", "perceptual", "ms_ssim"), "it is of classes, and these are attributes")
    elif spec.width == 1:
        absent["agreement"] = "there is one class only"
    if real.statistics is not None:
        stated = "--data is a file of statistics, which tells the Fréchet distance alone: give images"
        absent |= {key: stated for key in METRICS if key not in ("fd", "is")}
    return absent


def _extractor(real: Real, question: EvaluationOptions) -> Extractor:
    if question.extractor != "classifier":
        return _found(question)
    if question.weights is not None:
        raise UserError(f"--weights {question.weights} given with the classifier, which is trained here: leave it out")
    if real.data is None:
        raise UserError(
            f"statistics '{real.source}' given without --extractor: expected the one that they are of, such as "
            "inception"
        )
    return _classifier(real.data)


def _classifier(data: Dataset) -> Extractor:
    """The classifier of a data set, the same in all processes."""
    with distributed.main_first():
        judge = judge_of(data)
    distributed.broadcast([*judge.state_dict().values()])
    return as_extractor(judge)


def _found(question: EvaluationOptions) -> Extractor:
    """The extractor that is asked for by its name."""
    with distributed.main_first():
        return find_extractor(question.extractor, question.weights, device())


def _doubts(name: str, look: Look, reference: Reference) -> list[str]:
    """What speaks against a Fréchet distance."""
    assert look.evidence.normal is not None
    width, found = len(look.evidence.normal.mean), []
    counts = {"fakes": look.evidence.count, "real images": reference.real.count}
    if few := [f"{count:,} {what}" for what, count in counts.items() if count is not None and count <= width]:
        found.append(
            f"{name} of {' and '.join(few)} in {width:,} dimensions tells more of how few they are than of how good: "
            "compare with the same numbers of images only"
        )
    elif reference.asked.per_class and look.evidence.labels is not None:
        least = int(look.evidence.labels.counts().min())
        if least <= width:
            found.append(
                f"{name} of a class is of as few as {least} fakes in {width:,} dimensions: compare with the same only"
            )
    if name == "fid" and look.evidence.count is not None and look.evidence.count < PUBLISHED:
        count = look.evidence.count
        found.append(f"published FIDs are of {PUBLISHED:,} fakes, this one is of {count:,}: fewer make it larger")
    if reference.real.normal is not None and float(reference.real.normal.covariance.trace()) < 1e-12:
        found.append("the features of all real images are the same: they tell nothing")
    return found


def _stated(path: Path, extractor: Extractor, sample: UInt8[Tensor, "1 c h w"]) -> tuple[FeatureStatistics, list[str]]:
    """What a file of statistics holds. Raises UserError for another extractor's, or for images of another size."""
    normal, about = read_normal(path)
    width, size = extractor(sample).features.shape[1], size_said(sample)
    if about and about["extractor_sha256"] != extractor.sha256:
        raise UserError(
            f"statistics '{path}' are of extractor '{about['extractor']}' ({about['extractor_sha256'][:8]}…), not of "
            f"'{extractor.name}' ({extractor.sha256[:8]}…): give those of the same, or the images"
        )
    if len(normal.mean) != width:
        raise UserError(
            f"statistics '{path}' have {len(normal.mean)} dimensions and extractor '{extractor.name}' has {width}: "
            "give those of the same extractor, or the images"
        )
    if about and about["size"] != size:
        raise UserError(
            f"statistics '{path}' are of images of {about['size']} pixels, these are of {size}: give those of the same "
            "size, or the images"
        )
    said = [] if about else [f"'{path}' does not tell of which extractor, images and size its statistics are"]
    return FeatureStatistics(about.get("real"), stated=True, normal=normal), said


def _per_class(question: EvaluationOptions, fakes: Images, real: Real) -> bool:
    labels = fakes.labels
    there = labels is not None and labels.spec.exclusive and real.data is not None
    if question.per_class is None:
        cheap = question.extractor == "classifier" and question.metrics is None
        return cheap and there and labels is not None and labels.spec.width > 1
    if question.per_class and (not there or labels is None):
        raise UserError(
            "--per-class given, which needs classes that both sides share: give images in class folders of the same "
            "names"
        )
    for images in (fakes, real.images) if question.per_class else ():
        assert images is not None
        assert images.labels is not None
        counts = dict(zip(images.labels.spec.classes, images.labels.counts().tolist(), strict=True))
        if (few := next((name for name, count in counts.items() if count < 2), None)) is not None:
            raise UserError(
                f"--per-class given, but class '{few}' has {counts[few]} image{'s' * (counts[few] != 1)} in "
                f"'{images.source}': distances need 2 or more; add some, or leave it out"
            )
    return question.per_class


def statistics(source: str, out: Path, question: EvaluationOptions) -> dict[str, Any]:
    """Write the mean and covariance of real images' features to an npz file, for `evaluate`, pytorch-fid and others.

    Returns what they are of. Raises UserError for bad input.
    """
    if question.extractor == "classifier":
        raise UserError("statistics of the classifier asked for, which each data set has its own: give --extractor")
    size = question.size or one_size({source: quick_look(list_source(source))})
    with distributed.main_first():
        data = read(source, size, 3, skip_bad_images=question.skip_bad_images)
    extractor = _found(question)
    images = stored(data, source, question.split or "all")
    evidence = evidence_of(images, data.content_hash, extractor, None, frozenset({"moments"}))
    assert evidence.normal is not None
    about = {
        "source": Path(source).name,
        "sha256": data.content_hash,
        "split": question.split or "all",
        "real": len(images),
        "size": size_said(images),
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
    }
    if distributed.is_main():
        write_normal(out, evidence.normal, about)
    return about


CURVED = [
    "label_agreement", "fd_classifier", "precision", "recall", "density", "coverage", "intra_class_diversity",
]  # fmt: skip
"""What truncation curves are of."""


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
    path = _chosen_checkpoint(directory, which)
    model = load_model(directory, path.name, "float32")
    real = real_of_run(directory, load(directory / "recipe.yaml"), None, "held-out")
    columns = [number for number in spread(len(model.classes), 40) for _ in range(max(1, 20 // len(model.classes)))]
    curved = CURVED if len(model.classes) > 1 else CURVED[1:]
    sampling, metrics, rows = Sampling(path.name, seed, standing=standing), [], []
    for law in laws.values():
        point = with_sampling(replace(model, law=law), sampling)
        look, _ = look_at(fakes_of(point, real, None, sampling), real, EvaluationOptions(metrics=curved), {})
        metrics.append(look.metrics())
        shown = Labels.from_index(model.spec, torch.tensor(columns))
        latents = draw_latents(seed, 0, len(columns), latent_dim(point.generator), law)
        rows.append(generate(point.generator, latents, shown))
    if not distributed.is_main():
        return metrics
    assert real.data is not None
    fakes = len(real.data.held_out)
    about = {"checkpoint": path.name, "fakes": fakes, "batch_norm": told(sampling)["batch_norm"], "seed": seed}
    fake, ceilings = (
        [{name: one[name] for name in curved} for one in kind] for kind in (metrics, [m["real"] for m in metrics])
    )
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([what, *curved, *(f"{name}_real" for name in curved), *about])
    writer.writerows(
        [value, *one.values(), *ceiling.values(), *about.values()]
        for value, one, ceiling in zip(laws, fake, ceilings, strict=True)
    )
    *truncated, untruncated = fake
    label = what.replace("_", " ")
    plot = curves(
        at,
        {name: [one[name] for one in truncated] for name in curved},
        {f"no {label}": untruncated, "real images": ceilings[0]},
        label,
        f"{directory.name}, checkpoint {path.name}: {fakes:,} fakes, {about['batch_norm']}, seed {seed}",
    )
    names = ["none" if value is None else f"{value:g}" for value in laws]
    looks = sheet(torch.cat(rows), [model.classes[number] for number in columns], names)
    for name, content in {"truncation.csv": table.getvalue().encode(), "truncation.png": plot}.items():
        write(out / name, content)
    write(out / "sheet.png", png(looks))
    return metrics
