"""Reading checkpoints: whatever is wrong with a file is told in one line, and nothing is taken for what it is not."""

import hashlib
import io
import json
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from condgan.build import build_state
from condgan.labels import LabelSpec
from condgan.recipes.load import dump
from condgan.recipes.load import load as load_recipe
from condgan.runs import checkpoint
from condgan.runs.models import find_checkpoint
from condgan.runs.models import load_model as condgan_load
from condgan.runs.transfer import open_source
from condgan.training.state import State
from condgan.utils.errors import Note, UserError
from tests.conftest import TINY
from tests.helpers import condgan

RECIPE = load_recipe("digits-acgan", [*TINY, "generator.width=4"])
SPEC = LabelSpec.of_classes(["a", "b"])


def fresh() -> State:
    return build_state(RECIPE, SPEC)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of an optimizer's first step."""
    state = fresh()
    for optimizer in (state.g_optimizer, state.d_optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    state.images, state.iteration = 16, 1
    return checkpoint.save_checkpoint(tmp_path / "checkpoints", state, RECIPE, SPEC, {"fd_classifier": 2.0})


def sign(path: Path, name: str, content: bytes) -> None:
    """Put other content into a file of a checkpoint, with a checksum that fits."""
    (path / name).write_bytes(content)
    describe(path, lambda told: told["sha256"].update({name: hashlib.sha256(content).hexdigest()}))


def describe(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    told = json.loads((path / "state.json").read_text())
    change(told)
    (path / "state.json").write_text(json.dumps(told))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load((path / "ema.safetensors").read_bytes())


def first(path: Path) -> str:
    return next(name for name, value in sorted(tensors(path).items()) if value.ndim)


def changed(path: Path, value: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
    return save(tensors(path) | {first(path): value(tensors(path)[first(path)])})


JUNK: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "junk": lambda _: b"junk" * 9,
    "truncated": lambda path: (path / "ema.safetensors").read_bytes()[:-8],
    "longer": lambda path: (path / "ema.safetensors").read_bytes() + b"more",
    "a header that is too large": lambda _: struct.pack("<Q", 2**62) + b"{}",
    "a header that is no JSON": lambda _: with_header(b"{'a'"),
    "a header that is no text": lambda _: with_header(b"\xff\xfe{}"),
    "a header of another kind": lambda _: with_header(b'[1, 2, "x"]'),
    "an unknown type": lambda _: with_header(b'{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "a type torch has not": lambda _: with_header(b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}', b"1"),
    "offsets outside": lambda _: with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}', b"1234"),
    "a shape below 0": lambda _: with_header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"1234"),
    "metadata that are numbers": lambda _: with_header(b'{"__metadata__":{"a":1}}'),
    "a key twice": lambda _: with_header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"1234",
    ),
    "no tensors": lambda _: save({}),
    "a tensor more": lambda path: save(tensors(path) | {"more": torch.ones(1)}),
    "another shape": lambda path: changed(path, lambda value: value[None].clone()),
    "another type": lambda path: changed(path, lambda value: value.double()),
    "a pickle": lambda _: pickle.dumps({"a": 1}),
}


