"""How steps are computed: in bfloat16, compiled, with activations computed anew; the answers stay."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from condgan import build, estimate, training_steps
from condgan.data.open import read
from condgan.labels import Labels, LabelSpec
from condgan.losses.penalties import gradient_penalty, orthogonal
from condgan.recipes.load import as_tree, dump, from_tree, load
from condgan.recipes.schema import Recipe
from condgan.runs.checkpoint import restore, save_checkpoint
from condgan.training.mixed_precision import MixedPrecision
from condgan.training.state import State
from condgan.types import Step, full_precision
from condgan.utils import device
from condgan.utils.device import precision
from condgan.utils.errors import UserError
from tests.conftest import cpu_flags
from tests.golden import tiny
from tests.helpers import condgan, refused

CPU = torch.device("cpu")


def iterate(recipe: Recipe, count: int) -> tuple[list[dict[str, float]], State]:
    data = read("digits", recipe.data.size, recipe.data.channels)
    state = build.build_state(recipe, data.spec)
    steps = training_steps.build_steps(recipe, state, data.train)
    return [{k: float(v) for k, v in losses.items()} for losses in itertools.islice(steps, count)], state


def changed(recipe: Recipe, **compute: Any) -> Recipe:
    tree = as_tree(recipe)
    return from_tree(tree | {"compute": tree["compute"] | compute})


@pytest.mark.parametrize("name", ["digits-acgan", "digits-sagan"])
def test_bfloat16_is_float32_but_for_rounding(name: str) -> None:
    exact, _ = iterate(changed(tiny(name), precision="float32"), 1)
    rounded, state = iterate(changed(tiny(name), precision="bfloat16"), 1)
    for key, value in rounded[0].items():
        assert value == pytest.approx(exact[0][key], rel=0.05, abs=0.05), key
    assert rounded != exact
    for network in (state.generator, state.discriminator, state.ema.module):
        assert {value.dtype for value in network.state_dict().values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("name", ["digits-acgan", "digits-biggan"])
@pytest.mark.parametrize("last", [True, False])
def test_images_keep_the_layout_of_weights(name: str, last: bool) -> None:
    """Else one convolution's result is laid out anew for the next one."""
    spec = LabelSpec.of_classes(["a", "b"])
    generator = build.build_generator(changed(tiny(name), channels_last=last), spec)
    wanted = torch.channels_last if last else torch.contiguous_format
    kept: list[bool] = []
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels > 1 and layer.kernel_size == (3, 3):
            layer.register_forward_hook(lambda _, __, out: kept.append(out.is_contiguous(memory_format=wanted)))
    assert generator.latent_dim is not None
    generator(torch.randn(3, generator.latent_dim), Labels.from_index(spec, torch.tensor([0, 1, 1])))
    assert len(kept) > 2
    assert all(kept)


def test_penalties_are_taken_in_float32() -> None:
    torch.manual_seed(0)
    spec = LabelSpec.of_classes(["a", "b"])
    network = build.build_discriminator(tiny("digits-projection"), spec)
    labels = Labels.from_index(spec, torch.tensor([0, 1, 1]))
    images = torch.randn(2, 3, 1, 16, 16)
    found = []
    for one in (network, MixedPrecision(network, torch.bfloat16)):
        torch.manual_seed(1)
        step = Step(
            generator=nn.Identity(),
            discriminator=one,
            real=images[0],
            real_labels=labels,
            fake=images[1],
            fake_labels=labels,
        )
        found.append([gradient_penalty(step), orthogonal(full_precision(step.discriminator))])
        assert step.on_real.score.dtype == torch.float32
    for plain, fast in zip(*found, strict=True):
        assert torch.equal(plain, fast)
    assert not torch.equal(network(images[0], labels).score, step.on_real.score)


