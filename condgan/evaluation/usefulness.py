"""Whether fakes help a classifier, beyond what augmentation gives: search how to mix them in, then judge on others.

Axes: n images, s seeds, t test images, k classes, c channels, h × w pixels.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from condgan.evaluation.advice import advice, signed
from condgan.evaluation.mixtures import FEWEST_TRIED, TO_BALANCE, Mixture, Trial, halve, mixtures, unbalanced
from condgan.evaluation.paired import (
    HELPS,
    NO_BETTER,
    NO_DIFFERENCE,
    balanced,
    class_gains,
    gain,
    means_by_class,
)
from condgan.evaluation.selection import TooFew
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.console import duration, say
from condgan.utils.errors import UserError

LEAST_SEEDS = 3
"""Of two, the spread is too uncertain for the intervals: they missed the truth in up to 12 % of simulations."""
BASELINE_SEEDS = 2
"""Classifiers by whose mean the baseline is chosen."""
SEARCH_SHARE = 0.4
"""The share of the time that is left for the search before arms that the verdict can do without are left out."""
FEW_TO_JUDGE = 100
"""Test images, below which differences of ten points are hardly seen."""
LEAST_ARMS = 4
"""What the verdict needs at least: real, augmented, and both with fakes."""
FRESH = 1_000
"""Seeds of the verdict begin here: none of the search's."""


class Pool(NamedTuple):
    """Images of 0 … 255, each of one class."""

    images: UInt8[Tensor, "n c h w"]
    labels: LabelTable


class Arm(NamedTuple):
    """What classifiers learn from."""

    augmented: bool = False
    reweighted: bool = False
    """The losses of a class count as many times more as it has fewer images."""
    fakes: bool = False
    real: bool = True

    @property
    def name(self) -> str:
        parts = {"real": self.real, "augmented": self.augmented, "reweighted": self.reweighted, "fakes": self.fakes}
        told = [name for name, is_so in parts.items() if is_so]
        return "+".join(told[1:] if self.augmented or self.reweighted else told)


BASELINES = (Arm(), Arm(augmented=True), Arm(reweighted=True), Arm(augmented=True, reweighted=True))
ALONE = Arm(fakes=True, real=False)
"""By whose accuracy Ravuri & Vinyals (2019) judge a generator: as many fakes as real images, as they come."""
REAL, AUGMENTED, _, _ = BASELINES


@runtime_checkable
class FakesSource(Protocol):
    """Where fakes come from."""

    @property
    def selections(self) -> Sequence[str]:
        """Ways to select them, the first: none."""
        ...

    @property
    def truncations(self) -> Sequence[float | None]: ...

    @property
    def there(self) -> Sequence[int] | None:
        """How many of each class there are; None where they are made as they are asked for."""
        ...

    def prepare(self) -> None:
        """Do what takes long and is needed once."""
        ...

    def draw(self, selection: str, truncation: float | None, counts: dict[int, int], seed: int) -> Pool:
        """So many of each class, class by class. Raises TooFew where there are not enough."""
        ...


@runtime_checkable
class Learner(Protocol):
    """How classifiers are trained."""

    @property
    def augmentations(self) -> Sequence[str]: ...

    def learn(
        self,
        images: UInt8[Tensor, "n c h w"],
        classes: Int[Tensor, " n"],
        weights: Float[Tensor, " k"],
        augmentation: str | None,
        seed: int,
    ) -> Callable[[UInt8[Tensor, "m c h w"]], Int[Tensor, " m"]]:
        """A classifier of images whose losses count by their classes' weights: it tells the classes of others."""
        ...


