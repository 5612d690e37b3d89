"""What metrics say, in sentences: a rule is a condition on the numbers and the sentence where it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, Literal, NamedTuple

from condgan.evaluation.catalog import of_translators
from condgan.utils.errors import shown

FEW = 50
"""Real images below which numbers say nothing."""
FEW_OF_CLASS = 20
"""The same of a class."""
MOST_SENTENCES = 3
"""About the images; others tell what the numbers are worth, and how training went."""
SURE = 0.7
"""The share of real images on which a classifier is right that may praise."""
GRAINY, NOISE_OF_GRAIN = 0.15, 1.15
"""Octaves of grain that are told, and the standard deviation of those by which two real images differ.

It is 0.6 on CIFAR-10 and 0.8 on photographs of waste; more leaves room for images that vary more.
"""
MOST_NAMES = 3
"""Classes that are named."""
NEIGHBORHOODS = {"precision", "recall", "density", "coverage"}
"""Numbers that compare with those of real images only of about as many: …"""
COMPARABLE = 0.9
"""… of this share of the fakes at least."""

Trend = Literal["improving", "flat", "worse"]


class Course(NamedTuple):
    """How a run's scores went."""

    trend: Trend | None
    """Over its last quarter, if there were enough scores."""
    best: int
    """After how many images the score was the best."""
    retries: int
    """How often it went back to an earlier checkpoint."""


NO_COURSE = Course(None, 0, 0)


@dataclass(frozen=True)
class Findings:
    """The metrics as rules ask for them, and how training went where they are of a run."""

    metrics: Mapping[str, Any]
    course: Course

    def __getitem__(self, name: str) -> float | None:
        """A number, or None where there is none."""
        return self.metrics.get(name)

    def real(self, name: str) -> float | None:
        """The same number of real images."""
        return self.metrics.get("real", {}).get(name)

    def within(self, name: str, least: float, most: float) -> bool:
        """Whether a number is at least one share of that of real images and below another, if these compare."""
        value, real = self[name], self.real(name)
        if value is None or real is None or (name in NEIGHBORHOODS and not self.comparable):
            return False
        return least * real <= value < most * real

    def beside(self, name: str) -> str:
        """A number and that of real images, as 0.95 of 0.99."""
        value, real = self[name], self.real(name)
        return f"{value:.2f}" if real is None else f"{value:.2f} of {real:.2f}"

    def about(self, name: str, otherwise: Any) -> Any:
        """How the numbers were measured, and `otherwise` where that is not told."""
        value = self.metrics.get("about", {}).get(name)
        return otherwise if value is None else value

    @cached_property
    def labels(self) -> str:
        """What label agreement is of, as the beginning of a sentence."""
        return {"classes": "Classes", "attributes": "Attributes", "number": "Numbers"}[self.about("labels", "classes")]

    @cached_property
    def sure(self) -> bool:
        """Whether the classifier behind the numbers knows real images."""
        return self.about("extractor_accuracy", 1.0) >= SURE

    @cached_property
    def grainier(self) -> float:
        """By how many octaves fakes are grainier than other real images are; 0 where chance may have done it.

        Twice the standard deviation of the difference of two means, each of as many images as the fewest are.
        """
        difference = (self["grain"] or 0.0) - (self.real("grain") or 0.0)
        fewer = min(self.about(which, inf) for which in ("fakes", "real", "ceilings"))
        return difference if abs(difference) >= max(GRAINY, 2 * NOISE_OF_GRAIN / fewer**0.5) else 0.0

    @cached_property
    def translates(self) -> bool:
        """Whether the numbers are of translations."""
        return any(map(of_translators, self.metrics))

    @cached_property
    def few(self) -> bool:
        """Whether there are too few real images to say anything."""
        return self.about("real", FEW) < FEW

    @cached_property
    def comparable(self) -> bool:
        """Whether the neighborhoods of real images are of about as many as those of fakes."""
        fakes = self.about("fakes", 0)
        return self.about("ceilings", fakes) >= COMPARABLE * fakes

    @cached_property
    def weak(self) -> list[str]:
        """The classes, or attributes, that fakes show less often than real images do, the weakest first."""
        part, number = ("per_attribute", "attribute_accuracy") if self.translates else ("per_class", "label_agreement")
        rows = {name: Findings(row, NO_COURSE) for name, row in self.metrics.get(part, {}).items() if is_telling(row)}
        weak = [name for name, row in rows.items() if row.within(number, 0.0, 0.85)]
        return sorted(weak, key=lambda name: rows[name][number] or 0.0)[:MOST_NAMES]


