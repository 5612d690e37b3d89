import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from condgan.data.open import read
from condgan.evaluation import usefulness as module
from condgan.evaluation.classifier import train_classifier
from condgan.evaluation.usefulness import ARMS, Pool, as_table, compare, interval, usefulness
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError

NAMES = ["left", "right"]
SPEC = LabelSpec.of_classes(NAMES)
DIFFERENCES = arrays.arrays(
    np.float64, st.tuples(st.integers(3, 6), st.integers(1, 40)), elements=st.sampled_from([-1.0, 0.0, 1.0])
)


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "training_steps", lambda images, spec: 12)
    monkeypatch.setattr("condgan.evaluation.classifier.CLASSIFIER_BATCH", 16)


def halves(count: int, seed: int = 0, only: int | None = None, swapped: bool = False) -> Pool:
    """Images whose left or right half is bright: the class, unless they are swapped."""
    rng = np.random.default_rng(seed)
    index = rng.integers(2, size=count) if only is None else np.full(count, only)
    images = rng.integers(0, 120, (count, 1, 8, 8))
    for image, side in zip(images, index, strict=True):
        image[0, :, 4 * side : 4 * side + 4] += 100
    labels = LabelTable.from_index(SPEC, torch.from_numpy(1 - index if swapped else index))
    return Pool(torch.from_numpy(images.astype(np.uint8)), labels)


def simulated(rng: np.random.Generator, seeds: int, images: int, gain: float = 0, **spread: float) -> torch.Tensor:
    """Which images two kinds of classifier get right: latent scores of images, seeds, both, and each kind's own."""
    sd = {"image": 1.5, "own_image": 0.5, "seed": 0.1, "own_seed": 0.1, "rest": 0.7} | spread
    shared = rng.normal(0, sd["image"], images) + rng.normal(0, sd["seed"], (seeds, 1))
    own = (
        rng.normal(0, sd["own_image"], images)
        + rng.normal(0, sd["own_seed"], (seeds, 1))
        + rng.normal(0, sd["rest"], (seeds, images))
        for _ in range(2)
    )
    before, after = (2.5 + shared + one for one in own)
    return torch.from_numpy((after + gain > 0).astype(float) - (before > 0))


@pytest.mark.parametrize(
    ("seeds", "images", "spread", "least", "most"),
    [
        (3, 359, {}, 0.005, 0.08),
        (5, 359, {}, 0.005, 0.06),
        (5, 359, {"own_image": 1.5, "rest": 0.2, "own_seed": 0}, 0.02, 0.07),
        (5, 1600, {"own_seed": 0.5}, 0.02, 0.07),
        (5, 36, {}, 0, 0.05),
    ],
)
def test_no_difference_is_seldom_called_one(
    seeds: int, images: int, spread: dict[str, float], least: float, most: float
) -> None:
    rng = np.random.default_rng(1)
    found = [
        low > 0 or high < 0 for low, high in (interval(simulated(rng, seeds, images, **spread)) for _ in range(600))
    ]
    assert least <= np.mean(found) <= most


def test_a_large_difference_is_found_and_has_its_sign() -> None:
    rng = np.random.default_rng(2)
    found = [interval(simulated(rng, 5, 359, gain=1))[0] > 0 for _ in range(200)]
    assert np.mean(found) > 0.95


@given(st.integers(1, 400), st.integers(0, 400), st.integers(0, 400))
def test_where_seeds_agree_it_is_the_interval_of_agresti_and_min(same: int, gained: int, lost: int) -> None:
    n = same + gained + lost
    one = torch.tensor([0.0] * same + [1.0] * gained + [-1.0] * lost)
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    error = np.sqrt(b + c - (b - c) ** 2 / total) / total
    expected = (b - c) / total + scipy.stats.t.ppf([0.025, 0.975], n + 1) * error
    assert interval(one.expand(3, -1)) == pytest.approx(tuple(expected))


