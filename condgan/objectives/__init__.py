"""The methods by their names in recipes, each a short function that builds its table of terms."""

from typing import Literal

from pydantic import NonNegativeFloat

from condgan.objectives.adversarial import ADVERSARIAL
from condgan.objectives.base import Loss, Objective, Term, on_fake, on_real, weighted_sum
from condgan.objectives.conditioning import accuracy, classify, classify_softmax


def acgan(
    *,
    adversarial: Literal["non-saturating", "non-saturating-sigmoid"] = "non-saturating",
    weight: NonNegativeFloat = 1.0,
    class_on_fake: bool = True,
    softmax_before_cross_entropy: bool = False,
) -> Objective:
    """AC-GAN: both players want labels recognized, the discriminator on real and fake images (Odena et al. 2017, §3).

    `softmax_before_cross_entropy` and the adversarial loss `non-saturating-sigmoid` are the MNIST tutorial's faults.
    """
    adv = ADVERSARIAL[adversarial]
    label = classify_softmax if softmax_before_cross_entropy else classify
    discriminator = {"adv": Term(adv.discriminator), "class/real": Term(on_real(label), weight)}
    if class_on_fake:
        discriminator["class/fake"] = Term(on_fake(label), weight)
    return Objective(
        discriminator=discriminator,
        generator={"adv": Term(adv.generator), "class/fake": Term(on_fake(label), weight)},
        watched={"accuracy/real": on_real(accuracy), "accuracy/fake": on_fake(accuracy)},
    )


OBJECTIVES = {"acgan": acgan}

__all__ = ["ADVERSARIAL", "OBJECTIVES", "Loss", "Objective", "Term", "weighted_sum"]
