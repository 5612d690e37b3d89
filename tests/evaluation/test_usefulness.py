"""Whether fakes help a classifier: the search, the verdict, and what is told of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.utility_simulation import KINDS, simulate
from condgan.evaluation import advice as module
from condgan.evaluation import usefulness as usefulness_module
from condgan.evaluation.advice import advice, as_table
from condgan.evaluation.paired import balanced, class_gains, gain
from condgan.evaluation.selection import TooFew
from condgan.evaluation.usefulness import (
    ALONE,
    AUGMENTED,
    BASELINES,
    FRESH,
    REAL,
    Arm,
    Pool,
    compare,
    usefulness,
)
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError

NAMES = ["left", "right"]
SPEC = LabelSpec.of_classes(NAMES)
MIXED, REAL_MIXED = AUGMENTED._replace(fakes=True), REAL._replace(fakes=True)


def halves(count: int, seed: int = 0, only: int | None = None, swapped: bool = False) -> Pool:
    """Images whose left or right half is bright: the class, unless they are swapped."""
    rng = np.random.default_rng(seed)
    index = rng.integers(2, size=count) if only is None else np.full(count, only)
    images = rng.integers(0, 120, (count, 1, 8, 8))
    for image, side in zip(images, index, strict=True):
        image[0, :, 4 * side : 4 * side + 4] += 15
    labels = LabelTable.from_index(SPEC, torch.from_numpy(1 - index if swapped else index))
    return Pool(torch.from_numpy(images.astype(np.uint8)), labels)


@dataclass
class Means:
    """The class whose weighted mean image is nearest; which images it is shown, and which it is asked about."""

    augmentations: Sequence[str] = ("crops",)
    asked: list[tuple[int, Tensor, Tensor, str | None]] = field(default_factory=list)

    def learn(
        self, images: Tensor, classes: Tensor, weights: Tensor, augmentation: str | None, seed: int
    ) -> Callable[[Tensor], Tensor]:
        drawing = torch.Generator().manual_seed(seed)
        means = torch.full((len(weights), images[0].numel()), torch.inf)
        for number in classes.unique().tolist():
            means[number] = images[classes == number].flatten(1).float().mean(0)
        means += torch.randn(means.shape, generator=drawing)

        def tell(others: Tensor) -> Tensor:
            self.asked.append((seed, images, others, augmentation))
            return torch.cdist(others.flatten(1).float(), means).nan_to_num(nan=torch.inf).argmin(1)

        return tell


@dataclass
class Drawn:
    """Fakes of some selections, each by a function of (counts, seed)."""

    by: dict[str, Callable[[dict[int, int], int], Pool]]
    drawn: list[tuple[str, float | None, dict[int, int], int]] = field(default_factory=list)
    truncations: Sequence[float | None] = (None, 0.7)
    there: Sequence[int] | None = None
    prepare: Callable[[], None] = lambda: None

    @property
    def selections(self) -> list[str]:
        return [*self.by]

    def draw(self, selection: str, truncation: float | None, counts: dict[int, int], seed: int) -> Pool:
        self.drawn.append((selection, truncation, counts, seed))
        return self.by[selection](counts, seed)


def good(counts: dict[int, int], seed: int, swapped: bool = False) -> Pool:
    return together(*(halves(count, 100 + seed, number, swapped) for number, count in counts.items()))


def bad(counts: dict[int, int], seed: int) -> Pool:
    return good(counts, seed, swapped=True)


def scarce(counts: dict[int, int], seed: int) -> Pool:
    raise TooFew("centroid accepted 0 of 64 images of class 'left': expected 2")


def together(*pools: Pool) -> Pool:
    codes = torch.cat([one.labels.codes for one in pools])
    return Pool(torch.cat([one.images for one in pools]), LabelTable(SPEC, codes))


def few(count: int = 30) -> Pool:
    """Of the right half, hardly any."""
    return together(halves(count, 1, 0), halves(2, 2, 1))


def test_the_selection_that_helps_is_found_and_the_verdict_is_on_other_images_with_other_seeds() -> None:
    real, validation, test = few(), halves(80, 3), halves(300, 4)
    learner, fakes = Means(), Drawn({"none": bad, "agreement": good, "centroid": scarce})
    found = usefulness(real, fakes, validation, test, learner, 4, minutes=1.0)
    assert found["verdict"] == "helps"
    assert found["chosen"]["selection"] == "agreement"
    assert found["chosen"]["counts"] == {"right": found["n_fakes"]}, "fakes are for the rare class alone"
    assert {one["selection"] for one in found["search"]} == {"none", "agreement"}
    of_test = [one for one in learner.asked if one[2] is test.images]
    assert len(of_test) + sum(one[2] is validation.images for one in learner.asked) == len(learner.asked)
    assert {seed for seed, *_ in of_test} == {*range(FRESH, FRESH + 4)}
    assert all(seed < FRESH for seed, _, asked, _ in learner.asked if asked is validation.images)
    fresh = [one for one in fakes.drawn if one[3] >= FRESH]
    assert {seed for *_, seed in fresh} == {*range(FRESH, FRESH + 4)}
    assert found["seeds"] == 4
    assert found["classifiers"] == len(learner.asked)
    assert [found[name] for name in ("n_real", "n_validation", "n_test")] == [32, 80, 300]


def test_without_time_the_verdict_has_what_it_needs() -> None:
    fakes = Drawn({"none": good})
    found = usefulness(few(), fakes, halves(40, 3), halves(90, 4), Means(), 3, minutes=1e-9)
    baseline = found["baseline"]
    assert {*found["arms"]} == {"real", "augmented", baseline, "real+fakes", f"{baseline}+fakes"}
    assert found["classification_accuracy_score"] is None
    whole = usefulness(few(), fakes, halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)
    assert len(whole["arms"]) == 9, "real, augmented, reweighted, both; each with fakes; fakes alone"
    assert whole["classification_accuracy_score"] == whole["arms"]["fakes"]["accuracy"]["mean"]


@pytest.mark.parametrize("drawing", [0.0, 1.5])
def test_it_takes_the_time_that_is_given_and_tells_what_is_left(
    drawing: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seconds of a clock that only classifiers and draws of fakes turn."""
    now = 0.0
    monkeypatch.setattr(usefulness_module, "time", SimpleNamespace(monotonic=lambda: now))

    class Slow(Means):
        def learn(self, images, classes, weights, augmentation, seed):
            nonlocal now
            now += 1
            return super().learn(images, classes, weights, augmentation, seed)

    def drawn(counts: dict[int, int], seed: int) -> Pool:
        nonlocal now
        now += drawing
        return good(counts, seed)

    def prepare() -> None:
        nonlocal now
        now += 10

    fakes = Drawn({"none": drawn, "agreement": drawn, "centroid": drawn}, prepare=prepare)
    found = usefulness(few(), fakes, halves(40, 3), halves(90, 4), Slow(), 5, minutes=2.0)
    assert 90 < now < 125
    assert 4 < len([one for one in found["search"] if one["round"] == 0]) < 30
    told = capsys.readouterr().err
    lefts = [line.rpartition("(")[2] for line in told.splitlines() if line.endswith(" left)")]
    assert len(lefts) > 5
    assert lefts[0] == "1 min 48 s left)", "the search takes what is left of the time given"
    assert lefts[-1] == "5 s left)", "the last arm but one leaves five classifiers"
    assert "are needed" not in told
    now = 0.0
    usefulness(few(), fakes, halves(40, 3), halves(90, 4), Slow(), 5, minutes=0.1)
    told = capsys.readouterr().err
    assert told.splitlines()[0] == "32 real images to learn from, 40 to choose by, 90 for the verdict"
    assert "so few tell large differences alone: hold more out" in told
    first, second, third = [line for line in told.splitlines() if line.endswith(" left)") or "needed" in line][:3]
    assert first.endswith("(34 s left)"), "the other baselines, four mixtures and the least of a verdict"
    assert second == "34 s more are needed at the least, longer than asked for; --seeds 3 takes less"
    assert third.endswith("(32 s left)")


