"""Find what a run's generator would make given pictures of."""

from pathlib import Path

from condgan.build import image_preprocessing
from condgan.networks import Discriminator
from condgan.runs import checkpoint
from condgan.runs.directory import recipe_of, run_directory
from condgan.runs.models import find_checkpoint, load_model
from condgan.runs.select import open_discriminator
from condgan.sampling.invert import Inverted, invert
from condgan.sampling.pictures import images_of
from condgan.sampling.translator import GivenPictures
from condgan.utils.errors import UserError


def invert_pictures(
    run: str | Path,
    pictures: GivenPictures,
    classes: int = 3,
    starts: int = 4,
    steps: int = 200,
    seed: int = 0,
    which: str = "best",
) -> Inverted:
    """Find the latents and classes of a run whose images are nearest to pictures of any size and mode; see `invert`.

    Pictures become images as in training. The run's discriminator helps, where there is one: what was exported has
    none. Raises UserError for what is no picture, and for a run that translates.
    """
    directory = run_directory(run)
    model = load_model(directory, which, "float32")
    images = images_of(pictures, image_preprocessing(recipe_of(directory)))
    if not len(images):
        raise UserError("no picture given: expected one or more to invert")
    return invert(model, images, reader_of(directory, which), classes, starts, steps, seed)


def reader_of(directory: Path, which: str) -> Discriminator | None:
    """The discriminator of a run's checkpoint, in evaluation mode, where the checkpoint has one that is whole."""
    path = find_checkpoint(directory, which)
    if checkpoint.damage(path, checkpoint.NETWORKS) is not None:
        return None
    network = open_discriminator(directory, path.name)
    assert isinstance(network, Discriminator)
    return network
