"""Write a run's model for others: check what is asked for, make the files, and put them all in place at once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from condgan.app.export.folder import folder_files
from condgan.app.export.programs import aoti_files, onnx_files, pt2_files
from condgan.app.export.subject import ExportOptions, ExportSubject
from condgan.app.export.web import web_files
from condgan.hub import LICENSE
from condgan.runs import checkpoint
from condgan.runs.directory import recipe_of, require_run, run_directory
from condgan.runs.models import find_checkpoint, load_either
from condgan.sampling.model import Model
from condgan.sampling.options import Sampling, with_sampling
from condgan.utils.choices import ExportFormat
from condgan.utils.errors import UserError, unknown
from condgan.utils.files import found, new_directory, path_of, read_bytes, require_outside_runs, write
from condgan.utils.limits import TEXT

PROGRAM = ("output", "mixtures", "truncation", "standing")
EXPORTS: dict[str, tuple[Callable[[ExportSubject], dict[str, bytes]], tuple[str, ...]]] = {
    "safetensors": (folder_files, ("standing", "with_discriminator")),
    "onnx": (onnx_files, PROGRAM),
    "pt2": (pt2_files, PROGRAM),
    "aoti": (aoti_files, PROGRAM),
    "web": (web_files, ("standing", "runtime")),
}
"""What makes the files of each format, and the options that it has."""
TRANSLATORS = ("output", "with_discriminator")
"""The options that a translator has, too."""


def export(
    run: str | Path,
    out: str | Path,
    format: ExportFormat = "safetensors",
    which: str | int = "best",
    options: ExportOptions = ExportOptions(),
    license: str | Path | None = None,
) -> list[str]:
    """Write a model of a run into a new folder, in a format; returns the names of the files.

    `which` checkpoint: best, latest, or by its number of images. `license`: a text that is put beside it. Raises
    UserError for bad input, and where a file would make other images than this package; then nothing is written.
    """
    run, out = run_directory(run), path_of(out, "folder")
    if format not in EXPORTS:
        raise unknown("format", format, EXPORTS)
    made_by, known = EXPORTS[format]
    asked = [name for name, value in options._asdict().items() if value != ExportOptions._field_defaults[name]]
    _require_options(asked, known, f"with --format {format}, which has no such option")
    require_run(run, out)
    require_outside_runs(out, f"--out {out}")
    if found(out):
        raise UserError(f"--out {out} given, which is there already: give a new folder")
    beside = {} if license is None else {LICENSE: read_bytes(path_of(license, "license"), TEXT)}
    recipe = recipe_of(run)
    if recipe.translates:
        if format == "web":
            raise UserError(f"web asked for of run '{run}', a translator: a page makes images from labels alone")
        _require_options(
            asked,
            [name for name in known if name in TRANSLATORS],
            f"with run '{run}', a translator, which has no such option with --format {format}",
        )
    needed = checkpoint.needed_files(recipe) | ({checkpoint.DISCRIMINATOR} if options.with_discriminator else set())
    path = find_checkpoint(run, which, needed=needed)
    model = load_either(run, path.name, "float32")
    if isinstance(model, Model):
        model = with_sampling(model, Sampling(truncation=options.truncation, standing=options.standing))
    contents = made_by(ExportSubject(run, path, needed, recipe, model, options)) | beside
    with new_directory(out) as temporary:
        for name, data in contents.items():
            write(temporary / name, data)
    return [*contents]


def _require_options(asked: Sequence[str], known: Sequence[str], why: str) -> None:
    if wrong := next((name for name in asked if name not in known), None):
        named, *others = [f"--{name.replace('_', '-')}" for name in (wrong, *known)]
        raise UserError(f"{named} given {why}: leave it out; known: {', '.join(others) or 'none'}")
