"""Losses that compare the embeddings of a batch's images with each other, and with proxies of their labels.

Embeddings and proxies have length 1, so that a product of two is a cosine. Axes: b images, d features.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from condgan.labels import Labels
from condgan.losses.terms import Loss, on_fake, on_real
from condgan.types import DiscriminatorOutput


def conditional_contrastive(
    embedding: Float[Tensor, "b d"], proxy: Float[Tensor, "b d"], labels: Labels, *, temperature: float
) -> Float[Tensor, " b"]:
    """−log of the share that an image's proxy and the images of its label have among its proxy and all other images.

    The 2C loss (Kang & Park 2020, eq. 8): shares are of exp(cosine / temperature). 0 where nothing of the label is
    known; such images are not compared with others.
    """
    known, same = _known_and_same(labels)
    others = known[None] & ~torch.eye(len(known), dtype=torch.bool, device=known.device)
    own = (embedding * proxy).sum(1, keepdim=True) / temperature
    between = embedding @ embedding.T / temperature
    alike, every = (
        torch.cat([own, between.masked_fill(~compared, -torch.inf)], 1).logsumexp(1)
        for compared in (same & others, others)
    )
    return torch.where(known, every - alike, 0)


def data_to_data(
    embedding: Float[Tensor, "b d"],
    proxy: Float[Tensor, "b d"],
    labels: Labels,
    *,
    temperature: float,
    margin: float,
    as_published: bool,
) -> Float[Tensor, " b"]:
    """Pull an image to its proxy, and push it from images of other labels, both up to a margin.

    The D2D-CE loss (Kang et al. 2021, eq. 6): a − log(e^a / (e^a + Σⱼ e^rⱼ)) with a = min(0, cos(image, proxy) −
    margin) / temperature, and r = max(0, cos(image, other) − (1 − margin)) / temperature of the images of other labels.
    `as_published`: each row of r less its largest value before the maximum with 0 was taken, be the image of the same
    label or not, as the code does whose figures are published; that makes e^r smaller beside e^a. 0 where nothing of
    the label is known; such images are not compared with others.
    """
    known, same = _known_and_same(labels)
    attracted = F.relu(margin - (embedding * proxy).sum(1)) / temperature
    nearness = (embedding @ embedding.T - (1 - margin)) / temperature
    repelled = F.relu(nearness)
    if as_published:
        itself = torch.eye(len(known), dtype=torch.bool, device=known.device)
        repelled = repelled - nearness.detach().masked_fill(itself, -torch.inf).amax(1, keepdim=True)
    pushed = repelled.exp().masked_fill(same | ~known[None], 0).sum(1)
    return torch.where(known, attracted + (torch.exp(-attracted) + pushed).log(), 0)


def of_embedding(loss: Callable[[Tensor, Tensor, Labels], Tensor]) -> tuple[Loss, Loss]:
    """A loss of what the head gives as `embedding` and `proxy`: of real images, and of fakes."""

    def judge(output: DiscriminatorOutput, labels: Labels) -> Tensor:
        return loss(output.named["embedding"], output.named["proxy"], labels)

    return on_real(judge), on_fake(judge)


def _known_and_same(labels: Labels) -> tuple[Bool[Tensor, " b"], Bool[Tensor, "b b"]]:
    """Of which images all is known of a data set, and which pairs have the same labels, each with itself too."""
    vector = labels.vector()
    products = vector @ vector.T
    own = products.diagonal()
    told = labels.known.any(1) & ((labels.values == 0) | (labels.values == 1)).all(1)
    return told, (products == own) & (products == own[:, None])
