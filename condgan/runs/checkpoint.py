"""Checkpoints: directories of safetensors and JSON, whole or absent, each file with its SHA-256.

checkpoints/<images>/ holds generator, discriminator, ema, other averages and what else has buffers (.safetensors),
optimizers.pt (tensors and numbers only, read with weights_only) and state.json. Images are sampled from ema alone, and
translated with the discriminator beside it: whatever only training needs may be missing then.
"""

import errno
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Strict, StringConstraints
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from condgan import labels
from condgan.build import build_model, empty_networks, placed
from condgan.data.dataset import EXAMPLES
from condgan.evaluation.catalog import better_first
from condgan.labels import LabelSpec, code_tops
from condgan.networks import Discriminator
from condgan.recipes.load import as_tree, from_tree
from condgan.recipes.schema import Recipe, Schedule
from condgan.runs.schemas import Count, understood
from condgan.sampling.model import Model
from condgan.sampling.translator import Translator
from condgan.training.state import Scored, State
from condgan.types import Generator
from condgan.utils.device import device
from condgan.utils.errors import UserError, said_of, shown, unknown
from condgan.utils.files import entries, new_directory, plain_file, read_bytes, remove_directory, sha256_of, write
from condgan.utils.limits import TABLE, WEIGHTS, TooLarge
from condgan.utils.weights import UnfitWeights, largest_file, load_weights, not_finite

CHECKPOINT_FORMAT = 1


SAMPLED, DISCRIMINATOR = "ema.safetensors", "discriminator.safetensors"
"""What no checkpoint can do without, and no translator's."""
NETWORKS = {"generator.safetensors", DISCRIMINATOR, SAMPLED}
FILES = NETWORKS | {"optimizers.pt"}
"""What training goes on with, beside the description."""
REMOVE = "remove this checkpoint to go on from the one before, or start over with --fresh"
ADAM = {"step", "exp_avg", "exp_avg_sq"}
"""What Adam keeps of each weight that it ever changed."""


class NonFinite(RuntimeError):
    """A loss or a weight is infinite or not a number."""


class Damaged(ValueError):
    """A file of a checkpoint is missing, or is not what was written; the message says which and how."""


class _Format(BaseModel):
    model_config = ConfigDict(strict=True)
    format: int


class _Range(BaseModel):
    model_config = ConfigDict(strict=True)
    low: FiniteFloat
    high: FiniteFloat
    vicinity: Annotated[float, Field(ge=0, le=1)] = 0.0
    hard: bool = False


