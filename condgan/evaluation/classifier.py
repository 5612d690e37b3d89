"""Train a small classifier here, once, on real training images: its features compare images, its logits read them."""

import hashlib
import json
import sys
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from condgan.data.dataset import Dataset
from condgan.evaluation.extractors import Extractor, state_hash
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.types import to_float
from condgan.utils.device import device, tf32
from condgan.utils.files import cache_directory, write
from condgan.utils.limits import TooLarge
from condgan.utils.weights import UnfitWeights, load_weights

CLASSIFIER_BATCH = 128
ENOUGH, ENOUGH_OF_ATTRIBUTES = 50_000, 100_000
"""Images that train a classifier, unless three epochs are more."""
RECIPE = f"AdamW one-cycle 3e-3, batch {CLASSIFIER_BATCH}, 3 epochs or more, of attributes longer, channels last"
"""Part of the cache's key: change it with the training below."""


class Predictions(NamedTuple):
    """A classifier's features and label logits of n images, and the labels that they claim."""

    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"]
    labels: Labels

    def at(self, index: Int[Tensor, " m"]) -> "Predictions":
        """Those of some of the images."""
        return Predictions(self.features[index], self.logits[index], self.labels[index])

    @property
    def agreement(self) -> float:
        """The share of images (of their known labels) that are read as what they claim to be."""
        return float(self.labels.accuracy(self.logits)[self.labels.known.any(1)].double().mean())


class SmallClassifier(nn.Module):
    """A convolutional classifier with 64 features, of a number a regressor; takes images in [-1, 1]."""

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
    def predict(self, images: UInt8[Tensor, "n c h w"], labels: Labels) -> Predictions:
        """Predict the labels of images of 0 … 255."""
        device = self.classifier.weight.device
        with tf32(False):
            parts = [self(to_float(chunk.to(device))) for chunk in images.split(512)]
        return Predictions(
            torch.cat([f for f, _ in parts]).cpu(), torch.cat([p for _, p in parts]).cpu(), labels.to("cpu")
        )


def _block(fewer: int, more: int, kernel: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(fewer, more, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm2d(more), nn.ReLU()]


def trained_classifier(
    images: UInt8[Tensor, "n c h w"], labels: LabelTable, content_hash: str, where: torch.device | str = "cpu"
) -> SmallClassifier:
    """Load the classifier of a training split; train it if the cache has none of this content, shape, architecture."""
    model = SmallClassifier(images.shape[1], labels.spec)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    key = hashlib.sha256(json.dumps([shapes, RECIPE, images.shape, content_hash]).encode()).hexdigest()
    path = cache_directory() / "classifiers" / f"{key[:32]}.safetensors"
    try:
        load_weights(model, path)
    except (OSError, TooLarge, UnfitWeights):
        model = train_classifier(images, labels, training_steps(len(images), labels.spec), device=where)
        try:
            write(path, save({name: value.contiguous().cpu() for name, value in model.state_dict().items()}))
        except OSError as error:
            tqdm.write(f"the classifier cannot be kept in '{path.parent}' ({error.strerror})", file=sys.stderr)
    return model.to(where).eval().requires_grad_(False)


def classifier_of(data: Dataset) -> SmallClassifier:
    """Load the classifier of a data set; train it if the cache has none, on images of which something is known."""
    images, labels = data.train.images, data.train.labels
    known = labels.known.any(1)
    if not known.all():
        images, labels = images[known], labels.at(known)
    return trained_classifier(images, labels, data.content_hash, device())


def content_classifier_of(data: Dataset) -> SmallClassifier | None:
    """Load the classifier of what a translation shall leave as it is, where the data knows any."""
    images, content = data.train.images, data.train.content
    if content is None:
        return None
    known = content.known.any(1)
    if not known.all():
        images, content = images[known], content.at(known)
    return trained_classifier(images, content, f"{data.content_hash} content", device())


class _OfPixels(nn.Module):
    """Take images of 0 … 255, as extractors' networks do."""

    def __init__(self, model: SmallClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        return self.model(to_float(images))


def classifier(model: SmallClassifier) -> Extractor:
    """Make the classifier the extractor of that name."""
    return Extractor("classifier", state_hash(model), "none", _OfPixels(model))


def training_steps(images: int, spec: LabelSpec) -> int:
    """Count the batches that train a classifier on so many images: three epochs, more for few images.

    Attributes, whose sigmoids learn more slowly than a softmax, take up to twice as many.
    """
    enough = ENOUGH if all(field.exclusive for field in spec.fields) else ENOUGH_OF_ATTRIBUTES
    return max(3 * images, min(60 * images, enough), 50 * CLASSIFIER_BATCH) // CLASSIFIER_BATCH


def train_classifier(
    images: UInt8[Tensor, "n c h w"], labels: LabelTable, steps: int, seed: int = 0, device: torch.device | str = "cpu"
) -> SmallClassifier:
    """Train a classifier for so many batches; its weights and batches are drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SmallClassifier(images.shape[1], labels.spec).to(device).to(memory_format=torch.channels_last)
        _train(model, images, labels, steps)
    return model.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)  # as one that is loaded


def _train(model: SmallClassifier, images: Tensor, labels: LabelTable, steps: int) -> None:
    """Each batch is shifted by up to a sixteenth of the image's size."""
    device = model.classifier.weight.device
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    reach = images.shape[-1] // 16
    for _ in tqdm(range(steps), desc="training the classifier", leave=False, disable=None):
        index = torch.randint(len(images), (CLASSIFIER_BATCH,))
        dy, dx = torch.randint(-reach, reach + 1, (2,)).tolist()
        _, logits = model(to_float(images[index].to(device)).roll((dy, dx), (2, 3)))
        loss = labels[index].to(device).cross_entropy(logits).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
