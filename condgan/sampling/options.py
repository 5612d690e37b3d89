"""How a run's fakes are drawn: seed, latents and batch norms."""

from typing import Any, NamedTuple

from condgan.sampling.model import Model
from condgan.utils.arguments import whole
from condgan.utils.errors import UserError

EVALUATION_SEED = 0


class Sampling(NamedTuple):
    """How a run's fakes are drawn."""

    which: str = "best"
    """The checkpoint."""
    seed: int = EVALUATION_SEED
    truncation: float | None = None
    latent_scale: float | None = None
    standing: int | None = None
    """Batch norms know the standing statistics of so many batches."""
    batch: int | None = None
    """Batch norms know the statistics of each batch, of so many images, alone."""


def with_sampling(model: Model, sampling: Sampling) -> Model:
    """The model with the latents and batch norms that are asked for. Raises UserError for both kinds of statistics."""
    if sampling.truncation is not None or sampling.latent_scale is not None:
        model = model.with_latents(sampling.truncation, sampling.latent_scale)
    if sampling.standing is not None and sampling.batch is not None:
        raise UserError("standing statistics and those of each batch given: expected one of them")
    if sampling.standing is not None:
        return model.with_standing_statistics(sampling.standing, sampling.seed)
    if sampling.batch is None:
        return model
    whole("images of a batch of batch norms' statistics", sampling.batch, 2)
    return model.with_batch_statistics()


def sampling_record(sampling: Sampling) -> dict[str, Any]:
    """Record how fakes were drawn, beside the numbers that are of them."""
    norms = "running statistics"
    if sampling.standing is not None:
        norms = f"standing statistics of {sampling.standing} batches"
    elif sampling.batch is not None:
        norms = f"statistics of each batch of {sampling.batch}"
    scale = {} if sampling.latent_scale is None else {"latent_scale": sampling.latent_scale}
    return {"batch_norm": norms, "truncation": sampling.truncation, **scale}
