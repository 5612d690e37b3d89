"""Latents, standing statistics, mixtures, interpolations, attention, against formulas and references."""

import io
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm
from torch import Tensor, nn

from condgan.labels import Labels
from condgan.networks.attention import Attention
from condgan.sampling.fuse import fuse_for_inference
from condgan.sampling.interpolate import WAYS, linear, spherical
from condgan.sampling.latents import draw_latents, latent_law, normal, scaled, truncated
from condgan.sampling.model import Model, standing_statistics
from condgan.utils.errors import NotFinite, UserError
from condgan.utils.seeds import derive_seed
from tests.helpers import ABC, tiny


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0, 2.0, 40.0])
def test_truncated_latents_follow_the_truncated_normal(threshold: float) -> None:
    latents = draw_latents(0, 0, 20_000, 4, truncated(threshold)).double().flatten().numpy()
    law = truncnorm(-threshold, threshold)
    assert np.abs(latents).max() <= threshold
    assert abs(latents.mean()) < 4 * law.std() / len(latents) ** 0.5
    assert latents.std() == pytest.approx(law.std(), rel=0.01)
    assert kstest(latents, law.cdf).pvalue > 0.01


def test_without_a_law_latents_are_the_plain_draws() -> None:
    rng = np.random.default_rng(derive_seed(3, "latents", 1))
    assert np.array_equal(draw_latents(3, 1, 50, 4).numpy(), rng.standard_normal((50, 4), np.float32))


def test_laws_share_their_draws() -> None:
    z = draw_latents(3, 1, 50, 4)
    assert torch.equal(draw_latents(3, 1, 50, 4, scaled(0.5)), 0.5 * z)
    assert torch.allclose(draw_latents(3, 1, 50, 4, truncated(40.0)), z, atol=1e-5)
    truncation = draw_latents(3, 1, 50, 4, truncated(0.7))
    assert torch.equal(truncation.flatten().argsort(), z.flatten().argsort())
    assert torch.equal(draw_latents(3, 1, 9, 4, truncated(0.7)), truncation[:9])
    assert latent_law() is normal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"truncation": 0.0}, "truncation 0 given: expected a number above 0"),
        ({"truncation": -1.0}, "truncation -1 given"),
        ({"truncation": float("nan")}, "truncation nan given"),
        ({"latent_scale": 0.0}, "latent scale 0 given"),
        ({"latent_scale": float("inf")}, "latent scale inf given"),
        ({"truncation": 0.5, "latent_scale": 0.5}, "expected one of them"),
    ],
)
def test_impossible_laws_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny().with_latents(**given)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_standing_statistics_are_the_mean_over_the_batches(norm: Callable[[int], nn.Module]) -> None:
    generator = tiny(between=nn.Sequential(nn.ReLU(), norm(8))).generator
    norms = [generator.norm, generator.between[1]]
    seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in norms}
    hooks = [layer.register_forward_pre_hook(lambda layer, x: seen[layer].append(x[0])) for layer in norms]
    before = {name: value.clone() for name, value in generator.named_parameters()}
    standing_statistics(generator, truncated(0.5), ABC, 7, seed=2)
    for hook in hooks:
        hook.remove()
    for layer, batches in seen.items():
        assert len(batches) == 7
        mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
        variance = torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0)
        assert torch.allclose(layer.running_mean, mean, atol=1e-6)
        assert torch.allclose(layer.running_var, variance, atol=1e-6)
    assert [layer.momentum for layer in norms] == [0.3, 0.1]
    assert not any(module.training for module in generator.modules())
    assert all(torch.equal(value, before[name]) for name, value in generator.named_parameters())


