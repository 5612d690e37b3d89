"""The options of an evaluation of images, whosever they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condgan.data.preprocessing import height_and_width
from condgan.evaluation.catalog import require_metrics
from condgan.evaluation.images import SUBSETS
from condgan.utils.arguments import several, whole
from condgan.utils.errors import UserError, shown, unknown
from condgan.utils.files import path_of


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
        if not isinstance(self.extractor, str):
            raise UserError(f"extractor {shown(repr(self.extractor))} given: expected its name, such as inception")
        if self.weights is not None:
            object.__setattr__(self, "weights", path_of(self.weights, "weights"))
        if self.metrics is not None:
            metrics = several("metrics", self.metrics)
            if not metrics or not all(isinstance(name, str) for name in metrics):
                raise UserError(f"metrics {shown(repr(self.metrics))} given: expected names such as fd_classifier")
            require_metrics(self.extractor, metrics)
            object.__setattr__(self, "metrics", metrics)
        if self.n is not None:
            object.__setattr__(self, "n", whole("--n", self.n, 1))
        if self.split not in (None, *SUBSETS):
            raise unknown("split", self.split, SUBSETS)
        if self.size is not None:
            height_and_width(self.size)
        for what, given in (("per_class", self.per_class), ("skip_bad_images", self.skip_bad_images)):
            if not isinstance(given, bool | None):
                raise UserError(f"{what} {shown(repr(given))} given: expected True or False")
