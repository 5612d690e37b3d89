"""What condgan's step is measured against: the same networks and losses, as public codes compute them.

Float32 and eager, channels first; networks in their published order, spectral norm with a power iteration at every
forward pass, Adam and the moving average parameter by parameter, each loss read at each step, and pictures that a data
loader converts one by one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from os import cpu_count
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrize, spectral_norm
from torch.optim import Adam
from torch.utils.data import DataLoader
from torchvision import transforms

from condgan.build import build_discriminator, build_generator, build_objective
from condgan.data.dataset import Split
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.losses import Loss, Term, weighted_sum
from condgan.networks.attention import Attention
from condgan.networks.fused_resampling import DownConv2d, UpConv2d
from condgan.networks.norms import Conditional
from condgan.networks.resnet import DownBlock, UpBlock
from condgan.networks.spectral_norm import SpectralNorm
from condgan.recipes.schema import Recipe
from condgan.training.loop import mixes_batch
from condgan.types import Batch, Generator, Step
from condgan.utils.device import device
from condgan.utils.seeds import derive_seed


class GBlock(nn.Module):
    """Norm, ReLU, ×2, 3×3, norm, ReLU, 3×3, beside ×2 and 1×1: every convolution at the large size."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.conv1, self.conv2 = block.norm1, block.norm2, block.conv1, block.conv2
        self.skip = nn.Sequential(nn.Upsample(scale_factor=2), block.skip)

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        hidden = self.conv1(F.relu(self.norm1(x, condition)))
        hidden = self.conv2(F.relu(self.norm2(hidden, condition)))
        return hidden + self.skip(x)


