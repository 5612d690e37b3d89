"""Every head with every objective that reads it, in each adversarial game: what learns, and what no loss reads."""

import itertools

import pytest

from condgan.labels import LabelSpec
from condgan.losses import OBJECTIVES
from condgan.losses.adversarial import ADVERSARIAL
from condgan.networks import HEADS
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.utils.errors import UserError
from tests.contract import gradients

SPEC = LabelSpec.of_classes(["a", "b", "c"])
PAIRS = [(objective, head) for objective in OBJECTIVES for head in HEADS]
ALLOWED = [
    ("acgan", "adc"),
    ("acgan", "classifier"),
    ("acgan", "domain"),
    ("acgan", "twin"),
    ("adcgan", "adc"),
    ("contragan", "contrastive"),
    ("gan", "plain"),
    ("gan", "projection"),
    ("mhgan", "classes-and-fake"),
    ("reacgan", "contrastive"),
    ("san", "slicing"),
    ("stargan", "adc"),
    ("stargan", "classifier"),
    ("stargan", "domain"),
    ("stargan", "twin"),
    ("tacgan", "twin"),
]
OWN_GAME = {"mhgan": "hinge"}
"""Objectives whose game is their own."""
TWIN = {"head.twin.weight", "head.twin.bias"}
UNREAD = {("acgan", "twin"): TWIN, ("stargan", "twin"): TWIN}
"""Parameters of the discriminator that no loss reads: AC-GAN and StarGAN have no use for the twin."""
WITHOUT_SHIFT = {name: {"head.score.bias", "head.bias"} for name in ("hinge", "wasserstein", "relativistic")}
"""Parameters whose gradient is 0: D(G(z)) − D(x) is the same whatever is added to both, and so is what hinge adds up
while all scores are within its margins, as they are at first."""


def recipe_of(objective: str, head: str, adversarial: str) -> Recipe:
    """Tiny networks that play this game."""
    name = "digits-stargan" if objective == "stargan" else "digits-projection"
    game = "" if objective in OWN_GAME else f"adversarial: {adversarial}, "
    overrides = [
        f"objective={{name: {objective}, {game}penalties: {{gradient_penalty: 10}}}}",
        f"head={{name: {head}, init: normal, spectral_norm: null}}", "generator.width=4", "backbone.width=4",
        "compute.compile=false", "compute.precision=float32", "schedule.batch=6",
    ]  # fmt: skip
    if objective == "stargan":
        overrides += ["generator.blocks=1"]
    else:
        overrides += ["generator.init=normal"]
        map_of_patches = ["backbone={name: stargan, width: 4}"]
        pooled = ["backbone.init=normal", "backbone.spectral_norm=null"]
        overrides += map_of_patches if head == "domain" else pooled
    return load(name, overrides)


@pytest.mark.parametrize(
    ("objective", "head", "adversarial"),
    [(*pair, game) for pair in ALLOWED for game in ADVERSARIAL if OWN_GAME.get(pair[0], game) == game],
)
def test_every_parameter_learns_but_those_that_no_loss_reads(objective: str, head: str, adversarial: str) -> None:
    found = gradients(recipe_of(objective, head, adversarial), SPEC)
    unread = {name for name, gradient in found["discriminator"].items() if gradient is None}
    assert unread == UNREAD.get((objective, head), set())
    idle = {name for name, gradient in found["discriminator"].items() if gradient is not None and not gradient.any()}
    expected = WITHOUT_SHIFT.get(adversarial, set()) & found["discriminator"].keys()
    for name in expected:
        gradient = found["discriminator"][name]
        assert gradient is not None
        assert gradient.abs().max() < 1e-6
    assert idle <= expected
    for name, gradient in found["generator"].items():
        assert gradient is not None, name
        assert gradient.any(), name
    for gradient in itertools.chain(*(one.values() for one in found.values())):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize(("objective", "head"), [pair for pair in PAIRS if pair not in ALLOWED])
def test_heads_that_an_objective_cannot_read_are_refused(objective: str, head: str) -> None:
    with pytest.raises(UserError, match=f"head '{head}' given with objective '{objective}': expected "):
        recipe_of(objective, head, "hinge")
