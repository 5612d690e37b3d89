"""Tell whether a run's fakes, or images, are of use to a classifier of real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from condgan.data.dataset import Dataset
from condgan.evaluation.images import Real, fakes_of, is_statistics, read_fakes_and_real, require_enough, size_text
from condgan.evaluation.usefulness import Pool, usefulness
from condgan.runs.directory import is_run, recipe_of, results_of, run_directory
from condgan.runs.evaluate import real_of_run, require_data, require_subject
from condgan.runs.models import find_checkpoint, load_model
from condgan.sampling.options import Sampling, sampling_record, with_sampling
from condgan.utils.arguments import whole
from condgan.utils.device import device
from condgan.utils.errors import UserError
from condgan.utils.files import write


class Subject(NamedTuple):
    """Real images, the fakes of each seed, and what these are of."""

    real: Real
    draw: Callable[[int], Pool]
    about: dict[str, Any]


def utility(
    subject: str | Path,
    data: Dataset | str | Path | None = None,
    seeds: int = 5,
    n: int | None = None,
    size: int | str | None = None,
    sampling: Sampling = Sampling(),
    skip_bad_images: bool = False,
) -> dict[str, Any]:
    """Tell whether a run's fakes, or images, help a classifier of real images: see `usefulness`.

    `data` as in `evaluate`; classifiers learn on its training split and are tested on the held-out one. `n`: fakes of
    each seed, by default as many as there are training images, with their labels. Of a run on its own data,
    utility.json is written. Raises UserError for bad input.
    """
    n, seeds = None if n is None else whole("--n", n, 1), whole("seeds", seeds)
    require_data(data)
    path = run_directory(subject, "images or a run")
    of_run = is_run(path)
    if of_run:
        real, draw, about = _of_run(path, data, n, sampling)
    else:
        require_subject(subject)
        real, draw, about = _of_images(str(subject), data, n, size, skip_bad_images)
    if real.data is None:
        raise UserError(f"statistics '{data}' given: expected real images to train a classifier on")
    train, test = (Pool(split.images, split.labels) for split in (real.data.train, real.data.held_out))
    result = usefulness(train, draw, test, seeds, device())
    result["about"] = {
        "source": Path(subject).name,
        "reference": real.source,
        "sha256": real.data.content_hash,
        "size": size_text(train.images),
        **about,
    }
    if of_run and not isinstance(data, str | Path):
        with results_of(path):
            write(path / "utility.json", json.dumps(result, indent=1).encode())
    return result


def _of_run(path: Path, data: Dataset | str | Path | None, n: int | None, sampling: Sampling) -> Subject:
    """Find a run's real images, and draw its fakes."""
    checkpoint = find_checkpoint(path, sampling.which)
    model = load_model(path, checkpoint.name, "float32")
    real = real_of_run(path, recipe_of(path), data, "train", is_statistics(data))

    def draw(seed: int) -> Pool:
        one = sampling._replace(seed=sampling.seed + seed)
        fakes = fakes_of(with_sampling(model, one), real, n, one)
        return Pool(torch.cat([*fakes.chunks()]), fakes.asked)

    about = {"checkpoint": checkpoint.name, **sampling_record(sampling), "seed": sampling.seed}
    return Subject(real, draw, about)


def _of_images(
    subject: str, data: Dataset | str | Path | None, n: int | None, size: int | str | None, skip_bad_images: bool
) -> Subject:
    """Read images, which are the fakes of each seed, and the real ones."""
    if data is None:
        raise UserError(f"images '{subject}' given without --data: expected real images to train a classifier on")
    stated = is_statistics(data)
    images, real, odd = read_fakes_and_real(subject, data, "train", size, True, skip_bad_images, stated)
    if images.labels is None:
        raise UserError(
            f"the classes of '{subject}' are not those of '{data}': expected class folders of the same names"
        )
    chosen = images if n is None else images.evenly_spaced(require_enough(n, len(images), f"images in '{subject}'"))
    labels = chosen.labels
    assert labels is not None
    pool = Pool(torch.cat([*chosen.chunks()]), labels)
    return Subject(real, lambda seed: pool, {"warnings": odd})
