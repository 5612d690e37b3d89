"""Networks: published parameter counts, sizes, norms, attention, spectral normalization, initialization."""

import itertools
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from condgan.build import build_generator
from condgan.estimate import count_parameters
from condgan.labels import Labels, LabelSpec
from condgan.networks import BACKBONES, GENERATORS, HEADS, Discriminator, fused_resampling
from condgan.networks.attention import FEW_WEIGHTS, Attention
from condgan.networks.embeddings import CONDITIONING, LabelEmbedding
from condgan.networks.fused_resampling import DownConv2d, UpConv2d
from condgan.networks.init import initialize
from condgan.networks.resnet import backbone_stages, generator_multiples
from condgan.networks.spectral_norm import Spectral, TrainedNorms, singular_values, spectral_normalize
from condgan.recipes.load import load
from condgan.types import ImageShape
from condgan.utils.errors import UserError

DIGITS = LabelSpec.of_classes([str(i) for i in range(10)])


def classes(count: int) -> LabelSpec:
    return LabelSpec.of_classes([str(i) for i in range(count)])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("mnist-acgan", (1_050_985, 103_243)),
        ("biggan-imagenet128", (70_433_988, 87_982_370)),
        ("biggan-imagenet256", (82_235_844, 99_225_890)),
        ("biggan-imagenet64", (31_969_540, 20_571_842)),
        ("biggan-deep-imagenet128", (50_244_484, 34_590_210)),
        ("biggan-cifar10", (4_304_387, 4_207_361)),
        ("biggan-cifar100", (4_580_867, 4_230_401)),
        ("sagan-imagenet128", (42_017_412, 39_448_258)),
        ("sngan-imagenet128", (41_996_931, 30_005_013)),
        ("sagan-celeba64", (3_832_885, 3_175_299)),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, counts: tuple[int, int]) -> None:
    recipe = load(name)
    assert count_parameters(recipe, classes(recipe.data.classes or 10)) == counts


def test_a_method_adds_its_head_to_the_published_counts() -> None:
    """On 256 features and 10 classes a projection has 2,560 parameters, a classifier 2,570, a twin twice that."""
    base = 4_207_361 - 2_560
    for name, more in (("projection", 2_570), ("acgan", 2_570), ("tacgan", 5_140), ("tacgan-hinge", 5_140)):
        assert count_parameters(load(f"{name}-cifar10"), classes(10)) == (4_304_387, base + more)


def test_sagan64_has_a_pair_of_vectors_for_each_weight() -> None:
    """The public code's belong to another matrix of a transposed convolution, 160 entries shorter in all each."""
    recipe = load("sagan-celeba64")
    with torch.device("meta"):
        networks = [
            recipe.generator.build(GENERATORS, ImageShape(3, 64, 64), classes(1)),
            recipe.backbone.build(BACKBONES, ImageShape(3, 64, 64)),
        ]
    vectors = [sum(b.numel() for n, b in k.named_buffers() if n.endswith((".u", ".v"))) for k in networks]
    assert [3_832_885 + vectors[0], 3_175_299 + vectors[1]] == [3_832_885 + 17_344, 3_183_475]


def test_channels_follow_the_published_tables() -> None:
    generator = {
        32: [4, 4, 4, 4], 64: [16, 16, 8, 4, 2], 128: [16, 16, 8, 4, 2, 1],
        256: [16, 16, 8, 8, 4, 2, 1], 512: [16, 16, 8, 8, 4, 2, 1, 1],
    }  # fmt: skip
    backbone = {
        32: [4, 4, 4, 4], 64: [1, 2, 4, 8, 16], 128: [1, 2, 4, 8, 16, 16],
        256: [1, 2, 4, 8, 8, 16, 16], 512: [1, 1, 2, 4, 8, 8, 16, 16],
    }  # fmt: skip
    for size, table in generator.items():
        assert list(generator_multiples(size).values()) == table
        assert [m for _, _, m in backbone_stages(size)] == backbone[size]
    assert [after for _, after, _ in backbone_stages(32)] == [16, 8, 8, 8]
    assert [after for _, after, _ in backbone_stages(128)] == [64, 32, 16, 8, 4, 4]


