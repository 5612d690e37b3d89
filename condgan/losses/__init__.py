"""Losses, one value per image, and the methods that are tables of them."""

from condgan.losses.adversarial import ADVERSARIAL, SIGNED, AdversarialKind
from condgan.losses.labels import CROSS_ENTROPY
from condgan.losses.methods import OBJECTIVES
from condgan.losses.penalties import Penalties
from condgan.losses.terms import Loss, Objective, Term, on_fake, on_real, weighted_sum

__all__ = [
    "ADVERSARIAL", "CROSS_ENTROPY", "OBJECTIVES", "SIGNED",
    "AdversarialKind", "Loss", "Objective", "Penalties", "Term", "on_fake", "on_real", "weighted_sum",
]  # fmt: skip
