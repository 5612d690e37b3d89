"""How fast training is, by a clock that a test sets."""

import itertools
from collections.abc import Callable

import pytest
import torch

from condgan.labels import Field, LabelSpec
from condgan.recipes.load import load
from condgan.timing import ITERATIONS, TRAINING, WARM_UP, images_within, in_words, minutes_for, per_second
from tests.conftest import TINY, TINY_TRANSLATOR, images_per_second

DIGITS = LabelSpec.of_classes([str(digit) for digit in range(10)])


def ticking(seconds: float) -> Callable[[], float]:
    """A clock on which this much passes between any two looks."""
    return itertools.count(0.0, seconds).__next__


def test_iterations_are_counted_after_a_warm_up() -> None:
    before = torch.random.get_rng_state()
    recipe = load("digits-projection", [*TINY, "schedule.images=16"])
    assert images_per_second(recipe, DIGITS, ticking(0.01)) == pytest.approx(
        16 * ITERATIONS / (0.01 * (ITERATIONS + 1)), abs=1e-3
    )
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_iteration_is_enough_where_it_takes_long() -> None:
    recipe = load("digits-projection", TINY)
    assert images_per_second(recipe, DIGITS, ticking(5.0)) == pytest.approx(16 / 10)
    assert WARM_UP > 1, "or the test says nothing of it"


def test_no_more_are_timed_than_begin_in_a_moment() -> None:
    recipe = load("digits-projection", [*TINY, "schedule.images=16"])
    assert images_per_second(recipe, DIGITS, ticking(0.25)) == pytest.approx(16 * 3 / 1.0), "three in 0.75 seconds"


def test_labels_of_several_fields_are_timed() -> None:
    spec = LabelSpec((Field("faces", ("Young", "Smiling"), exclusive=False), Field("moods", ("happy", "sad", "calm"))))
    recipe = load("digits-stargan", [*TINY_TRANSLATOR, "data.size=16"])
    assert images_per_second(recipe, spec, ticking(5.0)) > 0


def test_minutes_and_images_are_told_by_each_other() -> None:
    assert images_within(10.0, 50.0) == 10 * 60 * 50 * TRAINING
    assert minutes_for(images_within(10.0, 50.0), 50.0) == pytest.approx(10)


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(0.4, "less than a minute"), (1.2, "about 1 minute"), (12.3, "about 12 minutes"), (180.0, "about 3 hours"),
     (72 * 60.0, "about 3 days")],
)  # fmt: skip
def test_a_time_is_said_in_words(minutes: float, said: str) -> None:
    assert in_words(minutes) == said


@pytest.mark.parametrize(("speed", "said"), [(1034.4, "1,030"), (12_345.6, "12,300"), (7.0, "7"), (0.1234, "0.123")])
def test_a_speed_is_told_to_three_digits(speed: float, said: str) -> None:
    assert per_second(speed) == said
