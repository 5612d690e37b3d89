"""How good class-conditional images are, as cheaply as scores of checkpoints need it."""

from condgan.evaluation.classifier import Judged
from condgan.evaluation.metrics.distances import frechet, manifolds

GENERATOR_SCORES = {"fd_classifier": False, "label_agreement": True, "density": True, "coverage": True}
"""What a checkpoint is scored by during training."""


def score_generator(fake: Judged, real: Judged) -> dict[str, float]:
    """Fakes against real images by each of `GENERATOR_SCORES`."""
    found = manifolds(fake.features, real.features)
    return {
        "fd_classifier": frechet(fake.features, real.features), "label_agreement": agreement(fake),
        "density": found.density, "coverage": found.coverage,
    }  # fmt: skip


def agreement(judged: Judged) -> float:
    """Share of images that the judge takes for the class that they claim."""
    return float(judged.labels.accuracy(judged.logits).mean())
