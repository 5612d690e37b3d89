"""Judge fakes and translations, and report on a run."""

import json
from pathlib import Path
from typing import Annotated

import click

from condgan.app.cli.options import (
    BatchOption,
    CheckpointOption,
    ExtractorOption,
    LatentScaleOption,
    RealOption,
    RunArgument,
    SizeOption,
    SkipOption,
    SourceArgument,
    SplitOption,
    StandingOption,
    SubjectArgument,
    TrueOption,
    TruncationOption,
    WeightsOption,
    comma_separated,
)
from condgan.app.cli.tables import metric_table
from condgan.app.cli.usage import Argument, Option
from condgan.runs.directory import require_run
from condgan.utils.files import require_file, require_outside


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
    full: Annotated[bool, Option("Print every number, and those of each class.")] = False,
    as_json: Annotated[bool, Option("Print one line of JSON.", "--json")] = False,
) -> None:
    """Judge a run's fakes or translations, or any images, against real ones.

    Of a run RUN/metrics.json, sheet.png and neighbors.png are written, of a generator directions.png, and of 3 to 64
    classes tree.png.
    """
    from condgan.runs.evaluate import EvaluationOptions, evaluate
    from condgan.sampling.options import Sampling

    asked = None if metrics is None else comma_separated(metrics)
    options = EvaluationOptions(extractor, weights, asked, n, split, per_class, size, skip_bad_images)
    sampling = Sampling(checkpoint, seed, truncation, latent_scale, standing, batch_statistics)
    found = evaluate(subject, data, options, sampling)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(metric_table(found, full or bool(per_class) or asked is not None))


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
    require_file(out, ".npz", f"'{out}' as output")
    require_outside(out, source, f"'{out}' as output")
    from condgan.runs.evaluate import EvaluationOptions, statistics

    options = EvaluationOptions(extractor, weights, split=split, size=size, skip_bad_images=skip_bad_images)
    about = statistics(source, out, options)
    click.echo(f"wrote {out}: {about['extractor']} features of {about['real']:,} images of {about['size']} pixels")


def utility_command(
    subject: SubjectArgument,
    data: TrueOption = None,
    minutes: Annotated[float, Option("How long to search for the best mixture of fakes and to judge it.")] = 10.0,
    seeds: Annotated[int, Option("Classifiers of each kind that the verdict is by, each with fakes of its own.")] = 5,
    classifier: Annotated[
        str, Option("small, a model of torchvision, timm:NAME, or module:callable that takes num_classes.")
    ] = "small",
    out: Annotated[Path | None, Option("Folder for the fakes that were chosen, by class.", "--write")] = None,
    size: SizeOption = None,
    checkpoint: CheckpointOption = "best",
    truncation: TruncationOption = None,
    standing: StandingOption = None,
    skip_bad_images: SkipOption = False,
    as_json: Annotated[bool, Option("Print one line of JSON.", "--json")] = False,
) -> None:
    """Tell whether fakes help a classifier beyond what augmentation gives, and which of them do.

    How many are added, and how selected, is chosen on half of the held-out images; the verdict is on the other half.
    Of a run RUN/utility.json is written.
    """
    from condgan.evaluation.advice import as_table
    from condgan.runs.utility import utility
    from condgan.sampling.options import Sampling

    sampling = Sampling(checkpoint, truncation=truncation, standing=standing)
    result = utility(subject, data, seeds, minutes, classifier, out, size, sampling, skip_bad_images)
    if as_json:
        click.echo(json.dumps(result))
        return
    warnings = [f"warning: {one}" for one in result["about"]["warnings"]]
    wrote = [] if out is None else [f"wrote {result['n_fakes']:,} fakes and {out / 'selection.csv'}"]
    click.echo("\n".join([*warnings, as_table(result), *wrote]))


def report_command(
    directory: RunArgument,
    out: Annotated[Path | None, Option("The page to write; RUN/report.html by default.")] = None,
) -> None:
    """Write a page of what a run is, how it went and how good it is, in one file that needs no network."""
    if out is not None:
        require_file(out, ".html", f"--out {out}")
    require_run(directory, out)
    from condgan.runs.report import write_report

    click.echo(f"look at        {write_report(directory, out)}")
