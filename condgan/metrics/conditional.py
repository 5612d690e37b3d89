"""How good class-conditional images are, as cheaply as scores of checkpoints need it."""

from condgan.metrics.distances import frechet, manifolds
from condgan.metrics.features import Judged

HIGHER_IS_BETTER = {"fd_classifier": False, "label_agreement": True, "density": True, "coverage": True}
"""What a checkpoint is scored by during training."""


def score(fake: Judged, real: Judged) -> dict[str, float]:
    """Fakes against real images by each of `HIGHER_IS_BETTER`."""
    found = manifolds(fake.features, real.features)
    return {
        "fd_classifier": frechet(fake.features, real.features), "label_agreement": agreement(fake),
        "density": found.density, "coverage": found.coverage,
    }  # fmt: skip


def agreement(judged: Judged) -> float:
    """Share of images that the judge takes for the class that they claim."""
    return float(judged.labels.accuracy(judged.logits).mean())
