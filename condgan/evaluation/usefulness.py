"""Measure of what use fakes are to a classifier: what it learns from them with real images, and from them alone.

Axes: n images, c channels, h × w pixels; a arms, s seeds, t test images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from scipy.special import stdtrit
from torch import Tensor
from tqdm import tqdm

from condgan.evaluation.classifier import train_classifier, training_steps
from condgan.labels import LabelTable
from condgan.utils.errors import UserError

ARMS = ("real", "real+fakes", "fakes")
"""The training sets of classifiers."""
LEAST_SEEDS = 3
"""Of two, the spread is too uncertain for the intervals: they missed the truth in up to 12 % of simulations."""
CONFIDENCE = 0.95


class Pool(NamedTuple):
    """Images of 0 … 255, each of one class."""

    images: UInt8[Tensor, "n c h w"]
    labels: LabelTable


def usefulness(
    real: Pool, draw: Callable[[int], Pool], test: Pool, seeds: int = 5, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Train the small classifier on real images, on these and fakes, and on fakes alone; test it on other real images.

    `draw`: a seed's fakes; those of a folder are always the same. The classifiers of a seed share their first weights
    and the number of their batches, which is what the largest of the three sets needs, so that a larger set does not
    mean longer training. "real+fakes" is the plain union (Naive Augmentation Score, Ravuri & Vinyals 2019): the share
    of fakes in its batches is that among its images. Returns the sizes ("seeds", "n_real", "n_fakes" of each seed,
    "n_test") and what `compare` does. Raises UserError for fewer than three seeds or two classes, for no images, for
    attributes, and for shapes or classes that are not those of the real images.
    """
    if seeds < LEAST_SEEDS:
        raise UserError(f"{seeds} seeds given: expected {LEAST_SEEDS} or more, because the verdict needs their spread")
    real, test = _like(real, real, "training images"), _like(test, real, "test images")
    spec = real.labels.spec
    if spec.width < 2:
        raise UserError(f"real images of one class given, '{spec.classes[0]}': expected two or more to tell apart")
    correct, counts = [], []
    for seed in tqdm(range(seeds), desc="seeds", leave=False, disable=None):
        fakes = _like(draw(seed), real, "fakes")
        counts.append(len(fakes.images))
        steps = training_steps(len(real.images) + len(fakes.images), spec)
        models = (train_classifier(*pool, steps, seed, device) for pool in (real, _union(real, fakes), fakes))
        seen = [model.predict(test.images, test.labels[:]) for model in models]
        correct.append(torch.stack([one.labels.accuracy(one.logits) for one in seen]))
    sizes = {"seeds": seeds, "n_real": len(real.images), "n_fakes": counts[0], "n_test": len(test.images)}
    return sizes | compare(torch.stack(correct, 1), test.labels.index(), spec.classes)


def compare(correct: Float[Tensor, "a s t"], index: Int[Tensor, " t"], classes: tuple[str, ...]) -> dict[str, Any]:
    """Compare accuracies, given which test images (their classes: `index`) the classifiers of `ARMS` get right, 1 or 0.

    {"arms": {arm: {"accuracy": {"mean", "std", "values"}, "per_class": {class: {"mean", "std"}}}},
    "classification_accuracy_score", "difference", "interval", "verdict", "per_class": {class: {"difference",
    "interval", "verdict"}}}. The score (Ravuri & Vinyals 2019) is the mean accuracy of "fakes"; std is over seeds;
    differences are of "real+fakes" from "real", paired by seed and image. Intervals are those of `interval`, at 95 %;
    those of classes at 95 % for all of them together (Bonferroni). "helps" or "hurts" is a verdict whose interval
    leaves out 0, "no difference" any other. Classes without test images are left out.
    """
    correct = correct.double()
    difference = correct[ARMS.index("real+fakes")] - correct[ARMS.index("real")]
    of_class = {name: index == number for number, name in enumerate(classes) if (index == number).any()}
    arms = {}
    for arm, one in zip(ARMS, correct, strict=True):
        arms[arm] = {
            "accuracy": _over_seeds(one) | {"values": one.mean(1).tolist()},
            "per_class": {name: _over_seeds(one[:, where]) for name, where in of_class.items()},
        }
    for_each = 1 - (1 - CONFIDENCE) / len(of_class)
    return {
        "arms": arms,
        "classification_accuracy_score": arms["fakes"]["accuracy"]["mean"],
        **_verdict(difference, CONFIDENCE),
        "per_class": {name: _verdict(difference[:, where], for_each) for name, where in of_class.items()},
    }


