"""What was found of whether fakes help a classifier, in words and in a table."""

from collections.abc import Sequence
from typing import Any

from condgan.evaluation import paired
from condgan.evaluation.mixtures import TO_BALANCE, Mixture
from condgan.evaluation.paired import CONFIDENCE, HELPS, HURTS

FEW_TO_LEARN = 50
"""Training images of a class, below which published generators harmed (FastGAN on Oxford Pets, 2603.16134)."""
TOO_WIDE = 0.1
"""Half an interval, beyond which nothing can be said."""
LISTED = 20
"""Classes that the table lists."""


def advice(found: dict[str, Any]) -> str:
    """The verdict as sentences: what was found, and what to do next."""
    baseline, low_high = found["baseline"], _range(found["interval"])
    gained = f"{signed(found['difference'])} points of balanced accuracy ({low_high})"
    augmentation = found["comparisons"]["augmented over real"]
    bare = found["comparisons"]["real+fakes over real"]
    classes = found["per_class"]
    better, worse = ([name for name, one in classes.items() if one["verdict"] == word] for word in (HELPS, HURTS))
    of_classes = "".join(
        f" Classes that {verb}: {', '.join(names[:5])}{', …' * (len(names) > 5)}."
        for names, verb in ((better, "gain"), (worse, "lose"))
        if names
    )
    few = sorted(name for name, count in found["real_counts"].items() if 0 < count < FEW_TO_LEARN)
    more = (
        f" Give the generator more images first: {len(few)} of {len(found['real_counts'])} classes have fewer than "
        f"{FEW_TO_LEARN}."
        if few
        else " A generator that is trained longer may do better."
    )
    instead = found["comparisons"]["real+fakes over augmented"]
    more += (
        f" Without augmentation they do better than it does: {signed(instead['difference'])} points "
        f"({_range(instead['interval'])})."
        if instead["verdict"] == HELPS and "augmented" in baseline
        else ""
    )
    match found["verdict"]:
        case paired.HELPS:
            return (
                f"The images help: {gained} beyond a classifier that learns from {_words(baseline)}.{of_classes} "
                f"Add {found['n_fakes']:,} of them to your training images: --write OUT writes them."
            )
        case paired.HURTS:
            return f"The images hurt: {gained} beside {_words(baseline)}.{of_classes} Leave them out.{more}"
        case paired.NO_BETTER:
            return (
                f"The images are no better than augmentation: without it they give {signed(bare['difference'])} "
                f"points, with it {signed(found['difference'])} ({low_high}); it gives "
                f"{signed(augmentation['difference'])} by itself.{of_classes} Train with {found['augmentation']}"
                f"{', re-weighted by class,' if 'reweighted' in baseline else ''} and leave the images out."
            )
        case _:
            seen = (found["interval"][1] - found["interval"][0]) / 2
            if seen > TOO_WIDE:
                return (
                    f"{found['n_test']:,} test images cannot tell: {gained} beside {_words(baseline)}.{of_classes} "
                    f"Less than about {100 * seen:.0f} points either way would not be seen. Hold more images out, and "
                    "ask again."
                )
            return (
                f"The images make no difference that {found['n_test']:,} test images show: {gained} beside "
                f"{_words(baseline)}.{of_classes} Leave them out.{more} Less than about {100 * seen:.1f} points either "
                "way would not be seen: more held-out images would tell."
            )


def as_table(found: dict[str, Any]) -> str:
    """Write what `usefulness` returns as plain text, in percent; the last line is the verdict."""
    seeds, percent = found["seeds"], f"{100 * CONFIDENCE:.0f} %"
    chosen = found["chosen"]
    mixture = Mixture(_ratio(chosen["ratio"]), chosen["selection"], chosen["truncation"])
    arms = [["trained on", "balanced accuracy", "accuracy"]]
    for name, one in found["arms"].items():
        arms.append([name, *(_mean(one[what]) for what in ("balanced", "accuracy"))])
    pairs = [["difference of balanced accuracy", "", "interval", "verdict"]]
    pairs += [[name, *_gain(one)] for name, one in found["comparisons"].items()]
    baseline, mixed = found["baseline"], _mixed_name(found["baseline"])
    every = sorted(found["per_class"].items(), key=lambda one: -abs(one[1]["difference"]))
    listed = [name for name in found["per_class"] if name in dict(every[:LISTED])]
    classes = [["class", "real", "fakes", baseline, mixed, "difference", "interval", "verdict"]]
    for name in listed:
        counts = [f"{found['real_counts'][name]:,}", f"{chosen['counts'].get(name, 0):,}"]
        accuracies = [_mean(found["arms"][arm]["per_class"][name]) for arm in (baseline, mixed)]
        classes.append([name, *counts, *accuracies, *_gain(found["per_class"][name])])
    left_out = len(found["per_class"]) - len(listed)
    score = found["classification_accuracy_score"]
    return "\n".join(
        [
            f"accuracy in %, mean ± standard deviation of {seeds} seeds, on {found['n_test']:,} test images;",
            f"{found['n_real']:,} real images, augmented by {found['augmentation']}; the fakes: {mixture} "
            f"({found['n_fakes']:,}), chosen on {found['n_validation']:,} other images",
            "",
            *_aligned(arms),
            "",
            *_aligned(pairs),
            "",
            *_aligned(classes),
            *([f"… and {left_out:,} classes that change less"] if left_out else []),
            f"intervals: {percent}; those of classes {percent} for all of them together (Bonferroni)",
            *([] if score is None else [f"classification accuracy score, of fakes alone: {100 * score:.1f} %"]),
            "",
            f"verdict: {found['verdict']}. {found['advice']}",
        ]
    )


def _ratio(told: float | str) -> float:
    return TO_BALANCE if isinstance(told, str) else told


def _mixed_name(baseline: str) -> str:
    return f"{baseline}+fakes"


def _words(baseline: str) -> str:
    return {
        "real": "the real images as they are",
        "augmented": "augmented real images",
        "reweighted": "real images, re-weighted by class",
    }.get(baseline, "augmented real images, re-weighted by class")


def _mean(accuracy: dict[str, Any]) -> str:
    return f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['std']:.1f}"


def _gain(found: dict[str, Any]) -> list[str]:
    return [signed(found["difference"]), _range(found["interval"]), found["verdict"]]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _range(ends: Sequence[float]) -> str:
    return f"{signed(ends[0])} … {signed(ends[1])}"
