"""Write a run's model for other people and other programs."""

from pathlib import Path
from typing import Annotated

import click

from condgan.app.cli.options import CheckpointOption, ModelArgument, StandingOption, TruncationOption
from condgan.app.cli.usage import Option
from condgan.runs.directory import require_run, run_directory
from condgan.utils.choices import ExportFormat, ExportOutput


def export_command(
    run: ModelArgument,
    out: Annotated[Path, Option("A new folder for the files.")],
    format: Annotated[
        ExportFormat,
        Option(
            "safetensors: a folder that condgan reads as a run; onnx; pt2: torch.export; aoti: compiled for this "
            "processor; web: a page."
        ),
    ] = "safetensors",
    output: Annotated[
        ExportOutput, Option("Pixels of 0 to 255 (uint8), or of -1 to 1 (float); also those that go in.")
    ] = "uint8",
    mixtures: Annotated[bool, Option("A weight of each class goes in, not a class number.")] = False,
    truncation: TruncationOption = None,
    standing: StandingOption = None,
    with_discriminator: Annotated[bool, Option("Put the discriminator into the folder, too.")] = False,
    license: Annotated[Path | None, Option("A text to put beside the model, as LICENSE.")] = None,
    runtime: Annotated[Path | None, Option("What `npm pack onnxruntime-web@1.30.0` downloaded, for a page.")] = None,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Write a run's generator without what training needs, for others to sample.

    Files for other programs are compared with this one's images before they are written.
    """
    directory = run_directory(run)
    require_run(directory, out)
    from condgan.app.export.write import ExportOptions, export

    options = ExportOptions(output, mixtures, truncation, standing, with_discriminator, runtime)
    names = export(directory, out, format, checkpoint, options, license)
    click.echo(f"wrote {', '.join(str(out / name) for name in names)}")
