"""Weights that the authors of a method might have published, damaged or with something else in them."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.campaign.cases import Case, Command, Rng
from benchmarks.campaign.damage import damaged, one_of, special
from condgan.build import build_generator
from condgan.labels import LabelSpec
from condgan.recipes.load import load
from condgan.runs.convert import ORIGINALS, named_there

SMALL = ("generator.width=1", "generator.latent_dim=2", "backbone.width=1", "data.classes=2")
"""Options that make networks of biggan-cifar10 of a few thousand weights."""


def published(rng: Rng, folder: Path, shared: Path) -> Case:
    """A generator's file with other tensors, with what is no tensor, or of other bytes; and names of classes."""
    state: dict[str, Any] = dict(_weights())
    path, what = folder / "G_ema.pth", ["whole"]
    if rng.random() < 0.5:
        name = one_of(rng, list(state))
        state[name] = one_of(rng, _others(state[name]))
        what.append(f"another {name}")
    if rng.random() < 0.2:
        del state[one_of(rng, list(state))]
        what.append("one less")
    buffer = io.BytesIO()
    torch.save(
        one_of(rng, (state, state, state, [state], None)), buffer, _use_new_zipfile_serialization=rng.random() < 0.5
    )
    content = buffer.getvalue()
    if rng.random() < 0.5:
        content = damaged(rng, content)
        what.append("damaged")
    path.write_bytes(content)
    if rng.random() < 0.05:
        what.append(special(rng, path))
    names = folder / "names.txt"
    names.write_bytes(one_of(rng, (b"a\nb", b"a\na", b"a", b"", b"\xff\xfe", b"a\0\nb\x1b[31m", b"\n" * 100_000)))
    with_names = ["--classes", "names.txt"] if rng.random() < 0.3 else []
    recipe = one_of(rng, ("biggan-cifar10",) * 4 + ("biggan-deep-imagenet128", "celeba-stargan", "digits-acgan"))
    convert = Command(["convert", "G_ema.pth", "--as", recipe, *SMALL, *with_names, "--out", "run"])
    return Case([convert, Command(["sample", "run", "--out", "o", "--per-class", "1"])], ", ".join(what))


@cache
def _weights() -> dict[str, torch.Tensor]:
    """What biggan-cifar10's original would write of networks as small as these."""
    network = build_generator(load("biggan-cifar10", SMALL), LabelSpec.of_classes(["0", "1"]))
    return {name: own.clone() for name, own in named_there(network, ORIGINALS["resnet"].generator)}


def _others(tensor: torch.Tensor) -> list[Any]:
    """What might stand in a tensor's place."""
    return [
        tensor * np.nan, tensor * np.inf, tensor * 1e30, tensor.half(), tensor.int(), tensor.bool(), tensor[:0],
        tensor[None], tensor.flatten(), tensor.to_sparse(), tensor.to("meta"), tensor.to(torch.complex64),
        tensor[:1].expand(tensor.shape), torch.zeros(1).expand(10**9), 3, None, "x", {"weight": tensor},
        torch.nn.Parameter(tensor), torch.Size([3]),
    ]  # fmt: skip