def test_classes_that_are_even_are_not_reweighted_and_all_get_fakes() -> None:
    even = together(halves(10, 1, 0), halves(9, 2, 1))
    found = usefulness(even, Drawn({"none": good}), halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)
    assert {*found["arms"]} == {"real", "augmented", "real+fakes", "augmented+fakes", "fakes"}
    assert found["chosen"]["counts"].keys() == {*NAMES}


def test_fakes_of_a_folder_may_be_too_few_to_be_judged_alone() -> None:
    def at_most(counts: dict[int, int], seed: int) -> Pool:
        if sum(counts.values()) > 29:
            raise TooFew("there are 29 images of class 'left': expected 30")
        return good(counts, seed)

    fakes = Drawn({"none": at_most})
    found = usefulness(few(), fakes, halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)
    assert "fakes" not in found["arms"]
    assert found["classification_accuracy_score"] is None


def test_fakes_of_which_none_are_accepted_are_refused() -> None:
    with pytest.raises(UserError, match="^no mixture of fakes can be made"):
        usefulness(few(), Drawn({"none": scarce}), halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)


def test_where_fresh_fakes_are_too_few_the_next_best_mixture_is_judged() -> None:
    def at_first(counts: dict[int, int], seed: int) -> Pool:
        return good(counts, seed) if seed < FRESH + 2 else scarce(counts, seed)

    fakes = Drawn({"none": bad, "agreement": at_first})
    found = usefulness(few(), fakes, halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)
    assert found["search"][-1]["selection"] == "agreement"
    assert found["chosen"]["selection"] == "none"
    only = Drawn({"none": at_first})
    with pytest.raises(UserError, match="of no mixture enough fakes are accepted for every seed"):
        usefulness(few(), only, halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)


