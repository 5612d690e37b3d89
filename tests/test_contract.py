"""Every packaged method keeps the contract, a new one of a few lines does, and one that breaks it is told what."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.losses import ADVERSARIAL, OBJECTIVES, Objective, Term, on_real
from condgan.losses.adversarial import AdversarialKind
from condgan.losses.penalties import Penalties
from condgan.networks import HEADS
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.types import DiscriminatorOutput, Head, Step
from tests.contract import contract

SMALL = [
    "generator.width=4", "backbone.width=4", "schedule.batch=8", "schedule.images=800", "generator.norm=group",
    "generator.init=normal", "backbone.init=normal", "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
PACKAGED = {
    "acgan": ["objective.name=acgan", "head.name=twin"],
    "adcgan": ["objective.name=adcgan", "head.name=adc"],
    "contragan": ["objective.name=contragan", "head.name=contrastive"],
    "gan": ["objective.name=gan"],
    "mhgan": ["objective={name: mhgan}", "head.name=classes-and-fake"],
    "reacgan": ["objective.name=reacgan", "head.name=contrastive"],
    "san": ["objective.name=san", "head.name=slicing"],
    "tacgan": ["objective.name=tacgan", "head.name=twin"],
}
UNREAD = {"acgan": frozenset({"head.twin.parametrizations.weight.original", "head.twin.bias"})}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_methods_keep_the_contract(name: str, tmp_path: Path) -> None:
    recipe = load("digits-projection", [*SMALL, *PACKAGED[name], "objective.penalties={r1: 1}"])
    contract(recipe, tmp_path, UNREAD.get(name, frozenset()))


def test_the_translator_keeps_the_contract(tmp_path: Path) -> None:
    overrides = [
        "generator.width=4",
        "generator.blocks=1",
        "backbone.width=4",
        "schedule.batch=8",
        "schedule.images=800",
    ]
    overrides += ["schedule.decay=0", "compute.compile=false", "compute.precision=float32"]
    for penalty in ("objective.penalties.gradient_penalty=10", "objective={name: stargan, adversarial: hinge}"):
        folder = tmp_path / penalty[:20]
        folder.mkdir()
        contract(load("digits-stargan", [*overrides, penalty]), folder)


def test_every_packaged_method_is_held_to_it() -> None:
    assert {*PACKAGED, "stargan"} == OBJECTIVES.keys()


class PrototypeHead(Head):
    """Real or fake, and how near an image is to what each class looks like."""

    outputs = ("logits",)

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, *, sharpness: float = 1.0) -> None:
        super().__init__()
        (width,) = features
        self.sharpness = sharpness
        self.score = nn.Linear(width, 1)
        self.prototypes = nn.Parameter(torch.randn(labels.width, width))

    def forward(self, features: Tensor, labels: Labels) -> DiscriminatorOutput:
        logits = -self.sharpness * torch.cdist(features, self.prototypes).square()
        return DiscriminatorOutput(self.score(features).flatten(), features, {"logits": logits})


def nearest(output: DiscriminatorOutput, labels: Labels) -> Tensor:
    """How far the claimed class is, among all."""
    return F.cross_entropy(output.logits, labels.values, reduction="none")


def prototypes(
    *, adversarial: AdversarialKind = "hinge", weight: float = 0.5, penalties: Penalties = Penalties()
) -> Objective:
    adv = ADVERSARIAL[adversarial]
    return Objective(
        discriminator={"adv": Term(adv.discriminator), "near/real": Term(on_real(nearest), weight)},
        generator={
            "adv": Term(adv.generator),
            "near/fake": Term(lambda step: nearest(step.on_fake, step.fake_labels), weight),
        },
        reads=("logits",),
    )


@pytest.fixture
def new_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head and an objective, which a contributor adds."""
    monkeypatch.setitem(HEADS, "prototype", PrototypeHead)
    monkeypatch.setitem(OBJECTIVES, "prototypes", prototypes)


def recipe_of_new_method() -> Recipe:
    return load("digits-projection", [*SMALL, "head={name: prototype}", "objective={name: prototypes}"])


@pytest.mark.usefixtures("new_method")
def test_a_new_method_keeps_the_contract(tmp_path: Path) -> None:
    contract(recipe_of_new_method(), tmp_path)


def blind(step: Step) -> Tensor:
    """Of real images, which the generator has no part in."""
    return step.on_real.score.detach()


class Counting:
    """Depends on how often it was called."""

    calls = 0

    def __call__(self, step: Step) -> Tensor:
        Counting.calls += 1
        return step.on_fake.score * Counting.calls


BROKEN = {
    "the generator's loss does not depend on it": ("generator", blind),
    "G/adv is not finite": ("generator", lambda step: step.on_fake.score / 0),
    "a batch in two parts is another one": ("discriminator", lambda step: step.on_fake.score.sum()),
    "the discriminator's parameters without a gradient are not those": ("discriminator", lambda step: step.fake * 0),
    "a resumed run has other losses": ("generator", Counting()),
}


@pytest.mark.usefixtures("new_method")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_method_does_not(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player, loss = BROKEN[broken]

    def wrong(*, adversarial: AdversarialKind = "hinge", penalties: Penalties = Penalties()) -> Objective:
        right = prototypes(adversarial=adversarial, penalties=penalties)
        terms = {name: dict(getattr(right, name)) for name in ("discriminator", "generator")}
        terms[player] = {"adv": Term(loss)} if player == "generator" else terms[player] | {"adv": Term(loss)}
        return replace(right, **terms)

    monkeypatch.setitem(OBJECTIVES, "prototypes", wrong)
    with pytest.raises(AssertionError, match=broken):
        contract(recipe_of_new_method(), tmp_path)
