"""The judge: a small classifier trained here, once, on real training images, whose features compare images."""

import hashlib
import json
import sys
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from condgan.evaluation.extractors import Extractor, state_hash
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.types import to_float
from condgan.utils.device import tf32
from condgan.utils.files import cache_directory, write

CLASSIFIER_BATCH = 128
ENOUGH, ENOUGH_OF_ATTRIBUTES = 50_000, 100_000
"""Images that train a judge, unless three epochs are more."""
RECIPE = f"AdamW one-cycle 3e-3, batch {CLASSIFIER_BATCH}, 3 epochs or more, of attributes longer"
"""Part of the cache's key: change it with the training below."""


class Judged(NamedTuple):
    """What the judge sees in n images: features, label logits; and the labels that they claim."""

    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"]
    labels: Labels

    def of_class(self, index: int) -> "Judged":
        """The images that claim to be of one class."""
        return self.at(torch.nonzero(self.labels.index() == index).flatten())

    def at(self, index: Int[Tensor, " m"]) -> "Judged":
        """Some of them."""
        return Judged(self.features[index], self.logits[index], self.labels[index])


class SmallClassifier(nn.Module):
    """A convolutional classifier with 64 features; takes images in [-1, 1]."""

    def __init__(self, channels: int, labels: LabelSpec) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            *_block(channels, 32, kernel=5), *_block(32, 64), *_block(64, 64),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(64, labels.width)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return features, self.classifier(features)

    @torch.inference_mode()
    def judge(self, images: UInt8[Tensor, "n c h w"], labels: Labels) -> Judged:
        """Look at images of 0 … 255."""
        device = self.classifier.weight.device
        with tf32(False):
            parts = [self(to_float(chunk.to(device))) for chunk in images.split(512)]
        return Judged(torch.cat([f for f, _ in parts]).cpu(), torch.cat([p for _, p in parts]).cpu(), labels.to("cpu"))


def _block(fewer: int, more: int, kernel: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(fewer, more, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm2d(more), nn.ReLU()]


def trained_judge(
    images: UInt8[Tensor, "n c h w"], labels: LabelTable, content_hash: str, device: torch.device | str = "cpu"
) -> SmallClassifier:
    """The judge of a training split, trained if the cache has none for this content, shape and architecture."""
    judge = SmallClassifier(images.shape[1], labels.spec)
    shapes = {name: list(value.shape) for name, value in judge.state_dict().items()}
    key = hashlib.sha256(json.dumps([shapes, RECIPE, images.shape, content_hash]).encode()).hexdigest()
    path = cache_directory() / "judges" / f"{key[:32]}.safetensors"
    try:
        judge.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError):
        judge = train_judge(images, labels, training_steps(len(images), labels.spec), device=device)
        try:
            write(path, save({name: value.contiguous().cpu() for name, value in judge.state_dict().items()}))
        except OSError as error:
            tqdm.write(f"the judge cannot be kept in '{path.parent}' ({error.strerror})", file=sys.stderr)
    return judge.to(device).eval().requires_grad_(False)


class _OfPixels(nn.Module):
    """A judge that takes images of 0 … 255, as extractors' networks do."""

    def __init__(self, judge: SmallClassifier) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        return self.judge(to_float(images))


def classifier(judge: SmallClassifier) -> Extractor:
    """A judge as the extractor of that name."""
    return Extractor("classifier", state_hash(judge), "none", _OfPixels(judge))


def training_steps(images: int, spec: LabelSpec) -> int:
    """Batches that train a judge on so many images: three epochs, more for few images.

    Attributes, whose sigmoids learn more slowly than a softmax, take up to twice as many.
    """
    enough = ENOUGH if all(field.exclusive for field in spec.fields) else ENOUGH_OF_ATTRIBUTES
    return max(3 * images, min(60 * images, enough), 50 * CLASSIFIER_BATCH) // CLASSIFIER_BATCH


def train_judge(
    images: UInt8[Tensor, "n c h w"], labels: LabelTable, steps: int, seed: int = 0, device: torch.device | str = "cpu"
) -> SmallClassifier:
    """A judge trained for so many batches; its weights and batches are drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = SmallClassifier(images.shape[1], labels.spec).to(device)
        _train(judge, images, labels, steps)
    return judge.eval().requires_grad_(False)


def _train(judge: SmallClassifier, images: Tensor, labels: LabelTable, steps: int) -> None:
    """Each batch is shifted by up to a sixteenth of the image's size."""
    device = judge.classifier.weight.device
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    reach = images.shape[-1] // 16
    for _ in tqdm(range(steps), desc="training the judge", leave=False, disable=None):
        index = torch.randint(len(images), (CLASSIFIER_BATCH,))
        dy, dx = torch.randint(-reach, reach + 1, (2,)).tolist()
        _, logits = judge(to_float(images[index].to(device)).roll((dy, dx), (2, 3)))
        loss = labels[index].to(device).cross_entropy(logits).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
