"""What a discriminator concludes from its backbone's features."""

from jaxtyping import Float
from torch import Tensor, nn

from condgan.interfaces import Backbone, DiscriminatorOutput, Head
from condgan.labels import Labels, LabelSpec


class ClassifierHead(Head):
    """Real or fake, and an auxiliary classifier of the labels (Odena et al. 2017, §3)."""

    def __init__(self, features: int, labels: LabelSpec) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        self.classifier = nn.Linear(features, labels.width)

    def forward(self, features: Float[Tensor, "b d"], labels: Labels) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.score(features).flatten(), features, self.classifier(features))


class Discriminator(nn.Module):
    """A backbone and a head."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Float[Tensor, "b c h w"], labels: Labels) -> DiscriminatorOutput:
        return self.head(self.backbone(images), labels)