ACGAN = ("acgan", {"width": 4, "latent_dim": 8}, {"width": 2})
RESNET = ("resnet", {"width": 2, "latent_dim": 8, "attention": (8,)}, {"width": 2, "attention": (8,)})
DEEP = ("biggan-deep", {"width": 4, "latent_dim": 8, "attention": (8,)}, {"width": 4, "attention": (8,)})
LIGHT = ("light", {"width": 2, "latent_dim": 8}, {"width": 2})
SAGAN = ("sagan-dcgan", {"width": 8, "latent_dim": 8, "attention": (4, 8)}, {"width": 8, "attention": (4, 8)})


def outputs(shape: ImageShape, name: str, g: dict, d: dict, head: str = "twin") -> None:
    """That a generator's images have their shape and range, and that a discriminator takes them."""
    generator = GENERATORS[name](shape, DIGITS, **g)
    backbone = BACKBONES[name](shape, **d)
    discriminator = Discriminator(backbone, HEADS[head](backbone.features, DIGITS))
    labels = Labels.from_index(DIGITS, torch.arange(4))
    images = generator(torch.randn(4, generator.latent_dim), labels)
    assert images.shape == (4, *shape)
    assert images.abs().max() <= 1
    out = discriminator(images, labels)
    assert out.score.shape == (4,)
    assert out.score.isfinite().all()


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (48, 1), (64, 3)])
def test_acgan_fits_any_multiple_of_16(size: int, channels: int) -> None:
    outputs(ImageShape(channels, size, size), *ACGAN, head="classifier")


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3), (64, 4), (128, 3)])
@pytest.mark.parametrize("networks", [RESNET, DEEP, SAGAN, LIGHT], ids=lambda one: one[0])
def test_networks_fit_any_power_of_two_and_any_channels(networks: tuple, size: int, channels: int) -> None:
    outputs(ImageShape(channels, size, size), *networks)


def test_light_networks_leave_less_grain_of_two_pixels_than_transposed_convolutions() -> None:
    def share(name: str) -> float:
        """Of the detail that is there before any training: what repeats after two pixels, or one and two."""
        torch.manual_seed(0)
        generator = GENERATORS[name](ImageShape(1, 32, 32), DIGITS, width=8, latent_dim=8, init="ortho")
        with torch.no_grad():
            images = generator(torch.randn(200, 8), Labels.from_index(DIGITS, torch.arange(200) % 10))
        power = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs().square().sum((0, 1))
        return float((power[16, 0] + power[0, 16] + power[16, 16]) / power.sum())

    assert share("light") < 0.2 * share("sagan-dcgan")


def test_a_light_discriminator_sees_patterns_of_two_pixels() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for seed in range(4):
        torch.manual_seed(seed)
        backbone = BACKBONES["light"](ImageShape(3, 32, 32)).eval()
        images = F.interpolate(torch.rand(16, 3, 8, 8) * 2 - 1, scale_factor=4, mode="bilinear")
        noise = 1 - 2 * torch.randint(2, images.shape)
        patterns = ((-1.0) ** place for place in (rows, columns, rows + columns))
        with torch.no_grad():
            seen, of_noise = backbone(images), backbone(images + 0.05 * noise)
            for pattern in patterns:  # halving by means leaves 0.06 to 0.7 of what noise of their power changes
                changed = (backbone(images + 0.05 * pattern) - seen).square().mean()
                assert changed > 0.9 * (of_noise - seen).square().mean()


@pytest.mark.parametrize("networks", [RESNET, DEEP], ids=lambda one: one[0])
def test_biggan_reaches_512_in_both_players(networks: tuple) -> None:
    with torch.device("meta"):
        outputs_on_meta(ImageShape(3, 512, 512), *networks)