def is_telling(row: Mapping[str, Any]) -> bool:
    """Whether the numbers of a class are of enough images, as far as that is known."""
    judged = row.get("judged")
    return judged is None or sum(judged.values()) >= FEW_OF_CLASS


class Remark(NamedTuple):
    """A sentence about fakes, and when it is said."""

    holds: Callable[[Findings], bool]
    sentence: Callable[[Findings], str]


def _enough(holds: Callable[[Findings], bool]) -> Callable[[Findings], bool]:
    return lambda facts: not facts.few and holds(facts)


def _between(name: str, least: float, most: float) -> Callable[[Findings], bool]:
    """Whether a number is at least one share of that of real images, and below another."""
    return _enough(lambda facts: facts.within(name, least, most))


def _surely(name: str, least: float, most: float) -> Callable[[Findings], bool]:
    """The same, by a classifier that knows real images."""
    return lambda facts: facts.sure and _between(name, least, most)(facts)


REMARKS: dict[str, Remark] = {
    "few images": Remark(
        lambda facts: facts.few,
        lambda facts: (
            f"Of only {facts.about('real', 0):,} real images numbers say little: look at the pictures instead."
        ),
    ),
    "unsure classifier": Remark(
        _enough(lambda facts: not facts.sure),
        lambda facts: (
            f"The classifier behind these numbers is right on only {facts.about('extractor_accuracy', 1.0):.0%} of "
            "real images: trust the pictures more."
        ),
    ),
}
"""What is said of the numbers themselves."""

GENERATOR_RULES: dict[str, Remark] = {
    "wrong classes": Remark(
        _between("label_agreement", 0.0, 0.7),
        lambda facts: f"{facts.labels} are often wrong ({facts.beside('label_agreement')}).",
    ),
    "mostly right classes": Remark(
        _surely("label_agreement", 0.7, 0.95),
        lambda facts: f"{facts.labels} are mostly right ({facts.beside('label_agreement')}).",
    ),
    "right classes": Remark(
        _surely("label_agreement", 0.95, inf),
        lambda facts: f"{facts.labels} are right ({facts.beside('label_agreement')}).",
    ),
    "copies": Remark(
        _enough(lambda facts: (facts["copies"] or 0.0) >= 0.05),
        lambda facts: f"{facts['copies']:.0%} of the pictures are near copies of training images: see neighbors.png.",
    ),
    "alike": Remark(
        _between("intra_class_diversity", 0.0, 0.8),
        lambda facts: f"Pictures of a class are too much alike (variety {facts.beside('intra_class_diversity')}).",
    ),
    "missing kinds": Remark(
        _between("coverage", 0.0, 0.6),
        lambda facts: f"Many kinds of pictures are missing (coverage {facts.beside('coverage')}).",
    ),
    "unlike any": Remark(
        _between("precision", 0.0, 0.6),
        lambda facts: f"Many pictures are unlike any real one (precision {facts.beside('precision')}).",
    ),
    "grain": Remark(
        _enough(lambda facts: facts.grainier > 0),
        lambda _: "Pictures are grainier than real ones.",
    ),
    "blur": Remark(
        _enough(lambda facts: facts.grainier < 0),
        lambda _: "Pictures are blurrier than real ones.",
    ),
    "mesh": Remark(
        _enough(lambda facts: (facts["checkerboard"] or 0.0) >= 2 * max(facts.real("checkerboard") or 0.0, 0.05)),
        lambda facts: f"A mesh of two pixels covers pictures (checkerboard {facts.beside('checkerboard')}).",
    ),
    "weak classes": Remark(
        _enough(lambda facts: facts.sure and bool(facts.weak)),
        lambda facts: f"{_enumerated(facts.weak)} {'is' if len(facts.weak) == 1 else 'are'} weakest.",
    ),
    "some missing kinds": Remark(
        _between("coverage", 0.6, 0.85),
        lambda facts: f"Some kinds of pictures are missing (coverage {facts.beside('coverage')}).",
    ),
    "some unlike any": Remark(
        _between("precision", 0.6, 0.85),
        lambda facts: f"Some pictures are unlike any real one (precision {facts.beside('precision')}).",
    ),
    "near": Remark(
        _enough(lambda facts: facts.within("coverage", 0.85, inf) and facts.within("precision", 0.85, inf)),
        lambda facts: (
            f"By these numbers pictures are near real ones (coverage {facts.beside('coverage')}): see whether they "
            "look so."
        ),
    ),
}
"""Of generated images: first their classes, then the gravest fault first, praise last."""