@given(st.integers(0, 1000), st.integers(3, 8))
def test_where_only_seeds_differ_it_is_students(seed: int, seeds: int) -> None:
    of_seed = np.random.default_rng(seed).normal(0, 0.2, seeds)
    expected = scipy.stats.ttest_1samp(of_seed, 0).confidence_interval(0.95)
    assert interval(torch.from_numpy(of_seed)[:, None].expand(-1, 20_000)) == pytest.approx(tuple(expected), abs=2e-3)


@given(DIFFERENCES)
def test_an_interval_holds_what_was_seen_and_has_no_favorite(differences: np.ndarray) -> None:
    low, high = interval(torch.from_numpy(differences))
    assert low <= differences.mean() <= high
    assert interval(torch.from_numpy(-differences)) == pytest.approx((-high, -low))
    wider = interval(torch.from_numpy(differences), 0.995)
    assert wider[0] < low < high < wider[1]


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_prove_nothing_even_if_all_agree(images: int) -> None:
    low, high = interval(torch.ones(5, images), 0.995)
    assert low < 0 < high


def test_what_was_right_is_compared_by_arm_and_class() -> None:
    rng = np.random.default_rng(0)
    classes, index = ("a", "b", "unseen"), np.repeat([0, 1], [30, 20])
    right = (rng.random((3, 4, 50)) < np.array([0.4, 0.9, 0.6])[:, None, None]).astype(np.float32)
    result = compare(torch.from_numpy(right), torch.from_numpy(index), classes)
    for arm, one in zip(ARMS, right, strict=True):
        accuracy, of_a = one.mean(1), one[:, :30].mean(1)
        seen = result["arms"][arm]
        assert seen["accuracy"]["values"] == pytest.approx(accuracy)
        assert seen["accuracy"]["mean"] == pytest.approx(accuracy.mean())
        assert seen["accuracy"]["std"] == pytest.approx(accuracy.std(ddof=1))
        assert seen["per_class"]["a"] == {"mean": pytest.approx(of_a.mean()), "std": pytest.approx(of_a.std(ddof=1))}
    assert result["classification_accuracy_score"] == pytest.approx(right[2].mean())
    assert result["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    assert tuple(result["interval"]) == interval(torch.from_numpy(right[1] - right[0]))
    assert result["verdict"] == "helps"
    assert set(result["per_class"]) == {"a", "b"}
    of_b = torch.from_numpy(right[1] - right[0])[:, 30:]
    assert tuple(result["per_class"]["b"]["interval"]) == interval(of_b, 0.975)
    swapped = compare(torch.from_numpy(right[[1, 0, 2]]), torch.from_numpy(index), classes)
    assert swapped["verdict"] == "hurts"
    assert swapped["difference"] == pytest.approx(-result["difference"])


@pytest.mark.usefixtures("_short")
def test_fakes_of_a_class_that_was_missing_help_and_mislabeled_ones_hurt() -> None:
    test = halves(200, seed=9)
    missing = usefulness(halves(50, only=0), lambda seed: halves(60, seed + 1), test, 3)
    assert missing["verdict"] == "helps"
    assert missing["per_class"]["right"]["verdict"] == "helps"
    assert missing["arms"]["real"]["per_class"]["right"]["mean"] == 0
    assert missing["classification_accuracy_score"] > 0.9
    assert [missing[name] for name in ("seeds", "n_real", "n_fakes", "n_test")] == [3, 50, 60, 200]
    wrong = usefulness(halves(50), lambda seed: halves(500, seed + 1, swapped=True), test, 3)
    assert wrong["verdict"] == "hurts"
    assert wrong["classification_accuracy_score"] < 0.1


def test_arms_of_a_seed_differ_in_their_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, drawn = [], []

    def train(images, labels, steps, seed, device):
        trained.append((len(images), steps, seed))
        return train_classifier(images, labels, 2, seed, device)

    def draw(seed):
        drawn.append(seed)
        return halves(50)

    monkeypatch.setattr(module, "train_classifier", train)
    arms = usefulness(halves(50), draw, halves(100, seed=9), 3)["arms"]
    assert drawn == [0, 1, 2]
    assert trained == [(count, 50, seed) for seed in range(3) for count in (50, 100, 50)]
    assert arms["fakes"] == arms["real"]  # they are the same images
    assert len(set(arms["real"]["accuracy"]["values"])) > 1


def test_classes_go_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "training_steps", lambda images, spec: 3)
    right, fakes = halves(50), halves(60, seed=1)
    turned = LabelTable.from_index(LabelSpec.of_classes(NAMES[::-1]), 1 - fakes.labels.index())
    results = [
        usefulness(right, lambda seed, of=of: of, halves(50, seed=9), 3) for of in (fakes, Pool(fakes[0], turned))
    ]
    assert results[0] == results[1]