def outputs_on_meta(shape: ImageShape, name: str, g: dict, d: dict) -> None:
    generator, backbone = GENERATORS[name](shape, DIGITS, **g), BACKBONES[name](shape, **d)
    labels = Labels(DIGITS, torch.zeros(2, 10), torch.ones(2, 1) > 0)
    images = generator(torch.randn(2, generator.latent_dim), labels)
    assert images.shape == (2, *shape)
    assert backbone(images).shape == (2, *backbone.features)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_biggan_deep_has_any_depth(depth: int) -> None:
    name, g, d = DEEP
    outputs(ImageShape(3, 32, 32), name, g | {"depth": depth}, d | {"depth": depth})


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize(
    "options",
    [
        {"conditioning": "own"},
        {"conditioning": "shared"},
        {"conditioning": "shared", "hierarchical": True, "latent_dim": 8},
        {"conditioning": "none"},
        {"conditioning": "none", "hierarchical": True, "latent_dim": 8},
    ],
    ids=str,
)
def test_every_norm_and_conditioning_works(norm: str, options: dict) -> None:
    name, g, d = RESNET
    outputs(ImageShape(1, 32, 32), name, g | {"norm": norm} | options, d)


@pytest.mark.parametrize(("conditioning", "differ"), [("own", True), ("shared", True), ("none", False)])
def test_labels_matter_where_they_should(conditioning: str, differ: bool) -> None:
    generator = GENERATORS["resnet"](ImageShape(1, 32, 32), DIGITS, width=2, conditioning=conditioning).eval()
    latent = torch.randn(1, generator.latent_dim).expand(2, -1)
    a, b = generator(latent, Labels.from_index(DIGITS, torch.tensor([1, 2])))
    assert bool((a - b).abs().max() > 1e-4) == differ


