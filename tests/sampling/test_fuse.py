"""What is folded for sampling gives the same images as what was trained, faster."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from condgan.labels import Field, Labels, LabelSpec
from condgan.networks import GENERATORS
from condgan.networks.attention import Attention
from condgan.networks.fused_resampling import DownConv2d, UpConv2d
from condgan.networks.norms import Conditional
from condgan.networks.resnet import ResNetBackbone
from condgan.networks.spectral_norm import TrainedNorms
from condgan.runs.models import load_model
from condgan.sampling.fuse import Affine, ConditionalAffine, Sampler, fuse_for_inference
from condgan.sampling.model import Model
from condgan.types import Generator, ImageShape, to_uint8
from condgan.utils.errors import UserError
from tests.helpers import ABC, tiny

CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        ("resnet", {"width": 4, "conditioning": conditioning, "norm": norm})
        for conditioning in ("own", "shared", "none")
        for norm in ("batch", "instance", "group", "none")
    ),
    ("resnet", {"width": 4, "conditioning": "shared", "hierarchical": True, "latent_dim": 12, "attention": (8,)}),
    ("resnet", {"width": 4, "conditioning": "none", "hierarchical": True, "latent_dim": 12}),
    ("resnet", {"width": 4, "spectral_norm": None}),
    *(("biggan-deep", {"width": 4, "attention": (8,), "norm": norm}) for norm in ("batch", "group")),
    *(
        ("sagan-dcgan", {"width": 4, "attention": (8,), "spectral_attention": True, "conditioning": conditioning})
        for conditioning in ("own", "shared", "none")
    ),
    *(("acgan", {"width": 4, "conditioning": conditioning}) for conditioning in ("add", "concatenate", "multiply")),
    ("stargan", {"width": 4, "blocks": 1}),
    ("mlp", {}),
]
FIELDS = LabelSpec((*ABC.fields, Field("side", ("left", "right"))))


def trained(name: str, options: dict[str, Any], labels: LabelSpec = ABC) -> Generator:
    """A generator none of whose weights and statistics is as it was initialized."""
    generator = GENERATORS[name](ImageShape(3, 16, 16), labels, **options)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        TrainedNorms(generator).iterate()
        for layer in generator.modules():
            if isinstance(layer, _BatchNorm):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2.0)
    return generator.eval().requires_grad_(False)


def asked(generator: Generator, count: int = 6, labels: LabelSpec = ABC) -> tuple[Tensor, Labels]:
    """Latents, or images for translators, and labels, some of them mixed."""
    shape = (count, 3, 16, 16) if generator.latent_dim is None else (count, generator.latent_dim)
    values = torch.eye(labels.width)[torch.arange(count) % labels.width]
    values[0] = 1 / labels.width
    return torch.randn(shape), Labels(labels, values, torch.ones(count, len(labels.fields), dtype=torch.bool))


@contextmanager
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_folding_changes_nothing_but_rounding(name: str, options: dict[str, Any]) -> None:
    generator = trained(name, options)
    source, labels = asked(generator)
    images = generator(source, labels)
    assert images.std() > 0.01
    assert (fuse_for_inference(generator)(source, labels) - images).abs().max() < 1e-5
    with in_double():
        generator = trained(name, options)
        source, labels = asked(generator)
        assert (fuse_for_inference(generator)(source, labels) - generator(source, labels)).abs().max() < 1e-10


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[1].get("norm", "batch") == "batch"])
def test_nothing_is_left_to_fold_and_the_original_stays(name: str, options: dict[str, Any]) -> None:
    generator = trained(name, options)
    source, labels = asked(generator)
    before = generator(source, labels)
    for layer in fuse_for_inference(generator).modules():
        assert not parametrize.is_parametrized(layer)
        assert not isinstance(layer, _BatchNorm | UpConv2d | DownConv2d | Conditional)
    assert torch.equal(generator(source, labels), before)


def test_backbones_fold_too() -> None:
    backbone = ResNetBackbone(ImageShape(3, 32, 32), width=4, attention=(16,))
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(fuse_for_inference(backbone)(images), backbone.eval()(images), atol=1e-5)
    assert not any(isinstance(layer, DownConv2d) for layer in fuse_for_inference(backbone).modules())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_norm_joins_the_convolution_that_it_follows_directly(kind: Any, bias: bool) -> None:
    layers = nn.Sequential(
        nn.BatchNorm2d(4), kind(4, 6, 3, bias=bias), nn.Identity(), nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False),
        nn.ReLU(), nn.BatchNorm2d(6), kind(6, 4, 3, groups=2), nn.BatchNorm2d(4),
    )  # fmt: skip
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            if layer.affine:
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 9, 9)
    fast = fuse_for_inference(layers)
    assert torch.allclose(fast(x), layers.eval()(x), atol=1e-5)
    assert [i for i, layer in enumerate(fast) if isinstance(layer, Affine)] == [0, 6, 8]


def test_a_conditional_norm_of_unknown_gains_stays() -> None:
    layer = Conditional(nn.BatchNorm2d(4), nn.Sequential(nn.Linear(2, 4), nn.Tanh()), nn.Linear(2, 4)).eval()
    layer.norm.running_var.uniform_(0.5, 2.0)
    x, condition = torch.randn(3, 4, 5, 5), torch.randn(3, 2)
    assert torch.allclose(fuse_for_inference(layer)(x, condition), layer(x, condition), atol=1e-6)
    layer.gain = nn.Linear(2, 4)
    assert isinstance(fuse_for_inference(layer), ConditionalAffine)
    assert torch.allclose(fuse_for_inference(layer)(x, condition), layer(x, condition), atol=1e-6)


def test_statistics_of_the_batch_itself_stay() -> None:
    generator = trained("resnet", {"width": 4})
    model = Model(generator, ABC, 0).with_batch_statistics()
    source, labels = asked(generator)
    assert torch.allclose(
        fuse_for_inference(model.generator)(source, labels), model.generator(source, labels), atol=1e-5
    )
    assert (fuse_for_inference(generator)(source, labels) - model.generator(source, labels)).abs().max() > 0.1


@pytest.mark.parametrize(("name", "options"), CASES)
def test_images_are_those_of_the_plain_generator(name: str, options: dict[str, Any]) -> None:
    """At most one gray level apart, in at most one of a thousand pixels."""
    generator = trained(name, options, FIELDS if name == "stargan" else ABC)
    source, labels = asked(generator, 7, FIELDS if name == "stargan" else ABC)
    plain = to_uint8(generator(source, labels)).int()
    for size in (None, 3):
        apart = (Sampler(generator)(source, labels, size).int() - plain).abs()
        assert apart.max() <= 1
        assert apart.float().mean() < 1e-3


def test_translators_take_images_of_256_levels() -> None:
    generator = trained("stargan", {"width": 4, "blocks": 1})
    source, labels = asked(generator)
    images = to_uint8(source / 3)
    assert torch.equal(Sampler(generator)(images, labels), Sampler(generator)(images / 127.5 - 1, labels))


def test_changed_weights_are_folded_anew() -> None:
    generator = trained("resnet", {"width": 4})
    sampler, (source, labels) = Sampler(generator), asked(generator)
    before, network = sampler(source, labels), sampler.network
    assert sampler.network is network
    with torch.no_grad():
        torch._foreach_lerp_(list(generator.parameters()), [torch.randn_like(p) for p in generator.parameters()], 0.1)
    assert not torch.equal(sampler(source, labels), before)
    assert torch.equal(sampler(source, labels), Sampler(generator)(source, labels))
    generator.load_state_dict(deepcopy(trained("resnet", {"width": 4}).state_dict()), assign=True)
    assert torch.equal(sampler(source, labels), Sampler(generator)(source, labels))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_bfloat16_is_close(name: str, options: dict[str, Any]) -> None:
    """On average less than two gray levels apart, and less than one with batch norms."""
    labels_of = FIELDS if name == "stargan" else ABC
    generator = trained(name, options, labels_of)
    source, labels = asked(generator, 4, labels_of)
    plain, sampler = to_uint8(generator(source, labels)).float(), Sampler(generator, "bfloat16")
    apart = (sampler(source, labels).float() - plain).abs()
    assert {parameter.dtype for parameter in sampler.network.parameters()} == {torch.bfloat16}
    assert 0 < apart.mean() < (2 if name == "stargan" or "norm" in options else 1)
    assert apart.flatten().quantile(0.99) <= 8
    assert next(generator.parameters()).dtype == torch.float32


def test_attention_in_bfloat16() -> None:
    layer = Attention(8, pooled=True)
    nn.init.ones_(layer.gamma)
    model = tiny(3, layer)
    exact, rough = (replace(model, precision=one).attention(per_class=2) for one in ("float32", "bfloat16"))
    assert rough.maps["between"].dtype == exact.maps["between"].dtype
    assert abs(rough.maps["between"] - exact.maps["between"]).max() < 0.02
    assert abs(rough.images.astype(int) - exact.images).max() <= 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "acgan", "stargan"])
def test_compiled_images_are_the_same_and_one_size_is_compiled(name: str) -> None:
    options = {"spectral_norm": None} if name == "resnet" else {}
    generator = trained(name, {"width": 4, **options})
    sampler = Sampler(generator, compiled=True)
    source, labels = asked(generator, 9)
    sampler(source[:4], labels[:4], 4)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for count in (9, 2, 4):
            apart = sampler(source[:count], labels[:count], 4).int() - to_uint8(generator(source, labels))[:count]
            assert len(apart) == count
            assert apart.abs().max() <= 1
            assert apart.abs().float().mean() < 1e-3


@pytest.mark.slow
def test_a_compiled_model_draws_the_same() -> None:
    layers = nn.Sequential(nn.ReLU(), Attention(8, pooled=True))
    model = tiny(3, layers)
    compiled = replace(model, compiled=True)
    assert abs(compiled.sample(per_class=3).astype(int) - model.sample(per_class=3)).max() <= 1
    assert (compiled.attention(per_class=1).images == model.attention(per_class=1).images).all()
    of_batches = compiled.with_batch_statistics().sample(per_class=3).astype(int)
    assert abs(of_batches - model.with_batch_statistics().sample(per_class=3)).max() <= 1


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.runs.models.can_compile", lambda: False)
    with pytest.raises(UserError, match=r"no C\+\+ compiler found: install one such as g\+\+, or leave it"):
        load_model("runs/any", compiled=True)
