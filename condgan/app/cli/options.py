"""Arguments and options that several commands share."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from condgan.app.cli.usage import Argument, Option
from condgan.utils.choices import SOURCES
from condgan.utils.errors import UserError, shown

if TYPE_CHECKING:
    from condgan.labels import LabelSpec
    from condgan.sampling.model import Model

MOST_COMMAS = 100
"""In a name."""
FEW_SHOWN = 10
"""Classes that are shown where none is named."""
RunArgument = Annotated[Path, Argument("RUN", "A run directory, such as runs/digits-acgan.")]
ModelArgument = Annotated[
    str, Argument("RUN", "A run directory, or a model on the Hub, such as alice/digits or alice/digits@v1.")
]
CheckpointOption = Annotated[str, Option("best, latest, or a number of images.")]
OutOption = Annotated[Path, Option("Folder for the pictures.")]
SetOption = Annotated[
    tuple[str, ...],
    Option(
        "Ask for attributes or a number, such as Hat=1,Beard=0 or age=20,40,60. What is not asked for is "
        "as in training images.",
        "--set",
    ),
]
SeedOption = Annotated[int, Option("The same seed gives the same images.")]
TruncationOption = Annotated[float | None, Option("Draw latents from the normal law given |z| <= this, such as 0.5.")]
LatentScaleOption = Annotated[float | None, Option("Multiply latents by this instead, such as 0.5.")]
StandingOption = Annotated[
    int | None, Option("Average the batch norms' statistics over so many batches of 100, such as 16.")
]
SourceArgument = Annotated[str, Argument("SOURCE", f"A known name ({', '.join(SOURCES)}), or a path.")]
RootOption = Annotated[Path | None, Option("Folder that holds data sets known by name, or will.")]
NumberOption = Annotated[
    str | None, Option("A table's column of numbers, such as age, to learn in place of classes; empty cells: unknown.")
]
SkipOption = Annotated[bool, Option("Go on without unreadable images.")]
HeldOutOption = Annotated[
    float | None,
    Option("Share of each class to hold out, instead of the data's own test split, such as 0.1."),
]
SubjectArgument = Annotated[
    str,
    Argument("RUN|IMAGES", "A run directory, a model on the Hub, or images: a folder, zip, npz file, known name."),
]
TrueOption = Annotated[str | None, Option("Real images, in any layout of `condgan data --help`.", "--data")]
RealOption = Annotated[
    str | None,
    Option("Real images, in any layout of `condgan data --help`, or an npz file of statistics.", "--data"),
]
ExtractorOption = Annotated[
    str,
    Option(
        "Whose features images are compared by: classifier (trained here on real images), inception, dinov2, a "
        "torchvision model, timm:NAME or module:callable."
    ),
]
WeightsOption = Annotated[Path | None, Option("The extractor's weights: a state dict, or safetensors.")]
SplitOption = Annotated[
    str | None,
    Option("Of the real images: train, held-out or all; by default held-out for a run or the classifier, else all."),
]
SizeOption = Annotated[str | None, Option("Pixels that images of other sizes are brought to, such as 64 or 96x64.")]
BatchOption = Annotated[
    int | None, Option("Batch norms use the statistics of each batch of so many fakes, as in training.")
]


def files_listed(folder: Path, names: Iterable[str]) -> str:
    """Files of a folder, to be told."""
    return ", ".join(str(folder / name) for name in names)


def numbers(text: str) -> list[float]:
    """Numbers with commas between. Raises UserError for others."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise UserError(f"'{text}' given: expected numbers with commas between, such as 0.5,1,2") from None


def chosen_names(text: str, known: Sequence[str]) -> list[str]:
    """Known names with commas between, each once: what is a name as a whole is not taken apart."""
    names = set(known)
    return list(dict.fromkeys(one if one in names else one.strip() for one in pieces(text, names.__contains__)))


def pieces(text: str, is_whole: Callable[[str], bool]) -> list[str]:
    """A text in parts at some of its commas: each as long as can be, for `is_whole` of it, blanks around it or not.

    A part that is nothing known goes to the next comma.
    """
    words, found = text.split(","), []
    while words:
        joined = [",".join(words[:count]) for count in range(min(len(words), 1 + MOST_COMMAS), 0, -1)]
        found.append(next((one for one in joined if is_whole(one) or is_whole(one.strip())), words[0]))
        words = words[1 + found[-1].count(",") :]
    return found


def known_name(text: str, classes: Sequence[str]) -> str | None:
    """The class of this name, or of this one without the blanks around it."""
    return next((name for name in (text, text.strip()) if name in classes), None)


def asked_settings(given: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """What is asked for, from texts such as Hat=1,Beard=0 or age=20,40. Raises UserError for others."""
    wanted: dict[str, list[str]] = {}
    for one in given:
        for piece in pieces(one, lambda part: known_name(part.rpartition("=")[0], names) is not None):
            name, equals, values = piece.rpartition("=")
            if not equals or not name or not values:
                raise UserError(f"--set {one} given: expected names and values, such as Hat=1,Beard=0 or age=20,40")
            known = known_name(name, names)
            wanted.setdefault(name if known is None else known, []).extend(map(str.strip, values.split(",")))
    return wanted


def chosen_labels(
    model: "Model", classes: str | None, settings: Sequence[str]
) -> list[str] | dict[str, list[str]] | None:
    """What images are asked for by --classes or --set; None for neither.

    Raises UserError for options of another kind of labels.
    """
    if classes is not None and not model.spec.exclusive:
        raise of_another_kind(f"--classes {classes}", model.spec)
    if settings and model.spec.exclusive:
        raise UserError(f"--set {' '.join(settings)} given with a model of classes: expected --classes")
    if settings:
        return asked_settings(settings, model.classes)
    return None if classes is None else chosen_names(classes, model.classes)


def few_labels(model: "Model", classes: str | None, settings: Sequence[str]) -> list[Any]:
    """The same, one after the other; by default ten of all."""
    from condgan.utils.figures import spread

    chosen = chosen_labels(model, classes, settings)
    if not model.spec.exclusive:
        return model.settings(chosen)[: FEW_SHOWN if chosen is None else None]
    if chosen is None:
        chosen = [model.classes[number] for number in spread(len(model.classes), FEW_SHOWN)]
    return [*chosen]


def of_another_kind(given: str, spec: "LabelSpec") -> UserError:
    """An option of classes, given with other labels."""
    return UserError(
        f"{given} given with a model of {spec.summary}: expected --set, such as "
        f"--set {spec.classes[0]}={1 if spec.range is None else format(spec.range.high, 'g')}"
    )


def comma_separated(text: str) -> list[str]:
    """Names with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def quoted_names(text: str) -> list[str]:
    """Names with commas between, each once, of which those that hold commas stand in quotes. Raises UserError."""
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        expected = 'expected names with commas between, such as Bright,"Hat, tall"'
        raise UserError(f"'{shown(text)}' given: {expected}") from None
    return list(dict.fromkeys(name.strip() for name in names))