def test_standing_statistics_by_hand() -> None:
    model = tiny().with_latents(truncation=0.8)
    means, variances = [], []
    for batch in range(3):
        seed = derive_seed(5, "standing", batch)
        y = torch.from_numpy(np.random.default_rng(seed).integers(3, size=100))
        x = torch.cat([draw_latents(seed, 0, 100, 4, truncated(0.8)), F.one_hot(y, 3).float()], 1)
        x = model.generator.linear(x).unflatten(1, (8, 64)).transpose(0, 1).flatten(1).double()
        means.append(x.mean(1))
        variances.append(((x - x.mean(1, keepdim=True)) ** 2).sum(1) / (x.shape[1] - 1))
    standing = model.with_standing_statistics(3, seed=5).generator.norm
    assert torch.allclose(standing.running_mean.double(), torch.stack(means).mean(0), atol=1e-6)
    assert torch.allclose(standing.running_var.double(), torch.stack(variances).mean(0), atol=1e-6)


def test_a_model_keeps_its_own_statistics() -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    images = model.sample(per_class=3)
    standing = model.with_latents(truncation=0.5).with_standing_statistics(2)
    assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())
    assert np.array_equal(model.sample(per_class=3), images)
    assert not np.array_equal(standing.sample(per_class=3), model.with_latents(truncation=0.5).sample(per_class=3))
    with pytest.raises(UserError, match="batches of standing statistics 0 given"):
        model.with_standing_statistics(0)
    model.generator.norm = nn.Identity()
    with pytest.raises(UserError, match="no batch norm"):
        model.with_standing_statistics(1)


@pytest.mark.parametrize(
    "model", [tiny(), tiny(3).with_latents(truncation=0.5), tiny(3).with_latents(latent_scale=2.0)]
)
def test_an_image_depends_on_its_seed_class_and_index_alone(model: Model) -> None:
    few, many = model.sample(["cherry", "apple"], 5, seed=4), model.sample(None, 300, seed=4)
    assert np.array_equal(few[:5], many[600:605])
    assert np.array_equal(few[5:], many[:5])


def test_a_model_is_folded_once_and_anew_after_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    monkeypatch.setattr(
        "condgan.sampling.fuse.fuse_for_inference", lambda generator: times.append(1) or fuse_for_inference(generator)
    )
    model = tiny(3)
    images = model.sample(per_class=300)
    assert np.array_equal(model.sample(["apple"], per_class=300), images[:300])
    model.interpolate(rows=1)
    assert len(times) == 1
    with torch.no_grad():
        model.generator.norm.running_mean.add_(1)
    assert not np.array_equal(model.sample(per_class=300), images)
    assert len(times) == 2
    anew = replace(model, generator=deepcopy(model.generator))
    assert np.array_equal(model.sample(per_class=2), anew.sample(per_class=2))


