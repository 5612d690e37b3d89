"""Select fakes: each is compared with real images of its class that its judge has not learned from.

Scores of any judge become ranks among those images, so that a threshold means the same for all: a fake that is drawn
like them ranks anywhere between 0 and 1 alike, one that is unlike them near 0.
Axes: n fakes, m real images, k classes, d features.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from condgan.evaluation.metrics.neighbors import Nearest
from condgan.utils.errors import UserError
from condgan.utils.seeds import derive_seed

NEXT_ONES = 10
"""Training images around a fake, by which its distance to the nearest one is measured."""
COPIES = 0.01
"""The share of other real images that lie as near to a training image as what counts as its copy."""
HIGH = 0.95
"""The quantile of log-odds in a class from which on fakes are always accepted."""


class TooFew(UserError):
    """Of the images that can be made, fewer are accepted than were asked for."""


def folds_of(classes: Int[Tensor, " m"], count: int, seed: int = 0) -> Int[Tensor, " m"]:
    """A fold for each image, drawn; of a class, and of all, the numbers in two folds differ by one at most."""
    order = torch.from_numpy(np.random.default_rng(derive_seed(seed, "folds", 0)).permutation(len(classes)))
    order = order[classes[order].argsort(stable=True)]  # by class, at random within
    folds = torch.empty_like(classes)
    folds[order] = torch.arange(len(classes)) % count
    return folds


def ranks(
    scores: Float[Tensor, " n"],
    classes: Int[Tensor, " n"],
    real_scores: Float[Tensor, " m"],
    real_classes: Int[Tensor, " m"],
) -> Float[Tensor, " n"]:
    """The share of the real images of a fake's class that score lower; ties count by half, and the fake itself as one.

    NaN where a class has no real image.
    """
    found = torch.full((len(scores),), torch.nan, dtype=torch.float64)
    for number in classes.unique().tolist():
        mine = classes == number
        ordered = real_scores[real_classes == number].double().sort().values
        if not len(ordered):
            continue
        own = scores[mine].double().contiguous()
        below, up_to = (torch.searchsorted(ordered, own, right=right) for right in (False, True))
        found[mine] = (below + up_to + 1).double() / (2 * (len(ordered) + 1))
    return found


def log_agreement(logits: Float[Tensor, "n k"], classes: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logarithm of the probability that a classifier gives to each image's class."""
    return logits.double().log_softmax(1).gather(1, classes[:, None]).squeeze(1)


def nearness(
    features: Float[Tensor, "n d"], classes: Int[Tensor, " n"], centroids: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """The negative distance to the class's centroid."""
    return -(features.double() - centroids[classes]).norm(dim=1)


def log_odds(
    logits: Float[Tensor, " n"], fake_logits: Float[Tensor, " f"], real_logits: Float[Tensor, " m"]
) -> Float[Tensor, " n"]:
    """A discriminator's logits as log-odds of real against fake, by a line fitted to other fakes and real images.

    Logistic regression, in which both sorts weigh the same (calibration as in Azadi et al. 2019, §3.3, of logits of
    any loss). Of an optimal discriminator it is log p(x) − log q(x), p of real images, q of fakes.
    """
    given = torch.cat([fake_logits, real_logits]).double()
    center, scale = given.mean(), given.std().clamp(min=1e-12)
    is_real = np.arange(len(given)) >= len(fake_logits)
    line = LogisticRegression(C=1e6, class_weight="balanced")
    line.fit(((given - center) / scale).numpy()[:, None], is_real)
    slope, shift = (float(np.ravel(one)[0]) for one in (line.coef_, line.intercept_))
    return slope * (logits.double() - center) / scale + shift


def acceptance(odds: Float[Tensor, " n"], classes: Int[Tensor, " n"], high: float = HIGH) -> Float[Tensor, " n"]:
    """The probability with which each fake is accepted: discriminator rejection sampling (Azadi et al. 2019, §3.2).

    e to the difference of log-odds from the largest in the class, as σ(F) of their eq. 7 with γ = ε = 0. In the
    largest one's place stands a high quantile, from which on all are accepted: a few outliers would else let the
    others hardly pass, against which they have γ. Of log p − log q, accepted fakes are distributed as p, up to that.
    """
    found = torch.empty(len(odds), dtype=torch.float64)
    for number in classes.unique().tolist():
        mine = odds[classes == number].double()
        found[classes == number] = (mine - mine.quantile(high)).exp().clamp(max=1)
    return found


def drawn(probabilities: Float[Tensor, " n"], seed: int) -> Bool[Tensor, " n"]:
    """Accept each with its probability."""
    chances = np.random.default_rng(derive_seed(seed, "acceptance", 0)).random(len(probabilities))
    return torch.from_numpy(chances) < probabilities


def relative_nearness(images: Float[Tensor, "n d"], training: Float[Tensor, "t d"]) -> Float[Tensor, " n"]:
    """The distance of each to its nearest training image, relative to those to the next ones: near 0 of a copy."""
    return Nearest.among(images, training, min(NEXT_ONES, len(training))).relative


def no_copies(fakes: Float[Tensor, " n"], others: Float[Tensor, " m"], share: float = COPIES) -> Bool[Tensor, " n"]:
    """Which fakes are no copies of training images, by the relative nearness of these and of other real images.

    A copy is nearer than all but a `share` of the others; of fewer than 1 / share others, than any of them.
    """
    return fakes >= others.quantile(share, interpolation="lower")