def test_what_failed_is_not_drawn_again_and_what_is_there_is_shared() -> None:
    fakes = Drawn({"none": good, "centroid": scarce}, truncations=(None,))
    usefulness(few(), fakes, halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)
    tried = [sum(counts.values()) for selection, _, counts, seed in fakes.drawn if selection == "centroid"]
    assert len(tried) <= 5
    assert tried == sorted(tried, reverse=True), "only fewer than what failed"
    drawn = [sum(counts.values()) for selection, _, counts, seed in fakes.drawn if selection == "none" and seed == 0]
    assert drawn == sorted({*drawn}), "only more than what is there"


def test_of_fakes_that_are_given_as_many_are_used_as_there_are() -> None:
    fakes = Drawn({"none": good}, truncations=(None,), there=[5, 7])
    found = usefulness(few(), fakes, halves(40, 3), halves(90, 4), Means(), 3, minutes=1.0)
    assert found["chosen"]["counts"] == {"right": found["n_fakes"]}
    assert max(sum(counts.values()) for _, _, counts, seed in fakes.drawn if seed == 0) == 7


@dataclass
class Rates:
    """Tells classes right as often as a rate by (augmentation, whether re-weighted, how many fakes) says."""

    rate: Callable[[str | None, bool, int], float]
    real: int
    augmentations: Sequence[str] = ("bad", "crops", "worse")
    seen: list[tuple[int, str | None, bool, int]] = field(default_factory=list)

    def learn(
        self, images: Tensor, classes: Tensor, weights: Tensor, augmentation: str | None, seed: int
    ) -> Callable[[Tensor], Tensor]:
        key = augmentation, len(set(weights.tolist())) > 1, len(images) - self.real
        self.seen.append((seed, *key))
        drawing = torch.Generator().manual_seed(seed)

        def tell(others: Tensor) -> Tensor:
            truth = (others[:, 0, :, 4:].float().mean((1, 2)) > others[:, 0, :, :4].float().mean((1, 2))).long()
            wrong = torch.rand(len(others), generator=drawing) > self.rate(*key)
            return torch.where(wrong, 1 - truth, truth)

        return tell


def test_the_best_baseline_is_what_fakes_must_beat_and_the_best_ratio_is_found() -> None:
    def rate(augmentation: str | None, reweighted: bool, fakes: int) -> float:
        mine = 0.1 if augmentation == "crops" and reweighted else 0.05 if augmentation == "crops" else 0.0
        return 0.7 + mine + (0.1 if fakes == 4 else 0.0)

    learner = Rates(rate, 32)
    found = usefulness(few(), Drawn({"none": good}), halves(600, 3), halves(800, 4), learner, 5, minutes=1.0)
    assert found["baseline"] == "augmented+reweighted"
    assert found["augmentation"] == "crops"
    assert found["chosen"]["counts"] == {"right": 4}
    searched = [one for one in learner.seen if one[0] < FRESH and one[3] > 0]
    assert all(augmentation == "crops" for _, augmentation, _, _ in searched)
    assert len({fakes for *_, fakes in searched}) > 2, "each ratio is of its own number of fakes"
    beside = [(augmentation, reweighted) for seed, augmentation, reweighted, fakes in learner.seen
              if fakes == 0 and 2 <= seed < FRESH]  # fmt: skip
    assert {*beside} == {("crops", True)}, "fakes are held against the baseline"


