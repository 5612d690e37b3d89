"""Networks and their training for your own images on a CPU: equal time of a processor, several seeds.

`python -m benchmarks.networks FOLDER [--only SET;…] [--variants NAME;…] [--seeds 3] [--minutes M] [--out FILE]`

FOLDER holds trash-photos.zip, cifar10-jpeg.zip and sprites-views.zip; sets without a file there are left out. The same
command goes on where it was stopped (`benchmarks.study`). `--table FILE` prints a record's tables.
"""

from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.study import Set, Variant, by_folders, study
from condgan.labels import LabelSpec
from condgan.networks import BACKBONES, GENERATORS
from condgan.networks.fused_resampling import DownConv2d
from condgan.networks.init import initialize
from condgan.networks.light import LightBackbone, LightDown, LightGenerator, LightUp, light_channels
from condgan.networks.norms import NORMS
from condgan.networks.resnet import NormMaker, upsample
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import ImageShape


def smooth(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """[1, 2, 1] ⊗ [1, 2, 1] / 16, as two means of 2 × 2; after doubling by nearest neighbors it makes that bilinear."""
    wider = F.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False)
    return F.avg_pool2d(wider, 2, stride=1)


class PlainUp(LightUp):
    """Doubles by nearest neighbors everywhere."""

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        return self.conv(F.relu(self.norm(x, label))) + upsample(self.skip(x))


class SmoothUp(PlainUp):
    """Doubles bilinearly everywhere."""

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        return smooth(super().forward(x, label))


class DeepUp(LightUp):
    """Norm, ReLU and 3×3 follow the doubling convolution."""

    def __init__(self, entering: int, leaving: int, norm: NormMaker) -> None:
        super().__init__(entering, leaving, norm)
        self.second_norm = norm(leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        hidden = self.conv(F.relu(self.norm(x, label)))
        hidden = self.second(F.relu(self.second_norm(hidden, label)))
        return hidden + F.interpolate(self.skip(x), scale_factor=2, mode="bilinear", align_corners=False)


class VariedGenerator(LightGenerator):
    """`light`, whose blocks double by nearest neighbors alone, or bilinearly, or have a second convolution."""

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        block: Literal["plain", "smooth", "deep"],
        width: int = 16,
        latent_dim: int = 64,
        conditioning: Literal["own", "shared", "none"] = "own",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__(
            shape, labels, width=width, latent_dim=latent_dim, conditioning=conditioning, spectral_norm=None
        )
        norms = self.label.norms(lambda c, affine: NORMS["batch"](c, 1e-5, affine), self.label.features)
        channels = light_channels(width, shape.height).values()
        kind = {"plain": PlainUp, "smooth": SmoothUp, "deep": DeepUp}[block]
        self.blocks = nn.ModuleList(kind(entering, leaving, norms) for entering, leaving in pairwise(channels))
        initialize(self, "ortho")
        spectral_normalize(self, spectral_norm)


class MeanDown(LightDown):
    """Halves by means, fused with 3×3."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving)
        self.conv = DownConv2d(entering, leaving)


class StridedSkipDown(LightDown):
    """Halves by 2×2 convolutions of stride 2 beside, not by means."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving)
        self.skip = nn.Conv2d(entering, leaving, 2, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        return self.conv(F.leaky_relu(x, 0.1)) + self.skip(x)


class DeepDown(LightDown):
    """Leaky ReLU 0.1 and 3×3 come before the halving convolution."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving)
        self.first = nn.Conv2d(entering, entering, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        hidden = self.first(F.leaky_relu(x, 0.1))
        return self.conv(F.leaky_relu(hidden, 0.1)) + self.skip(F.avg_pool2d(x, 2))


class VariedBackbone(LightBackbone):
    """`light`, whose blocks halve by `means`, or by convolutions beside, too, or have two convolutions."""

    def __init__(self, shape: ImageShape, *, block: Literal["means", "skips", "deep"], width: int = 16) -> None:
        super().__init__(shape, width=width, spectral_norm=None)
        kind = {"means": MeanDown, "skips": StridedSkipDown, "deep": DeepDown}[block]
        channels = list(reversed(light_channels(width, shape.height).values()))
        for place, (entering, leaving) in enumerate(pairwise(channels), 1):
            self.layers[place] = kind(entering, leaving)
        initialize(self, "ortho")
        spectral_normalize(self, Spectral())


COLORS = ["data.size=32", "data.channels=3"]
SETS = {
    "trash": Set("trash-photos.zip", by_folders, 1.0, [*COLORS, "data.flip=true"], 45_000),
    "cifar10": Set("cifar10-jpeg.zip", by_folders, 1.0, [*COLORS, "data.flip=true"], 45_000),
    "views": Set("sprites-views.zip", by_folders, 1.0, COLORS, 45_000),
}


def rates(generator: float, discriminator: float | None = None) -> list[str]:
    return [f"g_opt.lr={generator}", f"d_opt.lr={discriminator or generator}"]


BEFORE = [
    "generator={name: sagan-dcgan, width: 32, latent_dim: 64, conditioning: own, attention: []}",
    "backbone={name: sagan-dcgan, width: 32, attention: []}",
    "head={name: projection, init: normal}",
]
RELATIVISTIC = "objective={name: gan, adversarial: relativistic, penalties: {approximate_r1: 0.1, approximate_r2: 0.1}}"
VARIANTS = {
    name: Variant("any-projection", options)
    for name, options in {
        "light": [],
        "DCGAN's shape, rates 5e-4": [*BEFORE, *rates(5e-4)],
        "DCGAN's shape": BEFORE,
        "rates 5e-4": rates(5e-4),
        "skips doubled by nearest neighbors": ["generator={name: varied, block: plain, spectral_norm: null}"],
        "spectral norm in the generator": ["generator.spectral_norm={}"],
        "batch 32": ["schedule.batch=32", "ema.decay=0.9975"],
        "DiffAugment without cutout": ["augment={name: diffaugment, policy: [color, translation]}"],
        "BigGAN's blocks": [
            "generator={name: resnet, width: 8, latent_dim: 64, conditioning: own, spectral_norm: null}",
            "backbone={name: resnet, width: 8}",
        ],
        "all doubled bilinearly": ["generator={name: varied, block: smooth, spectral_norm: null}"],
        "halved by means": ["backbone={name: varied, block: means}"],
        "halved by own weights beside, too": ["backbone={name: varied, block: skips}"],
        "two convolutions before halving": ["backbone={name: varied, block: deep}"],
        "a second convolution": ["generator={name: varied, block: deep, spectral_norm: null}"],
        "half the width": ["generator.width=8", "backbone.width=8"],
        "twice the width": ["generator.width=32", "backbone.width=32"],
        "average 0.998": ["ema.decay=0.998"],
        "discriminator's rate 2e-3": rates(1e-3, 2e-3),
        "R1, approximate": ["objective.penalties.approximate_r1=1"],
        "relativistic, R1 and R2": [RELATIVISTIC, "schedule.fake_labels=batch"],
        "norm-free, relativistic, R1 and R2": [
            RELATIVISTIC.replace("0.1", "0.5"),
            "schedule.fake_labels=batch",
            "generator.norm=none",
            "backbone.spectral_norm=null",
            "head.spectral_norm=null",
        ],
    }.items()
}
"""The first is what others get the time of."""

if __name__ == "__main__":
    GENERATORS["varied"], BACKBONES["varied"] = VariedGenerator, VariedBackbone
    study("networks", __doc__, SETS, VARIANTS, equal_time=True)
