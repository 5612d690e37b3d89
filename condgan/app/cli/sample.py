"""Sample a run's generator: images, rows between them, attention, truncation."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import click

from condgan.app.cli.options import (
    CheckpointOption,
    LatentScaleOption,
    ModelArgument,
    OutOption,
    RunArgument,
    SeedOption,
    SetOption,
    StandingOption,
    TruncationOption,
    chosen_labels,
    comma_separated,
    few_labels,
    files_listed,
    known_name,
    numbers,
    of_another_kind,
    pieces,
)
from condgan.app.cli.usage import Option
from condgan.runs.directory import require_run, run_directory
from condgan.utils.choices import Criterion, Precision, Vary, Way
from condgan.utils.errors import UserError, shown
from condgan.utils.files import require_file, write

if TYPE_CHECKING:
    from condgan.runs.select import Selected
    from condgan.sampling.model import Model

SHOWN_RATES = 10
"""Classes whose share of accepted images is told."""
CURVE = ("truncation.csv", "truncation.png", "sheet.png")
TRUNCATIONS = "0.2,0.4,0.6,0.8,1.0,1.2,1.4,1.6,1.8,2.0"


def sample_command(
    run: ModelArgument,
    out: Annotated[Path, Option("Folder for the images, or a file that ends with .npz.")],
    classes: Annotated[str | None, Option("Class names with commas between; all by default.")] = None,
    mixture: Annotated[str | None, Option("Mix classes by weight instead, such as 3=0.5,8=0.5.")] = None,
    settings: SetOption = (),
    per_class: Annotated[int, Option("Images of each class, of the mixture, or of what is asked for.")] = 16,
    seed: SeedOption = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    checkpoint: CheckpointOption = "best",
    precision: Annotated[
        Precision, Option("What the network computes in; auto: bfloat16 where the hardware does.")
    ] = "auto",
    compiled: Annotated[
        bool, Option("Compile it first, in up to a minute: for thousands of images.", "--compile")
    ] = False,
    select: Annotated[
        str | None,
        Option(f"Keep only what these accept, of {', '.join(get_args(Criterion))}, with commas between."),
    ] = None,
) -> None:
    """Write images of chosen classes: OUT/CLASS/INDEX.png and OUT/sheet.png, or one OUT.npz.

    Of attributes and a number OUT/labels.csv says of each image what it was asked to show.
    """
    given = {"--classes": classes, "--mixture": mixture, "--set": " ".join(settings) or None}
    if len(both := [f"{name} {value}" for name, value in given.items() if value is not None]) > 1:
        raise UserError(f"{' and '.join(both)} given: expected one of them")
    if mixture is not None and out.suffix == ".npz":
        raise UserError(f"--mixture {mixture} and --out {out} given: a mixture has no class number, give a folder")
    if select is not None and (mixture is not None or settings or out.suffix == ".npz"):
        other = f"--out {out}" if out.suffix == ".npz" else both[0]
        raise UserError(f"--select {select} and {other} given: images of classes are selected, into a folder")
    if out.suffix == ".npz":
        require_file(out, ".npz", f"--out {out}")
    directory = run_directory(run)
    require_run(directory, out)
    from condgan.sampling.files import (
        LABELS_CSV,
        SELECTION_CSV,
        SampleFiles,
        labels_csv,
        require_own,
        write_samples,
    )
    from condgan.utils.console import origin

    model = _model(directory, checkpoint, truncation, latent_scale, standing, seed, precision, compiled)
    if select is not None:
        model.spec.require_classes(f"--select {select}")
    if mixture is not None and not model.spec.exclusive:
        raise of_another_kind(f"--mixture {mixture}", model.spec)
    chosen: Any = chosen_labels(model, classes, settings)
    groups = model.group_names(chosen) if mixture is None else []
    if mixture is not None:
        chosen = _weights(mixture, model.classes)
        groups = [",".join(f"{name}={weight:g}" for name, weight in chosen.items())]
    trained = f"from {origin(model.images)}"
    if out.suffix == ".npz":
        write(out, model.npz(chosen, per_class, seed))
        click.echo(f"wrote {len(groups) * per_class} images to {out}, {trained}")
        return
    files = SampleFiles.of(groups, per_class)
    require_own(out, files)
    selected, drawn = None, model.draw(chosen, per_class, seed)
    if select is not None:
        selected = _selected(directory, model, select, groups, per_class, seed, checkpoint)
    images = model.make(drawn) if selected is None else selected.images
    for name in (SELECTION_CSV, LABELS_CSV):
        (out / name).unlink(missing_ok=True)  # of images that these replace
    table = None if model.spec.exclusive else labels_csv([*files], model.spec, drawn.weights)
    sheets = write_samples(out, images, groups, table)
    if selected is not None:
        write(out / SELECTION_CSV, selected.manifest([*files], checkpoint, seed))
        sheets = [*sheets, SELECTION_CSV]
    click.echo(f"wrote {len(images)} images and {files_listed(out, sheets)}, {trained}")


def _selected(
    directory: Path, model: "Model", criteria: str, classes: list[str], per_class: int, seed: int, checkpoint: str
) -> "Selected":
    """Select, and tell the share of each class that was accepted."""
    from condgan.runs.select import select

    selected = select(directory, model, comma_separated(criteria), classes, per_class, seed, checkpoint)
    rates = sorted(selected.accepted.items(), key=lambda one: one[1])
    told = ", ".join(f"{shown(name)} {rate:.0%}" for name, rate in rates[:SHOWN_RATES])
    click.echo(f"accepted {told}{f' (the lowest of {len(rates)})' if len(rates) > SHOWN_RATES else ''}")
    return selected


def interpolate_command(
    run: ModelArgument,
    out: OutOption,
    vary: Annotated[Vary | None, Option("What changes along a row; by default a picture of each.")] = None,
    path: Annotated[Way, Option("The way between two latents.")] = "linear",
    rows: Annotated[int, Option("Rows of images, each with ends of its own.")] = 8,
    steps: Annotated[int, Option("Images in a row, both ends included.")] = 8,
    classes: Annotated[str | None, Option("From A,B; by default from each class to the next one.")] = None,
    settings: SetOption = (),
    seed: SeedOption = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Write rows of images from one end to another: OUT/latent.png, OUT/class.png and OUT/both.png."""
    directory = run_directory(run)
    require_run(directory, out)
    from condgan.sampling.files import require_own
    from condgan.sampling.interpolate import VARY
    from condgan.utils.figures import interpolation_sheet, write_pictures

    require_own(out, [f"{kind}.png" for kind in get_args(Vary)])
    model = _model(directory, checkpoint, truncation, latent_scale, standing, seed)
    chosen = chosen_labels(model, classes, settings)
    kinds: Iterable[Vary] = get_args(Vary) if vary is None else [vary]
    pictures = {}
    for kind in kinds:
        images = model.interpolate(kind, path, rows, steps, chosen, seed)
        names = [f"{first} to {last}" if VARY[kind][1] else first for first, last in model.ends(rows, chosen)]
        pictures[f"{kind}.png"] = interpolation_sheet(images, names)
    write_pictures(out, pictures)
    click.echo(f"wrote {files_listed(out, pictures)}")