class _Vocabulary(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    values: Annotated[tuple[str, ...], Field(min_length=1), Strict(False)]
    exclusive: bool
    groups: Annotated[tuple[Annotated[tuple[str, ...], Strict(False)], ...], Strict(False)] = ()
    range: _Range | None = None

    def field(self) -> labels.Field:
        range = None if self.range is None else labels.Range(**dict(self.range))
        return labels.Field(self.name, self.values, self.exclusive, self.groups, range)


class Description(_Format):
    """What state.json tells of a checkpoint."""

    images: Count
    """Real images seen, which the directory is named after."""
    iteration: Count
    scores: dict[str, float]
    retries: Annotated[int, Field(ge=0, le=64)] = 0
    """How often training has gone back to a checkpoint before this one, or to this one."""
    history: list[Annotated[tuple[Count, dict[str, float]], Strict(False)]] = []
    """The scores up to here, by images."""
    labels: Annotated[list[_Vocabulary], Field(min_length=1)]
    examples: Annotated[list[list[int]], Field(max_length=EXAMPLES)] = []
    """Labels of some training images; see `LabelSpec`."""
    recipe: dict[str, Any]
    sha256: dict[Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")], str]
    """By the names of files beside it, and no others."""


def save_checkpoint(directory: Path, state: State, recipe: Recipe, spec: LabelSpec, scores: dict[str, float]) -> Path:
    """Write checkpoints/<images>, where `scores` say how good it is; `require_finite` comes first."""
    optimizers = io.BytesIO()
    torch.save({"g": state.g_optimizer.state_dict(), "d": state.d_optimizer.state_dict()}, optimizers)
    contents = _saved(state.networks) | {"optimizers.pt": optimizers.getvalue()}
    description = {
        "format": CHECKPOINT_FORMAT,
        "images": state.images,
        "iteration": state.iteration,
        "scores": scores,
        "retries": state.retries,
        "history": state.history,
        "labels": [asdict(field) for field in spec.fields],
        "examples": [list(one) for one in spec.examples],
        "recipe": as_tree(recipe),
    }
    path = directory / str(state.images)
    with new_directory(path, replacing=True) as temporary:
        for name, data in _described_as(description, contents).items():
            (temporary / name).write_bytes(data)
    return path


def sampled_contents(path: Path, generator: nn.Module, recipe: Recipe, needed: Collection[str]) -> dict[str, bytes]:
    """The files of a checkpoint with this average and this recipe, beside what else is needed of a whole one."""
    description = _described(path).model_dump() | {"recipe": as_tree(recipe)}
    others = {name: read_bytes(path / name, WEIGHTS) for name in sorted({*needed} - {SAMPLED})}
    return _described_as(description, _saved({"ema": generator}) | others)


def _saved(networks: Mapping[str, nn.Module]) -> dict[str, bytes]:
    return {
        f"{name}.safetensors": save({key: value.cpu().contiguous() for key, value in network.state_dict().items()})
        for name, network in networks.items()
    }


def _described_as(description: dict[str, Any], contents: dict[str, bytes]) -> dict[str, bytes]:
    """A checkpoint's files with the description that knows their checksums."""
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return contents | {"state.json": json.dumps(description | {"sha256": checksums}, indent=1).encode()}


def require_finite(state: State) -> None:
    """Raises NonFinite if a network holds a value that is none, which is not worth keeping."""
    networks = {name: network for name, network in state.networks.items() if name not in state.modules}
    for name, network in networks.items():
        if (key := not_finite(network)) is not None:
            raise NonFinite(f"the {name}'s {key} at {state.images:,} images")


def restore(path: Path, state: State, recipe: Recipe) -> None:
    """Bring a freshly built state to where the checkpoint was written. Raises UserError for a checkpoint of another."""
    description = _described(path)
    _require_same_architecture(path, description, recipe)
    for name, network in state.networks.items():
        file, is_player = path / f"{name}.safetensors", name not in state.modules
        _load_weights(network, file, REMOVE, finite=is_player)
    try:
        kept = _optimizers(path / "optimizers.pt")
        for optimizer, name in ((state.g_optimizer, "g"), (state.d_optimizer, "d")):
            _restore_optimizer(optimizer, kept.get(name))
    except Damaged as error:
        raise UserError(f"checkpoint '{path}' cannot be gone on with ({error}): {REMOVE}") from None
    state.images, state.iteration = description.images, description.iteration
    state.retries, state.history = description.retries, [Scored(*one) for one in description.history]


def mark_retry(path: Path, retries: int) -> None:
    """Let a checkpoint be one that training has gone back to, for the so manyth time."""
    description = _described(path).model_dump() | {"retries": retries}
    write(path / "state.json", json.dumps(description, indent=1).encode())


def progress(path: Path) -> tuple[int, list[Scored]]:
    """How often a run had gone back when a checkpoint was written, and its scores; nothing of a damaged one."""
    try:
        description = _description(path)
    except Damaged:
        return 0, []
    return description.retries, [Scored(*one) for one in description.history]


def trained_images(path: Path) -> int | None:
    """The images of training that a checkpoint is after; None where its weights were converted."""
    return _trained_images(_described(path))


def _trained_images(description: Description) -> int | None:
    return description.images if description.iteration else None


def _optimizers(path: Path) -> dict[str, Any]:
    """The optimizers' states by player, with nothing in the file but what torch.save writes of tensors and numbers."""
    with plain_file(path, WEIGHTS) as file:
        try:
            entries_of_file = zipfile.ZipFile(file).infolist()
            if sum(one.file_size for one in entries_of_file) > file.seek(0, io.SEEK_END):
                raise Damaged(f"{path.name} would be larger than its file")
            file.seek(0)
            kept = torch.load(file, map_location=device(), weights_only=True)
        except Damaged:
            raise
        except Exception as error:  # of damaged files they raise anything
            raise Damaged(f"{path.name}: {shown(error)}") from None
    if not isinstance(kept, dict):
        raise Damaged(f"{path.name} holds no optimizers")
    return kept


def _restore_optimizer(optimizer: Optimizer, kept: Any) -> None:
    """Bring an optimizer to its moments; its options stay those that it was built with."""
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(kept)
        moments = [(parameter, dict(of_one)) for parameter, of_one in optimizer.state.items()]
    except Exception as error:  # of other states it raises anything
        raise Damaged(f"optimizers.pt: {shown(error)}") from None
    for group, own in zip(optimizer.param_groups, options, strict=True):
        for key in group.keys() - own.keys() - {"params"}:
            del group[key]
        group |= own
    names = {name for _, of_one in moments for name in of_one} | (ADAM if isinstance(optimizer, Adam) else set())
    for parameter, of_one in moments:
        for name in names:
            value = of_one.get(name)
            shape = torch.Size() if name == "step" else getattr(parameter, "shape", None)
            if not isinstance(value, Tensor) or value.shape != shape:
                raise Damaged(f"optimizers.pt: a moment '{shown(name)}' is not that of a weight of shape {shape}")
    _as_built(optimizer)


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

    Raises UserError for an average that the checkpoint has not, and for weights that are not finite.
    """
    description, recipe, spec, networks = _opened(path)
    if average not in (known := ("ema", *recipe.averages)):
        raise unknown("average", average, known)
    for network, name in zip(networks, (average, "discriminator"), strict=True):
        if name == average or recipe.translates:
            _load_weights(network, path / f"{name}.safetensors", "choose another one with --checkpoint", assign=True)
            placed(network).eval().requires_grad_(False)
    return build_model(recipe, spec, *networks, _trained_images(description))


class Contents(NamedTuple):
    """What a checkpoint holds beside its optimizers."""

    description: Description
    recipe: Recipe
    spec: LabelSpec
    networks: dict[str, nn.Module]
    """Generator, discriminator and the average that is sampled from, on the CPU, by the names of their files."""


def load_networks(path: Path, do: str) -> Contents:
    """The networks of a whole checkpoint. Raises UserError with what to `do`, also for weights that are not finite."""
    description, recipe, spec, (generator, discriminator) = _opened(path)
    networks = {"generator": generator, "discriminator": discriminator, "ema": deepcopy(generator)}
    for name, network in networks.items():
        _load_weights(network, path / f"{name}.safetensors", do, assign=True)
    return Contents(description, recipe, spec, networks)


def _opened(path: Path) -> tuple[Description, Recipe, LabelSpec, tuple[Generator, Discriminator]]:
    """What a checkpoint says of itself, and its networks without weights."""
    description = _described(path)
    with _told_of(path):
        spec = LabelSpec(tuple(one.field() for one in description.labels), _examples(description))
        recipe = from_tree(description.recipe)
        if not (spec.exclusive or spec.examples or recipe.translates):
            raise UserError("no examples of its labels are told: give the whole checkpoint")
        return description, recipe, spec, empty_networks(recipe, spec)


def _examples(description: Description) -> tuple[tuple[int, ...], ...]:
    """The labels of training images that a checkpoint tells. Raises UserError for such that are none."""
    spec = LabelSpec(tuple(one.field() for one in description.labels))
    tops = [top for field in spec.fields for top in code_tops(field)]
    for one in description.examples:
        if len(one) != len(tops) or not all(0 <= code < top for code, top in zip(one, tops, strict=True)):
            raise UserError(f"examples of {len(one)} labels given, expected {len(tops)} numbers of labels each")
    return tuple(map(tuple, description.examples))


def largest_weights(run: Path) -> dict[str, int]:
    """How many bytes files of weights may have, by their paths in a run, as its checkpoints tell without them.

    Raises UserError for a checkpoint whose words cannot be read.
    """
    found: dict[str, int] = {}
    for path in checkpoints(run / "checkpoints"):
        for network, name in zip(_opened(path)[-1], (SAMPLED, DISCRIMINATOR), strict=True):
            found[f"checkpoints/{path.name}/{name}"] = largest_file(network)
    return found


def checkpoints(directory: Path) -> list[Path]:
    """All checkpoints, oldest first. Raises OSError for a directory that cannot be listed."""
    return sorted((p for p in entries(directory) if p.name.isdecimal() and p.name.isascii()), key=lambda p: int(p.name))


def needed_files(recipe: Recipe, average: str = "ema") -> set[str]:
    """What is needed of a checkpoint to make images by an average of the generator."""
    return {f"{average}.safetensors"} | ({DISCRIMINATOR} if recipe.translates else set())


def damage(path: Path, needed: Collection[str] = ()) -> str | None:
    """Say what is wrong with the files of a checkpoint that are needed, by default with all, or None.

    Raises UserError for one of another format, and OSError where a file is there and cannot be read: it may be whole.
    """
    try:
        expected = _description(path).sha256
        if missing := set(needed or FILES) - expected.keys():
            return f"state.json has no checksum of {min(missing)}"
        for name in sorted(needed) or expected:
            with _named_in_checkpoint(name):
                if sha256_of(path / name, WEIGHTS) != expected[name]:
                    return f"{name} does not match its checksum"
    except Damaged as error:
        return str(error)
    return None


def ranked(paths: list[Path], by: str) -> list[Path]:
    """The checkpoints that have this score, the best first."""
    sign = better_first(by)
    scores = {path: sign * score for path in paths if (score := score_of(path, by)) is not None}
    return sorted(scores, key=lambda path: scores[path])


def remove_after(directory: Path, images: int) -> None:
    """Remove the checkpoints after `images` images."""
    for path in checkpoints(directory):
        if int(path.name) > images:
            remove_directory(path)


def prune(directory: Path, schedule: Schedule) -> None:
    """Keep the latest checkpoints and those that score best, as many as the schedule says."""
    paths = checkpoints(directory)
    kept = {*paths[-schedule.keep_last :], *ranked(paths, schedule.best_by)[: schedule.keep_best]}
    for path in paths:
        if path not in kept:
            remove_directory(path)


def score_of(path: Path, by: str) -> float | None:
    """A checkpoint's score, if it has one and is whole enough to tell."""
    try:
        score = _description(path).scores.get(by)
    except Damaged:
        return None
    return score if score is not None and math.isfinite(score) else None


@contextmanager
def _named_in_checkpoint(name: str) -> Iterator[None]:
    """Say of a file of a checkpoint that it is missing or no such file."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Damaged(f"{name} is missing") from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Damaged(f"{name} is no plain file") from None
    except TooLarge as error:
        raise Damaged(f"{name}: {error}") from None


def _description(path: Path) -> Description:
    """What a checkpoint says of itself. Raises Damaged, and UserError for one of another format."""
    with _named_in_checkpoint("state.json"):
        text = read_bytes(path / "state.json", TABLE)
    try:
        known = understood(text, _Format).format
        if known != CHECKPOINT_FORMAT:
            raise UserError(
                f"checkpoint '{path}' has format {known}: this condgan reads format {CHECKPOINT_FORMAT}; "
                "use the condgan that wrote it"
            )
        description = understood(text, Description)
    except UserError:
        raise
    except ValueError as error:
        raise Damaged(f"state.json: {shown(error)}") from None
    if str(description.images) != path.name:
        raise Damaged(f"state.json is of {description.images:,} images")
    if SAMPLED not in description.sha256:
        raise Damaged(f"state.json has no checksum of {SAMPLED}")
    return description


def _described(path: Path) -> Description:
    """The same of a checkpoint that was whole when it was chosen."""
    try:
        return _description(path)
    except Damaged as error:
        raise UserError(f"checkpoint '{path}' is damaged ({error}): choose another one with --checkpoint") from None


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Say in an error of settings that they are a checkpoint's."""
    try:
        yield
    except UserError as error:
        raise UserError(f"checkpoint '{path}' has settings that this condgan cannot read: {error}") from None


def _require_same_architecture(path: Path, description: Description, recipe: Recipe) -> None:
    with _told_of(path):
        before, now = as_tree(from_tree(description.recipe)), as_tree(recipe)
    for section in ("data", "generator", "backbone", "head"):
        then = before[section]
        for key, value in now[section].items():
            if key not in ("source", "classes") and then.get(key) != value:
                raise UserError(
                    f"checkpoint '{path}' is of another architecture: {section}.{key} was {then.get(key)} there, "
                    f"the run's recipe.yaml says {value}; restore it there, or start over with --fresh"
                )


def _load_weights(network: nn.Module, path: Path, do: str, assign: bool = False, finite: bool = True) -> None:
    with said_of(f"checkpoint file '{path}'", do, UnfitWeights, TooLarge):
        load_weights(network, path, assign)
    if finite and (name := not_finite(network)) is not None:
        raise UserError(f"checkpoint file '{path}' holds weights that are not finite, such as {name}: {do}")
