"""From an image back to a latent and a class whose image is nearest.

Axes: n images, p candidates, k classes, r candidates of a class, m classes tried, s starts of each, z latent
coordinates, d features, c channels, h × w pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from condgan.labels import Labels
from condgan.networks import Discriminator
from condgan.sampling.fuse import MADE_AT_ONCE, MADE_AT_ONCE_ON, fuse_for_inference
from condgan.sampling.latents import draw_latents, latent_dim
from condgan.sampling.model import Drawn, Model
from condgan.types import to_float
from condgan.utils.arguments import whole
from condgan.utils.device import tf32
from condgan.utils.errors import shown
from condgan.utils.figures import channels_first, sheet
from condgan.utils.files import csv_bytes
from condgan.utils.seeds import derive_seed

CANDIDATES, CANDIDATES_OF_CLASS = 2_048, 128
"""Random latents that are looked at before the descent: in all, unless there are very many classes; and of a class."""
DESCENT_RATE = 0.1
"""Adam's, which falls to 0 along half a cosine."""
MOST_STEPS = 100_000
PRIOR_WEIGHT = 0.001
"""The weight of a latent's mean square, where a random image has a loss of about 1."""


class Inverted(NamedTuple):
    """Of each image, the nearest one that was found in each of the classes that were tried, the nearest class first."""

    latents: Float[Tensor, "n m z"]
    classes: Int[Tensor, "n m"]
    images: UInt8[Tensor, "n m c h w"]
    errors: Float[Tensor, "n m"]
    """The root mean square difference of pixels, of 0 … 255."""
    of_random: Float[Tensor, " n"]
    """The same of the nearest of the random images that the search began with."""


