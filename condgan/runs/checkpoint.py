"""Checkpoints: directories of safetensors and JSON, whole or absent, each file with its SHA-256.

checkpoints/<images>/ holds generator, discriminator, ema, other averages and what else has buffers (.safetensors),
optimizers.pt (tensors and numbers only, read with weights_only) and state.json.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from condgan.build import build_model, empty_networks, placed
from condgan.evaluation.catalog import better_first
from condgan.labels import Field, LabelSpec
from condgan.recipes.load import as_tree, from_tree
from condgan.recipes.schema import Recipe, Schedule
from condgan.sampling.model import Model
from condgan.sampling.translator import Translator
from condgan.training.state import State
from condgan.utils.device import device
from condgan.utils.errors import UserError, unknown
from condgan.utils.files import new_directory

CHECKPOINT_FORMAT = 1


class NonFinite(RuntimeError):
    """A loss or a weight is infinite or not a number."""


def save_checkpoint(directory: Path, state: State, recipe: Recipe, spec: LabelSpec, scores: dict[str, float]) -> Path:
    """Write checkpoints/<images>, where `scores` say how good it is; `require_finite` comes first."""
    optimizers = io.BytesIO()
    torch.save({"g": state.g_optimizer.state_dict(), "d": state.d_optimizer.state_dict()}, optimizers)
    contents = {
        f"{name}.safetensors": save({key: value.cpu().contiguous() for key, value in network.state_dict().items()})
        for name, network in state.networks.items()
    }
    contents["optimizers.pt"] = optimizers.getvalue()
    description = {
        "format": CHECKPOINT_FORMAT,
        "images": state.images,
        "iteration": state.iteration,
        "scores": scores,
        "labels": [asdict(field) for field in spec.fields],
        "recipe": as_tree(recipe),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    contents["state.json"] = json.dumps(description, indent=1).encode()
    path = directory / str(state.images)
    with new_directory(path) as temporary:
        for name, data in contents.items():
            (temporary / name).write_bytes(data)
    return path


def require_finite(state: State) -> None:
    """Raises NonFinite if a network holds a value that is none, which is not worth keeping."""
    networks = {name: network for name, network in state.networks.items() if name not in state.modules}
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            if not value.isfinite().all():
                raise NonFinite(f"the {name}'s {key} at {state.images:,} images")


def restore(path: Path, state: State, recipe: Recipe) -> None:
    """Bring a freshly built state to where the checkpoint was written."""
    description = _described(path)
    _require_same_architecture(path, description, recipe)
    for name, network in state.networks.items():
        _load_weights(network, path / f"{name}.safetensors")
    optimizers = torch.load(path / "optimizers.pt", map_location=device(), weights_only=True)
    for optimizer, name in ((state.g_optimizer, "g"), (state.d_optimizer, "d")):
        optimizer.load_state_dict(optimizers[name])
        _as_built(optimizer)
    state.images, state.iteration = description["images"], description["iteration"]


def _as_built(optimizer: Optimizer) -> None:
    """Restored moments in their weights' layout, updated by the kernel that was asked for now."""
    kernel = {name: optimizer.defaults[name] for name in ("fused", "foreach") if name in optimizer.defaults}
    for group in optimizer.param_groups:
        group |= kernel
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and name != "step":
                kept[name] = torch.empty_like(parameter).copy_(value)
        if isinstance(step := kept.get("step"), Tensor):
            on_device = kernel.get("fused") or optimizer.defaults.get("capturable")
            kept["step"] = step.to(parameter.device if on_device else "cpu")


def load_checkpoint(path: Path, average: str = "ema") -> Model | Translator:
    """The averaged generator of a whole checkpoint, ready to sample or to translate.

    Raises UserError for an average that the checkpoint has not.
    """
    description = _described(path)
    spec = LabelSpec(tuple(_field(**field) for field in description["labels"]))
    recipe = from_tree(description["recipe"])
    networks = empty_networks(recipe, spec)
    if average not in (known := ("ema", *recipe.averages)):
        raise unknown("average", average, known)
    for network, name in zip(networks, (average, "discriminator"), strict=True):
        if name == average or recipe.translates:
            _load_weights(network, path / f"{name}.safetensors", assign=True)
            placed(network).eval().requires_grad_(False)
    return build_model(recipe, spec, *networks, description["images"])


def _field(name: str, values: list[str], exclusive: bool, groups: Sequence[Sequence[str]] = ()) -> Field:
    return Field(name, tuple(values), exclusive, tuple(map(tuple, groups)))


def checkpoints(directory: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted((p for p in directory.glob("*") if p.name.isdecimal()), key=lambda p: int(p.name))


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint's files, or None."""
    try:
        description = _described(path)
        for name, expected in description["sha256"].items():
            if hashlib.sha256((path / name).read_bytes()).hexdigest() != expected:
                return f"{name} does not match its checksum"
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def ranked(paths: list[Path], by: str) -> list[Path]:
    """The checkpoints that have this score, the best first."""
    sign = better_first(by)
    scores = {path: sign * score for path in paths if (score := _score(path, by)) is not None}
    return sorted(scores, key=lambda path: scores[path])


def remove_after(directory: Path, images: int) -> None:
    """Remove the checkpoints after `images` images."""
    for path in checkpoints(directory):
        if int(path.name) > images:
            shutil.rmtree(path)


def prune(directory: Path, schedule: Schedule) -> None:
    """Keep the latest checkpoints and those that score best, as many as the schedule says."""
    paths = checkpoints(directory)
    kept = {*paths[-schedule.keep_last :], *ranked(paths, schedule.best_by)[: schedule.keep_best]}
    for path in paths:
        if path not in kept:
            shutil.rmtree(path)


def _score(path: Path, by: str) -> float | None:
    try:
        return _described(path)["scores"].get(by)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _described(path: Path) -> dict[str, Any]:
    description = json.loads((path / "state.json").read_text())
    if description["format"] != CHECKPOINT_FORMAT:
        raise UserError(
            f"checkpoint '{path}' has format {description['format']}: this condgan reads format {CHECKPOINT_FORMAT}"
        )
    return description


def _require_same_architecture(path: Path, description: dict[str, Any], recipe: Recipe) -> None:
    before, now = as_tree(from_tree(description["recipe"])), as_tree(recipe)
    for section in ("data", "generator", "backbone", "head"):
        then = before[section]
        for key, value in now[section].items():
            if key not in ("source", "classes") and then.get(key) != value:
                raise UserError(
                    f"checkpoint '{path}' is of another architecture: {section}.{key} was {then.get(key)} there, "
                    f"the run's recipe.yaml says {value}; restore it there, or start over with --fresh"
                )


def _load_weights(network: nn.Module, path: Path, assign: bool = False) -> None:
    try:
        network.load_state_dict(load(path.read_bytes()), assign=assign)
    except RuntimeError as error:
        detail = str(error).splitlines()[1 if len(str(error).splitlines()) > 1 else 0].strip()
        raise UserError(f"checkpoint file '{path}' is of another architecture: {detail}") from None
