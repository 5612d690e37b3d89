"""Which fakes join the real images, and the search for the best of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from condgan.evaluation.mixtures import FEWEST_TRIED, RATIOS, TO_BALANCE, Mixture, halve, mixtures, unbalanced

COUNTS = st.lists(st.integers(1, 600), min_size=2, max_size=8)


@given(COUNTS, st.sampled_from([*RATIOS, TO_BALANCE]))
def test_rare_classes_are_filled_up_to_the_largest_and_others_get_their_share(real: list[int], ratio: float) -> None:
    counts = Mixture(ratio, "none").counts(real)
    assert all(count > 0 for count in counts.values())
    for number, count in enumerate(real):
        if not unbalanced(real):
            assert ratio == TO_BALANCE or counts.get(number, 0) == round(ratio * count)
        else:
            assert counts.get(number, 0) + count <= max(real)
            if ratio == TO_BALANCE:
                assert counts.get(number, 0) + count == max(real)
            elif counts.get(number, 0) + count < max(real):
                assert counts.get(number, 0) == round(ratio * count)


SELECTIONS = ["none", "agreement", "centroid", "discriminator"]


@given(COUNTS, st.integers(1, 4), st.integers(1, 2))
def test_candidates_are_all_that_there_are_once(real: list[int], selections: int, truncations: int) -> None:
    every = mixtures(real, SELECTIONS[:selections], [None, 0.7][:truncations])
    ratios = {one.ratio for one in every}
    assert len(every) == len({*every}) == len(ratios) * selections * truncations
    counts = [tuple(Mixture(ratio, "none").counts(real).items()) for ratio in ratios]
    assert all(counts)
    assert len({*counts}) == len(counts)


def test_the_first_candidates_differ_in_everything_and_promise_most() -> None:
    even, uneven = [100, 120], [100, 500]
    assert {one.ratio for one in mixtures(uneven, ["none"], [None])} == {*RATIOS, TO_BALANCE}
    assert {one.ratio for one in mixtures([2, 6], ["none"], [None])} == {0.5, 1, 2}, "¼ adds none, balance is ratio 2"
    assert mixtures(uneven, SELECTIONS, [None, 0.7])[:FEWEST_TRIED] == [
        Mixture(TO_BALANCE, "agreement", None), Mixture(1.0, "centroid", 0.7), Mixture(0.5, "discriminator", None),
        Mixture(2.0, "none", 0.7),
    ]  # fmt: skip
    for counts in (even, uneven):
        first = mixtures(counts, SELECTIONS, [None, 0.7])[:FEWEST_TRIED]
        assert {one.selection for one in first} == {*SELECTIONS}
        assert len({one.ratio for one in first}) == 4
        assert {one.truncation for one in first} == {None, 0.7}


def test_halving_finds_the_best_and_gives_it_most_seeds() -> None:
    every = mixtures([100, 100], ["none", "agreement", "centroid"], [None, 0.7])
    truth = {one: 0.1 * number for number, one in enumerate(every)}
    rng, tried = np.random.default_rng(0), list[tuple[Mixture, int]]()

    def try_one(mixture: Mixture, seed: int) -> float:
        tried.append((mixture, seed))
        return truth[mixture] + rng.normal(0, 0.05)

    rounds = list(halve(every, try_one, lambda: False))
    assert [len(trials) for trials in rounds] == [24, 12, 6, 3, 2, 1]
    (best,) = rounds[-1]
    assert best.mixture == every[-1]
    assert len(best.gains) == 6
    assert len(tried) == len({*tried}) == 48, "none is tried twice with a seed"
    assert {seed for mixture, seed in tried if mixture == best.mixture} == {*range(6)}


def test_when_it_is_late_some_are_tried_all_the_same() -> None:
    every = mixtures([100, 100], ["none", "agreement"], [None])
    first, *_, last = halve(every, lambda mixture, seed: mixture.ratio, lambda: True)
    assert len(first) == FEWEST_TRIED
    assert len(last) == 1


def test_what_cannot_be_made_is_left_out() -> None:
    every = mixtures([100, 100], ["none", "agreement"], [None])

    def try_one(mixture: Mixture, seed: int) -> float | None:
        return None if mixture.selection == "agreement" else -mixture.ratio

    first, *_, last = halve(every, try_one, lambda: False)
    assert {trial.mixture.selection for trial in first} == {"none"}
    assert last[0].mixture == Mixture(0.25, "none")
    assert list(halve(every, lambda mixture, seed: None, lambda: False)) == [[]]
