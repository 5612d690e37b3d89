"""The command line: thin verbs over the library, and bad input as one line.

What a verb needs beyond its form, torch first of all, it imports itself: help and errors of usage come at once.
"""

import errno
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import click

from condgan import __version__, recipes
from condgan.app.cli.usage import Argument, Commands, Option, in_one_line
from condgan.runs.directory import require_run, resume_command
from condgan.utils.choices import EMBEDDED_NAMES, SOURCES, Crop, Precision, Vary, Way, absolute
from condgan.utils.errors import Diverged, FailedElsewhere, Interrupted, UserError, unknown
from condgan.utils.files import file_names, write

app = Commands(help="Train, judge and sample conditional image GANs.")
click.version_option(__version__, message="condgan %(version)s")(app)
INIT_CLASSIFIER = 50_000
FORMATS = ("packed", "hdf5")
FEW_HELD_OUT = 50
"""Held-out images below which a table of metrics warns of itself."""

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


@app.verb
def train_command(
    arguments: Annotated[
        tuple[str, ...],
        Argument("[RECIPE] [KEY=VALUE]...", "A recipe's name or YAML file, and options to override."),
    ] = (),
    data: Annotated[
        tuple[str, ...],
        Option(
            "Your images, in class folders or as `condgan data --help` tells, or a known name; again for another "
            "data set beside it. Without a recipe one is chosen for them."
        ),
    ] = (),
    root: RootOption = None,
    attributes: Annotated[str | None, Option("Attributes to learn, with commas between; else all.")] = None,
    out: Annotated[Path | None, Option("Run directory; runs/RECIPE by default.")] = None,
    fresh: Annotated[bool, Option("Start over in a new directory.")] = False,
    init_classifier: Annotated[
        bool,
        Option(
            f"Let the auxiliary classifier learn alone first, on {INIT_CLASSIFIER:,} real images.",
        ),
    ] = False,
    skip_bad_images: SkipOption = False,
    dry_run: Annotated[bool, Option("Show what would be trained, and write nothing.")] = False,
) -> None:
    """Train a recipe, or go on where the same command was stopped."""
    given = list(arguments)
    name = given.pop(0) if given and "=" not in given[0] else None
    if name is not None:
        recipes.text(name)  # an unknown one is told at once
    if init_classifier:
        given.append(f"schedule.init_classifier={INIT_CLASSIFIER}")
    sources = [absolute(one) for one in data]
    if attributes is not None:
        given.append(f"data.attributes={json.dumps(_names(attributes))}")
    if root is not None:
        given.append(f"data.root={json.dumps(str(root.expanduser().resolve()))}")
    from condgan.app.cli import console
    from condgan.recipes.load import load
    from condgan.runs.checkpoint import checkpoints
    from condgan.runs.train import choose_directory, train_run
    from condgan.utils import distributed

    if name is None and any(one not in EMBEDDED_NAMES for one in sources):
        recipe = console.chosen_recipe(sources, given)
    else:
        if sources:
            given.append(f"data.source={json.dumps(sources if len(sources) > 1 else sources[0])}")
        recipe = load(name or recipes.DEFAULT, given)
    with distributed.all_or_fail():
        directory = choose_directory(recipe, out, fresh)
    if dry_run:
        console.dry_run(recipe, directory, skip_bad_images)
        return
    metrics = train_run(recipe, directory, skip_bad_images)
    click.echo(_table(metrics))
    seen = max(recipe.schedule.images, int(checkpoints(directory / "checkpoints")[-1].name))
    longer = f"{resume_command(directory)} schedule.images={2 * seen}"
    if recipe.schedule.decay:  # the rates have reached zero
        longer += f" schedule.decay={2 * recipe.schedule.decay} --fresh"
    verb, more = ("translate", "IMAGE --every-domain ") if recipe.translates else ("sample", "")
    click.echo(f"\n{verb} it".ljust(16) + f"condgan {verb} {directory} {more}--out DIR\ntrain longer   {longer}")
    click.echo(f"look at        {directory / 'sheet.png'}")


