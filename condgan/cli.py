"""The command line: thin verbs over the library, and bad input as one line."""

import errno
import io
import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from tqdm import tqdm

from condgan import recipes, world
from condgan.build import count_parameters, estimate_memory
from condgan.checkpoint import checkpoints
from condgan.choices import EMBEDDED_NAMES, KNOWN_NAMES, SOURCES, Crop, Precision, Vary, Way, absolute
from condgan.choose import choose_recipe
from condgan.data.pixels import Framing, color, height_and_width
from condgan.data.prepare import UnreadableImages, prepare
from condgan.data.sources import list_source
from condgan.data.survey import Survey, as_mapping, contact_sheet, describe, quick_look, survey, warnings
from condgan.directory import resume_command
from condgan.errors import Diverged, FailedElsewhere, Interrupted, UserError, unknown
from condgan.evaluation import Question, evaluate, statistics, truncation_curve
from condgan.files import file_names, write
from condgan.hardware import lacks_memory
from condgan.labels import LabelSpec
from condgan.metrics.usefulness import as_table
from condgan.recipe import Recipe, dump, load
from condgan.report import write_report
from condgan.run import choose_directory, require_possible, train_run
from condgan.runs import held_out_split, load_model, load_translator, read_data
from condgan.sample import VARY, Model
from condgan.sheets import attention_sheet, channels_last, class_sheets, interpolation_sheet, png, sheet, spread
from condgan.sides import Sampling
from condgan.translate import fitting, open_pictures, output_names
from condgan.use import utility

app = typer.Typer(
    help="Train, judge and sample conditional image GANs.", add_completion=False,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
INIT_CLASSIFIER = 50_000
FORMATS = ("packed", "hdf5")
FEW = 50
"""Held-out images below which a table of metrics warns of itself."""

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/digits-acgan.")]
CheckpointOption = Annotated[str, typer.Option(help="best, latest, or a number of images.")]
OutOption = Annotated[Path, typer.Option(help="Folder for the pictures.")]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same images.")]
TruncationOption = Annotated[
    float | None, typer.Option(help="Draw latents from the normal law given |z| <= this, such as 0.5.")
]
LatentScaleOption = Annotated[float | None, typer.Option(help="Multiply latents by this instead, such as 0.5.")]
StandingOption = Annotated[
    int | None, typer.Option(help="Average the batch norms' statistics over so many batches of 100, such as 16.")
]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help=f"A known name ({', '.join(SOURCES)}), or a path.")
]
RootOption = Annotated[Path | None, typer.Option(help="Folder that holds data sets known by name, or will.")]
SkipOption = Annotated[bool, typer.Option("--skip-bad-images", help="Go on without unreadable images.")]
HeldOutOption = Annotated[
    float | None,
    typer.Option(help="Share of each class to hold out, instead of the data's own test split, such as 0.1."),
]
SubjectArgument = Annotated[
    str, typer.Argument(metavar="RUN|IMAGES", help="A run directory, or images: a folder, zip, npz file or known name.")
]
TrueOption = Annotated[str | None, typer.Option("--data", help="Real images, in any layout of `condgan data --help`.")]
RealOption = Annotated[
    str | None,
    typer.Option("--data", help="Real images, in any layout of `condgan data --help`, or an npz file of statistics."),
]
ExtractorOption = Annotated[
    str,
    typer.Option(
        help="Whose features images are compared by: classifier (trained here on real images), inception, dinov2, a "
        "torchvision model, timm:NAME or module:callable."
    ),
]
WeightsOption = Annotated[Path | None, typer.Option(help="The extractor's weights: a state dict, or safetensors.")]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="Of the real images: train, held-out or all; by default held-out for a run or the classifier, else all."
    ),
]
SizeOption = Annotated[
    str | None, typer.Option(help="Pixels that images of other sizes are brought to, such as 64 or 96x64.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Batch norms use the statistics of each batch of so many fakes, as in training.")
]
COLUMNS = (
    "label_agreement", "fd_", "fid", "precision", "recall", "coverage", "intra_class_diversity", "attribute_accuracy",
    "kept_accuracy", "content_accuracy", "target_mae",
)  # fmt: skip
"""What the table per class or attribute shows of all metrics, by how their names begin."""
ROWS = 40
"""Classes that a table shows unless all are asked for."""
SHARED = ("train", "evaluate", "statistics", "truncation")
"""What several processes do together."""
NO_MEMORY = "not enough memory: lower data.size, schedule.batch or the number of images asked for"
TRUNCATIONS = "0.2,0.4,0.6,0.8,1.0,1.2,1.4,1.6,1.8,2.0"


