"""Parts for recipes of tests that use the openings: a loss with a state, one of pairs, an augmentation."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgan.augment import AUGMENTATIONS
from condgan.losses import ADVERSARIAL, OBJECTIVES, AdversarialKind, Objective, Penalties, Term
from condgan.optimizers import OPTIMIZERS
from condgan.schedules import Weight
from condgan.types import Step, Tracker
from condgan.utils import distributed

NONE = Penalties()


class Means(Tracker):
    """The running means of the scores of real and of fake images."""

    scores: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scores", torch.zeros(2))

    def observe(self, step: Step) -> Tensor:
        return torch.stack([step.on_real.score.mean(), step.on_fake.score.mean()])

    def update(self, observed: Tensor, images: int) -> None:
        self.scores.lerp_(observed.to(self.scores), 0.25)

    def watched(self) -> dict[str, Tensor]:
        return {"real": self.scores[0], "fake": self.scores[1]}


class Brightness(Tracker):
    """Makes images brighter or darker, the more the surer the discriminator is of real ones."""

    strength: Tensor

    def __init__(self, *, start: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("strength", torch.tensor(start))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.strength * distributed.draw_rows(torch.randn, len(images), 1, 1, 1).to(images)

    def observe(self, step: Step) -> Tensor:
        return step.on_real.score.sign().mean()

    def update(self, observed: Tensor, images: int) -> None:
        self.strength.add_(0.01 * observed.to(self.strength))


def near_means(step: Step) -> Tensor:
    """How far scores are from where they were (after Tseng et al. 2021)."""
    real, fake = step.modules["means"].scores  # pyright: ignore[reportGeneralTypeIssues]
    return (step.on_real.score - fake).square() + (step.on_fake.score - real).square()


def alike(step: Step) -> Tensor:
    """How alike the features of each two fakes of a batch are."""
    assert step.on_fake.features is not None
    features = F.normalize(step.on_fake.features.flatten(1))
    return (features @ features.T).fill_diagonal_(0).sum(1) / (len(features) - 1)


def opened(*, adversarial: AdversarialKind = "hinge", weight: Weight = 0.1, penalties: Penalties = NONE) -> Objective:
    adv = ADVERSARIAL[adversarial]
    own = Objective(
        {"adv": Term(adv.discriminator), "means": Term(near_means, weight)},
        {"adv": Term(adv.generator), "alike": Term(alike, weight, of_batch=True)},
        trackers={"means": Means},
    )
    return penalties.added_to(own)


def rmsprop(parameters: Iterable[nn.Parameter], fused: bool, *, lr: float, alpha: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr, alpha)


TABLES: tuple[tuple[dict[str, Any], Mapping[str, Any]], ...] = (
    (OBJECTIVES, {"opened": opened}), (AUGMENTATIONS, {"brightness": Brightness}), (OPTIMIZERS, {"rmsprop": rmsprop}),
)  # fmt: skip


@contextmanager
def added() -> Iterator[None]:
    """Let recipes name these parts meanwhile."""
    for table, parts in TABLES:
        table.update(parts)
    try:
        yield
    finally:
        for table, parts in TABLES:
            for name in parts:
                del table[name]
