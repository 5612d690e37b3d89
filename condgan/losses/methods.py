"""The methods by their names in recipes, each a short function that builds its table of terms."""

from functools import partial

from condgan.losses.adversarial import ADVERSARIAL, AdversarialKind
from condgan.losses.labels import ACCURACY, CLASSIFICATION, CROSS_ENTROPY, ClassificationKind, adc, of_output
from condgan.losses.penalties import Penalties
from condgan.losses.terms import Objective, Term, on_fake, on_real
from condgan.losses.translation import cycle_consistency, to_own_labels
from condgan.schedules import Weight


def gan(*, adversarial: AdversarialKind = "hinge", penalties: Penalties = Penalties()) -> Objective:
    """The adversarial game alone: unconditional, or conditioned by a projection head (Miyato & Koyama 2018).

    With hinge, SAGAN's objective (Zhang et al. 2019, eq. 4) and BigGAN's.
    """
    adv = ADVERSARIAL[adversarial]
    return Objective(
        discriminator={"adv": Term(adv.discriminator)} | penalties.discriminator(),
        generator={"adv": Term(adv.generator)} | penalties.generator(),
    )


def acgan(
    *,
    adversarial: AdversarialKind = "non-saturating",
    weight: Weight = 1.0,
    class_on_fake: bool = True,
    penalties: Penalties = Penalties(),
) -> Objective:
    """AC-GAN: both players want labels recognized, the discriminator on real and fake images (Odena et al. 2017, §3).

    `class_on_fake` false: the discriminator on real images alone, as in the baseline of TAC-GAN's code.
    """
    adv = ADVERSARIAL[adversarial]
    label = CROSS_ENTROPY.classifier
    discriminator = {"adv": Term(adv.discriminator), "class/real": Term(on_real(label), weight)}
    if class_on_fake:
        discriminator["class/fake"] = Term(on_fake(label), weight)
    return Objective(
        discriminator=discriminator | penalties.discriminator(),
        generator={"adv": Term(adv.generator), "class/fake": Term(on_fake(label), weight)} | penalties.generator(),
        watched={"accuracy/real": on_real(ACCURACY.classifier), "accuracy/fake": on_fake(ACCURACY.classifier)},
        reads=("logits",),
    )


def tacgan(
    *,
    adversarial: AdversarialKind = "hinge",
    classification: ClassificationKind = "cross-entropy",
    weight: Weight = 1.0,
    penalties: Penalties = Penalties(),
) -> Objective:
    """TAC-GAN: a classifier learns on real images, its twin on fakes; the generator fools the twin (Gong et al. 2019).

    The generator's two label terms together are KL(Q(y|x) ‖ P(y|x)) (eq. 8), where AC-GAN's one also drives images
    away from where classes overlap.
    """
    adv, (of_discriminator, of_generator) = ADVERSARIAL[adversarial], CLASSIFICATION[classification]
    return Objective(
        discriminator={
            "adv": Term(adv.discriminator),
            "class/real": Term(on_real(of_discriminator.classifier), weight),
            "twin/fake": Term(on_fake(of_discriminator.twin), weight),
        }
        | penalties.discriminator(),
        generator={
            "adv": Term(adv.generator),
            "class/fake": Term(on_fake(of_generator.classifier), weight),
            "twin/fake": Term(on_fake(of_generator.twin), -weight),
        }
        | penalties.generator(),
        watched={
            "accuracy/real": on_real(ACCURACY.classifier),
            "accuracy/fake": on_fake(ACCURACY.classifier),
            "accuracy/twin": on_fake(ACCURACY.twin),
        },
        reads=("logits", "twin"),
    )


def adcgan(
    *,
    adversarial: AdversarialKind = "hinge",
    weight: Weight = 1.0,
    penalties: Penalties = Penalties(),
) -> Objective:
    """ADC-GAN: one classifier tells each label's real images from its fakes (Hou et al. 2022, §4).

    The generator's two label terms together are −log of the odds that a fake is a real image of its label: they lead to
    the data's distribution as TAC-GAN's do, with one classifier instead of twins.
    """
    adv = ADVERSARIAL[adversarial]
    as_real, as_fake = (of_output("adc", partial(adc, fake=fake)) for fake in (False, True))
    return Objective(
        discriminator={
            "adv": Term(adv.discriminator),
            "class/real": Term(on_real(as_real), weight),
            "class/fake": Term(on_fake(as_fake), weight),
        }
        | penalties.discriminator(),
        generator={
            "adv": Term(adv.generator),
            "class/as-real": Term(on_fake(as_real), weight),
            "class/as-fake": Term(on_fake(as_fake), -weight),
        }
        | penalties.generator(),
        reads=("adc",),
    )


def stargan(
    *,
    adversarial: AdversarialKind = "wasserstein",
    weight: Weight = 1.0,
    cycle: Weight = 10.0,
    identity: Weight = 0.0,
    penalties: Penalties = Penalties(),
) -> Objective:
    """StarGAN: images translated to other labels show these, and come back unharmed (Choi et al. 2018, eq. 5–6).

    `weight` is λ_cls, `cycle` λ_rec; λ_gp is `penalties.gradient_penalty`, published as 10 with `wasserstein`.
    `identity`, which is not in the paper, also weighs how far images translated to their own labels go from themselves:
    a cycle alone may turn every image into another one and back.
    """
    adv = ADVERSARIAL[adversarial]
    label = CROSS_ENTROPY.classifier
    return Objective(
        discriminator={"adv": Term(adv.discriminator), "class/real": Term(on_real(label), weight)}
        | penalties.discriminator(),
        generator={
            "adv": Term(adv.generator),
            "class/fake": Term(on_fake(label), weight),
            "cycle": Term(cycle_consistency, cycle),
        }
        | ({"identity": Term(to_own_labels, identity)} if identity else {})
        | penalties.generator(),
        watched={"accuracy/real": on_real(ACCURACY.classifier), "accuracy/fake": on_fake(ACCURACY.classifier)},
        reads=("logits",),
        translates=True,
    )


OBJECTIVES = {"acgan": acgan, "adcgan": adcgan, "gan": gan, "stargan": stargan, "tacgan": tacgan}
