"""Networks whose features images are compared by: published ones by their names, and those of users."""

from collections.abc import Callable
from pathlib import Path

import torch

from condgan.evaluation.extractors.base import EXTRACTED_AT_ONCE, Extractor, Observed, state_hash
from condgan.evaluation.extractors.inception import build_inception
from condgan.evaluation.extractors.own import build_own_network
from condgan.evaluation.extractors.timm_models import build_dinov2, build_timm_model
from condgan.evaluation.extractors.torchvision_models import build_torchvision_model, torchvision_names
from condgan.utils.errors import unknown
from condgan.utils.imports import is_import

__all__ = ["EXTRACTED_AT_ONCE", "Extractor", "Observed", "find_extractor", "state_hash"]

DOCUMENTED = ("classifier", "inception", "dinov2", "timm:NAME", "package.module:callable")
BUILDERS: dict[str, Callable[[Path | None], Extractor]] = {"inception": build_inception, "dinov2": build_dinov2}


def find_extractor(name: str, weights: Path | None = None, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of a name, with its published weights or those of a file; "classifier" is the caller's.

    "inception" is that of FID (Heusel et al. 2017) as torch-fidelity has it; "dinov2" that of FD-DINOv2 (Stein et al.
    2023); others are models of torchvision, "timm:NAME" of timm, and "package.module:callable" of users: the callable
    makes the network, of weights=PATH where there is a file. Weights are a state dict, in a file of torch.save or
    .safetensors; nothing in it is executed. Published ones are downloaded when first asked for.

    Raises UserError for unknown names, weights that cannot be had, are damaged or do not fit, and networks of users
    that are none.
    """
    with torch.random.fork_rng(devices=[]):  # networks are drawn before they are filled
        if name in BUILDERS:
            extractor = BUILDERS[name](weights)
        elif name in torchvision_names():
            extractor = build_torchvision_model(name, weights)
        elif name.startswith("timm:"):
            extractor = build_timm_model(name, name.removeprefix("timm:"), weights)
        elif is_import(name):
            extractor = build_own_network(name, weights)
        else:
            raise unknown("extractor", name, [*DOCUMENTED, *torchvision_names()])
    extractor.network.to(device).eval().requires_grad_(False)
    return extractor