@pytest.mark.parametrize("kind", JUNK)
def test_weights_that_are_none_are_told_in_a_line_though_their_checksum_fits(saved: Path, kind: str) -> None:
    sign(saved, "ema.safetensors", JUNK[kind](saved))
    assert checkpoint.damage(saved) is None
    for read in (lambda: checkpoint.load_checkpoint(saved), lambda: checkpoint.restore(saved, fresh(), RECIPE)):
        with pytest.raises(UserError, match=r"checkpoint file '.*ema\.safetensors' cannot be read \(.*\): ") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_sampled_nor_trained(saved: Path, value: float) -> None:
    name = next(name for name, tensor in sorted(tensors(saved).items()) if tensor.is_floating_point())
    bad = tensors(saved)
    bad[name].view(-1)[0] = value
    sign(saved, "ema.safetensors", save(bad))
    for read in (lambda: checkpoint.load_checkpoint(saved), lambda: checkpoint.restore(saved, fresh(), RECIPE)):
        with pytest.raises(UserError, match=rf"holds weights that are not finite, such as {name}: "):
            read()


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "format": lambda told: told.update(format="1"),
    "images": lambda told: told.update(images=-1),
    "iteration": lambda told: told.update(iteration=1.5),
    "scores": lambda told: told.update(scores=[1]),
    "scores.fd_classifier": lambda told: told["scores"].update(fd_classifier="low"),
    "labels": lambda told: told.update(labels=None),
    "labels.0.values": lambda told: told["labels"][0].update(values="ab"),
    "recipe": lambda told: told.update(recipe=7),
    "sha256": lambda told: told.pop("sha256"),
    "sha256./dev/zero.[key]": lambda told: told["sha256"].update({"/dev/zero": "0"}),
    "sha256.../x.[key]": lambda told: told["sha256"].update({"../x": "0"}),
    "no checksum of ema.safetensors": lambda told: told["sha256"].pop("ema.safetensors"),
    "is of 32 images": lambda told: told.update(images=32),
}


@pytest.mark.parametrize("where", DESCRIPTIONS)
def test_a_description_of_other_types_is_damage(saved: Path, where: str) -> None:
    describe(saved, DESCRIPTIONS[where])
    assert f"{where}" in str(checkpoint.damage(saved))
    assert checkpoint.ranked([saved], "fd_classifier") == []
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load_checkpoint(saved)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"[" * 100_000, b"\xff", b'{"format": 1'])
def test_a_description_that_is_no_json_of_ours_is_damage(saved: Path, text: bytes) -> None:
    (saved / "state.json").write_bytes(text)
    assert str(checkpoint.damage(saved)).startswith("state.json: ")


def test_settings_that_cannot_be_read_name_the_checkpoint(saved: Path) -> None:
    describe(saved, lambda told: told["recipe"].update(nonsense=1))
    with pytest.raises(UserError, match=r"checkpoint '.*16' has settings that this condgan cannot read: .*nonsense"):
        checkpoint.load_checkpoint(saved)


