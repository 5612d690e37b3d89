"""Each sentence of a verdict, from numbers that have the fault."""

from typing import Any

import numpy as np
import pytest

from condgan.evaluation.metrics.texture import Contrasts, compare_textures
from condgan.evaluation.verdict import (
    COURSE_RULES,
    GENERATOR_RULES,
    REMARKS,
    TRANSLATOR_RULES,
    Course,
    is_telling,
    verdict_of,
)
from tests.evaluation.test_texture import photographs

ABOUT = {"fakes": 200, "real": 200, "ceilings": 200, "extractor_accuracy": 0.98}
REAL = {"label_agreement": 0.99, "precision": 0.9, "coverage": 0.95, "intra_class_diversity": 7.0, "fd_classifier": 1.0}
GOOD = REAL | {"copies": 0.01, "grain": 0.0}
REAL_OF_TRANSLATOR = {"attribute_accuracy": 0.98, "kept_accuracy": 0.97, "content_accuracy": 0.9}
GOOD_TRANSLATOR = REAL_OF_TRANSLATOR | {"reconstruction_l1": 0.02}


def generator(about: dict[str, Any] = ABOUT, **changed: Any) -> dict[str, Any]:
    return GOOD | {"real": REAL, "about": ABOUT | about} | changed


def translator(about: dict[str, Any] = ABOUT, **changed: Any) -> dict[str, Any]:
    return GOOD_TRANSLATOR | {"real": REAL_OF_TRANSLATOR, "about": ABOUT | about} | changed


def of_class(agreement: float, images: int = 20) -> dict[str, Any]:
    right = round(images * agreement)
    judged = {name: count for name, count in (("a", right), ("b", images - right)) if count}
    return {"label_agreement": agreement, "judged": judged, "real": {"label_agreement": 1.0}}


CLASSES = {
    "0": of_class(0.5), "1": of_class(0.95), "2": of_class(0.1, images=19), "7": of_class(0.4), "8": of_class(0.8),
    "9": of_class(0.84),
}  # fmt: skip

GENERATORS: dict[str, tuple[dict[str, Any], str]] = {
    "few images": (
        generator({"real": 49}), "Of only 49 real images numbers say little: look at the pictures instead."
    ),
    "unsure classifier": (
        generator({"extractor_accuracy": 0.57}),
        "The classifier behind these numbers is right on only 57% of real images: trust the pictures more.",
    ),
    "wrong classes": (generator(label_agreement=0.6), "Classes are often wrong (0.60 of 0.99)."),
    "mostly right classes": (generator(label_agreement=0.9), "Classes are mostly right (0.90 of 0.99)."),
    "right classes": (generator(label_agreement=0.95), "Classes are right (0.95 of 0.99)."),
    "copies": (generator(copies=0.06), "6% of the pictures are near copies of training images: see neighbors.png."),
    "alike": (
        generator(intra_class_diversity=5.5), "Pictures of a class are too much alike (variety 5.50 of 7.00)."
    ),
    "missing kinds": (generator(coverage=0.5), "Many kinds of pictures are missing (coverage 0.50 of 0.95)."),
    "unlike any": (generator(precision=0.5), "Many pictures are unlike any real one (precision 0.50 of 0.90)."),
    "grain": (generator(grain=0.2), "Pictures are grainier than real ones."),
    "blur": (generator(grain=-0.2), "Pictures are blurrier than real ones."),
    "mesh": (
        generator(checkerboard=0.18, real=REAL | {"checkerboard": 0.04}),
        "A mesh of two pixels covers pictures (checkerboard 0.18 of 0.04).",
    ),
    "weak classes": (generator(per_class=CLASSES), "7, 0 and 8 are weakest."),
    "some missing kinds": (generator(coverage=0.7), "Some kinds of pictures are missing (coverage 0.70 of 0.95)."),
    "some unlike any": (generator(precision=0.7), "Some pictures are unlike any real one (precision 0.70 of 0.90)."),
    "near": (
        generator(),
        "By these numbers pictures are near real ones (coverage 0.95 of 0.95): see whether they look so.",
    ),
}  # fmt: skip

TRANSLATORS: dict[str, tuple[dict[str, Any], str]] = {
    "few images": (
        translator({"real": 3}), "Of only 3 real images numbers say little: look at the pictures instead."
    ),
    "unsure classifier": (
        translator({"extractor_accuracy": 0.6}),
        "The classifier behind these numbers is right on only 60% of real images: trust the pictures more.",
    ),
    "not shown": (translator(attribute_accuracy=0.5), "What is asked for is often not shown (0.50 of 0.98)."),
    "other attributes": (translator(kept_accuracy=0.8), "Other attributes change, too (kept 0.80 of 0.97)."),
    "content": (
        translator(content_accuracy=0.5), "What should stay the same is changed (kept 0.50 of 0.90)."
    ),
    "no way back": (
        translator(reconstruction_l1=0.12),
        "There and back, images differ by 12% of the pixels' range: what they showed is lost.",
    ),
    "grain": (translator(grain=0.2), "Pictures are grainier than real ones."),
    "blur": (translator(grain=-0.2), "Pictures are blurrier than real ones."),
    "mostly shown": (translator(attribute_accuracy=0.9), "What is asked for is mostly shown (0.90 of 0.98)."),
    "weak attributes": (
        translator(per_attribute={"Hat": {"attribute_accuracy": 0.4, "real": {"attribute_accuracy": 0.9}},
                                  "Beard": {"attribute_accuracy": 0.9, "real": {"attribute_accuracy": 0.9}}}),
        "Hat is weakest.",
    ),
    "shown": (translator(), "What is asked for is shown (0.98 of 0.98)."),
}  # fmt: skip

