"""The options of an evaluation of images, whosever they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condgan.evaluation.images import SUBSETS
from condgan.utils.errors import UserError, unknown


@dataclass(frozen=True)
class EvaluationOptions:
    """The extractor, the metrics and the images of an evaluation."""

    extractor: str = "classifier"
    weights: Path | None = None
    metrics: Sequence[str] | None = None
    """By their names; None: all that can be told."""
    n: int | None = None
    """Fakes that are compared."""
    split: str | None = None
    """Of the real images: train, held-out or all. None: held-out for a run, and for the classifier, which is trained
    on the others; else all."""
    per_class: bool | None = None
    """None: where all metrics are asked for with the classifier, whose numbers per class cost little."""
    size: int | str | None = None
    """The pixels that pictures of different sizes are brought to."""
    skip_bad_images: bool = False

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise UserError(f"--n {self.n} given: expected 1 or more")
        if self.split not in (None, *SUBSETS):
            raise unknown("split", self.split, SUBSETS)