@pytest.mark.parametrize("conditioning", ["own", "shared", "none"])
def test_sagan64_is_conditional_on_request(conditioning: str) -> None:
    name, g, d = SAGAN
    g = g | {"conditioning": conditioning, "spectral_attention": True, "init": None}
    outputs(ImageShape(1, 32, 32), name, g, d | {"init": None}, "projection")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GENERATORS["acgan"](ImageShape(1, 20, 20), DIGITS), "multiples of 16"),
        (lambda: BACKBONES["acgan"](ImageShape(1, 20, 20)), "multiples of 16"),
        (lambda: GENERATORS["resnet"](ImageShape(1, 48, 48), DIGITS), "power of two from 16"),
        (lambda: BACKBONES["biggan-deep"](ImageShape(1, 8, 8)), "power of two from 16"),
        (lambda: GENERATORS["sagan-dcgan"](ImageShape(1, 20, 20), DIGITS), "power of two from 16"),
        (lambda: GENERATORS["resnet"](ImageShape(1, 32, 32), DIGITS, attention=(7,)), "expected some of 8, 16, 32"),
        (lambda: BACKBONES["resnet"](ImageShape(1, 32, 32), attention=(32,)), "expected some of 16, 8"),
        (
            lambda: GENERATORS["resnet"](
                ImageShape(1, 32, 32), DIGITS, latent_dim=30, conditioning="shared", hierarchical=True
            ),
            "latent_dim 30 given: a hierarchical latent has 4 equal parts at this size; set a multiple of it, such as",
        ),
        (
            lambda: GENERATORS["resnet"](ImageShape(1, 32, 32), DIGITS, hierarchical=True),
            "set generator.conditioning=shared",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_label_embedding_looks_up_and_mixes() -> None:
    embedding = LabelEmbedding(DIGITS, 6)
    index = torch.tensor([3, 9])
    assert torch.equal(embedding(Labels.from_index(DIGITS, index).vector()), embedding.weight[index])
    half = Labels(DIGITS, (torch.eye(10)[3] / 2 + torch.eye(10)[9] / 2)[None], torch.ones(1, 1, dtype=torch.bool))
    assert torch.allclose(embedding(half.vector())[0], embedding.weight[index].mean(0))


def test_adding_is_a_concatenation_with_tied_weights() -> None:
    labels, latent = Labels.from_index(DIGITS, torch.arange(10)), torch.randn(10, 6)
    add, linear = CONDITIONING["add"](DIGITS, 6), torch.nn.Linear(6, 4, bias=False)
    both = torch.cat([linear.weight, linear.weight @ add.embedding.weight.T], 1)
    assert torch.allclose(linear(add(latent, labels)), torch.cat([latent, labels.vector()], 1) @ both.T, atol=1e-5)


def test_projection_is_the_paper() -> None:
    """D(x, y) = ψ(φ(x)) + ⟨v_y, φ(x)⟩, and with a class bias + b_y: a linear classifier's logit of the class."""
    head = HEADS["projection"]((6,), DIGITS, class_bias=True, spectral_norm=None)
    nn.init.normal_(head.bias)
    features, index = torch.randn(5, 6), torch.tensor([0, 3, 3, 9, 1])
    expected = [
        float((head.score.weight[0] @ f + head.score.bias[0] + head.embedding.weight[y] @ f + head.bias[y]).detach())
        for f, y in zip(features, index, strict=True)
    ]
    assert head(features, Labels.from_index(DIGITS, index)).score.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
def test_attention_over_a_constant_value_field_is_the_constant(pooled: bool) -> None:
    attention = Attention(16, pooled=pooled)
    nn.init.zeros_(attention.value.weight)
    nn.init.ones_(attention.gamma)
    if pooled:
        attention.value = nn.Conv2d(16, 8, 1)
        nn.init.zeros_(attention.value.weight)
    x = torch.randn(2, 16, 8, 8)
    attended = attention.attend(x)
    assert torch.allclose(attended, attention.value.bias[:, None, None].expand_as(attended), atol=1e-6)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("few", [0, FEW_WEIGHTS])
def test_attention_is_the_paper(monkeypatch: pytest.MonkeyPatch, pooled: bool, few: int) -> None:
    """o_j = Σ_i softmax_i(q_j · k_i) v_i, written out; and the maps are those weights."""
    monkeypatch.setattr("condgan.networks.attention.FEW_WEIGHTS", few)
    attention = Attention(16, pooled=pooled)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(attention(x), x)  # γ = 0
    q, k, v = attention.query(x), attention.pool(attention.key(x)), attention.pool(attention.value(x))
    weights = torch.einsum("bchw,bcij->bhwij", q, k).flatten(3).softmax(3)
    expected = torch.einsum("bhwk,bck->bchw", weights, v.flatten(2))
    assert torch.allclose(attention.attend(x), expected, atol=1e-5)
    maps = attention.maps(x)
    assert torch.allclose(maps.flatten(2), weights.flatten(1, 2), atol=1e-6)
    assert torch.allclose(maps.sum((2, 3)), torch.ones(2, 64))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_full_attention_keeps_no_weight_per_pair_of_positions(memory: torch.memory_format) -> None:
    """A public SAGAN kept 1024² numbers an image, at 32 × 32, for the backward pass."""
    attention, kept = Attention(64, pooled=False).to(memory_format=memory), []
    x = torch.randn(1, 64, 32, 32, requires_grad=True).to(memory_format=memory)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        attention(x)
    assert max(kept) < 1024 * 1024 / 4


def layer_of(kind: str) -> nn.Module:
    return {
        "conv": lambda: nn.Conv2d(12, 20, 3),
        "transposed conv": lambda: nn.ConvTranspose2d(12, 20, 4),
        "linear": lambda: nn.Linear(30, 17),
        "embedding": lambda: LabelEmbedding(DIGITS, 24),
    }[kind]()


def sigma(layer: nn.Module, weight: torch.Tensor) -> float:
    """The largest singular value of the matrix from inputs at a position to outputs."""
    rows = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    return torch.linalg.matrix_norm(rows.flatten(1), 2).item()


@pytest.mark.parametrize("init", ["ortho", "normal", "xavier"])
@pytest.mark.parametrize("kind", ["conv", "transposed conv", "linear", "embedding"])
def test_spectral_norm_is_one_after_initialization_and_followed_afterwards(kind: str, init: str) -> None:
    layer = nn.Sequential(layer_of(kind))
    initialize(layer, init)
    spectral_normalize(layer, Spectral(values=3), embeddings=True)
    assert sigma(layer[0], layer[0].weight) == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        layer[0].parametrizations.weight.original.mul_(3).add_(0.01)
    for _ in range(300):
        TrainedNorms(layer).iterate()
    assert sigma(layer[0], layer[0].weight) == pytest.approx(1, abs=1e-3)
    original = layer[0].parametrizations.weight.original
    matrix = original.transpose(0, 1).flatten(1) if kind == "transposed conv" else original.flatten(1)
    exact = torch.linalg.svdvals(matrix)[:3]
    assert singular_values(layer)["0"].tolist() == pytest.approx(exact.tolist(), rel=2e-2)


def test_spectral_vectors_do_not_depend_on_the_memory_format_nor_move_in_a_forward_pass() -> None:
    plain = nn.Sequential(nn.Conv2d(4, 6, 3))
    spectral_normalize(plain, Spectral())
    other = deepcopy(plain).to(memory_format=torch.channels_last)
    assert torch.allclose(plain[0].weight, other[0].weight)
    before = plain[0].parametrizations.weight[0].u.clone()
    plain.train()(torch.randn(2, 4, 8, 8))
    assert torch.equal(before, plain[0].parametrizations.weight[0].u)


def test_the_gradient_passes_through_sigma() -> None:
    """∂(W/σ)/∂W removes the component along u vᵀ (Miyato et al. 2018, eq. 12)."""
    layer = nn.Sequential(nn.Linear(5, 4, bias=False)).double()
    spectral_normalize(layer, Spectral())
    norm, original = layer[0].parametrizations.weight[0], layer[0].parametrizations.weight.original
    upstream = torch.randn(4, 5, dtype=torch.float64)
    (layer[0].weight * upstream).sum().backward()
    s = norm.u[0] @ original @ norm.v[0]
    expected = upstream / s - (upstream * original).sum() / s**2 * torch.outer(norm.u[0], norm.v[0])
    assert torch.allclose(original.grad, expected)


@pytest.mark.parametrize("conditioning", ["own", "shared"])
def test_a_generators_label_tables_are_not_normalized_but_a_discriminators_are(conditioning: str) -> None:
    generator = GENERATORS["resnet"](ImageShape(1, 32, 32), DIGITS, width=2, conditioning=conditioning)
    for layer in generator.modules():
        if isinstance(layer, LabelEmbedding):
            assert not parametrize.is_parametrized(layer)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(HEADS["projection"]((8,), DIGITS).embedding)


@pytest.mark.parametrize("init", ["ortho", "normal", "xavier"])
def test_initializations_are_what_they_say(init: str) -> None:
    layer = nn.Sequential(nn.Conv2d(50, 40, 3))
    initialize(layer, init)
    matrix = layer[0].weight.detach().flatten(1)
    spread = {"ortho": (1 / 450) ** 0.5, "normal": 0.02, "xavier": (2 / (450 + 360)) ** 0.5}[init]
    assert matrix.std().item() == pytest.approx(spread, rel=0.05)
    assert layer[0].bias.abs().max() == 0
    if init == "ortho":
        assert torch.allclose(matrix @ matrix.T, torch.eye(40), atol=1e-5)


def test_networks_are_a_function_of_the_seed() -> None:
    states = [build_generator(load("digits-biggan", [f"seed={s}"]), DIGITS).state_dict() for s in (0, 0, 1)]
    same = [all(torch.equal(a[k], b[k]) for k in a) for a, b in itertools.combinations(states, 2)]
    assert same == [True, False, False]


@pytest.mark.parametrize("fused", [UpConv2d, DownConv2d])
@pytest.mark.parametrize("windows", [fused_resampling.means_of_windows, fused_resampling.padded_before])
def test_fused_convolutions_are_the_two_steps(
    fused: type[nn.Conv2d], windows: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their gradients, those of weights and of gradients among them; borders included; as on a GPU, too."""
    monkeypatch.setattr(fused_resampling, "means_of_windows", windows)
    torch.manual_seed(0)
    layer = fused(3, 5).double()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)

    def steps(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if fused is UpConv2d:
            return F.conv2d(F.interpolate(x, scale_factor=2), weight, layer.bias, padding=1)
        return F.avg_pool2d(F.conv2d(x, weight, layer.bias, padding=1), 2)

    found = []
    for result in (layer(x), steps(x, layer.weight)):
        gradients = torch.autograd.grad(result.sin().sum(), (x, layer.weight, layer.bias), create_graph=True)
        second = torch.autograd.grad(gradients[0].square().sum(), (x, layer.weight))
        found.append([result, *gradients, *second])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