COURSES: dict[str, tuple[Course, str]] = {
    "improving": (
        Course("improving", 90_000, 0),
        "The last quarter of training still made scores better: train longer.",
    ),
    "worse": (Course("worse", 40_000, 0), "Scores became worse after 40,000 images: lower rates may help."),
    "broke down": (Course("flat", 40_000, 2), "Training broke down twice and went on at lower rates."),
    "flat": (Course("flat", 40_000, 0), "Scores hardly changed of late, the best was at 40,000 images."),
}


@pytest.mark.parametrize("rule", REMARKS | GENERATOR_RULES)
def test_a_fault_of_generated_images_is_told(rule: str) -> None:
    metrics, sentence = GENERATORS[rule]
    assert sentence in verdict_of(metrics)
    if rule not in ("near", "right classes"):
        assert sentence not in verdict_of(generator())


@pytest.mark.parametrize("rule", REMARKS | TRANSLATOR_RULES)
def test_a_fault_of_translations_is_told(rule: str) -> None:
    metrics, sentence = TRANSLATORS[rule]
    assert sentence in verdict_of(metrics)
    if rule != "shown":
        assert sentence not in verdict_of(translator())


@pytest.mark.parametrize("rule", COURSE_RULES)
def test_how_training_went_is_told_last(rule: str) -> None:
    course, sentence = COURSES[rule]
    assert verdict_of(generator(), course)[-1] == sentence
    assert sentence not in verdict_of(generator())


def test_of_many_faults_the_gravest_three_are_told() -> None:
    said = verdict_of(generator(label_agreement=0.2, copies=0.3, coverage=0.1, precision=0.1), COURSES["worse"][0])
    assert [one.split()[0] for one in said] == ["Classes", "30%", "Many", "Scores"]


def test_what_numbers_are_worth_crowds_out_no_fault() -> None:
    said = verdict_of(generator({"extractor_accuracy": 0.5}, label_agreement=0.2, copies=0.3, coverage=0.1))
    assert [one.split()[0] for one in said] == ["The", "Classes", "30%", "Many"]


def test_an_unsure_classifier_praises_nothing() -> None:
    real = REAL | {"label_agreement": 0.45}
    said = verdict_of(generator({"extractor_accuracy": 0.45}, label_agreement=0.44, real=real, per_class=CLASSES))
    assert not any("Classes are" in one or "weakest" in one for one in said)


def test_grain_that_real_images_have_or_chance_may_give_is_not_told() -> None:
    dull = generator(grain=0.2, real=REAL | {"grain": 0.1})
    assert verdict_of(dull) == verdict_of(generator())
    few = {"fakes": 50, "real": 50, "ceilings": 50}
    assert verdict_of(generator(few, grain=0.3)) == verdict_of(generator(few))
    assert "Pictures are grainier than real ones." in verdict_of(generator(few, grain=0.4))
    few = {"fakes": 500, "real": 500, "ceilings": 50}
    assert verdict_of(generator(few, grain=0.3)) == verdict_of(generator(few))


def test_real_images_are_seldom_called_grainy() -> None:
    rng, told = np.random.default_rng(0), 0
    there = photographs(300, 0, rng.uniform(1.25, 2.5, 300))
    for _ in range(20):
        real, fake, ceiling = (Contrasts.of(there[part]) for part in rng.permutation(300)[:150].reshape(3, 50))
        grain, of_real = (compare_textures(one, real).grain for one in (fake, ceiling))
        about = {"fakes": 50, "real": 50, "ceilings": 50}
        said = verdict_of(generator(about, grain=grain, real=REAL | {"grain": of_real}))
        told += any("grainier" in one or "blurrier" in one for one in said)
    assert told <= 2


def test_of_few_real_images_nothing_else_is_said() -> None:
    bad = generator({"real": 20}, label_agreement=0.2, copies=0.3, coverage=0.1, grain=1.0, per_class=CLASSES)
    assert len(verdict_of(bad)) == 1


def test_neighborhoods_of_fewer_real_images_are_no_ceiling() -> None:
    fewer = generator({"ceilings": 100}, coverage=0.5, precision=0.5, intra_class_diversity=5.0)
    assert verdict_of(fewer) == ["Classes are right (0.99 of 0.99).",
                                 "Pictures of a class are too much alike (variety 5.00 of 7.00)."]  # fmt: skip


def test_numbers_that_there_are_not_are_not_spoken_of() -> None:
    assert verdict_of({"fid": 7.0, "about": {"fakes": 10, "real": None}}) == []
    assert verdict_of(generator(copies=None, grain=None)) == verdict_of(generator())


def test_a_class_without_images_tells_nothing() -> None:
    assert not is_telling({"judged": {}})
    assert is_telling({"fd_classifier": 1.0})
