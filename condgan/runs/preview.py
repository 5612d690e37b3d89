"""A training run as it would be, counted without training."""

from typing import NamedTuple

from condgan import timing
from condgan.build import empty_networks
from condgan.data.dataset import Dataset
from condgan.estimate import Memory, count_layers, estimate_memory, parameters_of
from condgan.labels import LabelSpec
from condgan.recipes.schema import Recipe
from condgan.runs import transfer
from condgan.runs.models import read_data
from condgan.runs.train import require_possible
from condgan.utils import distributed
from condgan.utils.choices import KNOWN_NAMES

MOST_LAYERS = 450
"""Of networks whose memory is estimated, which takes a quarter of a minute then; more than any recipe has."""

TIMED = 2**29
"""Bytes up to which networks are trained for a few seconds, to see how long they take."""


class Preview(NamedTuple):
    """The data, size, memory and time of a training run."""

    spec: LabelSpec
    data: Dataset | None
    """None where they are known by name, and need not be read to count."""
    generator: int
    """Trainable parameters."""
    discriminator: int
    layers: int
    memory: Memory | None
    """None for networks of more than MOST_LAYERS layers."""
    images_at_once: int
    """Images of a batch that go through the networks of a process together."""
    taken: list[str]
    """What the networks would begin with of another run, a line each."""
    speed: float | None
    """Images of training in a second on this machine; None for networks too large to be tried."""


def preview_run(recipe: Recipe, skip_bad_images: bool = False, speed: float | None = None) -> Preview:
    """Count and time what a recipe would train, and write nothing. `speed`: as it was measured already.

    Raises UserError for data that cannot be read, and for a recipe that these processes cannot train.
    """
    require_possible(recipe)
    known = all(source in KNOWN_NAMES for source in recipe.data.sources)
    spec, data = recipe.data.published_spec() if known else None, None
    if spec is None:
        data = read_data(recipe, skip_bad_images)
        spec = data.spec
    images_at_once = recipe.schedule.batch // (recipe.schedule.accumulate * distributed.size())
    networks = empty_networks(recipe, spec)
    parameters, layers = parameters_of(*networks), count_layers(*networks)
    taken: list[str] = []
    if recipe.transfer.run is not None:
        taken = transfer.plan(recipe, spec, transfer.open_source(recipe.transfer.run)).lines
    memory = estimate_memory(recipe, spec, networks) if layers <= MOST_LAYERS else None
    if speed is None and memory is not None and sum(memory) <= TIMED:
        speed = timing.images_per_second(recipe, spec)
    return Preview(spec, data, *parameters, layers, memory, images_at_once, taken, speed)