def test_mixtures_mix_the_labels() -> None:
    model = tiny(3)
    z = draw_latents(1, 3, 6, 4)
    weights = torch.tensor([[0.25, 0.0, 0.75]]).expand(6, -1)
    expected = model.generator(z, Labels(ABC, weights, torch.ones(6, 1, dtype=torch.bool)))
    images = model.sample({"apple": 1.0, "cherry": 3.0}, per_class=6, seed=1)
    assert images.shape == (6, 8, 8, 3)
    assert np.array_equal(images, ((expected.permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().astype(np.uint8))
    assert len(model.pictures({"apple": 1.0, "cherry": 3.0}, per_class=2)) == 2


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"aple": 1.0}, "did you mean 'apple'"),
        ({"apple": 0.0}, "weight of class 'apple' 0 given: expected a number above 0"),
        ({"apple": 1.0, "banana": -1.0}, "weight of class 'banana' -1"),
        ({}, "a mixture of no classes"),
    ],
)
def test_impossible_mixtures_are_refused(mixture: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny().sample(mixture)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_npz_holds_images_numbers_and_names(channels: int) -> None:
    model = tiny(channels)
    file = np.load(io.BytesIO(model.npz(["cherry", "apple"], 3, seed=1)), allow_pickle=False)
    assert file["x"].shape == (6, channels, 8, 8)
    assert file["x"].dtype == np.uint8
    assert file["y"].dtype == np.int64
    assert file["classes"][file["y"]].tolist() == ["cherry"] * 3 + ["apple"] * 3
    images = model.sample(["cherry", "apple"], 3, seed=1).reshape(6, 8, 8, channels)
    assert np.array_equal(file["x"].transpose(0, 2, 3, 1), images)


vectors = st.lists(st.floats(-3, 3, width=32), min_size=5, max_size=5).map(torch.tensor)


@given(vectors, vectors, st.floats(0, 1, width=32))
def test_paths_reach_both_ends_and_the_sphere_is_kept(a: Tensor, b: Tensor, t: float) -> None:
    for path in WAYS.values():
        assert torch.allclose(path(a, b, torch.tensor([0.0])), a, atol=1e-6)
        assert torch.allclose(path(a, b, torch.tensor([1.0])), b, atol=1e-6)
        assert path(a, b, torch.tensor([t])).isfinite().all()
    between = torch.lerp(a, b, torch.tensor(t))
    assert torch.equal(linear(a, b, torch.tensor([t])), between)
    unit_a, unit_b = F.normalize(a, dim=0), F.normalize(b, dim=0)
    cosine = float(unit_a.double() @ unit_b.double())
    if unit_a.norm() > 0.1 and unit_b.norm() > 0.1 and abs(cosine) < 0.999:
        point, angle = spherical(unit_a, unit_b, torch.tensor([t])), np.arccos(cosine)
        assert float(point.norm()) == pytest.approx(1, abs=1e-4)
        assert float(point @ unit_a) == pytest.approx(np.cos(t * angle), abs=1e-4)
        formula = (np.sin((1 - t) * angle) * a.numpy() + np.sin(t * angle) * b.numpy()) / np.sin(angle)
        assert np.allclose(spherical(a, b, torch.tensor([t])), formula, atol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0])
def test_parallel_vectors_are_joined_straight(factor: float) -> None:
    a = torch.tensor([1.0, 2.0, 3.0])
    t = torch.tensor([0.25])
    expected = torch.lerp(a, factor * a, t) if factor else np.sin(0.75 * np.pi / 2) * a  # 0 has no direction
    assert torch.allclose(spherical(a, factor * a, t), expected)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_interpolations_go_from_end_to_end(path: str) -> None:
    model = tiny(3)
    both = model.interpolate("both", path, rows=4, steps=5, seed=1)
    of_latent = model.interpolate("latent", path, rows=4, steps=5, seed=1)
    of_class = model.interpolate("class", path, rows=4, steps=5, seed=1)
    assert both.shape == of_latent.shape == of_class.shape == (4, 5, 8, 8, 3)
    for images in (of_latent, of_class):
        assert np.array_equal(images[:, 0], both[:, 0])
        assert not np.array_equal(images[:, -1], both[:, -1])
    ends = model.ends(4)
    assert ends == [("apple", "banana"), ("banana", "cherry"), ("cherry", "apple"), ("apple", "banana")]
    latents = draw_latents(1, 0, 8, 4)
    for row, (first, last) in enumerate(ends):
        for image, latent, name in [
            (both[row, 0], latents[2 * row], first),
            (both[row, -1], latents[2 * row + 1], last),
            (of_latent[row, -1], latents[2 * row + 1], first),
            (of_class[row, -1], latents[2 * row], last),
        ]:
            label = Labels.from_index(ABC, torch.tensor([model.classes.index(name)]))
            expected = model.generator(latent[None], label)[0].permute(1, 2, 0)
            assert np.abs(image - (expected.numpy() + 1) * 127.5).max() <= 0.51
    assert np.array_equal(model.interpolate("both", path, rows=2, steps=5, seed=1), both[:2])


