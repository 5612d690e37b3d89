"""Classifiers as users of fakes would train them: a small ResNet here, or their own.

Axes: b images of a batch, n images, k classes, c channels, h × w pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from condgan.evaluation.extractors.timm_models import timm_with
from condgan.evaluation.extractors.torchvision_models import torchvision_names
from condgan.types import to_float
from condgan.utils.device import device, has_bfloat16, tf32
from condgan.utils.errors import UserError, shown, unknown
from condgan.utils.imports import imported, is_import

SMALL_RESNET = "small"
CLASSIFIERS = (SMALL_RESNET, "timm:NAME", "package.module:callable")
RESNET_WIDTH, RESNET_PIXELS = 16, 16
"""Channels, and pixels, of the small network's first stage; the second and third have twice, four times the channels,
and a half, a quarter of the pixels."""
LEARNED_AT_ONCE, DECAY = 64, 0.05
RATES, RATE = {SMALL_RESNET: 1e-2}, 3e-3
"""Peak learning rates of some classifiers, and of all others, transformers among them."""
VIEWS, LEAST_SEEN, MOST_SEEN, LEAST_VIEWS = 60, 20_000, 90_000, 3
"""How often each real image is seen, within so many images of training in all; how often at least."""
ALIKE = 16
"""So many images of a batch are augmented in the same way: the operations take batches."""
CROPPED = 8
"""Images are shifted by up to this part of their size."""
CLASSIC_AUGMENTATIONS = ("crops", "RandAugment")
"""Shifts, and flips where mirrored images look like others; with RandAugment (Cubuk et al. 2020) besides."""


@dataclass(frozen=True)
class Downstream:
    """How classifiers are trained: which network, and what may be done to images."""

    make: Callable[[], nn.Module]
    """A new network, from RGB images in [−1, 1] to logits."""
    name: str
    steps: int
    flips: bool = False
    """Whether mirrored images look like others."""
    augmentations = CLASSIC_AUGMENTATIONS

    def learn(
        self,
        images: UInt8[Tensor, "n c h w"],
        classes: Int[Tensor, " n"],
        weights: Float[Tensor, " k"],
        augmentation: str | None,
        seed: int,
    ) -> Callable[[UInt8[Tensor, "m c h w"]], Int[Tensor, " m"]]:
        """Train a network on images whose losses count by their classes' weights; return what tells classes.

        AdamW, one cycle (Smith & Topin 2018), for `steps` batches whatever the number of images, in bfloat16 where the
        hardware does. Weights, batches and augmentations are drawn from the seed. Raises UserError where the network
        cannot be trained on such images.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self._made(images, len(weights))
            augment, rate = _augmentation(augmentation, self.flips), RATES.get(self.name, RATE)
            _train(network, images, classes, weights, augment, rate, self.steps)
        network.eval()
        return lambda given: _told(network, given)

    def _made(self, images: UInt8[Tensor, "n c h w"], classes: int) -> nn.Module:
        network = self.make().train()
        try:
            logits = network(_rgb(_opaque(images[:2])))  # which tells lazy layers their shapes
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # it may be the user's code
            shape = " × ".join(map(str, images.shape[2:]))
            raise UserError(
                f"classifier '{self.name}' fails on images of {shape} ({shown(error)}): give one for such images"
            ) from None
        if not isinstance(logits, Tensor) or logits.shape != (len(images[:2]), classes):
            told = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise UserError(f"classifier '{self.name}' returns {told}: expected logits, images × {classes} classes")
        if not any(one.requires_grad for one in network.parameters()):
            raise UserError(f"classifier '{self.name}' has nothing to train: give one with weights")
        return network.to(memory_format=torch.channels_last).to(device())


def training_batches(real: int) -> int:
    """How many batches train a classifier where there are so many real images."""
    return max(min(max(VIEWS * real, LEAST_SEEN), MOST_SEEN), LEAST_VIEWS * real) // LEARNED_AT_ONCE


