"""A backbone and a head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels
from condgan.networks.blocks import in_weights_precision
from condgan.types import Backbone, DiscriminatorOutput, Head


class Discriminator(nn.Module):
    """A backbone and a head, which computes in float32 what the backbone left in less."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Float[Tensor, "b c h w"], labels: Labels) -> DiscriminatorOutput:
        features = self.backbone(images)
        with in_weights_precision(features):
            return self.head(features.to(torch.promote_types(features.dtype, torch.float32)), labels)