def test_reweighting_is_by_the_images_that_are_learned_from() -> None:
    seen: list[tuple[int, list[float]]] = []

    class Weighing(Means):
        def learn(self, images, classes, weights, augmentation, seed):
            seen.append((len(images), weights.tolist()))
            assert weights[classes].mean() == pytest.approx(1, abs=1e-5)
            return super().learn(images, classes, weights, augmentation, seed)

    usefulness(few(), Drawn({"none": good}), halves(40, 3), halves(90, 4), Weighing(), 3, minutes=1.0)
    assert (32, [1.0, 1.0]) in seen
    assert (32, pytest.approx([32 / 60, 32 / 4])) in seen
    assert {count for count, weights in seen if weights != [1.0, 1.0]} == {32}, (
        "with fakes up to balance all weigh alike"
    )


def right(rates: dict[Arm, float], images: int = 400, classes: int = 4, seed: int = 0) -> dict[Arm, Tensor]:
    """The same images are hard for all arms."""
    rng = np.random.default_rng(seed)
    hard = rng.random(images)
    made = {arm: (hard[None] + 0.02 * rng.normal(size=(5, images)) < rate).astype(float) for arm, rate in rates.items()}
    return {arm: torch.from_numpy(one) for arm, one in made.items()}


VERDICTS = {
    "helps": ({REAL: 0.5, AUGMENTED: 0.6, REAL_MIXED: 0.6, MIXED: 0.75}, "The images help: +1"),
    "hurts": ({REAL: 0.5, AUGMENTED: 0.6, REAL_MIXED: 0.4, MIXED: 0.45}, "The images hurt: −1"),
    "no difference": (
        {REAL: 0.5, AUGMENTED: 0.6, REAL_MIXED: 0.5, MIXED: 0.6},
        "The images make no difference that 400 test",
    ),
    "no better than augmentation": (
        {REAL: 0.4, AUGMENTED: 0.6, REAL_MIXED: 0.55, MIXED: 0.6},
        "The images are no better than augmentation: without it they give +1",
    ),
}


def told(rates: dict[Arm, float], baseline: Arm = AUGMENTED) -> dict:
    """What `usefulness` would return."""
    names = ("a", "b", "c", "d")
    found = compare(right(rates), baseline, torch.arange(400) % 4, names)
    chosen = {"ratio": "balance", "selection": "agreement", "truncation": 0.7, "counts": {"a": 30, "c": 4}}
    counts = dict(zip(names, (70, 100, 96, 100), strict=True))
    sizes = {"seeds": 5, "n_real": 366, "n_validation": 390, "n_test": 400, "n_fakes": 34, "augmentation": "crops"}
    found |= sizes | {"chosen": chosen, "real_counts": counts}
    return found | {"advice": advice(found)}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_says_what_to_do(verdict: str) -> None:
    rates, begin = VERDICTS[verdict]
    found = told(rates)
    assert found["verdict"] == verdict
    assert found["advice"].startswith(begin)
    next_step = {"helps": "--write OUT", "no better than augmentation": "Train with crops"}.get(
        verdict, "Leave them out"
    )
    assert next_step in found["advice"]


def test_no_better_than_augmentation_wants_it_to_help_and_to_be_in_the_baseline() -> None:
    rates = VERDICTS["no better than augmentation"][0]
    assert told(rates, REAL)["verdict"] == "helps", "the baseline is what the images join"
    reweighted, both = BASELINES[2:]
    more = {reweighted: 0.6, reweighted._replace(fakes=True): 0.6, both: 0.6, both._replace(fakes=True): 0.6}
    assert told(rates | more, reweighted)["verdict"] == "no difference"
    found = told(rates | more, both)
    assert found["verdict"] == "no better than augmentation"
    assert "Train with crops, re-weighted by class," in found["advice"]
    useless = {REAL: 0.5, AUGMENTED: 0.5, REAL_MIXED: 0.62, MIXED: 0.503}
    found = told(useless)
    assert found["verdict"] == "no difference"
    assert "Without augmentation they do better than it does: +1" in found["advice"]


def test_classes_that_change_are_named() -> None:
    found = told(VERDICTS["helps"][0])
    none = found["per_class"]["a"] | {"verdict": "no difference"}
    found["per_class"] = dict.fromkeys("bcd", none) | {"a": none | {"verdict": "helps"}}
    assert " Classes that gain: a. Add" in advice(found)
    found["per_class"] |= {"b": none | {"verdict": "hurts"}, "c": none | {"verdict": "hurts"}}
    assert " Classes that gain: a. Classes that lose: b, c. Add" in advice(found)


def test_few_images_of_a_class_are_told() -> None:
    found = told(VERDICTS["no difference"][0])
    assert "trained longer" in found["advice"]
    found["real_counts"]["b"] = 49
    assert "1 of 4 classes have fewer than 50" in advice(found)