class _Views(NamedTuple):
    """What images are compared by: parts, each with its mean square difference between an image and random ones."""

    reader: Discriminator | None
    scales: tuple[float, ...]

    def of(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b d"]]:
        """Their pixels and, where there is a discriminator, what its backbone sees."""
        return [view.flatten(1) for view in (images, *([self.reader.backbone(images)] if self.reader else []))]

    def loss(self, seen: list[Tensor], wanted: list[Tensor]) -> Float[Tensor, " b"]:
        """The mean over the parts of their mean square differences; 1 on average of a random image."""
        parts = [(a - b).square().mean(1) / scale for a, b, scale in zip(seen, wanted, self.scales, strict=True)]
        return torch.stack(parts).mean(0)


def invert(
    model: Model,
    images: UInt8[Tensor, "n c h w"],
    reader: Discriminator | None = None,
    classes: int = 3,
    starts: int = 4,
    steps: int = 200,
    seed: int = 0,
) -> Inverted:
    """Find latents and classes whose images are nearest to these, of 0 … 255.

    Random images of each class come first; with `reader`, a discriminator in evaluation mode that reads labels, only
    of those classes that it sees in an image. Of the `classes` nearest ones, the latents of the `starts` nearest images
    descend by Adam for so many `steps` (Zhu et al. 2016, §3.1): along the mean square difference of pixels and, with
    `reader`, of the features that it sees, and a small part of |z|², which keeps latents likely. The same seed finds
    the same. Raises UserError for numbers below 1, and where the generator makes images that are not finite.
    """
    model.spec.require_classes("pictures to invert")
    limits = {"classes": (classes, len(model.classes)), "starts": (starts, CANDIDATES_OF_CLASS)}
    classes, starts = (min(whole(what, given, 1), most) for what, (given, most) in limits.items())
    steps = whole("steps", steps, 1, MOST_STEPS)
    device = model.sampler.device
    wanted = to_float(images.to(device))
    likely = _read(model, wanted, reader, classes)
    with torch.no_grad():
        first, views, of_random = _nearest_random(model, wanted, reader, likely, classes, starts, seed)
    each = classes * starts
    found = torch.empty(len(images), each, latent_dim(model.generator))
    losses = torch.empty(len(images), each)
    most = max(1, MADE_AT_ONCE // each)
    bar = tqdm(total=-(-len(images) // most) * steps, desc="inverting", leave=False, disable=None)
    generator = fuse_for_inference(model.generator)
    with bar, tf32(False):
        for part in torch.arange(len(images)).split(most):
            targets = wanted[part.to(device)].repeat_interleave(each, 0)
            labels = Labels.from_index(model.spec, first.weights[part].flatten(0, 1).argmax(1)).to(device)
            z = first.latents[part].flatten(0, 1).to(device)
            z, loss = _descended(generator, z, labels, targets, views, steps, bar)
            found[part], losses[part] = (one.cpu().unflatten(0, (len(part), each)) for one in (z, loss))
    by_class = losses.unflatten(1, (classes, starts))
    best = by_class.argmin(2)
    order = by_class.amin(2).argsort(dim=1, stable=True)
    index = (order * starts + best.gather(1, order)).flatten()
    rows = torch.arange(len(images)).repeat_interleave(classes)
    drawn = Drawn(found[rows, index], first.weights[rows, index])
    made = channels_first(model.make(drawn))
    errors = _gray_levels((to_float(made) - wanted.cpu()[rows]).square().flatten(1).mean(1))
    shape = (len(images), classes)
    return Inverted(
        drawn.latents.unflatten(0, shape), drawn.weights.argmax(1).unflatten(0, shape), made.unflatten(0, shape),
        errors.unflatten(0, shape), of_random,
    )  # fmt: skip


def _descended(
    generator: Any,
    latents: Float[Tensor, "b z"],
    labels: Labels,
    wanted: Float[Tensor, "b c h w"],
    views: _Views,
    steps: int,
    bar: tqdm,
) -> tuple[Float[Tensor, "b z"], Float[Tensor, " b"]]:
    """Latents after so many steps, and how far their images then are from the wanted ones; all at once."""
    with torch.no_grad():
        goal = views.of(wanted)
    z = latents.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=DESCENT_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = views.loss(views.of(generator(z, labels)), goal) + PRIOR_WEIGHT * z.square().mean(1)
        loss.sum().backward()
        optimizer.step()
        schedule.step()
        bar.update()
    with torch.no_grad():
        return z.detach(), views.loss(views.of(generator(z, labels)), goal)


@torch.no_grad()
def _read(
    model: Model, images: Float[Tensor, "n c h w"], reader: Discriminator | None, classes: int
) -> Bool[Tensor, "n k"]:
    """Which classes images may be of: those that the discriminator sees, where it reads labels, else all."""
    if reader is None or "logits" not in reader.head.outputs:
        return torch.ones(len(images), len(model.classes), dtype=torch.bool)
    parts = images.split(MADE_AT_ONCE)
    logits = torch.cat([reader(part, Labels.nothing(model.spec, len(part)).to(images.device)).logits for part in parts])
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    return seen.scatter_(1, logits.topk(classes, 1).indices, True).cpu()


def _nearest_random(
    model: Model,
    wanted: Float[Tensor, "n c h w"],
    reader: Discriminator | None,
    likely: Bool[Tensor, "n k"],
    classes: int,
    starts: int,
    seed: int,
) -> tuple[Drawn, _Views, Float[Tensor, " n"]]:
    """Of each image the nearest random ones, n × m·s of them; what they are compared by; the least error."""
    tried = likely.any(0).nonzero().squeeze(1)
    count = max(starts, min(CANDIDATES_OF_CLASS, CANDIDATES // len(tried)))
    own, dim = derive_seed(whole("seed", seed), "inversion"), latent_dim(model.generator)
    latents = torch.cat([draw_latents(own, number, count, dim) for number in tried.tolist()])
    weights = torch.eye(len(model.classes))[tried].repeat_interleave(count, 0)
    views = _Views(reader, (1.0,) * (2 if reader else 1))
    goal, far = views.of(wanted), list[list[Tensor]]()
    for part in torch.arange(len(latents)).split(MADE_AT_ONCE_ON["cpu"]):
        made = channels_first(model.make(Drawn(latents[part], weights[part])))
        seen = views.of(to_float(made.to(wanted.device)))
        far.append([torch.cdist(a, b).square().cpu() / a.shape[1] for a, b in zip(goal, seen, strict=True)])
    distances = [torch.cat(parts, 1) for parts in zip(*far, strict=True)]
    scales = tuple(max(float(one.mean()), 1e-12) for one in distances)
    scaled = torch.stack([one / scale for one, scale in zip(distances, scales, strict=True)]).mean(0)
    by_class = scaled.unflatten(1, (len(tried), count)).masked_fill(~likely[:, tried, None], torch.inf)
    nearest = by_class.amin(2).topk(classes, 1, largest=False).indices
    chosen = by_class.take_along_dim(nearest[..., None], 1).topk(starts, 2, largest=False).indices
    index = (nearest[..., None] * count + chosen).flatten(1)
    drawn = Drawn(latents[index], weights[index])
    return drawn, _Views(reader, scales), _gray_levels(distances[0].amin(1))


def _gray_levels(squares: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Mean square differences of values in [−1, 1] as root mean square differences of pixels of 0 … 255."""
    return squares.sqrt() * 127.5


def inversion_table(found: Inverted, names: Sequence[str], classes: Sequence[str]) -> bytes:
    """A line for each image and class tried as CSV: its error, that of the nearest random image, and its latent."""
    count, dim = found.latents.shape[1:]
    rows: list[Sequence[object]] = [["image", "rank", "class", "error", "random", *(f"z{i}" for i in range(dim))]]
    for i, name in enumerate(names):
        best = f"{float(found.of_random[i]):.4g}"
        for rank in range(count):
            of_class, error = classes[int(found.classes[i, rank])], f"{float(found.errors[i, rank]):.4g}"
            rows.append([name, rank + 1, of_class, error, best, *found.latents[i, rank].tolist()])
    return csv_bytes(rows)


def inversion_sheet(found: Inverted, images: UInt8[Tensor, "n c h w"], classes: Sequence[str]) -> Image.Image:
    """A row per image: itself, then what was found in each class tried; on the left these classes and their errors."""
    cells = torch.cat([images[:, None], found.images], 1).flatten(0, 1)
    columns = ["image", "found", *map(str, range(2, found.images.shape[1] + 1))]
    rows = [
        ", ".join(f"{shown(classes[one], 30)}: {error:.1f}" for one, error in zip(of_one, errors, strict=True))
        for of_one, errors in zip(found.classes.tolist(), found.errors.tolist(), strict=True)
    ]
    return sheet(cells, columns, rows)
