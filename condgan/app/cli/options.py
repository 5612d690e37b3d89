"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

from condgan.app.cli.usage import Argument, Option
from condgan.utils.choices import SOURCES

RunArgument = Annotated[Path, Argument("RUN", "A run directory, such as runs/digits-acgan.")]
CheckpointOption = Annotated[str, Option("best, latest, or a number of images.")]
OutOption = Annotated[Path, Option("Folder for the pictures.")]
SeedOption = Annotated[int, Option("The same seed gives the same images.")]
TruncationOption = Annotated[float | None, Option("Draw latents from the normal law given |z| <= this, such as 0.5.")]
LatentScaleOption = Annotated[float | None, Option("Multiply latents by this instead, such as 0.5.")]
StandingOption = Annotated[
    int | None, Option("Average the batch norms' statistics over so many batches of 100, such as 16.")
]
SourceArgument = Annotated[str, Argument("SOURCE", f"A known name ({', '.join(SOURCES)}), or a path.")]
RootOption = Annotated[Path | None, Option("Folder that holds data sets known by name, or will.")]
SkipOption = Annotated[bool, Option("Go on without unreadable images.")]
HeldOutOption = Annotated[
    float | None,
    Option("Share of each class to hold out, instead of the data's own test split, such as 0.1."),
]
SubjectArgument = Annotated[
    str, Argument("RUN|IMAGES", "A run directory, or images: a folder, zip, npz file or known name.")
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


def comma_separated(text: str) -> list[str]:
    """Names with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))
