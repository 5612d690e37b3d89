"""Classifiers of torchvision.

Axes: b images, c channels, h × w pixels, d features, k classes.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from condgan.evaluation.extractors.base import Extractor, as_rgb
from condgan.evaluation.extractors.weights import download, expected_hash, file_of, misfit, read_weights

OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
    "vit_h_14": {"image_size": 518},
}
"""Options that torchvision builds a model with for its published weights."""


@cache
def torchvision_names() -> tuple[str, ...]:
    """Classification models of torchvision, but for those without a linear layer."""
    from torchvision import models

    return tuple(name for name in models.list_models(module=models) if not name.startswith("squeezenet"))


def build_torchvision_model(name: str, weights: Path | None) -> Extractor:
    """Build a classifier of torchvision. Raises UserError for weights that cannot be had or do not fit."""
    from torchvision import models

    published = models.get_model_weights(name)["DEFAULT"]
    hub = Path(torch.hub.get_dir()) / "checkpoints" / file_of(published.url)
    path = weights or download(f"the weights of '{name}'", published.url, hub)
    state, sha256 = read_weights(path)
    # the published DenseNets are older than the names of their layers
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): value for key, value in state.items()}
    network = models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(name, path, error) from None
    prepare = published.transforms()
    (shorter,), (crop,) = prepare.resize_size, prepare.crop_size
    resize = f"{prepare.interpolation.value} antialiased, shorter side to {shorter}, center {crop} × {crop}"
    known = sha256.startswith(expected_hash(file_of(published.url)))
    return Extractor(name, sha256, resize, TorchvisionModel(name, network, prepare), known)


class TorchvisionModel(nn.Module):
    """A classifier split before its last linear layer: features and logits."""

    def __init__(self, name: str, network: nn.Module, prepare: nn.Module) -> None:
        super().__init__()
        last = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        self.name, self.prepare, self.classes = name, prepare, network.get_submodule(last)
        network.set_submodule(last, nn.Identity())
        self.body = network

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        features = self.body(self.prepare(as_rgb(images, self.name)))
        return features, self.classes(features)
