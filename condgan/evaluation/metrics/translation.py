"""Measure how good translations are: whether they show what was asked for, and keep the rest."""

from collections.abc import Callable

from jaxtyping import UInt8
from torch import Tensor

from condgan.evaluation.classifier import Predictions


def l1_sum(images: UInt8[Tensor, "n c h w"], wanted: UInt8[Tensor, "n c h w"]) -> int:
    """The sum of absolute differences of pixels of 0 … 255."""
    return sum(int((a.int() - b.int()).abs().sum()) for a, b in zip(images.split(256), wanted.split(256), strict=True))


def l1(images: UInt8[Tensor, "n c h w"], wanted: UInt8[Tensor, "n c h w"]) -> float:
    """The mean absolute difference of pixels, as a share of their range."""
    return l1_sum(images, wanted) / (255 * images.numel())


def share_shown(predictions: Predictions, field: int, value: int) -> float | None:
    """The share of images in which the classifier reads a value as their labels say, if there are any."""
    return _share(predictions, field, lambda unit: value in unit)


def share_kept(predictions: Predictions, field: int, value: int) -> float | None:
    """The share of the other attributes of images that the classifier reads as their labels say, if there are any."""
    return _share(predictions, field, lambda unit: value not in unit)


def _share(predictions: Predictions, field: int, wanted: Callable[[list[int]], bool]) -> float | None:
    labels = predictions.labels
    where = labels.spec.where(field)
    spec = labels.spec.fields[field]
    columns = [number for number, unit in enumerate(spec.units()) if wanted(unit)]
    if not len(labels) or not columns:
        return None
    return float(spec.right(predictions.logits[:, where], labels.values[:, where])[:, columns].float().mean())