@app.command("train")
def train_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...", help="A recipe's name or YAML file, and options to override."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Your images, in class folders or as `condgan data --help` tells, or a known name; again for another "
            "data set beside it. Without a recipe one is chosen for them."
        ),
    ] = None,
    root: RootOption = None,
    attributes: Annotated[str | None, typer.Option(help="Attributes to learn, with commas between; else all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; runs/RECIPE by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over in a new directory.")] = False,
    init_classifier: Annotated[
        bool,
        typer.Option(
            "--init-classifier",
            help=f"Let the auxiliary classifier learn alone first, on {INIT_CLASSIFIER:,} real images.",
        ),
    ] = False,
    skip_bad_images: SkipOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and write nothing.")] = False,
) -> None:
    """Train a recipe, or go on where the same command was stopped."""
    given = list(arguments or [])
    name = given.pop(0) if given and "=" not in given[0] else None
    if init_classifier:
        given.append(f"schedule.init_classifier={INIT_CLASSIFIER}")
    sources = [absolute(one) for one in data or ()]
    if attributes is not None:
        given.append(f"data.attributes={json.dumps(_names(attributes))}")
    if root is not None:
        given.append(f"data.root={json.dumps(str(root.expanduser().resolve()))}")
    if name is None and any(one not in EMBEDDED_NAMES for one in sources):
        recipe = _chosen_recipe(sources, given)
    else:
        if sources:
            given.append(f"data.source={json.dumps(sources if len(sources) > 1 else sources[0])}")
        recipe = load(name or recipes.DEFAULT, given)
    with world.together():
        directory = choose_directory(recipe, out, fresh)
    if dry_run:
        _dry_run(recipe, directory, skip_bad_images)
        return
    metrics = train_run(recipe, directory, skip_bad_images)
    typer.echo(_table(metrics))
    seen = max(recipe.schedule.images, int(checkpoints(directory / "checkpoints")[-1].name))
    longer = f"{resume_command(directory)} schedule.images={2 * seen}"
    if recipe.schedule.decay:  # the rates have reached zero
        longer += f" schedule.decay={2 * recipe.schedule.decay} --fresh"
    verb, more = ("translate", "IMAGE --every-domain ") if recipe.translates else ("sample", "")
    typer.echo(f"\n{verb} it".ljust(16) + f"condgan {verb} {directory} {more}--out DIR\ntrain longer   {longer}")
    typer.echo(f"look at        {directory / 'sheet.png'}")