class DBlock(nn.Module):
    """ReLU, 3×3, ReLU, 3×3, ÷2, beside 1×1 and ÷2; the first block has no first ReLU, and ÷2 before its 1×1."""

    def __init__(self, block: DownBlock) -> None:
        super().__init__()
        self.layers = nn.Sequential(block.enter, block.conv1, nn.ReLU(), block.conv2)
        first = isinstance(block.enter, nn.Identity)
        self.skip = nn.Sequential(*((block.pool, block.skip) if first else (block.skip, block.pool)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        return self.layers(x) + self.skip(x)


class SelfAttention(nn.Module):
    """Attention by a product, a softmax and a product."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = layer.query, layer.key, layer.value, layer.output
        self.pool, self.gamma = layer.pool, layer.gamma

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        query, key = self.query(x).flatten(2), self.pool(self.key(x)).flatten(2)
        value = self.pool(self.value(x)).flatten(2)
        weights = torch.bmm(query.transpose(1, 2), key).softmax(2)
        attended = torch.bmm(value, weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return self.gamma * self.output(attended) + x


class ConditionalNorm(nn.Module):
    """A norm, times one more than the gain, plus the bias."""

    def __init__(self, layer: Conditional) -> None:
        super().__init__()
        self.norm, self.gain, self.bias = layer.norm, layer.gain, layer.bias

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return self.norm(x) * gain[..., None, None] + bias[..., None, None]


def _up(layer: nn.Module) -> nn.Module:
    layer.__class__ = nn.Conv2d
    return nn.Sequential(nn.Upsample(scale_factor=2), layer)


def _down(layer: nn.Module) -> nn.Module:
    layer.__class__ = nn.Conv2d
    return nn.Sequential(layer, nn.AvgPool2d(2))


PLAIN: dict[type, Callable] = {
    UpConv2d: _up,
    DownConv2d: _down,
    UpBlock: GBlock,
    DownBlock: DBlock,
    Attention: SelfAttention,
    Conditional: ConditionalNorm,
}
"""What stands for a layer of condgan's, with its weights."""


def networks(recipe: Recipe, labels: LabelSpec) -> tuple[Generator, nn.Module]:
    """Generator and discriminator on the device, with the weights that the recipe's seed gives condgan's."""
    generator, discriminator = build_generator(recipe, labels), build_discriminator(recipe, labels)
    return plain(generator), plain(discriminator)  # pyright: ignore[reportReturnType]


def plain(network: nn.Module) -> nn.Module:
    """A network of condgan's, rebuilt in place."""
    for layer in list(filter(parametrize.is_parametrized, network.modules())):
        _normalize(layer)
    return _replaced(network).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _replaced(layer: nn.Module) -> nn.Module:
    for name, child in list(layer.named_children()):
        setattr(layer, name, _replaced(child))
    return PLAIN[type(layer)](layer) if type(layer) in PLAIN else layer


def _normalize(layer: nn.Module) -> None:
    """Let torch.nn.utils.spectral_norm take over, from the same singular vectors."""
    norm: SpectralNorm = layer.parametrizations.weight[0]  # pyright: ignore
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    spectral_norm(layer, "weight", norm.options.iterations, norm.options.eps, norm.rows)
    columns = layer.weight_orig.transpose(0, norm.rows)[0].movedim(0, -1)  # pyright: ignore
    layer.weight_u.copy_(norm.u[0])  # pyright: ignore
    layer.weight_v.copy_(norm.v[0].view(columns.shape).movedim(-1, 0).flatten())  # pyright: ignore


class Converted(NamedTuple):
    """Numbered pictures as a batch; a class of the module, so that processes that are started anew can have it."""

    convert: Callable[[Image.Image], Tensor]

    def __call__(self, items: list[tuple[int, Image.Image]]) -> tuple[Tensor, Tensor]:
        numbers, chosen = zip(*items, strict=True)
        return torch.stack([self.convert(picture) for picture in chosen]), torch.tensor(numbers)


def loader(recipe: Recipe, split: Split) -> Iterator[Batch]:
    """Endless batches from pictures in memory, converted one by one: beside a GPU, by eight processes."""
    converted = Converted(
        transforms.Compose(
            [
                *([transforms.RandomCrop(split.images.shape[2:], recipe.data.pad_crop)] * bool(recipe.data.pad_crop)),
                *([transforms.RandomHorizontalFlip()] if recipe.data.flip else []),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()) for image in split.images.cpu()]
    labels = split.labels.to("cpu")
    workers = min(8, cpu_count() or 1) if device().type == "cuda" else 0
    batches = DataLoader(
        list(enumerate(pictures)), recipe.schedule.batch, shuffle=True, drop_last=True, collate_fn=converted,  # pyright: ignore
        num_workers=workers, pin_memory=workers > 0, persistent_workers=workers > 0,
    )  # fmt: skip
    while True:
        for images, numbers in batches:
            yield Batch(images.to(device()), labels[numbers].to(device()))


class Trainer:
    """Two players, their optimizers and the generator's average; rates do not fall."""

    def __init__(self, recipe: Recipe, labels: LabelTable) -> None:
        self.recipe, self.objective = recipe, build_objective(recipe)
        self.generator, self.discriminator = networks(recipe, labels.spec)
        self.average = deepcopy(self.generator).eval().requires_grad_(False)
        self.prior = labels if recipe.schedule.fake_labels != "uniform" else LabelTable.each(labels.spec)
        self.joint = recipe.schedule.joint, recipe.schedule.joint and mixes_batch(self.discriminator)
        g, d = recipe.g_opt, recipe.d_opt
        self.g_opt = Adam(self.generator.parameters(), **g.options, foreach=False, fused=False)
        self.d_opt = Adam(self.discriminator.parameters(), **d.options, foreach=False, fused=False)
        self.images = self.iteration = 0

    def step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Train one iteration; its losses."""
        schedule, losses = self.recipe.schedule, defaultdict[str, float](float)
        torch.manual_seed(derive_seed(self.recipe.seed, "iteration", 0, self.iteration))
        self.discriminator.requires_grad_(True)
        real = [next(batches) for _ in range(schedule.d_steps)]
        for batch in real:
            for name, loss in self._play(batch, self.objective.discriminator, self.objective.watched).items():
                losses[name if name in self.objective.watched else f"D/{name}"] += loss / schedule.d_steps
            self.d_opt.step()
            self.d_opt.zero_grad()
            self.images += len(batch.images)
        self.discriminator.requires_grad_(False)
        for _ in range(schedule.g_steps):
            for name, loss in self._play(real[-1], self.objective.generator, {}).items():
                losses[f"G/{name}"] += loss / schedule.g_steps
            self.g_opt.step()
            self.g_opt.zero_grad()
        self._follow()
        self.iteration += 1
        return losses

    def _play(self, batch: Batch, terms: Mapping[str, Term], watched: Mapping[str, Loss]) -> dict[str, float]:
        """Leave a player's gradients of a batch."""
        training, parts = terms is self.objective.generator, self.recipe.schedule.accumulate
        losses = defaultdict[str, float](float)
        inputs = zip(batch.chunk(parts), *(one.chunk(parts) for one in self._drawn(batch)), strict=True)
        for part, ((real, real_labels), source, labels) in enumerate(inputs):
            with torch.set_grad_enabled(training):
                fake = self.generator(source, labels)
            step = Step(
                generator=self.generator, discriminator=self.discriminator, real=real, real_labels=real_labels,
                fake=fake, fake_labels=labels, joint=self.joint[training],
            )  # fmt: skip
            total, means = weighted_sum(terms, step, self.iteration, part, parts)
            with torch.no_grad():
                means |= {name: loss(step).mean() / parts for name, loss in watched.items()}
            total.backward()
            for name, mean in means.items():
                losses[name] += mean.item()
        return losses

    def _drawn(self, batch: Batch) -> tuple[Tensor, Labels]:
        """What fakes are made of, and their labels."""
        count, at = len(batch.images), self.prior.device
        if self.generator.latent_dim is None:
            return batch.images, batch.labels[torch.randperm(count, device=at)]
        latents = torch.randn(count, self.generator.latent_dim, device=at)
        return latents, self.prior[torch.randint(len(self.prior), (count,), device=at)]

    @torch.no_grad()
    def _follow(self) -> None:
        assert self.recipe.ema.decay is not None
        decay = self.recipe.ema.decay if self.images >= self.recipe.ema.start else 0.0
        pairs = zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True)
        for mine, theirs in pairs:
            mine.copy_(mine * decay + theirs * (1 - decay))