@dataclass
class _Study:
    """What classifiers of an arm get right, each as soon as it is asked for, with a bar that tells the time left."""

    real: Pool
    fakes: FakesSource
    learner: Learner
    bar: tqdm
    deadline: float
    """Until which is searched."""
    augmentation: str = ""
    learning: list[float] = field(default_factory=list)
    """Seconds that each classifier took, …"""
    drawing: list[float] = field(default_factory=list)
    """… and each draw of fakes."""
    to_come: int = 0
    """Classifiers."""

    @property
    def counts(self) -> list[int]:
        """Real images of each class."""
        return self.real.labels.index().bincount(minlength=self.real.labels.spec.width).tolist()

    def mixed(self, mixture: Mixture) -> dict[int, int]:
        """How many fakes each class gets."""
        return mixture.counts(self.counts, self.fakes.there)

    def draw(self, selection: str, truncation: float | None, counts: dict[int, int], seed: int) -> Pool:
        start = time.monotonic()
        drawn = self.fakes.draw(selection, truncation, counts, seed)
        self.drawing.append(time.monotonic() - start)
        return drawn

    def right(self, arm: Arm, fakes: Pool | None, seed: int, on: Pool, augmentation: str = "") -> Float[Tensor, " t"]:
        """Which images of others a classifier gets right, 1 or 0."""
        start = time.monotonic()
        pools = [*([self.real] if arm.real else []), *([fakes] if fakes is not None else [])]
        images = pools[0].images if len(pools) == 1 else torch.cat([one.images for one in pools])
        classes = torch.cat([one.labels.index() for one in pools]).long()
        width = self.real.labels.spec.width
        counts = classes.bincount(minlength=width).double()
        weights = len(classes) / (counts.clamp(min=1) * width) if arm.reweighted else torch.ones(width)
        how = (augmentation or self.augmentation) if arm.augmented else None
        told = self.learner.learn(images, classes, weights.float(), how, seed)(on.images)
        self.learning.append(time.monotonic() - start)
        self.to_come = max(0, self.to_come - 1)
        self.bar.update()
        return (told == on.labels.index()).double()

    @property
    def each(self) -> float:
        """Seconds that a classifier takes."""
        return sum(self.learning) / len(self.learning)

    def expect(self, more: int) -> None:
        """Tell the bar how many classifiers are to come."""
        self.to_come, self.bar.total = more, self.bar.n + more
        self.bar.refresh()

    def seconds(self, classifiers: int, draws: int) -> float:
        """How long so many take; a draw as long as the longest one."""
        return classifiers * self.each + draws * max(self.drawing, default=0.0)

    @property
    def left(self) -> float:
        """Seconds until all is done: the search takes what the verdict leaves of the time given."""
        return max(self.deadline - time.monotonic(), self.to_come * self.each)

    def tell(self, line: str) -> None:
        say(line + (f"   ({duration(self.left)} left)" if self.to_come and self.learning else ""))


def usefulness(
    real: Pool,
    fakes: FakesSource,
    validation: Pool,
    test: Pool,
    learner: Learner,
    seeds: int = 5,
    minutes: float = 10.0,
) -> dict[str, Any]:
    """Find on validation images how fakes help classifiers most, and judge it on test images, with other seeds.

    First the baseline: real images as they are, augmented, re-weighted by class, or both, whichever is best. Then, by
    successive halving as far as the time reaches, how many fakes are added to it, how selected and how truncated. At
    last classifiers of fresh seeds, with fresh fakes, learn from each of `BASELINES`, these and fakes, and fakes alone;
    all classifiers are trained as long. The verdict is on the balanced accuracy, with fakes against the baseline
    without; so the choice, made on other images, cannot flatter it.

    Returns {"verdict", "difference", "interval", "advice", "baseline", "augmentation", "chosen", "counts", "arms",
    "comparisons", "per_class", "search", "classification_accuracy_score", …}. Raises UserError for fewer than three
    seeds or two classes, for no images, and for shapes or classes that are not those of the real images.
    """
    if seeds < LEAST_SEEDS:
        raise UserError(f"{seeds} seeds given: expected {LEAST_SEEDS} or more, because the verdict needs their spread")
    real = like(real, real, "training images")
    validation, test = (like(one, real, "held-out images") for one in (validation, test))
    if real.labels.spec.width < 2:
        name = real.labels.spec.classes[0]
        raise UserError(f"real images of one class given, '{name}': expected two or more to tell apart")
    deadline = time.monotonic() + 60 * minutes
    with tqdm(desc="classifiers", leave=False, disable=None) as bar:
        study = _Study(real, fakes, learner, bar, deadline)
        study.tell(
            f"{len(real.images):,} real images to learn from, {len(validation.images):,} to choose by, "
            f"{len(test.images):,} for the verdict"
        )
        if len(test.images) < FEW_TO_JUDGE:
            study.tell(
                "so few tell large differences alone: hold more out, as by data.held_out=0.3 in a new run, or give "
                "folders train/ and test/"
            )
        study.tell("training the classifiers that select fakes, unless they are there already")
        fakes.prepare()
        baseline, before = _baseline(study, validation, seeds)
        arms = _arms(baseline, study, deadline - time.monotonic(), seeds)
        needed = duration(study.seconds(len(arms) * seeds, seeds))
        study.tell(f"the verdict takes {len(arms) * seeds} classifiers, {needed}; the search as long as is left")
        rounds = _search(study, baseline, validation, len(arms), seeds)
        study.deadline = time.monotonic()
        chosen, correct = _judge(study, arms, rounds, seeds, test)
    counts = study.mixed(chosen)
    sizes = {
        "seeds": seeds, "n_real": len(real.images), "n_validation": len(validation.images), "n_test": len(test.images),
        "n_fakes": sum(counts.values()), "classifiers": len(study.learning),
        "seconds_each": round(study.each, 2), "augmentation": study.augmentation,
    }  # fmt: skip
    names = real.labels.spec.classes
    mixed = {names[number]: count for number, count in counts.items()}
    found = sizes | {
        "real_counts": dict(zip(names, study.counts, strict=True)),
        "chosen": _told(chosen) | {"counts": mixed},
        "baselines": before,
        "search": [
            _told(trial.mixture) | {"round": number, "seeds": len(trial.gains), "difference": trial.mean}
            for number, trials in enumerate(rounds)
            for trial in trials
        ],
        **compare(correct, baseline, test.labels.index(), names),
    }
    return found | {"advice": advice(found)}


