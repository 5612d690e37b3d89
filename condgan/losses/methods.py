"""The methods by their names in recipes, each a short function that builds its table of terms.

`transition` λ, a ramp: label terms, and what the generator is told of labels, come in by it (Shahbazi et al. 2022).
"""

from dataclasses import replace
from functools import partial

from pydantic import PositiveFloat

from condgan.losses.adversarial import (
    ADVERSARIAL,
    AdversarialKind,
    by_score,
    feature_matching,
    of_best,
    wasserstein_discriminator,
)
from condgan.losses.contrastive import conditional_contrastive, data_to_data, of_embedding
from condgan.losses.labels import (
    ACCURACY,
    CLASSIFICATION,
    CROSS_ENTROPY,
    ClassificationKind,
    adc,
    classes_and_fake,
    of_output,
)
from condgan.losses.penalties import Penalties
from condgan.losses.terms import Loss, Objective, Term, on_fake, on_real
from condgan.losses.translation import cycle_consistency, to_own_labels
from condgan.schedules import Number, Portion, Ramp, Transition, Weight
from condgan.utils.errors import UserError
from condgan.utils.options import Fraction


def gan(
    *,
    adversarial: AdversarialKind = "hinge",
    top: Portion = 1.0,
    transition: Transition = None,
    penalties: Penalties = Penalties(),
) -> Objective:
    """The adversarial game alone: unconditional, or conditioned by a projection head (Miyato & Koyama 2018).

    With hinge, SAGAN's objective (Zhang et al. 2019, eq. 4) and BigGAN's. `transition` λ: the game of the scores
    without labels, and λ times that of the scores with them (Shahbazi et al. 2022). `top`: the generator learns from
    this share of a batch, the fakes that score highest, which Sinha et al. (2020) let fall from 1 to a half.
    """
    adv = ADVERSARIAL[adversarial]
    of_generator = Term(adv.generator) if top == 1 else Term(of_best(adv.generator, top), of_batch=True)
    discriminator, generator = {"adv": Term(adv.discriminator)}, {"adv": of_generator}
    if transition is not None:
        discriminator = {
            "adv/unconditional": Term(by_score(adv.discriminator, "unconditional")),
            "adv": Term(adv.discriminator, transition),
        }
        generator = {
            "adv/unconditional": replace(of_generator, loss=by_score(of_generator.loss, "unconditional")),
            "adv": replace(of_generator, weight=transition),
        }
    return penalties.added_to(
        Objective(
            discriminator, generator, reads=() if transition is None else ("unconditional",), transition=transition
        )
    )


def acgan(
    *,
    adversarial: AdversarialKind = "non-saturating",
    weight: Weight = 1.0,
    transition: Transition = None,
    class_on_fake: bool = True,
    penalties: Penalties = Penalties(),
) -> Objective:
    """AC-GAN: both players want labels recognized, the discriminator on real and fake images (Odena et al. 2017, §3).

    `class_on_fake` false: the discriminator on real images alone, as in the baseline of TAC-GAN's code.
    """
    adv = ADVERSARIAL[adversarial]
    of_labels = _in_transition(weight, transition)
    label = CROSS_ENTROPY.classifier
    discriminator = {"adv": Term(adv.discriminator), "class/real": Term(on_real(label), of_labels)}
    if class_on_fake:
        discriminator["class/fake"] = Term(on_fake(label), of_labels)
    objective = Objective(
        discriminator=discriminator,
        generator={"adv": Term(adv.generator), "class/fake": Term(on_fake(label), of_labels)},
        watched={"accuracy/real": on_real(ACCURACY.classifier), "accuracy/fake": on_fake(ACCURACY.classifier)},
        reads=("logits",),
        transition=transition,
    )
    return penalties.added_to(objective)


def tacgan(
    *,
    adversarial: AdversarialKind = "hinge",
    classification: ClassificationKind = "cross-entropy",
    weight: Weight = 1.0,
    transition: Transition = None,
    penalties: Penalties = Penalties(),
) -> Objective:
    """TAC-GAN: a classifier learns on real images, its twin on fakes; the generator fools the twin (Gong et al. 2019).

    The generator's two label terms together are KL(Q(y|x) ‖ P(y|x)) (eq. 8), where AC-GAN's one also drives images
    away from where classes overlap.
    """
    adv, (of_discriminator, of_generator) = ADVERSARIAL[adversarial], CLASSIFICATION[classification]
    of_labels = _in_transition(weight, transition)
    objective = Objective(
        discriminator={
            "adv": Term(adv.discriminator),
            "class/real": Term(on_real(of_discriminator.classifier), of_labels),
            "twin/fake": Term(on_fake(of_discriminator.twin), of_labels),
        },
        generator={
            "adv": Term(adv.generator),
            "class/fake": Term(on_fake(of_generator.classifier), of_labels),
            "twin/fake": Term(on_fake(of_generator.twin), -of_labels),
        },
        watched={
            "accuracy/real": on_real(ACCURACY.classifier),
            "accuracy/fake": on_fake(ACCURACY.classifier),
            "accuracy/twin": on_fake(ACCURACY.twin),
        },
        reads=("logits", "twin"),
        transition=transition,
    )
    return penalties.added_to(objective)