@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_what_is_no_plain_file_is_damage_and_is_not_waited_for(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert checkpoint.damage(saved) == f"{name} is missing"
    os.mkfifo(saved / name)
    assert checkpoint.damage(saved) == f"{name} is no plain file"
    (saved / name).unlink()
    (saved / name).symlink_to("/dev/zero")
    assert checkpoint.damage(saved) == f"{name} is no plain file"


def test_a_file_that_cannot_be_read_is_not_taken_for_damaged(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, limit: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("condgan.runs.checkpoint.sha256_of", denied)
    with pytest.raises(PermissionError):
        checkpoint.damage(saved)


def kept(path: Path) -> dict[str, Any]:
    return torch.load(path / "optimizers.pt", weights_only=True)


def torch_bytes(what: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(what, buffer)
    return buffer.getvalue()


def moment(path: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    states = kept(path)
    change(states["g"]["state"][0])
    return torch_bytes(states)


def bomb(_: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 10_000_000)
    return buffer.getvalue()


MOMENTS: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "junk": lambda _: b"junk" * 9,
    "truncated": lambda path: (path / "optimizers.pt").read_bytes()[:-100],
    "a list": lambda _: torch_bytes([1]),
    "one player": lambda path: torch_bytes({"g": kept(path)["g"]}),
    "a number for a player": lambda path: torch_bytes(kept(path) | {"d": 3}),
    "no groups": lambda path: torch_bytes(kept(path) | {"d": {"state": {}}}),
    "fewer weights": lambda path: torch_bytes(
        kept(path) | {"d": {"state": {}, "param_groups": [{"params": [0], "lr": 1.0}]}}
    ),
    "another shape": lambda path: moment(path, lambda one: one.update(exp_avg=torch.ones(1, 2))),
    "a moment less": lambda path: moment(path, lambda one: one.pop("exp_avg_sq")),
    "a number for a moment": lambda path: moment(path, lambda one: one.update(exp_avg=1.0)),
    "code": lambda _: pickle.dumps(print),
    "a zip that unfolds": bomb,
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_optimizers_that_are_none_are_told_in_a_line(saved: Path, kind: str) -> None:
    sign(saved, "optimizers.pt", MOMENTS[kind](saved))
    with pytest.raises(UserError, match=r"checkpoint '.*16' cannot be gone on with \(optimizers\.pt.*\): ") as error:
        checkpoint.restore(saved, fresh(), RECIPE)
    assert "\n" not in str(error.value)


def test_options_of_optimizers_are_the_recipe_s_not_the_file_s(saved: Path) -> None:
    states = kept(saved)
    states["g"]["param_groups"][0] |= {"eps": "large", "more": 1}
    sign(saved, "optimizers.pt", torch_bytes(states))
    state = fresh()
    checkpoint.restore(saved, state, RECIPE)
    (group,) = state.g_optimizer.param_groups
    assert group["eps"] == 1e-8
    assert "more" not in group


def test_what_was_saved_is_restored_to_the_bit(saved: Path) -> None:
    state = fresh()
    checkpoint.restore(saved, state, RECIPE)
    again = checkpoint.save_checkpoint(saved.parent.with_name("again"), state, RECIPE, SPEC, {"fd_classifier": 2.0})
    for path in saved.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


@pytest.mark.parametrize("scores", [{}, {"coverage": 1.0}, {"fd_classifier": float("nan")}])
def test_the_best_of_older_ones_says_that_newer_ones_have_no_score(
    saved: Path, capsys: pytest.CaptureFixture[str], scores: dict[str, float]
) -> None:
    run = saved.parents[1]
    (run / "recipe.yaml").write_text(dump(RECIPE))
    state = fresh()
    state.images = 32
    checkpoint.save_checkpoint(saved.parent, state, RECIPE, SPEC, scores)
    with pytest.warns(Note, match="^checkpoint 16 is used, the best by fd_classifier; 32 is newer and has no such"):
        assert find_checkpoint(run).name == "16"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_checkpoint(run, "latest").name == "32"
    assert capsys.readouterr() == ("", "")


def test_a_damaged_best_says_which_one_is_used_instead(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved.parents[1]
    (run / "recipe.yaml").write_text(dump(RECIPE))
    state = fresh()
    state.images = 32
    later = checkpoint.save_checkpoint(saved.parent, state, RECIPE, SPEC, {"fd_classifier": 1.0})
    (later / "ema.safetensors").write_bytes(b"")
    said = f"checkpoint '{later}' is damaged (ema.safetensors does not match its checksum): 16 is used"
    with pytest.warns(Note, match=re.escape(said)):
        assert find_checkpoint(run).name == "16"
    done = condgan(capsys, "sample", run, "--out", "x", "--per-class", 1)
    assert done.code == 0
    assert done.err.splitlines() == [said]


def test_what_only_training_needs_may_be_missing(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved.parents[1]
    (run / "recipe.yaml").write_text(dump(RECIPE))
    images = condgan_load(run).sample(per_class=2)
    for name in checkpoint.FILES - {"ema.safetensors"}:
        (saved / name).unlink()
    assert (condgan_load(run).sample(per_class=2) == images).all()
    assert condgan(capsys, "sample", run, "--out", "x", "--checkpoint", 16, "--per-class", 1).code == 0
    assert checkpoint.damage(saved) is not None
    with pytest.raises(UserError, match=r"are damaged \(discriminator\.safetensors is missing\)"):
        open_source(run)
    (saved / "ema.safetensors").unlink()
    with pytest.raises(UserError, match=r"are damaged \(ema\.safetensors is missing\)"):
        condgan_load(run)