def test_interpolations_between_two_classes() -> None:
    model = tiny()
    assert model.ends(2, ["cherry", "apple"]) == [("cherry", "apple")] * 2
    assert model.interpolate(classes=["cherry", "apple"], rows=1, steps=2).shape == (1, 2, 8, 8)
    for options, message in [
        ({"classes": ["apple"]}, "1 classes to interpolate between given: expected 2"),
        ({"classes": ["apple", "chery"]}, "did you mean 'cherry'"),
        ({"rows": 0}, "rows 0 given: expected 1 or more"),
        ({"steps": 1}, "steps 1 given: expected 2 or more"),
    ]:
        with pytest.raises(UserError, match=message):
            model.interpolate(**options)


def test_attention_is_that_of_the_images_sampled() -> None:
    layers = nn.Sequential(Attention(8, pooled=True), Attention(8, pooled=False))
    model = tiny(3, layers)
    with torch.no_grad():
        for layer in layers:
            layer.gamma.fill_(1)
            layer.query.weight.mul_(5)
    attended = model.attention(["cherry", "apple"], 2, [(0, 0), (7, 3)], seed=1)
    assert np.array_equal(attended.images, model.sample(["cherry", "apple"], 2, seed=1))
    assert {name: maps.shape for name, maps in attended.maps.items()} == {
        "between.0": (4, 2, 4, 4), "between.1": (4, 2, 8, 8),
    }  # fmt: skip
    for maps in attended.maps.values():
        assert np.allclose(maps.sum((2, 3)), 1, atol=1e-5)
    label = Labels.from_index(ABC, torch.tensor([2]))
    latent = draw_latents(1, 2, 1, 4)
    x = model.generator.norm(model.generator.linear(torch.cat([latent, label.vector()], 1)).unflatten(1, (8, 8, 8)))
    expected = layers[0].maps(x)[0, [0, 7 * 8 + 3]]
    assert np.allclose(attended.maps["between.0"][0], expected, atol=1e-5)
    assert not layers[0]._forward_pre_hooks


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What calls give that begin at the same moment, each in a thread of its own."""
    together = Barrier(len(calls))
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: (together.wait(), call())[1], calls))


def test_threads_see_the_attention_of_their_own_images() -> None:
    model = tiny(3, Attention(8, pooled=True))
    ways = [partial(model.attention, ABC.classes[number % 3], 1 + number % 2, None, number) for number in range(8)]
    alone = [way() for way in ways]
    for _ in range(5):
        for one, other in zip(alone, at_once(ways), strict=True):
            assert np.array_equal(one.images, other.images)
            assert np.array_equal(one.maps["between"], other.maps["between"])


def test_threads_may_use_a_model_at_first() -> None:
    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            model = tiny(3)
            images = at_once([partial(model.sample, "apple", 2, 0)] * 4)
            assert all(np.array_equal(one, images[0]) for one in images)
            assert len({id(network) for network in at_once([lambda model=model: model.sampler.network] * 4)}) == 1
    finally:
        sys.setswitchinterval(switched)


def test_images_that_are_not_finite_are_refused() -> None:
    model = tiny(3)
    with torch.no_grad():
        model.generator.output.bias[1] = torch.nan
    with pytest.raises(NotFinite, match="makes images that are not finite: take another checkpoint"):
        model.sample(per_class=1)


def test_more_images_than_fit_into_memory_are_refused_at_once() -> None:
    for ask in (partial(tiny().sample, None, 10**12), partial(tiny().interpolate, rows=10**6, steps=10**6)):
        with pytest.raises(UserError, match=r"images asked for, which take .* GiB of"):
            ask()


def test_attention_looks_from_center_and_quarters_and_only_inside() -> None:
    model = tiny(between=Attention(8, pooled=True))
    assert model.attention(per_class=1).positions == [(4, 4), (2, 2), (2, 6), (6, 2), (6, 6)]
    for position in [(8, 0), (0, -1)]:
        with pytest.raises(UserError, match=r"given: expected Y,X from 0,0 to 7,7"):
            model.attention(positions=[position])
    with pytest.raises(UserError, match="no attention: train a recipe such as digits-sagan"):
        tiny().attention()