def adcgan(
    *,
    adversarial: AdversarialKind = "hinge",
    weight: Weight = 1.0,
    transition: Transition = None,
    penalties: Penalties = Penalties(),
) -> Objective:
    """ADC-GAN: one classifier tells each label's real images from its fakes (Hou et al. 2022, §4).

    The generator's two label terms together are −log of the odds that a fake is a real image of its label: they lead to
    the data's distribution as TAC-GAN's do, with one classifier instead of twins.
    """
    adv = ADVERSARIAL[adversarial]
    of_labels = _in_transition(weight, transition)
    as_real, as_fake = (of_output("adc", partial(adc, fake=fake)) for fake in (False, True))
    objective = Objective(
        discriminator={
            "adv": Term(adv.discriminator),
            "class/real": Term(on_real(as_real), of_labels),
            "class/fake": Term(on_fake(as_fake), of_labels),
        },
        generator={
            "adv": Term(adv.generator),
            "class/as-real": Term(on_fake(as_real), of_labels),
            "class/as-fake": Term(on_fake(as_fake), -of_labels),
        },
        reads=("adc",),
        transition=transition,
    )
    return penalties.added_to(objective)


def contragan(
    *,
    adversarial: AdversarialKind = "hinge",
    weight: Weight = 1.0,
    temperature: PositiveFloat = 1.0,
    transition: Transition = None,
    penalties: Penalties = Penalties(),
) -> Objective:
    """ContraGAN: embeddings near their label's proxy and to images of the label, far from others (Kang & Park 2020).

    The discriminator learns it on real images, and the generator on fakes.
    """
    loss = of_embedding(partial(conditional_contrastive, temperature=temperature))
    return penalties.added_to(_of_embeddings(adversarial, loss, weight, transition))


def reacgan(
    *,
    adversarial: AdversarialKind = "hinge",
    weight: Weight = 0.5,
    temperature: PositiveFloat = 0.5,
    margin: Fraction = 0.98,
    as_published: bool = False,
    transition: Transition = None,
    penalties: Penalties = Penalties(),
) -> Objective:
    """ReACGAN: embeddings near their label's proxy, far from images of other labels, up to a margin (Kang et al. 2021).

    As in ContraGAN for both players. `as_published`: see `data_to_data`.
    """
    loss = of_embedding(partial(data_to_data, temperature=temperature, margin=margin, as_published=as_published))
    return penalties.added_to(_of_embeddings(adversarial, loss, weight, transition))


def _of_embeddings(
    adversarial: AdversarialKind, loss: tuple[Loss, Loss], weight: Weight, transition: Transition
) -> Objective:
    adv, (of_real, of_fake), of_labels = ADVERSARIAL[adversarial], loss, _in_transition(weight, transition)
    return Objective(
        discriminator={"adv": Term(adv.discriminator), "class/real": Term(of_real, of_labels, of_batch=True)},
        generator={"adv": Term(adv.generator), "class/fake": Term(of_fake, of_labels, of_batch=True)},
        reads=("embedding", "proxy"),
        transition=transition,
    )


def mhgan(*, weight: Weight = 0.05, matching: Weight = 1.0, penalties: Penalties = Penalties()) -> Objective:
    """MHGAN: one classifier of all classes and fakes, with the hinge loss of many classes (Kavalerov et al. 2019).

    The generator's images shall be of their classes, with `weight`, and `matching` weighs how far their mean features
    are from those of real images.
    """
    as_real, as_fake = (of_output("classes", partial(classes_and_fake, fake=fake)) for fake in (False, True))
    objective = Objective(
        discriminator={"class/real": Term(on_real(as_real)), "class/as-fake": Term(on_fake(as_fake))},
        generator={
            "class/as-real": Term(on_fake(as_real), weight),
            "matching": Term(feature_matching, matching, of_batch=True),
        },
        reads=("classes",),
    )
    return penalties.added_to(objective)


def san(*, adversarial: AdversarialKind = "hinge", penalties: Penalties = Penalties()) -> Objective:
    """SAN: features learn the game, and the direction that they are projected on tells most apart (Takida et al. 2024).

    The discriminator's direction raises the mean score of real images over that of fakes. The generator plays the game.
    """
    adv = ADVERSARIAL[adversarial]
    objective = Objective(
        discriminator={
            "adv": Term(by_score(adv.discriminator, "function")),
            "direction": Term(by_score(wasserstein_discriminator, "direction")),
        },
        generator={"adv": Term(adv.generator)},
        reads=("function", "direction"),
    )
    return penalties.added_to(objective)


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
    objective = Objective(
        discriminator={"adv": Term(adv.discriminator), "class/real": Term(on_real(label), weight)},
        generator={
            "adv": Term(adv.generator),
            "class/fake": Term(on_fake(label), weight),
            "cycle": Term(cycle_consistency, cycle),
        }
        | ({"identity": Term(to_own_labels, identity)} if identity else {}),
        watched={"accuracy/real": on_real(ACCURACY.classifier), "accuracy/fake": on_fake(ACCURACY.classifier)},
        reads=("logits",),
        translates=True,
    )
    return penalties.added_to(objective)


def _in_transition(weight: Weight, transition: Ramp | None) -> Number:
    """The weight of label terms that come in by a ramp. Raises UserError for a weight that is one already."""
    if transition is None:
        return weight
    if isinstance(weight, Ramp):
        raise UserError("objective.transition given with a ramp as objective.weight: expected one of them at most")
    return transition.times(weight)


OBJECTIVES = {
    "acgan": acgan,
    "adcgan": adcgan,
    "contragan": contragan,
    "gan": gan,
    "mhgan": mhgan,
    "reacgan": reacgan,
    "san": san,
    "stargan": stargan,
    "tacgan": tacgan,
}