def _baseline(study: _Study, validation: Pool, seeds: int) -> tuple[Arm, dict[str, float]]:
    """The best baseline on validation images, and the balanced accuracy of each."""
    candidates = [(AUGMENTED, one) for one in study.learner.augmentations]
    reweighted = unbalanced(study.counts)
    after = 2 * FEWEST_TRIED + LEAST_ARMS * seeds
    study.expect(BASELINE_SEEDS * (1 + len(candidates) + 2 * reweighted) + after)
    found: dict[tuple[Arm, str], float] = {}

    def measure(arm: Arm, augmentation: str) -> None:
        right = [study.right(arm, None, seed, validation, augmentation) for seed in range(BASELINE_SEEDS)]
        found[arm, augmentation] = float(balanced(torch.stack(right), validation.labels.index()).mean())
        name = f"{arm.name} by {augmentation}" if augmentation else arm.name
        study.tell(f"{name:32}{100 * found[arm, augmentation]:6.1f} %  of validation images")

    measure(REAL, "")
    if (least := study.to_come * study.each) > study.deadline - time.monotonic():
        less = f"; --seeds {LEAST_SEEDS} takes less" if seeds > LEAST_SEEDS else ""
        say(f"{duration(least)} more are needed at the least, longer than asked for{less}")
    for arm, augmentation in candidates:
        measure(arm, augmentation)
    _, study.augmentation = max(((one for one in found if one[1])), key=lambda one: found[one])
    if reweighted:
        for arm in BASELINES[2:]:
            measure(arm, study.augmentation if arm.augmented else "")
    best = max(found, key=lambda one: found[one])[0]
    return best, {f"{arm.name} by {how}" if how else arm.name: value for (arm, how), value in found.items()}


def _arms(baseline: Arm, study: _Study, seconds: float, seeds: int) -> list[Arm]:
    """What is judged: what the verdict needs, and the rest where there is time."""
    needed = [REAL, AUGMENTED, baseline, baseline._replace(fakes=True), REAL._replace(fakes=True)]
    others = [one for one in BASELINES if unbalanced(study.counts) or not one.reweighted]
    rest = [ALONE, *(one._replace(fakes=True) for one in others), *others]
    arms = list(dict.fromkeys(needed))
    for one in dict.fromkeys(rest):
        if one not in arms and (len(arms) + 1) * seeds * study.each <= (1 - SEARCH_SHARE) * seconds:
            arms.append(one)
    every = [*BASELINES, *(one._replace(fakes=True) for one in BASELINES), ALONE]
    return sorted(arms, key=every.index)