@app.verb
def sample_command(
    directory: RunArgument,
    out: Annotated[Path, Option("Folder for the images, or a file that ends with .npz.")],
    classes: Annotated[str | None, Option("Class names with commas between; all by default.")] = None,
    mixture: Annotated[str | None, Option("Mix classes by weight instead, such as 3=0.5,8=0.5.")] = None,
    per_class: Annotated[int, Option("Images of each class, or of the mixture.")] = 16,
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
) -> None:
    """Write images of chosen classes: OUT/CLASS/INDEX.png and OUT/sheet.png, or one OUT.npz."""
    if classes is not None and mixture is not None:
        raise UserError(f"--classes {classes} and --mixture {mixture} given: expected one of them")
    if mixture is not None and out.suffix == ".npz":
        raise UserError(f"--mixture {mixture} and --out {out} given: a mixture has no class number, give a folder")
    require_run(directory)
    from PIL import Image

    from condgan.app.cli import console
    from condgan.utils.figures import class_sheets, png

    model = console.model_for_sampling(
        directory, checkpoint, truncation, latent_scale, standing, seed, precision, compiled
    )
    chosen = model.classes if classes is None else _names(classes)
    trained = f"from {model.images:,} images of training"
    if out.suffix == ".npz":
        write(out, model.npz(chosen, per_class, seed))
        click.echo(f"wrote {len(chosen) * per_class} images to {out}, {trained}")
        return
    weights = {} if mixture is None else _weights(mixture)
    groups = [",".join(f"{name}={weight:g}" for name, weight in weights.items())] if weights else chosen
    folders = file_names(groups)
    images = model.sample(weights or chosen, per_class, seed)
    for position, image in enumerate(images):
        write(out / folders[position // per_class] / f"{position % per_class}.png", png(Image.fromarray(image)))
    sheets = class_sheets(images, groups)
    console.write_pictures(out, sheets)
    click.echo(f"wrote {len(images)} images and {_listed(out, sheets)}, {trained}")


@app.verb
def interpolate_command(
    directory: RunArgument,
    out: OutOption,
    vary: Annotated[Vary | None, Option("What changes along a row; by default a picture of each.")] = None,
    path: Annotated[Way, Option("The way between two latents.")] = "linear",
    rows: Annotated[int, Option("Rows of images, each with ends of its own.")] = 8,
    steps: Annotated[int, Option("Images in a row, both ends included.")] = 8,
    classes: Annotated[str | None, Option("From A,B; by default from each class to the next one.")] = None,
    seed: SeedOption = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Write rows of images from one end to another: OUT/latent.png, OUT/class.png and OUT/both.png."""
    require_run(directory)
    from condgan.app.cli import console
    from condgan.sampling.interpolate import VARY
    from condgan.utils.figures import interpolation_sheet

    model = console.model_for_sampling(directory, checkpoint, truncation, latent_scale, standing, seed)
    chosen = None if classes is None else _names(classes)
    kinds: Iterable[Vary] = get_args(Vary) if vary is None else [vary]
    pictures = {}
    for kind in kinds:
        images = model.interpolate(kind, path, rows, steps, chosen, seed)
        names = [f"{first} to {last}" if VARY[kind][1] else first for first, last in model.ends(rows, chosen)]
        pictures[f"{kind}.png"] = interpolation_sheet(images, names)
    console.write_pictures(out, pictures)
    click.echo(f"wrote {_listed(out, pictures)}")


@app.verb
def attention_command(
    directory: RunArgument,
    out: OutOption,
    classes: Annotated[str | None, Option("Class names with commas between; ten of all by default.")] = None,
    per_class: Annotated[int, Option("Images of each class.")] = 4,
    positions: Annotated[str | None, Option("Pixels Y,X;Y,X to look from; center and quarters by default.")] = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Show what a generator's attention looks at from some pixels: OUT/LAYER.png."""
    require_run(directory)
    from condgan.app.cli import console
    from condgan.utils.figures import attention_sheet, spread

    model = console.model_for_sampling(directory, checkpoint)
    everything = [model.classes[number] for number in spread(len(model.classes), 10)]
    chosen = everything if classes is None else _names(classes)
    attended = model.attention(chosen, per_class, None if positions is None else _positions(positions), seed)
    rows = [name for name in chosen for _ in range(per_class)]
    pictures = {
        f"{layer}.png": attention_sheet(attended.images, attended.positions, maps, rows)
        for layer, maps in attended.maps.items()
    }
    console.write_pictures(out, pictures)
    click.echo(f"wrote {_listed(out, pictures)}")


@app.verb
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
    truncations = _numbers(at)
    require_run(directory)
    from condgan.runs.evaluate import truncation_curve

    truncation_curve(directory, out, truncations, scaled, standing, checkpoint, seed)
    click.echo(f"wrote {_listed(out, ['truncation.csv', 'truncation.png', 'sheet.png'])}")


@app.verb
def translate_command(
    directory: RunArgument,
    inputs: Annotated[tuple[Path, ...], Argument("[IMAGE|FOLDER]...", "Images, folders or zips of some.")] = (),
    *,
    out: Annotated[Path, Option("Folder for the images, which keep their names.")],
    change: Annotated[
        tuple[str, ...],
        Option("Labels to change, such as Red_Hair=1,Plate_Armor=0; of class folders class=NAME.", "--set"),
    ] = (),
    every_domain: Annotated[bool, Option("Write a strip per image: itself, then as each attribute or class.")] = False,
    held_out: Annotated[bool, Option("Translate the images of the run's data that it was not trained on.")] = False,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Translate images to other labels: OUT/NAME.png for each, in their order."""
    text = ",".join(change)
    if bool(change) == every_domain:
        given = f"--set {text} and --every-domain" if every_domain else "neither --set nor --every-domain"
        raise UserError(f"{given} given: expected one of them")
    if bool(inputs) == held_out:
        raise UserError(f"{'images and' if inputs else 'neither images nor'} --held-out given: expected one of them")
    if blocking := next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None):
        raise UserError(f"--out {out} given: '{blocking}' is a file; give a folder")
    require_run(directory)
    changes = _changes(text) if change else None
    import torch
    from PIL import Image

    from condgan.runs.models import held_out_split, load_translator
    from condgan.sampling.files import fitting, open_pictures, output_names
    from condgan.utils.figures import channels_last, png, sheet

    model = load_translator(directory, checkpoint)
    if changes is not None:
        model.plan(changes)
    if held_out:
        split = held_out_split(directory)
        names, images, labels, originals = split.names, split.images, split.labels[:], set()
    else:
        opened = list(open_pictures(model, inputs))
        names, images, labels = [one.name for one in opened], torch.cat([one.image for one in opened]), None
        originals = {one.file.resolve() for one in opened if one.file is not None}
        for said in fitting([one.size for one in opened], model.shape):
            click.echo(said)
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
                click.echo(f"{name}: {_changed(changed)}")
        for file, picture in zip(files[part], written, strict=True):
            write(out / file, png(picture))
    trained = f"from {model.images:,} images of training"
    click.echo(f"wrote {len(files)} image{'s' * (len(files) > 1)} to {out}, {trained}")


@app.verb
def evaluate_command(
    subject: SubjectArgument,
    data: RealOption = None,
    metrics: Annotated[
        str | None,
        Option("Metrics with commas between, such as fid,is,kid; by default all that can be told."),
    ] = None,
    n: Annotated[int | None, Option("Fakes to judge; by default as many as real images.")] = None,
    per_class: Annotated[
        bool | None, Option("Judge each class too; by default with the classifier.", "--per-class/--overall")
    ] = None,
    extractor: ExtractorOption = "classifier",
    weights: WeightsOption = None,
    split: SplitOption = None,
    size: SizeOption = None,
    checkpoint: CheckpointOption = "best",
    seed: Annotated[int, Option("Seed of the fakes.")] = 0,
    truncation: TruncationOption = None,
    latent_scale: LatentScaleOption = None,
    standing: StandingOption = None,
    batch_statistics: BatchOption = None,
    skip_bad_images: SkipOption = False,
    as_json: Annotated[bool, Option("Print one line of JSON.", "--json")] = False,
) -> None:
    """Judge a run's fakes or translations, or any images, against real ones.

    Of a run RUN/metrics.json, sheet.png and neighbors.png are written.
    """
    from condgan.runs.evaluate import EvaluationOptions, evaluate
    from condgan.sampling.options import Sampling

    asked = None if metrics is None else _names(metrics)
    question = EvaluationOptions(extractor, weights, asked, n, split, per_class, size, skip_bad_images)
    sampling = Sampling(checkpoint, seed, truncation, latent_scale, standing, batch_statistics)
    found = evaluate(subject, data, question, sampling)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(_table(found, everything=bool(per_class)))


@app.verb
def statistics_command(
    source: SourceArgument,
    out: Annotated[Path, Argument("OUT", "The npz file to write.")],
    extractor: ExtractorOption = "inception",
    weights: WeightsOption = None,
    split: SplitOption = None,
    size: SizeOption = None,
    skip_bad_images: SkipOption = False,
) -> None:
    """Keep the mean and covariance of real images' features, for --data of evaluate, for pytorch-fid and others."""
    from condgan.runs.evaluate import EvaluationOptions, statistics

    question = EvaluationOptions(extractor, weights, split=split, size=size, skip_bad_images=skip_bad_images)
    about = statistics(source, out, question)
    click.echo(f"wrote {out}: {about['extractor']} features of {about['real']:,} images of {about['size']} pixels")


@app.verb
def utility_command(
    subject: SubjectArgument,
    data: TrueOption = None,
    seeds: Annotated[int, Option("Classifiers of each kind, and draws of fakes.")] = 5,
    n: Annotated[int | None, Option("Fakes of each seed; by default as many as real images.")] = None,
    size: SizeOption = None,
    checkpoint: CheckpointOption = "best",
    truncation: TruncationOption = None,
    standing: StandingOption = None,
    skip_bad_images: SkipOption = False,
    as_json: Annotated[bool, Option("Print one line of JSON.", "--json")] = False,
) -> None:
    """Tell whether fakes help a small classifier: trained on real images, on these and fakes, and on fakes alone.

    Of a run RUN/utility.json is written.
    """
    from condgan.evaluation.usefulness import as_table
    from condgan.runs.utility import utility
    from condgan.sampling.options import Sampling

    sampling = Sampling(checkpoint, truncation=truncation, standing=standing)
    result = utility(subject, data, seeds, n, size, sampling, skip_bad_images)
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo("\n".join([as_table(result), *(f"warning: {one}" for one in result["about"].get("warnings", []))]))


@app.verb
def report_command(
    directory: RunArgument,
    out: Annotated[Path | None, Option("The page to write; RUN/report.html by default.")] = None,
) -> None:
    """Write a page of what a run is, how it went and how good it is, in one file that needs no network."""
    require_run(directory)
    from condgan.runs.report import write_report

    click.echo(f"look at        {write_report(directory, out)}")


@app.verb
def data_command(
    source: SourceArgument,
    root: RootOption = None,
    held_out: HeldOutOption = None,
    out: Annotated[Path | None, Option("The contact sheet; NAME-sheet.png by default.")] = None,
    as_json: Annotated[bool, Option("Print one line of JSON.", "--json")] = False,
) -> None:
    """Describe labeled images: counts, sizes, modes, copies, unreadable files, what may go wrong, a contact sheet.

    A path is a folder, zip or tar of class folders, with train/ and test/ or val/ around them or not; of images without
    labels; of images with a CSV, metadata.jsonl, dataset.json or list_attr….txt; tar shards of WebDataset's; an HDF5
    file; an LMDB; a saved Hugging Face data set; or what `condgan prepare` wrote.
    """
    from condgan.data.open import list_source
    from condgan.data.survey import as_mapping, contact_sheet, describe_survey, survey, warnings
    from condgan.utils.figures import png

    listing = list_source(absolute(source), None if root is None else str(root), held_out)
    look = survey(listing)
    lines, said = describe_survey(look), warnings(look)
    path = out or Path(f"{Path(source).stem}-sheet.png")
    picture = contact_sheet(look)
    if picture is not None:
        write(path, png(picture))
    if as_json:
        click.echo(json.dumps(as_mapping(look) | {"sheet": str(path) if picture else None}))
        return
    for line in [*lines, *(f"warning        {one}" for one in said)]:
        click.echo(line)
    if picture is not None:
        click.echo(f"look at        {path}")


@app.verb
def prepare_command(
    source: SourceArgument,
    out: Annotated[Path, Argument("OUT", "Folder to write, or with --format hdf5 a file.")],
    size: Annotated[str, Option("Pixels, such as 64, or width × height such as 96x64.")],
    channels: Annotated[
        int | None, Option("1 gray, 3 RGB or 4 RGBA; by default gray where no picture has colors, else RGB.")
    ] = None,
    crop: Annotated[Crop, Option("What is kept of pictures of another shape.")] = "center",
    background: Annotated[str, Option("Color behind what is transparent, and around what is padded.")] = "white",
    form: Annotated[str, Option("packed (memory-mapped) or hdf5.", "--format")] = "packed",
    held_out: HeldOutOption = None,
    paired: Annotated[bool, Option("Keep which images differ in labels alone.")] = False,
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
    from tqdm import tqdm

    from condgan.app.cli import console
    from condgan.data.open import list_source
    from condgan.data.prepare import UnreadableImages, prepare
    from condgan.data.preprocessing import Preprocessing, color, height_and_width
    from condgan.data.survey import quick_look

    listing = list_source(absolute(source), None if root is None else str(root), held_out, paired)
    colors = channels or console.channels_of(quick_look(listing))
    framing = Preprocessing(*height_and_width(size), colors, crop, color(background))
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
        click.echo(f"left out       {one}")
    click.echo(
        f"wrote {len(prepared.train):,} training and {len(prepared.held_out):,} held-out images of "
        f"{console.counted(prepared.listing.labels.spec)} to {out}\nsha256 {prepared.digest}"
    )


@app.verb
def recipes_command(name: Annotated[str | None, Argument("[NAME]", "Print this one's YAML.")] = None) -> None:
    """List the recipes, or print one."""
    if name is not None:
        click.echo(recipes.text(name).rstrip())
        return
    catalog = recipes.catalog()
    width = max(map(len, catalog))
    for key, description in catalog.items():
        click.echo(f"{key:{width}}  {description}")


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    leads = True
    try:
        with _joined(arguments[0]) as leads:
            code = app.main(arguments, "condgan", standalone_mode=False)
    except FailedElsewhere:
        code = _fail("stopped, because another process failed or is gone", 1)
    except click.ClickException as error:
        code = _fail(in_one_line(error, arguments, app), 2)
    except UserError as error:
        code = _fail(str(error), 2)
    except Interrupted as error:
        code = _fail(str(error), error.exit_code, leads)
    except Diverged as error:
        code = _fail(str(error), 1, leads)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130)
    except MemoryError:
        code = _fail(NO_MEMORY, 2)
    except RuntimeError as error:
        from condgan.utils.device import lacks_memory

        if not lacks_memory(error):
            raise
        code = _fail(NO_MEMORY, 2)
    except OSError as error:
        code = _fail(_system_error(error), 2)
    sys.exit(code or 0)


@contextmanager
def _joined(verb: str) -> Iterator[bool]:
    """Be one of torchrun's processes meanwhile, if this is one; whether this is the one that speaks."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield True
        return
    from condgan.utils import distributed

    with distributed.joined():
        if not distributed.is_main():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        if distributed.size() > 1 and verb not in SHARED:
            raise UserError(
                f"condgan {verb} given to {distributed.size()} processes: expected one, or a command that they share, "
                f"{', '.join(SHARED)}; start it without torchrun"
            )
        yield distributed.is_main()


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
    if about["real"] is not None and about["real"] < FEW_HELD_OUT:
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
