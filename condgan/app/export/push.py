"""Put a run's model on the Hub, and bring one from there."""

import shutil
import tempfile
from pathlib import Path

from condgan import __version__
from condgan.app.export.card import model_card
from condgan.app.export.write import export
from condgan.hub import CARD, LICENSE, LIMITS, require_name, upload_model
from condgan.runs.directory import RUNS_FOLDER, downloaded, recipe_of, run_directory
from condgan.runs.models import load_either
from condgan.runs.schemas import environment_of
from condgan.utils.errors import UserError
from condgan.utils.files import found, new_directory, new_file, path_of, require_outside_runs, write


def push(run: str | Path, name: str, license: str, which: str | int = "best") -> str:
    """Export a run's model to a repository of the Hub, in one commit, with a card; returns its page.

    `name`: OWNER/NAME. `license`: as the Hub calls it. `which` checkpoint: best, latest, or by its number of images. A
    run's LICENSE goes along. Raises UserError for bad input, and for whatever the Hub refuses; then nothing changes
    there, but that the repository may be new and empty.
    """
    repository, revision = require_name(name)
    if revision is not None:
        raise UserError(f"'{name}' to push to: expected OWNER/NAME, since what is pushed becomes its main branch")
    directory = run_directory(run)
    with tempfile.TemporaryDirectory() as place:
        folder, text = Path(place, "model"), directory / LICENSE
        export(directory, folder, which=which, license=text if found(text) else None)
        recipe, environment = recipe_of(directory), environment_of(directory)
        data = None if environment is None else environment.data
        write(folder / CARD, model_card(folder, recipe, data, repository, license).encode())
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        return upload_model(repository, files, f"Push {recipe.name} by condgan {__version__}")


def pull(name: str, out: str | Path | None = None) -> Path:
    """Bring a model of the Hub, OWNER/NAME or OWNER/NAME@REVISION, as a folder that is used like a run; returns it.

    `out`: a new folder, by default runs/NAME. Raises UserError for bad input, for a model that is not to be had, and
    for one that cannot be read; then nothing is written.
    """
    asked = require_name(name)
    place = RUNS_FOLDER / asked.repository.partition("/")[2] if out is None else path_of(out, "folder")
    require_outside_runs(place, f"--out {place}")
    if found(place):
        raise UserError(f"'{place}' is there already: give a new folder with --out")
    cached = downloaded(asked)
    try:
        load_either(cached)
    except UserError as error:
        raise UserError(f"'{asked}' cannot be used ({error}): ask who published it, or give another revision") from None
    with new_directory(place) as temporary:
        for file in (one for pattern in LIMITS for one in sorted(cached.glob(pattern))):
            with new_file(temporary / file.relative_to(cached)) as copy:
                shutil.copyfile(file, copy)
    return place