def _search(study: _Study, baseline: Arm, validation: Pool, arms: int, seeds: int) -> list[list[Trial]]:
    """Rounds of trials on validation images; the last has the best mixture alone."""
    classes, fakes, began = validation.labels.index(), study.fakes, time.monotonic()
    without = dict[int, Tensor]()
    pools, failed = dict[tuple[str, float | None], Pool](), dict[tuple[str, float | None], int]()
    candidates = mixtures(study.counts, fakes.selections, fakes.truncations, fakes.there)

    def some_of(mixture: Mixture) -> Pool:
        """The first of the fakes that mixtures of this selection and truncation share. Raises TooFew."""
        own, key = study.mixed(mixture), (mixture.selection, mixture.truncation)
        total = sum(own.values())
        if total >= failed.get(key, total + 1):
            raise TooFew("already fewer were too many")
        if key not in pools or len(pools[key].images) < total:
            try:
                pools[key] = study.draw(*key, own, 0)
            except TooFew:
                failed[key] = total
                raise
        return _first(pools[key], own)

    def try_one(mixture: Mixture, seed: int) -> float | None:
        if seed not in without:
            without[seed] = study.right(baseline, None, seed, validation)
        try:
            drawn = some_of(mixture)
        except TooFew as error:
            study.tell(f"{mixture}: left out, as {_reason(error)}")
            return None
        right = study.right(baseline._replace(fakes=True), drawn, seed, validation)
        return float(balanced((right - without[seed])[None], classes))

    def late() -> bool:
        """The rounds after the first take as long again, and then the verdict."""
        now = time.monotonic()
        return now - began > study.deadline - now - study.seconds(arms * seeds, seeds)

    rounds = list[list[Trial]]()
    room = (study.deadline - time.monotonic()) / study.each - arms * seeds
    study.expect(min(2 * len(candidates), max(2 * FEWEST_TRIED, int(room))) + arms * seeds)
    for trials in halve(candidates, try_one, late):
        if not trials:
            raise UserError(
                "no mixture of fakes can be made: of some class too few are there, or accepted; give more images, or "
                "train longer"
            )
        rounds.append(trials)
        study.expect((len(trials) if len(trials) > 1 else 0) + arms * seeds)
        study.tell(
            f"{len(trials)} mixture{'s' * (len(trials) > 1)} tried with {len(rounds)} seed{'s' * (len(rounds) > 1)}, "
            f"the best: {trials[0].mixture} ({signed(trials[0].mean)} points on validation images)"
        )
    return rounds


def _judge(
    study: _Study, arms: Sequence[Arm], rounds: list[list[Trial]], seeds: int, test: Pool
) -> tuple[Mixture, dict[Arm, Float[Tensor, "s t"]]]:
    """The best mixture of which fresh fakes can be made, and which test images classifiers of fresh seeds get right."""
    fresh = range(FRESH, FRESH + seeds)
    study.expect(len(arms) * seeds)
    ranked = dict.fromkeys(trial.mixture for trials in reversed(rounds) for trial in trials)
    chosen, drawn = _fresh(study, [*ranked], fresh)
    found = dict[Arm, Tensor]()
    for arm in arms:
        own = drawn
        if arm == ALONE:
            every = {number: count for number, count in enumerate(study.counts) if count}
            try:
                own = [study.draw(study.fakes.selections[0], None, every, seed) for seed in fresh]
            except TooFew:  # a folder need not have as many
                study.expect(study.to_come - seeds)
                continue
        found[arm] = torch.stack(
            [study.right(arm, own[i] if arm.fakes else None, seed, test) for i, seed in enumerate(fresh)]
        )
        per_seed = 100 * balanced(found[arm], test.labels.index())
        study.tell(f"{arm.name:32}{per_seed.mean():6.1f} ± {per_seed.std():.1f} %  of test images")
    return chosen, found


def _fresh(study: _Study, ranked: Sequence[Mixture], seeds: range) -> tuple[Mixture, list[Pool]]:
    """Fakes of each seed, of the first mixture of which enough are accepted."""
    for mixture in ranked:
        try:
            how = mixture.selection, mixture.truncation, study.mixed(mixture)
            return mixture, [study.draw(*how, seed) for seed in seeds]
        except TooFew as error:
            study.tell(f"{mixture}: left out, as {_reason(error)}")
    raise UserError("of no mixture enough fakes are accepted for every seed: give more images, or train longer")