@pytest.mark.parametrize("name", ["digits-biggan", "digits-stargan"])
def test_what_is_computed_anew_is_the_same(name: str) -> None:
    """Losses, weights and what batch norms count; and less is kept meanwhile."""
    runs = []
    for anew in (False, True):
        recipe = changed(tiny(name), recompute=anew, precision="float32")
        data = read(recipe.data.source or "digits", recipe.data.size, recipe.data.channels)
        state = build.build_state(recipe, data.spec)
        steps = training_steps.build_steps(recipe, state, data.train)
        losses = [{k: float(v) for k, v in one.items()} for one in itertools.islice(steps, 2)]
        runs.append((losses, state, estimate.estimate_memory(recipe, data.spec).activations))
    (kept, one, much), (anew, other, little) = runs
    assert anew == kept
    for a, b in zip(one.generator.state_dict().values(), other.generator.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert little < much
    if name != "digits-stargan":
        counts = [int(m.num_batches_tracked) for m in other.generator.modules() if isinstance(m, _BatchNorm)]
        assert set(counts) == {2 * (recipe.schedule.d_steps + recipe.schedule.g_steps)}


def test_networks_without_blocks_have_nothing_to_compute_anew() -> None:
    with pytest.raises(UserError, match="no residual blocks"):
        build.build_state(load("digits-acgan", ["compute.recompute=true"]), LabelSpec.of_classes(["a"]))
    with pytest.raises(UserError, match="compute.recompute and compute.compile given"):
        load("digits-biggan", ["compute.recompute=true", "compute.compile=true"])


def test_long_runs_in_bfloat16_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LabelSpec.of_classes([str(number) for number in range(10)])
    monkeypatch.setattr(build, "device", lambda: CPU)
    monkeypatch.setattr(estimate, "can_compile", lambda: True)
    rounded = ["compute.precision=bfloat16"]
    assert not estimate.compiles(load("digits-acgan", rounded), spec)
    assert estimate.compiles(load("biggan-cifar10", rounded), spec)
    assert not estimate.compiles(load("biggan-cifar10", ["compute.precision=float32"]), spec)
    assert estimate.compiles(load("digits-acgan", ["compute.compile=true"]), spec)
    assert not estimate.compiles(load("biggan-cifar10", [*rounded, "compute.compile=false"]), spec)
    assert not estimate.compiles(load("biggan-cifar10", [*rounded, "compute.recompute=true"]), spec)
    monkeypatch.setattr(estimate, "can_compile", lambda: False)
    assert not estimate.compiles(load("biggan-cifar10", rounded), spec)


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"avx2": True, "avx512_bf16": False, "architecture": "x86_64"}, "float32"),
        ({"avx2": True, "avx512_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"neon": True, "bf16": True}, "float32"),
    ],
)
def test_the_precision_is_what_the_hardware_multiplies(
    flags: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cpu_flags", cpu_flags)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert precision("auto", CPU) == getattr(torch, kind)
    assert precision("float32", CPU) == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert precision("auto", torch.device("cuda")) == torch.float32


def test_compiling_needs_what_it_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    (tmp_path / "compiler").touch(0o755)
    assert not device.can_compile(), "without Python.h"
    (tmp_path / "Python.h").touch()
    assert device.can_compile()
    (tmp_path / "compiler").unlink()
    assert not device.can_compile()


def test_a_run_that_cannot_be_compiled_is_not_begun(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condgan.runs.train.can_compile", lambda: False)
    refused(condgan(capsys, "train", "compute.compile=true"), "compute.compile true given", "no C++ compiler found")
    assert not Path("runs").exists()


@pytest.mark.parametrize("other", ["channels_last", "fused_optimizers"])
def test_a_run_goes_on_computed_otherwise(other: str, tmp_path: Path) -> None:
    recipe = changed(tiny("digits-biggan"), precision="float32")
    data = read("digits", 16, 1)
    uninterrupted, state = build.build_state(recipe, data.spec), build.build_state(recipe, data.spec)
    losses = [*itertools.islice(training_steps.build_steps(recipe, uninterrupted, data.train), 3)]
    for _ in itertools.islice(training_steps.build_steps(recipe, state, data.train), 2):
        pass
    path = save_checkpoint(tmp_path, state, recipe, data.spec, {})
    otherwise = changed(recipe, **{other: False})
    resumed = build.build_state(otherwise, data.spec)
    restore(path, resumed, otherwise)
    assert resumed.g_optimizer.param_groups[0]["fused"] is (None if other == "fused_optimizers" else True)
    again = next(training_steps.build_steps(otherwise, resumed, data.train))
    for name, loss in losses[2].items():
        assert float(again[name]) == pytest.approx(float(loss), rel=1e-3, abs=1e-4), name


def test_flops_are_those_of_a_real_iteration() -> None:
    recipe = changed(tiny("digits-tacgan"), precision="float32")
    data = read("digits", recipe.data.size, recipe.data.channels)
    state = build.build_state(recipe, data.spec)
    steps = training_steps.build_steps(recipe, state, data.train)
    next(steps)
    with estimate.Flops() as counter:
        next(steps)
    assert estimate.iteration_flops(recipe, data.spec) == pytest.approx(counter.total, rel=0.01)


def test_how_steps_are_computed_is_no_other_run() -> None:
    """A run may go on with other settings of it."""
    from condgan.runs.train import RESUMABLE_OPTIONS

    names = as_tree(load("digits-acgan"))["compute"].keys() - {"sync_batch_norm"}
    assert {f"compute.{name}" for name in names} <= RESUMABLE_OPTIONS
    assert "precision: auto" in dump(load("digits-acgan"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-acgan", "digits-biggan", "digits-stargan"])
def test_compiled_is_eager_but_for_rounding(name: str) -> None:
    runs = []
    for compiled in (False, True):
        recipe = changed(tiny(name), compile=compiled, precision="float32")
        source = recipe.data.source or "digits"
        data = read(source, recipe.data.size, recipe.data.channels)
        state = build.build_state(recipe, data.spec)
        for module in (*state.discriminator.modules(), *state.generator.modules()):
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0  # whose draws a compiled network makes in an order of its own
        steps = training_steps.build_steps(recipe, state, data.train)
        runs.append([{k: float(v) for k, v in one.items()} for one in itertools.islice(steps, 2)])
    for eager, compiled in zip(*runs, strict=True):
        assert compiled == pytest.approx(eager, rel=1e-3, abs=1e-4)
