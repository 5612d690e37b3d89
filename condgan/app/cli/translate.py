"""Translate images to other labels."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from condgan.app.cli.options import CheckpointOption, ModelArgument, pieces
from condgan.app.cli.usage import Argument, Option
from condgan.runs.directory import require_run, run_directory
from condgan.utils.errors import UserError
from condgan.utils.files import require_outside

if TYPE_CHECKING:
    from condgan.sampling.translator import Translator


def translate_command(
    run: ModelArgument,
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
    if not all("=" in one for one in change):
        raise UserError(_expected(text))
    directory = run_directory(run)
    require_run(directory, out)
    for folder in filter(Path.is_dir, inputs):
        require_outside(out, folder, f"--out {out}")
    from condgan.runs.models import held_out_split, load_translator
    from condgan.sampling.files import fitting, pictures_of, read_pictures, write_translations
    from condgan.utils.console import origin

    model = load_translator(directory, checkpoint)
    changes = _changes(text, model) if change else None
    if changes is not None:
        model.plan(changes)
    pictures = pictures_of(held_out_split(directory)) if held_out else read_pictures(model.preprocessing, inputs)
    for note in pictures.notes:
        click.echo(note, err=True)
    for said in fitting(pictures.sizes, model.shape):
        click.echo(said)
    for name, changed in write_translations(model, pictures, changes, out):
        if changes is not None:
            click.echo(f"{name}: {_changed(changed)}")
    count = len(pictures.names)
    click.echo(f"wrote {count} image{'s' * (count > 1)} to {out}, from {origin(model.images)}")


def _expected(text: str) -> str:
    return f"--set {text} given: expected LABEL=1 or LABEL=0, such as Red_Hair=1,Plate_Armor=0"


def _changes(text: str, model: "Translator") -> dict[str, bool | str]:
    fields = {field.name: field.values for field in model.spec.fields}
    labels = {one for name, values in fields.items() for value in values for one in (value, f"{name}.{value}")}
    changes: dict[str, bool | str] = {}
    for part in pieces(text, lambda one: _change(one, labels, fields) is not None):
        known = _change(part, labels, fields) or _change(part.strip(), labels, fields)
        name, value = known or tuple(map(str.strip, part.rpartition("=")[::2]))
        if not (name and value):
            raise UserError(_expected(text))
        if name in changes:
            raise UserError(f"--set {text} given: '{name}' stands there twice, expected different labels")
        changes[name] = value
    return changes


def _change(text: str, labels: Container[str], fields: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """A label and 0 or 1, or a field and one of its values, if the text is that; any of them may hold a =."""
    for place in (place for place, letter in enumerate(text) if letter == "="):
        name, value = text[:place], text[place + 1 :]
        for one, to in ((name, value), (name.strip(), value.strip())):
            if (one in labels and to in ("0", "1")) or to in fields.get(one, ()):
                return one, to
    return None


def _changed(changes: dict[str, bool]) -> str:
    """List what a translation changed, such as +Red_Hair."""
    return ", ".join(f"{'+' if on else '−'}{name}" for name, on in changes.items()) or "nothing to change"
