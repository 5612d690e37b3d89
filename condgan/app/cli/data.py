"""Describe and prepare data, and list the recipes for them."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import click

from condgan import recipes
from condgan.app.cli.options import HeldOutOption, NumberOption, RootOption, SkipOption, SourceArgument
from condgan.app.cli.usage import Argument, Option
from condgan.utils.choices import SOURCES, Crop
from condgan.utils.errors import UserError, unknown
from condgan.utils.files import absolute, cache_directory, is_within, require_file, require_outside, write

FORMATS = ("packed", "hdf5")


def data_command(
    source: SourceArgument,
    root: RootOption = None,
    held_out: HeldOutOption = None,
    number: NumberOption = None,
    out: Annotated[Path | None, Option("The contact sheet; NAME-sheet.png by default, never in the data.")] = None,
    as_json: Annotated[bool, Option("Print one line of JSON.", "--json")] = False,
) -> None:
    """Describe labeled images: counts, sizes, modes, copies, unreadable files, what may go wrong, a contact sheet.

    A path is a folder, zip or tar of class folders, with train/ and test/ or val/ around them or not; of images without
    labels; of images with a CSV, metadata.jsonl, dataset.json or list_attr….txt; tar shards of WebDataset's; an HDF5
    file; an LMDB; a saved Hugging Face data set; or what `condgan prepare` wrote.
    """
    from condgan.data.listing import UNLABELED
    from condgan.data.open import list_source
    from condgan.data.readers.folders import neighbors_with_images
    from condgan.data.survey import as_mapping, contact_sheet, describe_survey, survey, warnings
    from condgan.utils.figures import png

    if out is not None:
        require_file(out, ".png", f"--out {out}")
        require_outside(out, source, f"--out {out}")
    listing = list_source(absolute(source), None if root is None else str(root), held_out, number=number)
    look = survey(listing)
    lines, said = describe_survey(look), warnings(look)
    path = out or _sheet_of(source)
    picture = contact_sheet(look)
    if picture is not None:
        write(path, png(picture))
    if as_json:
        click.echo(json.dumps(as_mapping(look) | {"sheet": str(path) if picture else None}))
        return
    if listing.labels.spec.classes == (UNLABELED,) and (beside := neighbors_with_images(absolute(source))):
        classes, above = ", ".join(f"'{name}'" for name in beside[:3]), Path(absolute(source)).parent
        lines.append(
            f"note           if {classes}{', …' * (len(beside) > 3)} beside it are other classes, give '{above}'"
        )
    for line in [*lines, *(f"warning        {one}" for one in said)]:
        click.echo(line)
    if picture is not None:
        click.echo(f"look at        {path}")


def _sheet_of(source: str) -> Path:
    """Where the contact sheet is written: here, but not into the data; then beside them, or in the cache."""
    if source in SOURCES:
        return Path(f"{source}-sheet.png")
    data = Path(absolute(source))
    name = f"{(data.name if data.is_dir() else data.stem) or 'data'}-sheet.png"
    if not is_within(Path.cwd(), data):
        return Path(name)
    beside = os.access(data.parent, os.W_OK) and data.parent != data
    return (data.parent if beside else cache_directory() / "sheets") / name


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
    number: NumberOption = None,
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

    from condgan.data.open import list_source
    from condgan.data.prepare import UnreadableImages, prepare
    from condgan.data.preprocessing import Preprocessing, color, height_and_width
    from condgan.data.survey import quick_look

    listing = list_source(absolute(source), None if root is None else str(root), held_out, paired, number)
    if channels is None:
        look = quick_look(listing)
        channels = look.channels
        if look.gray:
            click.echo(
                f"gray, since none of the {len(look.readable):,} pictures looked at has colors; --channels 3 for RGB"
            )
    preprocessing = Preprocessing(*height_and_width(size), channels, crop, color(background))
    try:
        prepared = prepare(listing, preprocessing, out, skip_bad_images, hdf5=form == "hdf5")
    except UnreadableImages as error:
        for one in error.bad:
            tqdm.write(f"unreadable     {one}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        tqdm.write("stopped; the same command goes on", file=sys.stderr)
        raise
    for one in prepared.skipped:
        click.echo(f"left out       {one}")
    for note in prepared.listing.notes:
        click.echo(f"note           {note}")
    click.echo(
        f"wrote {len(prepared.train):,} training and {len(prepared.held_out):,} held-out images of "
        f"{prepared.listing.labels.spec.summary} to {out}\nsha256 {prepared.digest}"
    )


def recipes_command(name: Annotated[str | None, Argument("[NAME]", "Print this one's YAML.")] = None) -> None:
    """List the recipes, or print one."""
    if name is not None:
        click.echo(recipes.text(name).rstrip())
        return
    catalog = recipes.catalog()
    width = max(map(len, catalog))
    for key, description in catalog.items():
        click.echo(f"{key:{width}}  {description}")
