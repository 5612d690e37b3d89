"""How good translations are: whether they show what was asked for, and keep the rest."""

from collections.abc import Callable

from jaxtyping import UInt8
from torch import Tensor

from condgan.evaluation.classifier import Judged
from condgan.evaluation.metrics.conditional import agreement
from condgan.evaluation.metrics.distances import frechet
from condgan.labels import Labels

TRANSLATOR_SCORES = {"fd_classifier": False, "label_agreement": True, "reconstruction_l1": False, "identity_l1": False}
"""What a checkpoint is scored by during training."""


def score_translator(translated: Judged, real: Judged) -> dict[str, float]:
    """Translations to other images' labels, against real images."""
    return {
        "fd_classifier": frechet(translated.features, real.features),
        "label_agreement": agreement(translated),
    }


def l1(images: UInt8[Tensor, "n c h w"], wanted: UInt8[Tensor, "n c h w"]) -> float:
    """The mean absolute difference of pixels, as a share of their range."""
    chunks = zip(images.split(256), wanted.split(256), strict=True)
    total = sum(int((a.int() - b.int()).abs().sum()) for a, b in chunks)
    return total / (255 * images.numel())


def shown(judged: Judged, field: int, value: int) -> float | None:
    """The share of images in which the judge sees a value as their labels say, if there are any."""
    return _share(judged, field, lambda unit: value in unit)


def kept(judged: Judged, field: int, value: int) -> float | None:
    """The share of the other attributes of images that the judge sees as their labels say, if there are any."""
    return _share(judged, field, lambda unit: value not in unit)


def _share(judged: Judged, field: int, wanted: Callable[[list[int]], bool]) -> float | None:
    labels: Labels = judged.labels
    where = labels.spec.where(field)
    spec = labels.spec.fields[field]
    columns = [number for number, unit in enumerate(spec.units()) if wanted(unit)]
    if not len(labels) or not columns:
        return None
    return float(spec.right(judged.logits[:, where], labels.values[:, where])[:, columns].float().mean())