def test_arms_are_compared_by_balanced_accuracy_and_by_class() -> None:
    index = torch.from_numpy(np.repeat([0, 1, 3], [300, 80, 20]))
    correct = right(VERDICTS["helps"][0] | {ALONE: 0.3})
    found = compare(correct, AUGMENTED, index, ("a", "b", "unseen", "d"))
    of_pair = correct[MIXED] - correct[AUGMENTED]
    assert {name: found[name] for name in ("difference", "interval", "verdict")} == gain(of_pair, index=index)
    assert found["accuracy"] == gain(of_pair)
    assert found["per_class"] == class_gains(of_pair, index, ("a", "b", "unseen", "d"))
    assert [*found["comparisons"]] == [
        "augmented+fakes over augmented", "real+fakes over real", "augmented over real", "real+fakes over augmented",
    ]  # fmt: skip
    bare = found["comparisons"]["real+fakes over real"]
    assert bare == gain(correct[REAL_MIXED] - correct[REAL], index=index)
    of_real = found["arms"]["real"]
    assert of_real["balanced"]["values"] == pytest.approx(balanced(correct[REAL], index).tolist())
    assert of_real["accuracy"]["mean"] == pytest.approx(float(correct[REAL].mean()))
    assert of_real["per_class"]["d"]["std"] == pytest.approx(float(correct[REAL][:, 380:].mean(1).std()))
    assert found["classification_accuracy_score"] == pytest.approx(float(correct[ALONE].mean()))


def test_the_table_ends_with_the_verdict() -> None:
    found = told(VERDICTS["helps"][0])
    lines = as_table(found).splitlines()
    assert lines[0] == "accuracy in %, mean ± standard deviation of 5 seeds, on 400 test images;"
    assert lines[1] == (
        "366 real images, augmented by crops; the fakes: up to balance, selected by agreement, truncation 0.7 (34), "
        "chosen on 390 other images"
    )
    heads = [line.split("  ")[0] for line in lines]
    for head in ("trained on", "real", "augmented+fakes", "real+fakes over real", "class", "a", "d"):
        assert head in heads
    row = next(line for line in lines if line.startswith("a  "))
    assert row.split()[:3] == ["a", "70", "30"]
    assert lines[-1] == f"verdict: helps. {found['advice']}"


def test_of_many_classes_those_that_change_most_are_listed() -> None:
    names = tuple(f"class {number:03}" for number in range(100))
    rates = VERDICTS["helps"][0]
    found = told(rates) | compare(right(rates), AUGMENTED, torch.arange(400) % 100, names)
    found |= {"real_counts": dict.fromkeys(names, 60)}
    table = as_table(found)
    assert sum(line.startswith("class 0") for line in table.splitlines()) == module.LISTED
    assert "… and 80 classes that change less" in table


def named(pool: Pool, *names: str) -> Pool:
    return Pool(pool.images, LabelTable.from_index(LabelSpec.of_classes(names), pool.labels.index()))


ATTRIBUTES = LabelSpec((Field("attributes", tuple(NAMES), exclusive=False),))
WRONG = {
    "seeds": ({"seeds": 2}, "2 seeds given: expected 3 or more"),
    "one class": ({pool: named(halves(9, only=0), "left") for pool in ("real", "validation", "test")}, "one class"),
    "more names": ({"test": named(halves(9), *NAMES, "up")}, "'up' is one of the held-out images only"),
    "shape": (
        {"test": Pool(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), halves(9).labels)},
        "held-out images of 3 × 8 × 8 given .*: expected 1 × 8 × 8",
    ),
    "no tests": ({"test": halves(0)}, "no held-out images given"),
    "attributes": (
        {"real": Pool(halves(9).images, LabelTable.from_values(ATTRIBUTES, torch.ones(9, 2).bool()))},
        "training images with attributes",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_compared_is_refused_in_a_line(wrong: str) -> None:
    changed, message = WRONG[wrong]
    given = {"real": halves(9), "validation": halves(9), "test": halves(9), "seeds": 3} | changed
    pools = given["real"], Drawn({"none": good}), given["validation"], given["test"]
    with pytest.raises(UserError, match=message) as refusal:
        usefulness(*pools, Means(), given["seeds"])
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_of_what_cannot_help_hardly_any_verdict_says_so(kind: str) -> None:
    helps = sum(simulate(1_000 + time, kind, 5) == "helps" for time in range(40))
    assert helps >= 20 if kind == "real images" else helps <= 4