def compare(
    correct: dict[Arm, Float[Tensor, "s t"]], baseline: Arm, index: Int[Tensor, " t"], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Compare arms by which test images (their classes: `index`) classifiers of the same seeds get right, 1 or 0.

    "verdict", "difference" and "interval": of the balanced accuracy of the baseline with fakes from that without;
    "accuracy": the same of all images alike; "per_class": of each class, corrected for their number; "comparisons":
    the same of other pairs of arms. A verdict of "no difference" is "no better than augmentation" where both help real
    images, fakes do not help more, and the baseline is augmented.
    """
    mixed, real_mixed = baseline._replace(fakes=True), REAL._replace(fakes=True)
    pairs = dict.fromkeys([(mixed, baseline), (real_mixed, REAL), (AUGMENTED, REAL), (real_mixed, AUGMENTED)])
    comparisons = {
        f"{one.name} over {other.name}": gain(correct[one] - correct[other], index=index) for one, other in pairs
    }
    of_pair = correct[mixed] - correct[baseline]
    found = gain(of_pair, index=index)
    of_fakes, of_augmentation, between = (
        comparisons[f"{one.name} over {other.name}"]["verdict"]
        for one, other in ((real_mixed, REAL), (AUGMENTED, REAL), (real_mixed, AUGMENTED))
    )
    alike = of_fakes == of_augmentation == HELPS != between
    if found["verdict"] == NO_DIFFERENCE and alike and baseline.augmented:
        found["verdict"] = NO_BETTER
    arms = {arm.name: _arm(one, index, classes) for arm, one in correct.items()}
    alone = arms.get(ALONE.name)
    return {
        **found,
        "baseline": baseline.name,
        "accuracy": gain(of_pair),
        "per_class": class_gains(of_pair, index, classes),
        "comparisons": comparisons,
        "arms": arms,
        "classification_accuracy_score": None if alone is None else alone["accuracy"]["mean"],
    }


def like(pool: Pool, real: Pool, what: str) -> Pool:
    """A pool with its classes numbered as those of the real images. Raises UserError unless it is of their kind."""
    fields, known = pool.labels.spec.fields, real.labels.spec
    if len(fields) != 1 or not fields[0].exclusive:
        raise UserError(f"{what} with attributes or several fields given: expected one class each; give class folders")
    if not len(pool.images):
        raise UserError(f"no {what} given: expected some of each class; give more data, or hold a larger share out")
    shape, expected = (" × ".join(map(str, one.images.shape[1:])) for one in (pool, real))
    if shape != expected:
        raise UserError(f"{what} of {shape} given (channels × height × width): expected {expected}, as real images are")
    classes = pool.labels.spec.classes
    if other := sorted({*classes} ^ {*known.classes}):
        whose = what if other[0] in classes else "real images"
        raise UserError(
            f"class '{other[0]}' is one of the {whose} only: expected {what} of the same {known.width} classes "
            "as the real images; give them under the same names"
        )
    return Pool(pool.images, counted_as(known, pool.labels))


def counted_as(spec: LabelSpec, labels: LabelTable) -> LabelTable:
    """The same labels in another vocabulary of the same classes."""
    numbers = torch.tensor([spec.classes.index(name) for name in labels.spec.classes])
    return labels.renumbered(spec, numbers)


def _reason(error: TooFew) -> str:
    """Why there are too few, without what else to ask for."""
    return str(error).partition(";")[0]


def _first(pool: Pool, counts: dict[int, int]) -> Pool:
    """The first images of each class, so many."""
    classes = pool.labels.index()
    chosen = torch.cat([(classes == number).nonzero().squeeze(1)[:count] for number, count in counts.items()])
    return Pool(pool.images[chosen], pool.labels.at(chosen))


def _arm(correct: Float[Tensor, "s t"], index: Int[Tensor, " t"], classes: tuple[str, ...]) -> dict[str, Any]:
    of_classes = zip(index.unique().tolist(), means_by_class(correct, index).T, strict=True)
    return {
        "balanced": _over_seeds(balanced(correct, index)),
        "accuracy": _over_seeds(correct.double().mean(1)),
        "per_class": {classes[number]: _over_seeds(one) for number, one in of_classes},
    }


def _over_seeds(accuracy: Float[Tensor, " s"]) -> dict[str, Any]:
    return {"mean": float(accuracy.mean()), "std": float(accuracy.std()), "values": accuracy.tolist()}


def _told(mixture: Mixture) -> dict[str, Any]:
    ratio = "balance" if mixture.ratio == TO_BALANCE else mixture.ratio
    return {"ratio": ratio, "selection": mixture.selection, "truncation": mixture.truncation}
