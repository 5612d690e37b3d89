"""Models of timm, and DINOv2 among them.

Axes: b images, c channels, h × w pixels, d features, k classes, n places of patches.
"""

import math
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from condgan.evaluation.extractors.base import Extractor, as_rgb
from condgan.evaluation.extractors.weights import download, misfit, read_weights
from condgan.utils.errors import UserError, to_install, unknown
from condgan.utils.files import cache_directory

DINOV2 = "vit_large_patch14_dinov2.lvd142m"


def build_timm_model(name: str, model: str, weights: Path | None) -> Extractor:
    """Build a model of timm. Raises UserError for unknown ones, and weights that cannot be had or do not fit."""
    network, config, sha256 = _timm_network(name, model, weights)
    height, width = config["input_size"][1:]
    resize = f"{config['interpolation']} antialiased, to {height} × {width}"
    return Extractor(name, sha256, resize, TimmModel(name, network, config), weights is None)


def build_dinov2(weights: Path | None) -> Extractor:
    """Build DINOv2's ViT-L/14 for 224 × 224 pixels, as FD-DINOv2 (Stein et al. 2023) uses it."""
    network, config, sha256 = _timm_network("dinov2", DINOV2, weights)
    positions = network.pos_embed.detach()
    network.set_input_size(224)
    network.pos_embed.data = _positions(positions, *network.patch_embed.grid_size)
    config |= {"input_size": (3, 224, 224)}
    resize = "bicubic antialiased, to 224 × 224"
    return Extractor("dinov2", sha256, resize, TimmModel("dinov2", network, config), weights is None)


class TimmModel(nn.Module):
    """A model of timm, which sees the whole image at its own size."""

    def __init__(self, name: str, network: Any, config: dict[str, Any]) -> None:
        super().__init__()
        from torchvision.transforms import functional as transforms

        self.name, self.body = name, network
        self.resize = partial(
            transforms.resize,
            size=list(config["input_size"][1:]),
            interpolation=transforms.InterpolationMode(config["interpolation"]),
            antialias=True,
        )
        self.normalize = partial(transforms.normalize, mean=config["mean"], std=config["std"])

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        prepared = self.normalize(self.resize(as_rgb(images, self.name)).float() / 255)
        features = self.body.forward_head(self.body.forward_features(prepared), pre_logits=True)
        classes = self.body.get_classifier()
        return features, classes(features) if isinstance(classes, nn.Linear) else None


def timm_with(what: str, name: str, model: str) -> ModuleType:
    """timm, which knows a model that `what` is named after. Raises UserError where it is not there or does not."""
    try:
        import timm
    except ImportError:
        raise UserError(f"{what} '{name}' needs timm, which is not installed: {to_install('timm')}") from None
    names = [*timm.list_models(), *timm.list_pretrained()]
    if model not in names:
        raise unknown("timm model", model, names)
    return timm


def _timm_network(name: str, model: str, weights: Path | None) -> tuple[Any, dict[str, Any], str]:
    """A model of timm with its weights, how images are prepared for it, and the hash of the weights' file."""
    timm = timm_with("extractor", name, model)
    from timm.data.config import resolve_model_data_config

    path = weights or _of_hub(name, timm.get_pretrained_cfg_value(model, "hf_hub_id"))
    state, sha256 = read_weights(path)
    overlay = {"state_dict": state, "custom_load": False}
    try:
        network: Any = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # its conversions of other projects' weights raise whatever they like
        raise misfit(name, path, error) from None
    del network.pretrained_cfg["state_dict"]
    return network, resolve_model_data_config(network), sha256


def _of_hub(name: str, repository: str | None) -> Path:
    """The file of a model's published weights, from the Hugging Face hub's cache or the hub."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    if repository is None:
        raise UserError(f"extractor '{name}' has no weights on the Hugging Face hub: give --weights PATH")
    cached = try_to_load_from_cache(repository, file := "model.safetensors")
    if isinstance(cached, str):
        return Path(cached)
    kept = cache_directory() / "weights" / f"{repository.replace('/', '-')}.safetensors"
    return download(f"the weights of '{name}'", hf_hub_url(repository, file), kept)


def _positions(trained: Float[Tensor, "1 n d"], height: int, width: int) -> Float[Tensor, "1 m d"]:
    """Embeddings of places, after the class token's, for another grid, as DINOv2's authors resample them.

    Bicubic without antialiasing, at scales of a tenth of a place more than the sizes' ratios.
    """
    side = math.isqrt(trained.shape[1] - 1)
    grid = trained[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = ((height + 0.1) / side, (width + 0.1) / side)
    resampled = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([trained[:, :1], resampled.flatten(2).mT], 1)