def interval(differences: Float[Tensor, "s t"], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """A confidence interval of the mean over all seeds and test images there might be, for differences in −1 … 1.

    Both are drawn by chance and crossed. The squared standard errors of the means over seeds and over images are
    added; what is of neither alone counts in both, which errs on the wide side. Student's t has Satterthwaite's (1946)
    degrees of freedom. As many images more as in the interval of Agresti & Min (2005), half of one with each of
    the four outcomes of a pair, keep a few images that all agree from proving anything.
    """
    per_seed, per_image = differences.double().mean(1), differences.double().mean(0)
    seeds, images = len(per_seed), len(per_image) + 2
    center = per_image.sum() / images
    of_seeds = per_seed.var() / seeds
    of_images = ((per_image.square().sum() + 1) / images - center.square()) / images
    variance = of_seeds + of_images
    freedom = variance.square() / (of_seeds.square() / (seeds - 1) + of_images.square() / (images - 1))
    reach = float(variance.sqrt()) * float(stdtrit(float(freedom), (1 + confidence) / 2))
    return float(center) - reach, float(center) + reach


def as_table(result: dict[str, Any]) -> str:
    """Write what `usefulness` returns as plain text, in percent; the last line is the verdict."""
    all_images = {arm: row["accuracy"] for arm, row in result["arms"].items()}
    rows = [
        ["class", *ARMS, "difference", "interval", "verdict"],
        *(
            _row(name, {arm: row["per_class"][name] for arm, row in result["arms"].items()}, found)
            for name, found in result["per_class"].items()
        ),
        _row("all", all_images, result),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    seeds, n_test, percent = result["seeds"], f"{result['n_test']:,} test images", f"{100 * CONFIDENCE:.0f} %"
    return "\n".join(
        [
            f"accuracy in %, mean ± standard deviation of {seeds} seeds, on {n_test};",
            f"trained on {result['n_real']:,} real images, on these and {result['n_fakes']:,} fakes, and on the fakes",
            *table,
            f"intervals: {percent} for all classes together (Bonferroni), in the last row {percent}",
            f"classification accuracy score: {100 * result['classification_accuracy_score']:.1f} %",
            f"verdict: {result['verdict']} ({_signed(result['difference'])} %, {percent} interval "
            f"{_range(result['interval'])} %, {seeds} seeds, {n_test})",
        ]
    )


def _like(pool: Pool, real: Pool, what: str) -> Pool:
    """A pool with its classes numbered as those of the real images. Raises UserError unless it is of their kind."""
    fields, known = pool.labels.spec.fields, real.labels.spec
    if len(fields) != 1 or not fields[0].exclusive:
        raise UserError(f"{what} with attributes or several fields given: expected one class each; give class folders")
    if not len(pool.images):
        raise UserError(f"no {what} given: expected some of each class; give more data, or hold a larger share out")
    shape, expected = (" × ".join(map(str, one.images.shape[1:])) for one in (pool, real))
    if shape != expected:
        raise UserError(f"{what} of {shape} given (channels × height × width): expected {expected}, as real images are")
    classes = pool.labels.spec.classes
    if other := sorted({*classes} ^ {*known.classes}):
        whose = what if other[0] in classes else "real images"
        raise UserError(
            f"class '{other[0]}' is one of the {whose} only: expected {what} of the same {known.width} classes "
            "as the real images; give them under the same names"
        )
    number = torch.tensor([known.classes.index(name) for name in classes])
    return Pool(pool.images, LabelTable.from_index(known, number[pool.labels.index()]))


def _union(a: Pool, b: Pool) -> Pool:
    codes = torch.cat([a.labels.codes, b.labels.codes])
    return Pool(torch.cat([a.images, b.images]), LabelTable(a.labels.spec, codes))


def _over_seeds(correct: Float[Tensor, "s t"]) -> dict[str, Any]:
    accuracy = correct.mean(1)
    return {"mean": float(accuracy.mean()), "std": float(accuracy.std())}


def _verdict(differences: Float[Tensor, "s t"], confidence: float) -> dict[str, Any]:
    low, high = interval(differences, confidence)
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "no difference"
    return {"difference": float(differences.mean()), "interval": [low, high], "verdict": verdict}


def _row(name: str, accuracies: dict[str, dict[str, Any]], found: dict[str, Any]) -> list[str]:
    of_arms = [f"{100 * one['mean']:.1f} ± {100 * one['std']:.1f}" for one in accuracies.values()]
    return [name, *of_arms, _signed(found["difference"]), _range(found["interval"]), found["verdict"]]


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _range(ends: list[float]) -> str:
    return f"{_signed(ends[0])} … {_signed(ends[1])}"