TRANSLATOR_RULES: dict[str, Remark] = {
    "not shown": Remark(
        _between("attribute_accuracy", 0.0, 0.7),
        lambda facts: f"What is asked for is often not shown ({facts.beside('attribute_accuracy')}).",
    ),
    "other attributes": Remark(
        _between("kept_accuracy", 0.0, 0.9),
        lambda facts: f"Other attributes change, too (kept {facts.beside('kept_accuracy')}).",
    ),
    "content": Remark(
        _between("content_accuracy", 0.0, 0.8),
        lambda facts: f"What should stay the same is changed (kept {facts.beside('content_accuracy')}).",
    ),
    "no way back": Remark(
        _enough(lambda facts: (facts["reconstruction_l1"] or 0.0) >= 0.1),
        lambda facts: (
            f"There and back, images differ by {facts['reconstruction_l1']:.0%} of the pixels' range: "
            "what they showed is lost."
        ),
    ),
    "grain": GENERATOR_RULES["grain"],
    "blur": GENERATOR_RULES["blur"],
    "mostly shown": Remark(
        _surely("attribute_accuracy", 0.7, 0.95),
        lambda facts: f"What is asked for is mostly shown ({facts.beside('attribute_accuracy')}).",
    ),
    "weak attributes": GENERATOR_RULES["weak classes"],
    "shown": Remark(
        _surely("attribute_accuracy", 0.95, inf),
        lambda facts: f"What is asked for is shown ({facts.beside('attribute_accuracy')}).",
    ),
}
"""Of translations."""

COURSE_RULES: dict[str, Remark] = {
    "improving": Remark(
        lambda facts: facts.course.trend == "improving",
        lambda _: "The last quarter of training still made scores better: train longer.",
    ),
    "worse": Remark(
        lambda facts: facts.course.trend == "worse",
        lambda facts: f"Scores became worse after {facts.course.best:,} images: lower rates may help.",
    ),
    "broke down": Remark(
        lambda facts: facts.course.retries > 0,
        lambda facts: (
            f"Training broke down {'once' if facts.course.retries == 1 else 'twice'} and went on at lower rates."
        ),
    ),
    "flat": Remark(
        lambda facts: facts.course.trend == "flat",
        lambda facts: f"Scores hardly changed of late, the best was at {facts.course.best:,} images.",
    ),
}
"""Of how training went, of which one is said."""


def verdict_of(metrics: Mapping[str, Any], course: Course = NO_COURSE) -> list[str]:
    """Say what the metrics mean: what they are worth, at most three sentences of images, one of how training went."""
    facts = Findings(metrics, course)
    rules = TRANSLATOR_RULES if facts.translates else GENERATOR_RULES
    return [*_said(REMARKS, facts), *_said(rules, facts)[:MOST_SENTENCES], *_said(COURSE_RULES, facts)[:1]]


def _said(rules: Mapping[str, Remark], facts: Findings) -> list[str]:
    return [rule.sentence(facts) for rule in rules.values() if rule.holds(facts)]


def _enumerated(names: list[str]) -> str:
    *others, last = [shown(name, 40) for name in names]
    return f"{', '.join(others)} and {last}" if others else last
