"""A player's loss of a step, and the labels of fakes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelTable
from condgan.losses import Loss, Term, weighted_sum
from condgan.types import Step
from condgan.utils import distributed


@dataclass(frozen=True, slots=True)
class FakeLabels:
    """The labels that those of fakes are drawn from: a table, whose rows are alike or have weights.

    `of_batch`: fakes take those of the batch's real images instead, in their order. `partial`: some real images do not
    know all of theirs; `told`: the same rows as far as these do, so that fakes are told by the law of real images.
    """

    labels: LabelTable
    weights: Float[Tensor, " n"] | None = None
    of_batch: bool = False
    partial: bool = False
    told: LabelTable | None = None

    def draw(self, count: int) -> tuple[Labels, Labels | None]:
        """The labels of so many fakes, and what of them is told, where that is known."""

        def numbers(count: int) -> Tensor:
            if self.weights is None:
                return torch.randint(len(self.labels), (count,), device=self.labels.device)
            return torch.multinomial(self.weights, count, replacement=True)

        rows = distributed.draw_rows(numbers, count)
        return self.labels[rows], None if self.told is None else self.told[rows]


class PlayerLoss(nn.Module):
    """A player's loss of a step, a module so that DistributedDataParallel sees one call before each backward pass."""

    def __init__(self, player: nn.Module, terms: Mapping[str, Term], watched: Mapping[str, Loss] | None = None) -> None:
        super().__init__()
        self.player, self.terms, self.watched = player, terms, watched or {}

    def forward(
        self, step: Step, images: int, part: int = 0, parts: int = 1, iteration_images: int = 1
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to minimize, and each mean to report, detached: one of the batch's equal parts' share of them."""
        total, means = weighted_sum(self.terms, step, images, part, parts, iteration_images)
        with torch.no_grad():
            return total, means | {name: loss(step).mean() / parts for name, loss in self.watched.items()}