@app.command("sample")
def sample_command(
    directory: RunArgument,
    out: Annotated[Path, typer.Option(help="Folder for the images, or a file that ends with .npz.")],
    classes: Annotated[str | None, typer.Option(help="Class names with commas between; all by default.")] = None,
    mixture: Annotated[str | None, typer.Option(help="Mix classes by weight instead, such as 3=0.5,8=0.5.")] = None,
    per_class: Annotated[int, typer.Option(help="Images of each class, or of the mixture.")] = 16,
    seed: SeedOption = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    checkpoint: CheckpointOption = "best",
    precision: Annotated[
        Precision, typer.Option(help="What the network computes in; auto: bfloat16 where the hardware does.")
    ] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile it first, in up to a minute: for thousands of images.")
    ] = False,
) -> None:
    """Write images of chosen classes: OUT/CLASS/INDEX.png and OUT/sheet.png, or one OUT.npz."""
    if classes is not None and mixture is not None:
        raise UserError(f"--classes {classes} and --mixture {mixture} given: expected one of them")
    if mixture is not None and out.suffix == ".npz":
        raise UserError(f"--mixture {mixture} and --out {out} given: a mixture has no class number, give a folder")
    model = _model(directory, checkpoint, truncation, latent_scale, standing, seed, precision, compiled)
    chosen = model.classes if classes is None else _names(classes)
    trained = f"from {model.images:,} images of training"
    if out.suffix == ".npz":
        write(out, model.npz(chosen, per_class, seed))
        typer.echo(f"wrote {len(chosen) * per_class} images to {out}, {trained}")
        return
    weights = {} if mixture is None else _weights(mixture)
    groups = [",".join(f"{name}={weight:g}" for name, weight in weights.items())] if weights else chosen
    folders = file_names(groups)
    images = model.sample(weights or chosen, per_class, seed)
    for position, image in enumerate(images):
        write(out / folders[position // per_class] / f"{position % per_class}.png", png(Image.fromarray(image)))
    sheets = class_sheets(images, groups)
    _write_pictures(out, sheets)
    typer.echo(f"wrote {len(images)} images and {_listed(out, sheets)}, {trained}")


@app.command("interpolate")
def interpolate_command(
    directory: RunArgument,
    out: OutOption,
    vary: Annotated[Vary | None, typer.Option(help="What changes along a row; by default a picture of each.")] = None,
    path: Annotated[Way, typer.Option(help="The way between two latents.")] = "linear",
    rows: Annotated[int, typer.Option(help="Rows of images, each with ends of its own.")] = 8,
    steps: Annotated[int, typer.Option(help="Images in a row, both ends included.")] = 8,
    classes: Annotated[str | None, typer.Option(help="From A,B; by default from each class to the next one.")] = None,
    seed: SeedOption = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Write rows of images from one end to another: OUT/latent.png, OUT/class.png and OUT/both.png."""
    model = _model(directory, checkpoint, truncation, latent_scale, standing, seed)
    chosen = None if classes is None else _names(classes)
    kinds: Iterable[Vary] = VARY if vary is None else [vary]
    pictures = {}
    for kind in kinds:
        images = model.interpolate(kind, path, rows, steps, chosen, seed)
        names = [f"{first} to {last}" if VARY[kind][1] else first for first, last in model.ends(rows, chosen)]
        pictures[f"{kind}.png"] = interpolation_sheet(images, names)
    _write_pictures(out, pictures)
    typer.echo(f"wrote {_listed(out, pictures)}")


@app.command("attention")
def attention_command(
    directory: RunArgument,
    out: OutOption,
    classes: Annotated[str | None, typer.Option(help="Class names with commas between; ten of all by default.")] = None,
    per_class: Annotated[int, typer.Option(help="Images of each class.")] = 4,
    positions: Annotated[
        str | None, typer.Option(help="Pixels Y,X;Y,X to look from; center and quarters by default.")
    ] = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Show what a generator's attention looks at from some pixels: OUT/LAYER.png."""
    model = load_model(directory, checkpoint)
    everything = [model.classes[number] for number in spread(len(model.classes), 10)]
    chosen = everything if classes is None else _names(classes)
    attended = model.attention(chosen, per_class, None if positions is None else _positions(positions), seed)
    rows = [name for name in chosen for _ in range(per_class)]
    pictures = {
        f"{layer}.png": attention_sheet(attended.images, attended.positions, maps, rows)
        for layer, maps in attended.maps.items()
    }
    _write_pictures(out, pictures)
    typer.echo(f"wrote {_listed(out, pictures)}")


@app.command("truncation")
def truncation_command(
    directory: RunArgument,
    out: Annotated[Path, typer.Option(help="Folder for the table and the pictures.")],
    at: Annotated[str, typer.Option(help="Truncations with commas between; none comes last.")] = TRUNCATIONS,
    scaled: Annotated[bool, typer.Option("--scaled", help="Multiply latents instead of truncating them.")] = False,
    standing: StandingOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the fakes.")] = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Judge fakes at several truncations: OUT/truncation.csv, OUT/truncation.png and OUT/sheet.png."""
    truncation_curve(directory, out, _numbers(at), scaled, standing, checkpoint, seed)
    typer.echo(f"wrote {_listed(out, ['truncation.csv', 'truncation.png', 'sheet.png'])}")


@app.command("translate")
def translate_command(
    directory: RunArgument,
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE|FOLDER]...", help="Images, folders or zips of some.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the images, which keep their names.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Labels to change, such as Red_Hair=1,Plate_Armor=0; of class folders class=NAME."),
    ] = None,
    every_domain: Annotated[
        bool, typer.Option("--every-domain", help="Write a strip per image: itself, then as each attribute or class.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Translate the images of the run's data that it was not trained on.")
    ] = False,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Translate images to other labels: OUT/NAME.png for each, in their order."""
    text = ",".join(change or [])
    if bool(change) == every_domain:
        given = f"--set {text} and --every-domain" if every_domain else "neither --set nor --every-domain"
        raise UserError(f"{given} given: expected one of them")
    if bool(inputs) == held_out:
        raise UserError(f"{'images and' if inputs else 'neither images nor'} --held-out given: expected one of them")
    if blocking := next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None):
        raise UserError(f"--out {out} given: '{blocking}' is a file; give a folder")
    model = load_translator(directory, checkpoint)
    changes = _changes(text) if change else None
    if changes is not None:
        model.plan(changes)
    if held_out:
        split = held_out_split(directory)
        names, images, labels, originals = split.names, split.images, split.labels[:], set()
    else:
        opened = list(open_pictures(model, inputs or []))
        names, images, labels = [one.name for one in opened], torch.cat([one.image for one in opened]), None
        originals = {one.file.resolve() for one in opened if one.file is not None}
        for said in fitting([one.size for one in opened], model.shape):
            typer.echo(said)
    files = output_names(names)
    if over := next((out / file for file in files if (out / file).resolve() in originals), None):
        raise UserError(f"--out {out} given: '{over}' is one of the images; give another folder")
    for part in (slice(i, i + 32) for i in range(0, len(files), 32)):
        known = None if labels is None else labels[part]
        if changes is None:
            cells = torch.cat([images[part, None], model.to_every_domain(images[part], known)], 1)
            written = [sheet(of_one, ["input", *model.domains]) for of_one in cells]
        else:
            translated = model.apply(images[part], changes, known)
            written = [Image.fromarray(image) for image in channels_last(translated.images)]
            for name, changed in zip(names[part], translated.changes, strict=True):
                typer.echo(f"{name}: {_changed(changed)}")
        for file, picture in zip(files[part], written, strict=True):
            write(out / file, png(picture))
    trained = f"from {model.images:,} images of training"
    typer.echo(f"wrote {len(files)} image{'s' * (len(files) > 1)} to {out}, {trained}")


@app.command("evaluate")
def evaluate_command(
    subject: SubjectArgument,
    data: RealOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Metrics with commas between, such as fid,is,kid; by default all that can be told."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="Fakes to judge; by default as many as real images.")] = None,
    per_class: Annotated[
        bool | None, typer.Option("--per-class/--overall", help="Judge each class too; by default with the classifier.")
    ] = None,
    extractor: ExtractorOption = "classifier",
    weights: WeightsOption = None,
    split: SplitOption = None,
    size: SizeOption = None,
    checkpoint: CheckpointOption = "best",
    seed: Annotated[int, typer.Option(help="Seed of the fakes.")] = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    batch_statistics: BatchOption = None,
    skip_bad_images: SkipOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Judge a run's fakes or translations, or any images, against real ones.

    Of a run RUN/metrics.json, sheet.png and neighbors.png are written.
    """
    asked = None if metrics is None else _names(metrics)
    question = Question(extractor, weights, asked, n, split, per_class, size, skip_bad_images)
    sampling = Sampling(checkpoint, seed, truncation, latent_scale, standing, batch_statistics)
    found = evaluate(subject, data, question, sampling)
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(_table(found, everything=bool(per_class)))


@app.command("statistics")
def statistics_command(
    source: SourceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The npz file to write.")],
    extractor: ExtractorOption = "inception",
    weights: WeightsOption = None,
    split: SplitOption = None,
    size: SizeOption = None,
    skip_bad_images: SkipOption = False,
) -> None:
    """Keep the mean and covariance of real images' features, for --data of evaluate, for pytorch-fid and others."""
    about = statistics(
        source, out, Question(extractor, weights, split=split, size=size, skip_bad_images=skip_bad_images)
    )
    typer.echo(f"wrote {out}: {about['extractor']} features of {about['real']:,} images of {about['size']} pixels")


@app.command("utility")
def utility_command(
    subject: SubjectArgument,
    data: TrueOption = None,
    seeds: Annotated[int, typer.Option(help="Classifiers of each kind, and draws of fakes.")] = 5,
    n: Annotated[int | None, typer.Option("--n", help="Fakes of each seed; by default as many as real images.")] = None,
    size: SizeOption = None,
    checkpoint: CheckpointOption = "best",
    truncation: TruncationOption = None,
    standing: StandingOption = None,
    skip_bad_images: SkipOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Tell whether fakes help a small classifier: trained on real images, on these and fakes, and on fakes alone.

    Of a run RUN/utility.json is written.
    """
    sampling = Sampling(checkpoint, truncation=truncation, standing=standing)
    result = utility(subject, data, seeds, n, size, sampling, skip_bad_images)
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo("\n".join([as_table(result), *(f"warning: {one}" for one in result["about"].get("warnings", []))]))


@app.command("report")
def report_command(
    directory: RunArgument,
    out: Annotated[Path | None, typer.Option(help="The page to write; RUN/report.html by default.")] = None,
) -> None:
    """Write a page of what a run is, how it went and how good it is, in one file that needs no network."""
    typer.echo(f"look at        {write_report(directory, out)}")


@app.command("data")
def data_command(
    source: SourceArgument,
    root: RootOption = None,
    held_out: HeldOutOption = None,
    out: Annotated[Path | None, typer.Option(help="The contact sheet; NAME-sheet.png by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Describe labeled images: counts, sizes, modes, copies, unreadable files, what may go wrong, a contact sheet.

    A path is a folder, zip or tar of class folders, with train/ and test/ or val/ around them or not; of images without
    labels; of images with a CSV, metadata.jsonl, dataset.json or list_attr….txt; tar shards of WebDataset's; an HDF5
    file; an LMDB; a saved Hugging Face data set; or what `condgan prepare` wrote.
    """
    listing = list_source(absolute(source), None if root is None else str(root), held_out)
    look = survey(listing)
    lines, said = describe(look), warnings(look)
    path = out or Path(f"{Path(source).stem}-sheet.png")
    picture = contact_sheet(look)
    if picture is not None:
        write(path, png(picture))
    if as_json:
        typer.echo(json.dumps(as_mapping(look) | {"sheet": str(path) if picture else None}))
        return
    for line in [*lines, *(f"warning        {one}" for one in said)]:
        typer.echo(line)
    if picture is not None:
        typer.echo(f"look at        {path}")


@app.command("prepare")
def prepare_command(
    source: SourceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write, or with --format hdf5 a file.")],
    size: Annotated[str, typer.Option(help="Pixels, such as 64, or width × height such as 96x64.")],
    channels: Annotated[
        int | None, typer.Option(help="1 gray, 3 RGB or 4 RGBA; by default gray where no picture has colors, else RGB.")
    ] = None,
    crop: Annotated[Crop, typer.Option(help="What is kept of pictures of another shape.")] = "center",
    background: Annotated[
        str, typer.Option(help="Color behind what is transparent, and around what is padded.")
    ] = "white",
    form: Annotated[str, typer.Option("--format", help="packed (memory-mapped) or hdf5.")] = "packed",
    held_out: HeldOutOption = None,
    paired: Annotated[bool, typer.Option("--paired", help="Keep which images differ in labels alone.")] = False,
    root: RootOption = None,
    skip_bad_images: SkipOption = False,
) -> None:
    """Decode, crop and resize labeled images once, in parallel; train on the result with --data OUT.

    Goes on where it was stopped. Unreadable images are listed at the end; what was decoded is kept then.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if channels not in (None, 1, 3, 4):
        raise UserError(f"--channels {channels} given: expected 1, 3 or 4")
    listing = list_source(absolute(source), None if root is None else str(root), held_out, paired)
    colors = channels or _channels(quick_look(listing))
    framing = Framing(*height_and_width(size), colors, crop, color(background))
    try:
        prepared = prepare(listing, framing, out, skip_bad_images, hdf5=form == "hdf5")
    except UnreadableImages as error:
        for one in error.bad:
            tqdm.write(f"unreadable     {one}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        tqdm.write("stopped; the same command goes on", file=sys.stderr)
        raise
    for one in prepared.skipped:
        typer.echo(f"left out       {one}")
    typer.echo(
        f"wrote {len(prepared.train):,} training and {len(prepared.held_out):,} held-out images of "
        f"{_counted(prepared.listing.labels.spec)} to {out}\nsha256 {prepared.digest}"
    )


@app.command("recipes")
def recipes_command(name: Annotated[str | None, typer.Argument(help="Print this one's YAML.")] = None) -> None:
    """List the recipes, or print one."""
    if name is not None:
        typer.echo(recipes.text(name).rstrip())
        return
    catalog = recipes.catalog()
    width = max(map(len, catalog))
    for key, description in catalog.items():
        typer.echo(f"{key:{width}}  {description}")


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    leads = True
    try:
        with world.joined():
            leads = world.leads()
            if not leads:
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            if world.size() > 1 and arguments[0] not in SHARED:
                raise UserError(
                    f"condgan {arguments[0]} given to {world.size()} processes: expected one, or a command that they "
                    f"share, {', '.join(SHARED)}; start it without torchrun"
                )
            code = app(arguments, standalone_mode=False)
    except FailedElsewhere:
        code = _fail("stopped, because another process failed or is gone", 1)
    except typer.TyperException as error:
        code = _fail(f"{error.format_message()}, given '{shlex.join(['condgan', *arguments])}'; see --help", 2)
    except UserError as error:
        code = _fail(str(error), 2)
    except Interrupted as error:
        code = _fail(str(error), error.exit_code, leads)
    except Diverged as error:
        code = _fail(str(error), 1, leads)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted", 130)
    except MemoryError:
        code = _fail(NO_MEMORY, 2)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        code = _fail(NO_MEMORY, 2)
    except OSError as error:
        code = _fail(_system_error(error), 2)
    sys.exit(code or 0)


def _channels(look: Survey) -> int:
    """Gray where no picture looked at has colors, saying so; else RGB."""
    if look.gray:
        typer.echo(
            f"gray, since none of the {len(look.readable):,} pictures looked at has colors; --channels 3 for RGB"
        )
    return 1 if look.gray else 3


def _chosen_recipe(sources: list[str], given: list[str]) -> Recipe:
    """A recipe for a data set, saying what was found and why this one."""
    if len(sources) > 1:
        raise UserError("--data given twice without a recipe: choose one that learns from several, such as any-stargan")
    stated = load("any-projection", [one for one in given if one.startswith("data.")]).data
    look = quick_look(list_source(sources[0], stated.root, stated.held_out, stated.paired))
    stated_crop = any(one.startswith("data.crop=") for one in given)
    recipe, reasons = choose_recipe(look, sources[0], given)
    for line in describe(look):
        typer.echo(line)
    for reason in reasons:
        typer.echo(f"chose          {reason}")
    for one in warnings(look):
        if not (stated_crop and "data.crop" in one):
            typer.echo(f"warning        {one}")
    return recipe


def _model(
    directory: Path,
    checkpoint: str,
    truncation: float | None,
    latent_scale: float | None,
    standing: int | None,
    seed: int,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Model:
    model = load_model(directory, checkpoint, precision, compiled).with_latents(truncation, latent_scale)
    return model if standing is None else model.with_standing_statistics(standing, seed)


def _write_pictures(out: Path, pictures: dict[str, Image.Image]) -> None:
    for name, picture in pictures.items():
        write(out / name, png(picture))


def _listed(out: Path, names: Iterable[str]) -> str:
    return ", ".join(str(out / name) for name in names)


def _names(text: str) -> list[str]:
    """Names with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise UserError(f"'{text}' given: expected numbers with commas between, such as 0.5,1,2") from None


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = map(str.strip, part.rpartition("="))
        try:
            number = float(weight)
        except ValueError:
            number = None
        if not name or number is None or name in weights:
            raise UserError(f"mixture '{text}' given: expected weights of different classes, such as 3=0.5,8=0.5")
        weights[name] = number
    return weights


def _positions(text: str) -> list[tuple[int, int]]:
    try:
        return [(int(y), int(x)) for y, x in (pair.split(",") for pair in text.split(";"))]
    except ValueError:
        raise UserError(f"positions '{text}' given: expected pixels Y,X;Y,X such as 8,8;4,12") from None


def _fail(message: str, code: int, aloud: bool = True) -> int:
    if aloud:
        sys.stderr.write(f"condgan: {' '.join(message.split())}\n")  # at once, since other processes may speak, too
    return code


def _system_error(error: OSError) -> str:
    where = f" '{error.filename}'" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the device{where}: free some and repeat the command, it goes on where it stopped"
    return f"{error.strerror or error}{where}: check the path and its permissions"


def _dry_run(recipe: Recipe, directory: Path, skip_bad_images: bool) -> None:
    require_possible(recipe)
    known = all(source in KNOWN_NAMES for source in recipe.data.sources)
    spec = recipe.data.published_spec() if known else None
    if spec is not None:
        about = f"not looked at; counted for {_counted(spec)}"
    else:
        data = read_data(recipe, skip_bad_images)
        spec = data.spec
        about = f"{len(data.train):,} training and {len(data.held_out):,} held-out images of {_counted(spec)}"
    generator, discriminator = count_parameters(recipe, spec)
    memory = estimate_memory(recipe, spec)
    part = recipe.schedule.batch // (recipe.schedule.accumulate * world.size())
    whose = f" in each of {world.size()} processes" if world.size() > 1 else ""
    typer.echo(dump(recipe))
    typer.echo(f"data           {about}")
    typer.echo(f"generator      {generator:,} parameters\ndiscriminator  {discriminator:,} parameters")
    typer.echo(
        f"memory         about {_size(sum(memory))}{whose}: {_size(memory.kept)} of weights, gradients, optimizers and "
        f"average, {_size(memory.activations)} of activations for {part:,} images at a time"
    )
    typer.echo(f"run directory  {directory}")


def _counted(spec: LabelSpec) -> str:
    """How many classes and attributes a vocabulary has."""
    kinds = {True: "class" + "es" * (spec.width > 1), False: "attribute" + "s" * (spec.width > 1)}
    return " and ".join(f"{len(field.values):,} {kinds[field.exclusive]}" for field in spec.fields)


def _changes(text: str) -> dict[str, bool | str]:
    changes: dict[str, bool | str] = {}
    for part in text.split(","):
        name, equals, value = map(str.strip, part.partition("="))
        if not (name and equals and value):
            raise UserError(f"--set {text} given: expected LABEL=1 or LABEL=0, such as Red_Hair=1,Plate_Armor=0")
        if name in changes:
            raise UserError(f"--set {text} given: '{name}' stands there twice, expected different labels")
        changes[name] = value
    return changes


def _changed(changes: dict[str, bool]) -> str:
    """What a translation changed."""
    return ", ".join(f"{'+' if on else '−'}{name}" for name, on in changes.items()) or "nothing to change"


def _size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _table(metrics: dict[str, Any], everything: bool = False) -> str:
    """The metrics as text: a line each and, below, the most telling ones per class or attribute."""
    about = metrics["about"]
    values = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    kinds = [kind for kind in ("real", "across", "intervals") if kind in metrics]
    heads = {"real": "real images", "across": "other data sets", "intervals": "95 % of other fakes"}
    made = "translations" if "fakes" not in about else "fakes"
    rows = [
        ["", made, *(heads[kind] for kind in kinds)],
        *(
            [name, _number(value), *(_number(metrics[kind].get(name)) for kind in kinds)]
            for name, value in values.items()
        ),
    ]
    lines = _aligned(rows)
    for part in ("per_field", "per_class", "per_attribute"):
        groups = metrics.get(part, {})
        if not groups:
            continue
        shown = dict(list(groups.items())[: len(groups) if everything else ROWS])
        names = [name for name in values if name.startswith(COLUMNS) and any(name in row for row in shown.values())]
        cells = [[name, *(_cell(row, metric) for metric in names)] for name, row in shown.items()]
        lines += ["", *_aligned([["", *names], *cells])]
        if len(shown) < len(groups):
            lines.append(f"… and {len(groups) - len(shown):,} more: --per-class shows all")
    fakes = f"{about['fakes']:,} fakes" if "fakes" in about else "translations"
    of = f" of checkpoint {about['checkpoint']}" if "checkpoint" in about else f" of {about['source']}"
    real = "statistics" if about["real"] is None else f"{about['real']:,} {about.get('split', 'held-out')} images"
    lines += ["", f"{fakes}{of} against {real}; extractor {about['extractor']}"]
    if (sure := about.get("extractor_accuracy")) is not None:
        lines.append(f"classes are read by a classifier that is right on {sure:.1%} of these real images")
    if about["real"] is not None and about["real"] < FEW:
        lines.append("so few real images say little: density and coverage take all of them for one neighborhood")
    return "\n".join([*lines, *(f"warning: {one}" for one in about.get("warnings", []))])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells in columns: the first at the left, the others at the right."""
    margin = min(24, max(len(row[0]) for row in rows))
    widths = [2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:]]
    return [
        f"{row[0]:{margin}.{margin}}" + "".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        for row in rows
    ]


def _cell(row: dict[str, Any], name: str) -> str:
    """A metric of a class: of fakes and, in parentheses, of real images."""
    real = row.get("real", {})
    return _number(row.get(name)) + (f" ({_number(real[name])})" if name in real else "")


def _number(value: float | Sequence[float] | None) -> str:
    if isinstance(value, Sequence):
        return " … ".join(map(_number, value))
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
