"""Which fakes join the real images, and the search for the mixture that helps a classifier most."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

RATIOS = (0.25, 0.5, 1.0, 2.0)
TO_BALANCE = math.inf
"""The ratio by which every class gets as many images as the largest has."""
FIRST_TRIED = (TO_BALANCE, 1.0, 0.5, 2.0, 0.25)
"""Ratios, those that promise most first: few fakes change little, and many may drown the real images."""
UNBALANCED = 2.0
"""Where the largest class has so many times the images of the smallest, fakes are for the rare classes alone."""
AS_THEY_COME = "none"
"""The selection that selects nothing."""
FEWEST_TRIED = 4
"""Candidates that are tried, however little time there is."""


class Mixture(NamedTuple):
    """Fakes that join the real images."""

    ratio: float
    """Fakes for each real image of a class."""
    selection: str
    truncation: float | None = None

    def counts(self, real: Sequence[int], there: Sequence[int] | None = None) -> dict[int, int]:
        """How many fakes classes get, by their numbers, given how many real images they have: some or none.

        Where the numbers of real images differ much, no class gets more than fill it up to the largest one. `there`:
        how many fakes of each class there are, where they are not made.
        """
        most, mixed = max(real), {}
        for number, count in enumerate(real):
            room = most - count if unbalanced(real) else most * int(max(RATIOS))
            room = room if there is None else min(room, there[number])
            mixed[number] = min(room, round(self.ratio * count)) if self.ratio < TO_BALANCE else room
        return {number: count for number, count in mixed.items() if count}

    def __str__(self) -> str:
        ratio = "up to balance" if self.ratio == TO_BALANCE else f"{self.ratio:g} for each real image"
        truncated = "" if self.truncation is None else f", truncation {self.truncation:g}"
        selected = "not selected" if self.selection == AS_THEY_COME else f"selected by {self.selection}"
        return f"{ratio}, {selected}{truncated}"


class Trial(NamedTuple):
    """What a mixture gained over the baseline, of each seed that it was tried with."""

    mixture: Mixture
    gains: list[float]

    @property
    def mean(self) -> float:
        return sum(self.gains) / len(self.gains)


def unbalanced(real: Sequence[int]) -> bool:
    """Whether some classes have much fewer real images than others."""
    there = [count for count in real if count]
    return max(there) >= UNBALANCED * min(there)


def mixtures(
    real: Sequence[int],
    selections: Sequence[str],
    truncations: Sequence[float | None],
    there: Sequence[int] | None = None,
) -> list[Mixture]:
    """All that differ, in an order in which the first ones differ in everything, and promise most.

    As many as there are ratios have one each, with another selection from one to the next, what is not selected last;
    then the same with the next selections, and at last with the other truncations.
    """
    ratios = (*RATIOS, TO_BALANCE) if unbalanced(real) else RATIOS
    by_counts = {tuple(Mixture(ratio, "").counts(real, there).items()): ratio for ratio in reversed(ratios)}
    some = sorted((ratio for counts, ratio in by_counts.items() if counts), key=FIRST_TRIED.index)
    ways = [*selections[1:], *selections[:1]]
    return [
        Mixture(ratio, ways[(place + turn) % len(ways)], truncations[(place + turn + cut) % len(truncations)])
        for cut in range(len(truncations))
        for turn in range(len(ways))
        for place, ratio in enumerate(some)
    ]


def halve(
    candidates: Sequence[Mixture], try_one: Callable[[Mixture, int], float | None], late: Callable[[], bool]
) -> Iterator[list[Trial]]:
    """Successive halving (Jamieson & Talwalkar 2016): each round tries the better half of the last, with one seed more.

    `try_one`: what a mixture gains with a seed, or None for one that cannot be made. The first round ends where it is
    `late`, though not before `FEWEST_TRIED` candidates; the others take about as long again. Yields each round's
    trials, the best by their means first; the last has one.
    """
    trials = list[Trial]()
    for one in candidates:
        if len(trials) >= FEWEST_TRIED and late():
            break
        if (value := try_one(one, 0)) is not None:
            trials.append(Trial(one, [value]))
    trials.sort(key=lambda trial: -trial.mean)
    yield trials
    seed = 1
    while len(trials) > 1:
        kept = trials[: (len(trials) + 1) // 2]
        found = [(trial, try_one(trial.mixture, seed)) for trial in kept]
        again = [Trial(one.mixture, [*one.gains, value]) for one, value in found if value is not None]
        trials, seed = sorted(again, key=lambda trial: -trial.mean), seed + 1
        yield trials