def attention_command(
    run: ModelArgument,
    out: OutOption,
    classes: Annotated[str | None, Option("Class names with commas between; ten of all by default.")] = None,
    settings: SetOption = (),
    per_class: Annotated[int, Option("Images of each class.")] = 4,
    positions: Annotated[str | None, Option("Pixels Y,X;Y,X to look from; center and quarters by default.")] = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Show what a generator's attention looks at from some pixels: OUT/LAYER.png."""
    directory = run_directory(run)
    require_run(directory, out)
    from condgan.sampling.files import require_own
    from condgan.utils.figures import attention_sheet, write_pictures

    model = _model(directory, checkpoint)
    chosen = few_labels(model, classes, settings)
    attended = model.attention(chosen, per_class, None if positions is None else _positions(positions), seed)
    rows = [name for name in model.group_names(chosen) for _ in range(per_class)]
    pictures = {
        f"{layer}.png": attention_sheet(attended.images, attended.positions, maps, rows)
        for layer, maps in attended.maps.items()
    }
    require_own(out, pictures)
    write_pictures(out, pictures)
    click.echo(f"wrote {files_listed(out, pictures)}")


def truncation_command(
    directory: RunArgument,
    out: Annotated[Path, Option("Folder for the table and the pictures.")],
    at: Annotated[str, Option("Truncations with commas between; none comes last.")] = TRUNCATIONS,
    scaled: Annotated[bool, Option("Multiply latents instead of truncating them.")] = False,
    standing: StandingOption = None,
    seed: Annotated[int, Option("Seed of the fakes.")] = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Judge fakes at several truncations: OUT/truncation.csv, OUT/truncation.png and OUT/sheet.png."""
    truncations = numbers(at)
    require_run(directory, out)
    from condgan.runs.evaluate import truncation_curve
    from condgan.sampling.files import require_own

    require_own(out, CURVE)
    truncation_curve(directory, out, truncations, scaled, standing, checkpoint, seed)
    click.echo(f"wrote {files_listed(out, CURVE)}")


def _model(
    directory: Path,
    checkpoint: str,
    truncation: float | None = None,
    latent_scale: float | None = None,
    standing: int | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    compiled: bool = False,
) -> "Model":
    """Load a run's model and prepare it to draw. Raises UserError for bad input."""
    from condgan.runs.models import load_model

    model = load_model(directory, checkpoint, precision, compiled).with_latents(truncation, latent_scale)
    return model if standing is None else model.with_standing_statistics(standing, seed)


def _weights(text: str, classes: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in pieces(text, lambda one: known_name(one.rpartition("=")[0], classes) is not None):
        name, equals, weight = part.rpartition("=")
        known = known_name(name, classes)
        name = name.strip() if known is None else known
        try:
            number = float(weight)
        except ValueError:
            number = None
        if not equals or number is None or name in weights:
            raise UserError(f"mixture '{text}' given: expected weights of different classes, such as 3=0.5,8=0.5")
        weights[name] = number
    return weights


def _positions(text: str) -> list[tuple[int, int]]:
    try:
        return [(int(y), int(x)) for y, x in (pair.split(",") for pair in text.split(";"))]
    except ValueError:
        raise UserError(f"positions '{text}' given: expected pixels Y,X;Y,X such as 8,8;4,12") from None