def named(pool: Pool, *names: str) -> Pool:
    return Pool(pool.images, LabelTable.from_index(LabelSpec.of_classes(names), pool.labels.index()))


ATTRIBUTES = LabelSpec((Field("attributes", tuple(NAMES), exclusive=False),))
WRONG = {
    "seeds": ({"seeds": 2}, "2 seeds given: expected 3 or more"),
    "one class": ({pool: named(halves(9, only=0), "left") for pool in ("real", "fakes", "test")}, "one class.*'left'"),
    "names": ({"fakes": named(halves(9), "left", "up")}, "'right' is one of the real images only: expected fakes"),
    "more names": ({"test": named(halves(9), *NAMES, "up")}, "'up' is one of the test images only"),
    "shape": (
        {"fakes": Pool(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), halves(9).labels)},
        "fakes of 3 × 8 × 8 given .*: expected 1 × 8 × 8",
    ),
    "no tests": ({"test": halves(0)}, "no test images given"),
    "attributes": (
        {"real": Pool(halves(9).images, LabelTable.from_values(ATTRIBUTES, torch.ones(9, 2).bool()))},
        "training images with attributes",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_compared_is_refused_in_a_line(wrong: str) -> None:
    changed, message = WRONG[wrong]
    given = {"real": halves(9), "fakes": halves(9), "test": halves(9), "seeds": 3} | changed
    with pytest.raises(UserError, match=message) as refusal:
        usefulness(given["real"], lambda seed: given["fakes"], given["test"], given["seeds"])
    assert "\n" not in str(refusal.value)


def test_the_table_ends_with_the_verdict() -> None:
    right = torch.zeros(3, 5, 359)
    right[0, :, :350], right[1, :, :351], right[2, :, :300] = 1, 1, 1
    result = compare(right, torch.arange(359) % 2, ("a", "b"))
    lines = as_table({"seeds": 5, "n_real": 1800, "n_fakes": 900, "n_test": 359} | result).splitlines()
    assert lines[1] == "trained on 1,800 real images, on these and 900 fakes, and on the fakes"
    assert lines[2].split() == ["class", *ARMS, "difference", "interval", "verdict"]
    assert [line.split()[0] for line in lines[3:6]] == ["a", "b", "all"]
    assert lines[5].split()[:12] == ["all", "97.5", "±", "0.0", "97.8", "±", "0.0", "83.6", "±", "0.0", "+0.3", "−0.5"]
    assert lines[-2] == "classification accuracy score: 83.6 %"
    assert lines[-1] == ("verdict: no difference (+0.3 %, 95 % interval −0.5 … +1.0 %, 5 seeds, 359 test images)")


@pytest.mark.slow
def test_more_real_digits_help_and_noise_does_not() -> None:
    digits = read("digits", 16, 1)
    order = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0))
    few, others = (digits.train.at(part) for part in (order[:180], order[180:]))
    real, test = (Pool(one.images, one.labels) for one in (few, digits.held_out))
    more = usefulness(real, lambda seed: Pool(others.images, others.labels), test, 3)
    assert more["verdict"] == "helps"

    def noise(seed):
        drawing = torch.Generator().manual_seed(seed)
        return Pool(torch.randint(256, real.images.shape, generator=drawing).byte(), real.labels)

    assert usefulness(real, noise, test, 3)["verdict"] != "helps"
