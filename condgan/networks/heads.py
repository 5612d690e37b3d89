"""Heads: conclusions from a backbone's features; a map of them is flattened where a head wants none."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.embeddings import LabelEmbedding
from condgan.networks.init import InitKind, initialize
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import DiscriminatorOutput, Head
from condgan.utils.errors import UserError
from condgan.utils.options import Width


class NormalizedHead(Head):
    """A head whose layers are initialized and spectrally normalized, the labels' embedding too.

    Its subclasses make their layers and then call `finish`, whose options are theirs, too.
    """

    def finish(self, *, init: InitKind | None = "ortho", spectral_norm: Spectral | None = Spectral()) -> None:
        """Initialize and normalize all layers."""
        initialize(self, init)
        spectral_normalize(self, spectral_norm, embeddings=True)


class DomainHead(NormalizedHead):
    """Real or fake for each patch of a map, and a classifier of the labels that sees it whole (Choi et al. 2018)."""

    outputs = ("logits",)

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        if len(features) != 3:
            raise UserError(
                "head 'domain' given with a backbone that leaves no map of patches: set backbone.name=stargan"
            )
        channels, height, width = features
        self.score = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.classifier = nn.Conv2d(channels, labels.width, (height, width), bias=False)
        self.finish(**shared)

    def finish(self, *, init: InitKind | None = None, spectral_norm: Spectral | None = None) -> None:
        super().finish(init=init, spectral_norm=spectral_norm)

    def forward(self, features: Float[Tensor, "b d i j"], labels: Labels) -> DiscriminatorOutput:
        logits = self.classifier(features).flatten(1)
        return DiscriminatorOutput(self.score(features).squeeze(1), named={"logits": logits})


class PlainHead(NormalizedHead):
    """Real or fake, whatever the labels: for unconditional networks."""

    conditional = False

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        return DiscriminatorOutput(self.score(features).flatten(), features)


class ProjectionHead(NormalizedHead):
    """Real or fake plus ⟨embedding of the label, features⟩ (Miyato & Koyama 2018, eq. 3).

    The first part alone is the `unconditional` score. `class_bias` adds a bias per label value, as TAC-GAN's code does
    for its projection baseline.
    """

    scores = ("unconditional",)

    def __init__(
        self, features: tuple[int, ...], labels: LabelSpec, *, class_bias: bool = False, **shared: Any
    ) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.embedding = LabelEmbedding(labels, math.prod(features))
        self.bias = nn.Parameter(self.embedding.weight.new_zeros(labels.vector_width)) if class_bias else None
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        vector = labels.vector()
        unconditional = self.score(features).flatten()
        score = unconditional + (self.embedding(vector) * features).sum(1)
        score = score if self.bias is None else score + vector @ self.bias
        return DiscriminatorOutput(score, features, {"unconditional": unconditional})


class ClassifierHead(NormalizedHead):
    """Real or fake, and an auxiliary classifier of the labels (Odena et al. 2017, §3)."""

    outputs = ("logits",)

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.classifier = nn.Linear(math.prod(features), labels.width)
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        return DiscriminatorOutput(self.score(features).flatten(), features, {"logits": self.classifier(features)})


class TwinHead(NormalizedHead):
    """Real or fake, a classifier of real images' labels and its twin, of fakes' (Gong et al. 2019, §3)."""

    outputs = ("logits", "twin")

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.classifier = nn.Linear(math.prod(features), labels.width)
        self.twin = nn.Linear(math.prod(features), labels.width)
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        named = {"logits": self.classifier(features), "twin": self.twin(features)}
        return DiscriminatorOutput(self.score(features).flatten(), features, named)


class ADCHead(NormalizedHead):
    """Real or fake, and one classifier of labels and real or fake together (Hou et al. 2022, §4).

    Its `adc` is b × s × k: s are a value's real and fake images and, where a field is of independent values, those
    without the value. `logits` sum real and fake up: they are of the labels alone.
    """

    outputs = ("logits", "adc")
    exclusive: Tensor

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        labels.require_no_number("head 'adc'")
        exclusive = [field.exclusive for field in labels.fields for _ in field.values]
        self.rows = 2 if all(exclusive) else 4
        self.register_buffer("exclusive", torch.tensor(exclusive))
        self.score = nn.Linear(math.prod(features), 1)
        self.classifier = nn.Linear(math.prod(features), self.rows * labels.width)
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        adc = self.classifier(features).unflatten(1, (self.rows, -1))
        logits = adc[:, :2].logsumexp(1)
        if self.rows == 4:
            logits = logits - adc[:, 2:].logsumexp(1).masked_fill(self.exclusive, 0)
        return DiscriminatorOutput(self.score(features).flatten(), features, {"logits": logits, "adc": adc})


class ContrastiveHead(NormalizedHead):
    """Real or fake, an embedding of the image on the unit sphere, and a proxy of its label there (Kang & Park 2020).

    Raises UserError for a number, of which no two images have the same.
    """

    outputs = ("embedding", "proxy")

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, *, embedded: Width = 512, **shared: Any) -> None:
        super().__init__()
        labels.require_no_number("head 'contrastive'")
        self.score = nn.Linear(math.prod(features), 1)
        self.embedding = nn.Linear(math.prod(features), embedded)
        self.proxy = LabelEmbedding(labels, embedded)
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        both = {"embedding": self.embedding(features), "proxy": self.proxy(labels.vector())}
        named = {name: F.normalize(one, dim=1) for name, one in both.items()}
        return DiscriminatorOutput(self.score(features).flatten(), features, named)


class SlicingHead(NormalizedHead):
    """A projection of the features on a direction of length 1 that depends on the label (Takida et al. 2024, §5).

    The score is s ⟨h(x) + b, ω⟩ with ω = (w + V y) / |w + V y|. Two more have its value: `function` tells the direction
    no gradient, `direction` nothing but the direction.
    """

    outputs = ("function", "direction")

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        width = math.prod(features)
        self.score = nn.Linear(width, 1, bias=False)
        self.embedding = LabelEmbedding(labels, width)
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(()))
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        placed = self.scale * (features + self.bias)
        direction = F.normalize(self.score.weight + self.embedding(labels.vector()), dim=1)
        scores = {"function": (placed * direction.detach()).sum(1), "direction": (placed.detach() * direction).sum(1)}
        return DiscriminatorOutput((placed * direction).sum(1), features, scores)


class ClassesAndFakeHead(NormalizedHead):
    """One classifier of all classes and of fakes as one more (Kavalerov et al. 2019); b × (k + 1) as `classes`.

    The score is by how much an image is rather of its class than a fake. Raises UserError for attributes and for
    several data sets.
    """

    outputs = ("classes",)

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        if not labels.exclusive:
            raise UserError(
                "head 'classes-and-fake' given with attributes or several data sets: expected one class each; choose "
                "another, such as head.name=projection with objective.name=gan"
            )
        self.classifier = nn.Linear(math.prod(features), labels.width + 1)
        self.finish(**shared)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        classes = self.classifier(features)
        score = (classes[:, :-1] * labels.values).sum(1) - classes[:, -1]
        return DiscriminatorOutput(score, features, {"classes": classes})
