"""What a discriminator concludes from its backbone's features; a map of them is flattened where a head wants none."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.embeddings import LabelEmbedding
from condgan.networks.init import InitKind, initialize
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import DiscriminatorOutput, Head
from condgan.utils.errors import UserError


class DomainHead(Head):
    """Real or fake for each patch of a map, and a classifier of the labels that sees it whole (Choi et al. 2018)."""

    def __init__(
        self,
        features: tuple[int, ...],
        labels: LabelSpec,
        *,
        init: InitKind | None = None,
        spectral_norm: Spectral | None = None,
    ) -> None:
        super().__init__()
        if len(features) != 3:
            raise UserError(
                "head 'domain' given with a backbone that leaves no map of patches: set backbone.name=stargan"
            )
        channels, height, width = features
        self.score = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.classifier = nn.Conv2d(channels, labels.width, (height, width), bias=False)
        _finish(self, init, spectral_norm)

    def forward(self, features: Float[Tensor, "b d i j"], labels: Labels) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.score(features).squeeze(1), logits=self.classifier(features).flatten(1))


class PlainHead(Head):
    """Real or fake, whatever the labels: for unconditional networks."""

    def __init__(
        self,
        features: tuple[int, ...],
        labels: LabelSpec,
        *,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        _finish(self, init, spectral_norm)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        return DiscriminatorOutput(self.score(features).flatten(), features)


class ProjectionHead(Head):
    """Real or fake plus ⟨embedding of the label, features⟩ (Miyato & Koyama 2018, eq. 3).

    `class_bias` adds a bias per label value, as TAC-GAN's code does for its projection baseline.
    """

    def __init__(
        self,
        features: tuple[int, ...],
        labels: LabelSpec,
        *,
        class_bias: bool = False,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.embedding = LabelEmbedding(labels, math.prod(features))
        self.bias = nn.Parameter(self.embedding.weight.new_zeros(labels.vector_width)) if class_bias else None
        _finish(self, init, spectral_norm)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        vector = labels.vector()
        score = self.score(features).flatten() + (self.embedding(vector) * features).sum(1)
        return DiscriminatorOutput(score if self.bias is None else score + vector @ self.bias, features)


class ClassifierHead(Head):
    """Real or fake, and an auxiliary classifier of the labels (Odena et al. 2017, §3)."""

    def __init__(
        self,
        features: tuple[int, ...],
        labels: LabelSpec,
        *,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.classifier = nn.Linear(math.prod(features), labels.width)
        _finish(self, init, spectral_norm)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        return DiscriminatorOutput(self.score(features).flatten(), features, self.classifier(features))


class TwinHead(Head):
    """Real or fake, a classifier of real images' labels and its twin, of fakes' (Gong et al. 2019, §3)."""

    def __init__(
        self,
        features: tuple[int, ...],
        labels: LabelSpec,
        *,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        self.score = nn.Linear(math.prod(features), 1)
        self.classifier = nn.Linear(math.prod(features), labels.width)
        self.twin = nn.Linear(math.prod(features), labels.width)
        _finish(self, init, spectral_norm)

    def forward(self, features: Float[Tensor, "b *d"], labels: Labels) -> DiscriminatorOutput:
        features = features.flatten(1)
        return DiscriminatorOutput(
            self.score(features).flatten(), features, self.classifier(features), self.twin(features)
        )


def _finish(head: Head, init: InitKind | None, spectral_norm: Spectral | None) -> None:
    """Initialize and normalize, the label's embedding too."""
    initialize(head, init)
    spectral_normalize(head, spectral_norm, embeddings=True)
