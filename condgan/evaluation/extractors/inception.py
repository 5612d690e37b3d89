"""The Inception network of FID (Heusel et al. 2017), as torch-fidelity has it.

Axes: b images, c channels, h × w pixels, d features, k classes.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from condgan.evaluation.extractors.base import Extractor, as_rgb
from condgan.evaluation.extractors.weights import download, expected_hash, file_of, misfit, read_weights
from condgan.utils.files import cache_directory

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def build_inception(weights: Path | None) -> Extractor:
    """Build FID's Inception network. Raises UserError for weights that cannot be had or do not fit."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    kept = cache_directory() / "weights" / file_of(URL_INCEPTION_V3)
    path = weights or download("the weights of FID's Inception network", URL_INCEPTION_V3, kept)
    state, sha256 = read_weights(path)
    file = BytesIO()  # torch-fidelity unpickles whatever it is given: it gets what was read safely
    torch.save(state, file)
    file.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], file)
    except RuntimeError as error:
        raise misfit("inception", path, error) from None
    known = sha256.startswith(expected_hash(file_of(URL_INCEPTION_V3)))
    return Extractor("inception", sha256, "bilinear as in TensorFlow 1, to 299 × 299", Inception(network), known)


class Inception(nn.Module):
    """torch-fidelity's network, faster: batch norms are part of the convolutions, resizing is two matrix products."""

    def __init__(self, network: "FeatureExtractorInceptionV3") -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

        super().__init__()
        for block in network.modules():
            if isinstance(block, BasicConv2d):
                block.conv = fuse_conv_bn_eval(block.conv, block.bn)
                block.add_module("bn", nn.Identity())
        *layers, self.classes = network.children()
        self.body = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        images = (as_rgb(images, "inception").float() - 128) / 128
        height, width = (_interpolation(size).to(images.device) for size in images.shape[2:])
        resized = (height @ images @ width.T).contiguous(memory_format=torch.channels_last)
        features = self.body(resized).flatten(1)
        return features, features @ self.classes.weight.T  # of FID's network, without the bias


def _interpolation(size: int) -> Float[Tensor, "299 {size}"]:
    """Bilinear interpolation as in TensorFlow 1, along an axis: output i is at i · size / 299, in single precision."""
    place = torch.arange(299) * torch.tensor(size / 299)
    below = place.long()
    share = place - below
    above = (below + 1).clamp(max=size - 1)
    return F.one_hot(below, size) * (1 - share)[:, None] + F.one_hot(above, size) * share[:, None]
