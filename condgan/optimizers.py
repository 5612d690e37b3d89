"""Optimizers by their names in recipes, made of parameters, fused where asked for and there."""

from collections.abc import Iterable

from pydantic import PositiveFloat
from torch import nn
from torch.optim import Adam

from condgan.schedules import Positive, Share, value_at


def adam(
    parameters: Iterable[nn.Parameter],
    fused: bool,
    *,
    lr: Positive,
    betas: tuple[Share, Share] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
) -> Adam:
    """Adam (Kingma & Ba 2015)."""
    kernel = {"fused": True} if fused else {"foreach": False}
    return Adam(parameters, value_at(lr, 0), (value_at(betas[0], 0), value_at(betas[1], 0)), eps, **kernel)


OPTIMIZERS = {"adam": adam}