def find_classifier(name: str, classes: int, size: int) -> Callable[[], nn.Module]:
    """What makes a network of a name for so many classes, without weights of others.

    "small": `small_resnet`; a classifier of torchvision; "timm:NAME" of timm; "package.module:callable" of users, which
    is called with num_classes. Raises UserError for an unknown name, and for what makes none.
    """
    given = {"num_classes": classes}
    if name == SMALL_RESNET:
        return lambda: small_resnet(classes, size)
    if name in torchvision_names():
        from torchvision import models

        return _modules(name, lambda: models.get_model(name, weights=None, **_QUIET.get(name, {}), **given))
    if name.startswith("timm:"):
        model = name.removeprefix("timm:")
        timm = timm_with("classifier", name, model)
        return _modules(name, lambda: timm.create_model(model, pretrained=False, **given))
    if is_import(name):
        _, make = imported("classifier", name, given, f"num_classes={classes}")
        return _modules(name, lambda: make(**given))
    raise unknown("classifier", name, [*CLASSIFIERS, *torchvision_names()])


_QUIET = {"googlenet": {"aux_logits": False, "init_weights": True}, "inception_v3": {"init_weights": True}}
"""Options of torchvision's models that else warn, or return more than logits."""


def _modules(name: str, make: Callable[[], object]) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        try:
            network = make()
        except Exception as error:  # it may be the user's code
            raise UserError(f"classifier '{name}' cannot be made ({shown(error)}): mend it, or give another") from None
        if not isinstance(network, nn.Module):
            raise UserError(f"classifier '{name}' makes a {type(network).__name__}: expected a torch.nn.Module")
        return network

    made()
    return made


def small_resnet(classes: int, size: int, width: int = RESNET_WIDTH) -> nn.Module:
    """A residual network (He et al. 2016) of three blocks, the first of which sees 16 to 31 pixels."""
    from torchvision.models.resnet import BasicBlock

    stride = 2 if size >= 2 * RESNET_PIXELS else 1
    first = nn.Conv2d(3, width, 2 * stride + 1, stride, stride, bias=False)
    pools = [nn.MaxPool2d(2)] * int(math.log2(max(1, size // stride / RESNET_PIXELS)))
    layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), *pools]
    before = width
    for after, step in ((width, 1), (2 * width, 2), (4 * width, 2)):
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, step, bias=False), nn.BatchNorm2d(after))
        layers.append(BasicBlock(before, after, step, shortcut if step > 1 else None))
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def _train(
    network: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    classes: Int[Tensor, " n"],
    weights: Float[Tensor, " k"],
    augment: Callable[[Tensor], Tensor],
    rate: float,
    steps: int,
) -> None:
    where = device()
    half = has_bfloat16(where)
    classes, weights = classes.to(where), weights.to(where)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        index = torch.randint(len(images), (LEARNED_AT_ONCE,))
        with torch.autocast(where.type, torch.bfloat16, enabled=half):
            logits = network(_rgb(augment(_opaque(images[index])).to(where)))
        loss = F.cross_entropy(logits.float(), classes[index], reduction="none")
        optimizer.zero_grad()
        (loss * weights[classes[index]]).mean().backward()
        optimizer.step()
        schedule.step()


def _rgb(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images in [−1, 1], of three channels."""
    return to_float(images).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _opaque(images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b _ h w"]:
    """What is transparent becomes gray."""
    if images.shape[1] != 4:
        return images
    seen = (images[:, :3].float() - 128) * (images[:, 3:] / 255) + 128
    return seen.round().to(torch.uint8)


@torch.inference_mode()
def _told(network: nn.Module, images: UInt8[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    with tf32(False):
        return torch.cat([network(_rgb(_opaque(part.to(device())))).argmax(1).cpu() for part in images.split(512)])


def _augmentation(name: str | None, flips: bool) -> Callable[[Tensor], Tensor]:
    """What is done to a batch of images of 0 … 255."""
    if name is None:
        return lambda images: images
    from torchvision.transforms import v2

    first = _flipped if flips else nn.Identity()
    each = v2.RandAugment(num_ops=2, magnitude=9) if name == "RandAugment" else nn.Identity()
    return lambda images: torch.cat([_shifted(each(group)) for group in first(images).split(ALIKE)])


def _flipped(images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    return torch.where((torch.rand(len(images)) < 0.5)[:, None, None, None], images.flip(3), images)


def _shifted(images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """Shift images, alike; what comes in is what was at the edge."""
    rows, columns = ((torch.arange(size) + _shift(size)).clamp(0, size - 1) for size in images.shape[2:])
    return images[:, :, rows[:, None], columns]


def _shift(size: int) -> int:
    reach = size // CROPPED
    return int(torch.randint(-reach, reach + 1, ()))
