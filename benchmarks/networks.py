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
from condgan.networks.init import initialize
from condgan.networks.light import LightBackbone, LightDown, LightGenerator, LightUp, light_channels
from condgan.networks.norms import NORMS
from condgan.networks.resnet import LABELS, NormMaker
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import ImageShape


def smooth(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """[1, 2, 1] ⊗ [1, 2, 1] / 16, as two means of 2 × 2; after doubling by nearest neighbors it makes that bilinear."""
    wider = F.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False)
    return F.avg_pool2d(wider, 2, stride=1)


class SmoothUp(LightUp):
    """Doubles bilinearly."""

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        return smooth(super().forward(x, label))


class SmoothSkipUp(LightUp):
    """Doubles bilinearly beside the convolution alone."""

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        skip = F.interpolate(self.skip(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(F.relu(self.norm(x, label))) + skip


class DeepUp(LightUp):
    """Norm, ReLU and 3×3 follow the doubling convolution."""

    def __init__(self, entering: int, leaving: int, norm: NormMaker) -> None:
        super().__init__(entering, leaving, norm)
        self.second_norm = norm(leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        hidden = self.conv(F.relu(self.norm(x, label)))
        hidden = self.second(F.relu(self.second_norm(hidden, label)))
        return hidden + F.interpolate(self.skip(x), scale_factor=2)


class VariedGenerator(LightGenerator):
    """`light`, whose blocks double bilinearly, all or in the `smooth skip` alone, or have a second convolution."""

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        block: Literal["smooth", "smooth skip", "deep"],
        width: int = 16,
        latent_dim: int = 64,
        conditioning: Literal["own", "shared", "none"] = "own",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__(
            shape, labels, width=width, latent_dim=latent_dim, conditioning=conditioning, spectral_norm=None
        )
        label = LABELS[conditioning](labels, 64)
        norms = label.norms(lambda c, affine: NORMS["batch"](c, 1e-5, affine), 0)
        channels = light_channels(width, shape.height).values()
        kind = {"smooth": SmoothUp, "smooth skip": SmoothSkipUp, "deep": DeepUp}[block]
        self.blocks = nn.ModuleList(kind(entering, leaving, norms) for entering, leaving in pairwise(channels))
        initialize(self, "ortho")
        spectral_normalize(self, spectral_norm)


class StridedDown(LightDown):
    """Halves by convolutions that have weights of their own for each pixel of a 2 × 2, which means over them lack."""

    def __init__(self, entering: int, leaving: int, skip: bool) -> None:
        super().__init__(entering, leaving)
        self.conv = nn.Conv2d(entering, leaving, 4, stride=2, padding=1)
        if skip:
            self.skip = nn.Conv2d(entering, leaving, 2, stride=2)
        self.pool = nn.Identity() if skip else nn.AvgPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        return self.conv(F.leaky_relu(x, 0.1)) + self.skip(self.pool(x))


class DeepDown(LightDown):
    """Leaky ReLU 0.1 and 3×3 come before the halving convolution."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving)
        self.first = nn.Conv2d(entering, entering, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        hidden = self.first(F.leaky_relu(x, 0.1))
        return self.conv(F.leaky_relu(hidden, 0.1)) + self.skip(F.avg_pool2d(x, 2))


class VariedBackbone(LightBackbone):
    """`light`, whose blocks halve by convolutions of their own weights (`strided`, with `skips`), or are `deep`."""

    def __init__(
        self, shape: ImageShape, *, block: Literal["strided", "skips", "deep", "deep first"], width: int = 16
    ) -> None:
        super().__init__(shape, width=width, spectral_norm=None)
        channels = list(reversed(light_channels(width, shape.height).values()))
        for place, (entering, leaving) in enumerate(pairwise(channels), 1):
            if block in ("strided", "skips"):
                self.layers[place] = StridedDown(entering, leaving, block == "skips")
            elif block == "deep" or place == 1:
                self.layers[place] = DeepDown(entering, leaving)
        initialize(self, "ortho")
        spectral_normalize(self, Spectral())


GENERATORS["varied"] = VariedGenerator
BACKBONES["varied"] = VariedBackbone

COLORS = ["data.size=32", "data.channels=3", "augment={name: diffaugment, policy: [color, translation]}"]
SETS = {
    "trash": Set("trash-photos.zip", by_folders, 1.0, [*COLORS, "data.flip=true"], 45_000),
    "cifar10": Set("cifar10-jpeg.zip", by_folders, 1.0, [*COLORS, "data.flip=true"], 45_000),
    "views": Set("sprites-views.zip", by_folders, 1.0, COLORS, 45_000),
}
BASE = "any-projection"
NONE = ["generator.spectral_norm=null", "backbone.spectral_norm=null", "head.spectral_norm=null"]
SKIPS = "generator={name: varied, block: smooth skip}"
BATCH_32 = ["schedule.batch=32", "ema.decay=0.9975"]


def rates(generator: float, discriminator: float | None = None) -> list[str]:
    return [f"g_opt.lr={generator}", f"d_opt.lr={discriminator or generator}"]


VARIANTS = {
    "light": Variant(BASE, []),
    "DCGAN's shape": Variant(
        BASE,
        [
            "generator={name: sagan-dcgan, width: 32, latent_dim: 64, conditioning: own, attention: []}",
            "backbone={name: sagan-dcgan, width: 32, attention: []}",
            "head={name: projection, init: normal}",
        ],
    ),
    "BigGAN's blocks": Variant(
        BASE,
        [
            "generator={name: resnet, width: 8, latent_dim: 64, conditioning: own}",
            "backbone={name: resnet, width: 8}",
        ],
    ),
    "doubled bilinearly": Variant(BASE, ["generator={name: varied, block: smooth}"]),
    "skips doubled bilinearly": Variant(BASE, [SKIPS]),
    "skips doubled bilinearly, rates 1e-3": Variant(BASE, [SKIPS, *rates(1e-3)]),
    "… rates 2e-3": Variant(BASE, [SKIPS, *rates(2e-3)]),
    "… discriminator's rate 2e-3": Variant(BASE, [SKIPS, *rates(1e-3, 2e-3)]),
    "… batch 32": Variant(BASE, [SKIPS, *rates(1e-3), *BATCH_32]),
    "… generator without spectral norm, batch 32": Variant(
        BASE, [SKIPS, *rates(1e-3), *BATCH_32, "generator.spectral_norm=null"]
    ),
    "… generator without spectral norm, batch 32, rates 5e-4": Variant(
        BASE, [SKIPS, *BATCH_32, "generator.spectral_norm=null"]
    ),
    "… generator without spectral norm, batch 16, rates 5e-4": Variant(
        BASE, [SKIPS, "schedule.batch=16", "ema.decay=0.9987", "generator.spectral_norm=null"]
    ),
    "… halved by own weights": Variant(BASE, [SKIPS, *rates(1e-3), "backbone={name: varied, block: strided}"]),
    "… generator without spectral norm": Variant(BASE, [SKIPS, *rates(1e-3), "generator.spectral_norm=null"]),
    "… no augmentation": Variant(BASE, [SKIPS, *rates(1e-3), "augment={name: none}"]),
    "… R1, approximate": Variant(BASE, [SKIPS, *rates(1e-3), "objective.penalties.approximate_r1=0.1"]),
    "a second convolution": Variant(BASE, ["generator={name: varied, block: deep}"]),
    "halved by own weights": Variant(BASE, ["backbone={name: varied, block: strided}"]),
    "halved by own weights, skips too": Variant(BASE, ["backbone={name: varied, block: skips}"]),
    "two convolutions before halving": Variant(BASE, ["backbone={name: varied, block: deep}"]),
    "two convolutions before the first halving": Variant(BASE, ["backbone={name: varied, block: deep first}"]),
    "doubled bilinearly, halved by own weights, skips too": Variant(
        BASE, ["generator={name: varied, block: smooth}", "backbone={name: varied, block: skips}"]
    ),
    "half the width": Variant(BASE, ["generator.width=8", "backbone.width=8"]),
    "twice the width": Variant(BASE, ["generator.width=32", "backbone.width=32"]),
    "batch 32": Variant(BASE, BATCH_32),
    "generator without spectral norm": Variant(BASE, ["generator.spectral_norm=null"]),
    "average 0.998": Variant(BASE, ["ema.decay=0.998"]),
    "rates 1e-3": Variant(BASE, rates(1e-3)),
    "half the width, batch 32, rates 1e-3": Variant(
        BASE,
        ["generator.width=8", "backbone.width=8", *BATCH_32, *rates(1e-3)],
    ),
    "R1, approximate": Variant(BASE, ["objective.penalties.approximate_r1=0.1"]),
    "relativistic, R1 and R2": Variant(
        BASE,
        [
            "objective={name: gan, adversarial: relativistic, penalties: {approximate_r1: 0.1, approximate_r2: 0.1}}",
            "schedule.fake_labels=batch",
        ],
    ),
    "norm-free, relativistic, R1 and R2": Variant(
        BASE,
        [
            "objective={name: gan, adversarial: relativistic, penalties: {approximate_r1: 0.5, approximate_r2: 0.5}}",
            "schedule.fake_labels=batch",
            "generator.norm=none",
            *NONE,
        ],
    ),
}
"""The first is what others get the time of."""

if __name__ == "__main__":
    study("networks", __doc__, SETS, VARIANTS, equal_time=True)
