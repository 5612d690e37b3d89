"""Image to image: StarGAN's networks, objective and training; translating; judging translations."""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor, nn

import condgan as package
from condgan import build, training_steps
from condgan.app.cli.translate import _changes
from condgan.data.open import read
from condgan.data.readers.digits import TINTS, tint
from condgan.evaluation.compare import compare_images
from condgan.evaluation.images import Real, permuted, stored, translations_of
from condgan.evaluation.options import EvaluationOptions
from condgan.evaluation.scoring import TranslatorScorer
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.losses import OBJECTIVES, Penalties, weighted_sum
from condgan.networks import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.recipes.load import load
from condgan.runs.checkpoint import remove_after
from condgan.sampling.changes import domains, toward
from condgan.sampling.files import fitting, output_names
from condgan.sampling.translator import Translator
from condgan.types import Batch, DiscriminatorOutput, Generator, ImageShape, Step, to_float, to_uint8
from condgan.utils.errors import UserError
from tests.conftest import SHARED, TINY, TINY_TRANSLATOR, write_image
from tests.helpers import condgan, refused, weights

FIVE = LabelSpec(
    (Field("attributes", ("Black", "Blond", "Brown", "Male", "Young"), False, (("Black", "Blond", "Brown"),)),)
)
BOTH = LabelSpec((*FIVE.fields, Field("class", tuple("abcdefgh"))))


def networks(shape: ImageShape, spec: LabelSpec, **options: dict) -> tuple[Generator, Discriminator]:
    backbone = BACKBONES["stargan"](shape, **options.get("backbone", {}))
    head = HEADS["domain"](backbone.features, spec)
    return GENERATORS["stargan"](shape, spec, **options.get("generator", {})), Discriminator(backbone, head)


def known(spec: LabelSpec, values: Tensor, fields: list[bool] | None = None) -> Labels:
    return Labels(spec, values, torch.tensor([fields or [True] * len(spec.fields)]).expand(len(values), -1))


# ---- networks


@pytest.mark.parametrize(
    ("size", "spec", "counts"), [(128, FIVE, (8_430_528, 44_762_048)), (256, BOTH, (8_461_888, 45_147_072))]
)
def test_parameter_counts_are_the_published_ones(size: int, spec: LabelSpec, counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        made = networks(ImageShape(3, size, size), spec)
        score, _, named = made[1](torch.zeros(2, 3, size, size), known(spec, torch.zeros(2, spec.width)))
    assert tuple(sum(p.numel() for p in network.parameters()) for network in made) == counts
    assert score.shape == (2, size // 64, size // 64)
    assert named["logits"].shape == (2, spec.width)


def test_forward_passes_are_those_of_the_published_tables() -> None:
    """Table 4 and 5 written down layer by layer, at 1/16 of the width, with the same weights."""

    def convolution(fewer: int, more: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        layer = nn.Conv2d(fewer, more, kernel, stride, padding, bias=False)
        return [layer, nn.InstanceNorm2d(more, affine=True), nn.ReLU()]

    def back(fewer: int, more: int) -> list[nn.Module]:
        layer = nn.ConvTranspose2d(fewer, more, 4, 2, 1, bias=False)
        return [layer, nn.InstanceNorm2d(more, affine=True), nn.ReLU()]

    blocks = [nn.Sequential(*convolution(16, 16, 3, 1, 1), *convolution(16, 16, 3, 1, 1)[:2]) for _ in range(6)]
    enter = nn.Sequential(*convolution(3 + 5, 4, 7, 1, 3), *convolution(4, 8, 4, 2, 1), *convolution(8, 16, 4, 2, 1))
    leave = nn.Sequential(*back(16, 8), *back(8, 4), nn.Conv2d(4, 3, 7, 1, 3, bias=False), nn.Tanh())
    widths = [3, 4, 8, 16, 32, 64, 128]
    trunk = [layer for i in range(6) for layer in (nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1), nn.LeakyReLU(0.01))]
    score, classes = nn.Conv2d(128, 1, 3, 1, 1, bias=False), nn.Conv2d(128, 5, 2, bias=False)
    table = [nn.ModuleList([enter, *blocks, leave]), nn.ModuleList([nn.Sequential(*trunk), score, classes])]
    made = networks(ImageShape(3, 128, 128), FIVE, generator={"width": 4}, backbone={"width": 4})
    for network, ours in zip(table, made, strict=True):
        for theirs, mine in zip(network.parameters(), ours.parameters(), strict=True):
            assert theirs.shape == mine.shape
            mine.data = torch.randn_like(mine) * (0.3 if mine.ndim > 1 else 1)
            theirs.data = mine.data
    images, values = torch.rand(2, 3, 128, 128) * 2 - 1, torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 1, 0, 1]])
    x = enter(torch.cat([images, values[:, :, None, None].repeat(1, 1, 128, 128)], 1))
    for block in blocks:
        x = x + block(x)
    assert torch.allclose(made[0](images, known(FIVE, values)), leave(x), atol=1e-4)
    features = nn.Sequential(*trunk)(images)
    out = made[1](images, known(FIVE, values))
    assert torch.allclose(out.score, score(features)[:, 0], rtol=1e-3, atol=1e-3)
    assert torch.allclose(out.logits, classes(features)[:, :, 0, 0], rtol=1e-3, atol=1e-3)


def test_recipes_have_the_published_counts_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "train", "celeba-stargan", "--dry-run")
    assert "8,430,528" in done.out
    assert "44,762,048" in done.out
    done = condgan(capsys, "train", "celeba-rafd-stargan", "--dry-run")
    assert "8,461,888" in done.out
    assert "45,147,072" in done.out
    assert "counted for 5 attributes and 8 classes" in done.out


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [8, 12, 20, 36, 64, 100])
def test_networks_fit_any_multiple_of_4_and_any_channels(size: int, channels: int) -> None:
    small = {"generator": {"width": 2, "blocks": 1}, "backbone": {"width": 2}}
    generator, discriminator = networks(ImageShape(channels, size, size), BOTH, **small)
    images, labels = torch.rand(2, channels, size, size) * 2 - 1, known(BOTH, torch.eye(13)[:2])
    made = generator(images, labels)
    assert made.shape == images.shape
    assert made.abs().max() <= 1
    out = discriminator(made, labels)
    assert out.score.shape[0] == 2
    assert 2 <= out.score.shape[1] <= 3
    assert out.logits.shape == (2, 13)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_depth_can_be_chosen_but_not_below_a_pixel(depth: int) -> None:
    options = {"generator": {"width": 2}, "backbone": {"width": 2, "depth": depth}}
    _, discriminator = networks(ImageShape(3, 32, 32), FIVE, **options)
    out = discriminator(torch.zeros(1, 3, 32, 32), known(FIVE, torch.zeros(1, 5)))
    assert out.score.shape == (1, 32 >> depth, 32 >> depth)
    with pytest.raises(UserError, match="backbone.depth 6 given: an image of 32 × 32 can be halved at most 5 times"):
        BACKBONES["stargan"](ImageShape(3, 32, 32), depth=6)
    with pytest.raises(UserError, match="image size 30 × 30 given: StarGAN's networks need multiples of 4"):
        GENERATORS["stargan"](ImageShape(3, 30, 30), FIVE)


def test_an_image_is_translated_alike_in_training_and_evaluation_and_whatever_is_beside_it() -> None:
    """Instance norm keeps no running statistics."""
    generator, _ = networks(ImageShape(3, 16, 16), FIVE, generator={"width": 4, "blocks": 1})
    assert not list(generator.buffers())
    images, labels = torch.rand(4, 3, 16, 16), known(FIVE, torch.eye(5)[:4])
    whole = generator.train()(images, labels)
    assert torch.allclose(generator.eval()(images[1:2], labels[1:2]), whole[1:2], atol=1e-5)


def test_the_target_label_reaches_the_image_and_the_mask_the_generator() -> None:
    generator, _ = networks(ImageShape(3, 16, 16), BOTH, generator={"width": 4, "blocks": 1})
    image, values = torch.rand(1, 3, 16, 16), torch.zeros(1, 13)
    one = generator(image, known(BOTH, values, [True, False]))
    assert not torch.allclose(one, generator(image, known(BOTH, torch.eye(13)[:1], [True, False])), atol=1e-4)
    assert not torch.allclose(one, generator(image, known(BOTH, values, [False, True])), atol=1e-4)


def test_other_heads_take_the_map_and_the_domain_head_nothing_else() -> None:
    backbone = BACKBONES["stargan"](ImageShape(3, 16, 16), width=2)
    assert Discriminator(backbone, HEADS["classifier"](backbone.features, FIVE))(
        torch.zeros(2, 3, 16, 16), known(FIVE, torch.zeros(2, 5))
    ).score.shape == (2,)
    with pytest.raises(UserError, match="head 'domain' given with a backbone that leaves no map"):
        HEADS["domain"]((8,), FIVE)


# ---- objective


class Reads(nn.Module):
    """A discriminator of two patches and five logits, linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 7, dtype=torch.float64))

    def forward(self, images: Tensor, labels: Labels) -> DiscriminatorOutput:
        out = images.flatten(1) @ self.weight
        return DiscriminatorOutput(out[:, :2], named={"logits": out[:, 2:]})


class Shifts(Generator):
    """Adds the label's sum to half of the image."""

    latent_dim = None

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, images: Tensor, labels: Labels) -> Tensor:
        return self.scale * images + labels.values.sum(1)[:, None, None, None]


MIXED = LabelSpec((Field("attributes", ("x", "y"), False), Field("class", ("a", "b", "c"))))


def a_step(mask: list[list[bool]]) -> tuple[Step, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(4, 3, 2, 2))

    def values() -> np.ndarray:
        return np.concatenate([rng.integers(0, 2, (4, 2)), np.eye(3)[rng.integers(0, 3, 4)]], 1)

    own, target = values(), values()
    labels = [Labels(MIXED, torch.tensor(one), torch.tensor(mask)) for one in (own, target)]
    generator, images = Shifts(), torch.tensor(real)
    fake = generator(images, labels[1])
    step = Step(
        generator=generator, discriminator=Reads(), real=images, real_labels=labels[0], fake=fake, fake_labels=labels[1]
    )
    return step, {"real": real, "own": own, "target": target, "fake": fake.detach().numpy()}


def cross_entropy(logits: np.ndarray, values: np.ndarray, mask: np.ndarray) -> float:
    sigmoid = 1 / (1 + np.exp(-logits[:, :2]))
    bce = -(values[:, :2] * np.log(sigmoid) + (1 - values[:, :2]) * np.log(1 - sigmoid)).sum(1)
    softmax = np.exp(logits[:, 2:]) / np.exp(logits[:, 2:]).sum(1, keepdims=True)
    ce = -np.log((softmax * values[:, 2:]).sum(1))
    return float((bce * mask[:, 0] + ce * mask[:, 1]).mean())


@pytest.mark.parametrize("mask", [[[True, True]] * 4, [[True, False], [True, False], [False, True], [True, True]]])
def test_stargans_two_equations_are_the_papers(mask: list[list[bool]]) -> None:
    step, n = a_step(mask)
    weight, m = step.discriminator.weight.detach().numpy(), np.array(mask)
    on_real, on_fake = n["real"].reshape(4, -1) @ weight, n["fake"].reshape(4, -1) @ weight
    objective = OBJECTIVES["stargan"](weight=2.0, cycle=10.0, identity=3.0, penalties=Penalties(gradient_penalty=7.0))
    torch.manual_seed(0)
    total, means = weighted_sum(objective.discriminator, step, 0)
    # D is linear: its gradient is the same at every mix, that of the sum over both patches
    penalty = (np.linalg.norm(weight[:, :2].sum(1)) - 1) ** 2
    expected = {
        "adv": on_fake[:, :2].mean() - on_real[:, :2].mean(),
        "class/real": cross_entropy(on_real[:, 2:], n["own"], m),
        "gradient-penalty": penalty,
    }
    assert {name: float(value) for name, value in means.items()} == pytest.approx(expected)
    assert float(total.detach()) == pytest.approx(expected["adv"] + 2 * expected["class/real"] + 7 * penalty)
    total, means = weighted_sum(objective.generator, step, 0)
    shift = n["own"].sum(1)[:, None, None, None]
    expected = {
        "adv": -on_fake[:, :2].mean(),
        "class/fake": cross_entropy(on_fake[:, 2:], n["target"], m),
        "cycle": np.abs(n["real"] - (n["fake"] / 2 + shift)).mean(),
        "identity": np.abs(n["real"] - (n["real"] / 2 + shift)).mean(),
    }
    assert {name: float(value) for name, value in means.items()} == pytest.approx(expected)
    weights = {"adv": 1, "class/fake": 2, "cycle": 10, "identity": 3}
    assert float(total.detach()) == pytest.approx(sum(weights[name] * value for name, value in expected.items()))
    assert "identity" not in OBJECTIVES["stargan"]().generator


def test_the_gradient_penalty_takes_a_mix_of_its_own_for_each_image() -> None:
    """Against autograd, one image at a time, with a discriminator that is not linear."""
    backbone = BACKBONES["stargan"](ImageShape(3, 8, 8), width=4, depth=2)
    discriminator = Discriminator(backbone, HEADS["domain"](backbone.features, FIVE)).double()
    real, fake = torch.randn(3, 3, 8, 8).double(), torch.randn(3, 3, 8, 8).double()
    labels = known(FIVE, torch.eye(5)[:3].double())
    step = Step(
        generator=nn.Identity(),
        discriminator=discriminator,
        real=real,
        real_labels=labels,
        fake=fake,
        fake_labels=labels,
    )
    terms = OBJECTIVES["stargan"](penalties=Penalties(gradient_penalty=10.0)).discriminator
    torch.manual_seed(4)
    penalty = terms["gradient-penalty"].loss(step)
    torch.manual_seed(4)
    mix = torch.rand(3, 1, 1, 1, dtype=torch.float64)
    assert len(mix.unique()) == 3
    for i in range(3):
        between = (mix[i] * real[i] + (1 - mix[i]) * fake[i])[None].requires_grad_()
        score = discriminator(between, labels[i : i + 1]).score
        assert score.numel() == 4
        gradient = torch.autograd.grad(score.sum(), between)[0]
        assert float(penalty[i].detach()) == pytest.approx((float(gradient.norm()) - 1) ** 2)


def test_unknown_fields_give_no_gradient_to_either_player() -> None:
    """Images of one data set move none of the other field's classifier weights."""
    generator, discriminator = networks(
        ImageShape(3, 16, 16), BOTH, generator={"width": 4, "blocks": 1}, backbone={"width": 4}
    )
    values = torch.cat([torch.eye(5)[:4], torch.zeros(4, 8)], 1)
    labels = known(BOTH, values, [True, False])
    images = torch.rand(4, 3, 16, 16)
    objective = OBJECTIVES["stargan"](adversarial="hinge")
    fake = generator(images, labels)
    step = Step(
        generator=generator, discriminator=discriminator, real=images, real_labels=labels, fake=fake, fake_labels=labels
    )
    for terms in (objective.discriminator, objective.generator):
        discriminator.zero_grad()
        weighted_sum(terms, step, 0)[0].backward(retain_graph=True)
        gradient = discriminator.head.classifier.weight.grad
        assert gradient[:5].abs().sum() > 0
        assert gradient[5:].abs().sum() == 0


# ---- training


def first_iterations(
    recipe_name: str, count: int, *overrides: str, both: bool = False
) -> tuple[list[Batch], list[dict], object]:
    """The batches and losses of a recipe's first iterations on digits."""
    source = "[tinted-digits, digits]" if both else "tinted-digits"
    recipe = load(recipe_name, [*TINY_TRANSLATOR, f"data.source={source}", "schedule.save=64", *overrides])
    data = read(recipe.data.source, 16, 3)
    state, seen = build.build_state(recipe, data.spec), []

    def watched() -> Iterator[Batch]:
        for batch in build.build_stream(recipe, data.train):
            seen.append(batch)
            yield batch

    steps = training_steps.build_steps(recipe, state, data.train, watched())
    return seen, list(itertools.islice(steps, count)), state


def test_targets_are_the_batchs_labels_permuted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Labels] = []
    forward = GENERATORS["stargan"].forward
    monkeypatch.setattr(GENERATORS["stargan"], "forward", lambda self, x, y: (asked.append(y), forward(self, x, y))[1])
    seen, _, _ = first_iterations("digits-stargan", 1)
    for labels in (asked[0], asked[1]):
        assert sorted(labels.values.tolist()) == sorted(seen[0].labels.values.tolist())
        assert labels.values.tolist() != seen[0].labels.values.tolist()


def test_both_data_sets_reach_both_players(monkeypatch: pytest.MonkeyPatch) -> None:
    """With five discriminator steps to one of the generator, which must not always be of the same set."""
    of_generator: list[int] = []
    forward = GENERATORS["stargan"].forward

    def noted(self: Generator, images: Tensor, labels: Labels) -> Tensor:
        if torch.is_grad_enabled():
            of_generator.append(int(labels.known.int().argmax(1)[0]))
        return forward(self, images, labels)

    monkeypatch.setattr(GENERATORS["stargan"], "forward", noted)
    seen, _, _ = first_iterations("digits-stargan", 24, "schedule.d_steps=5", "schedule.images=100000", both=True)
    assert all((batch.labels.known == batch.labels.known[0]).all() for batch in seen)
    of_discriminator = [int(batch.labels.known.int().argmax(1)[0]) for batch in seen]
    assert len(of_discriminator) == 5 * 24
    assert len(of_generator) == 3 * 24, "there, back, and to its own labels"
    for turns in (of_discriminator, of_generator):
        assert 0.2 < sum(turns) / len(turns) < 0.8


def test_learning_rates_fall_to_zero_over_the_last_images() -> None:
    recipe = load("digits-stargan", [*TINY_TRANSLATOR, "schedule.images=160", "schedule.decay=64", "g_opt.lr=2e-3"])
    data = read("tinted-digits", 16, 3)
    state = build.build_state(recipe, data.spec)
    rates = [
        [optimizer.param_groups[0]["lr"] for optimizer in (state.g_optimizer, state.d_optimizer)]
        for _ in training_steps.build_steps(recipe, state, data.train)
    ]
    left = [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [g for g, _ in rates] == pytest.approx([2e-3 * one for one in left])
    assert [d for _, d in rates] == pytest.approx([recipe.d_opt.options["lr"] * one for one in left])
    assert [group["lr"] for o in (state.g_optimizer, state.d_optimizer) for group in o.param_groups] == [0, 0]


@pytest.mark.parametrize(
    "options",
    [
        ["objective.adversarial=hinge", "objective.penalties={r1: 1.0}"],
        ["objective.adversarial=hinge", "objective.penalties={}", "backbone.spectral_norm={}", "head.spectral_norm={}"],
        ["head={name: classifier}", "data.flip=true", "schedule.accumulate=2"],
        ["backbone={name: resnet, width: 4}", "head={name: classifier}"],
    ],
)
def test_parts_are_exchanged_by_options(options: list[str]) -> None:
    _, losses, _ = first_iterations("digits-stargan", 2, *options)
    assert all(value.isfinite() for value in losses[-1].values())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.name=acgan", "generator 'stargan' given with objective 'acgan': expected objective stargan"),
        ("generator={name: acgan}", "expected another objective, or generator stargan"),
        (
            "head.name=plain",
            "head 'plain' given with objective 'stargan': expected classifier or domain or adc or twin",
        ),
        ("schedule.fake_labels=uniform", "targets are its batch's labels, permuted"),
        ("data.weights=[1, 2]", "data.weights of 2 data sets given, expected one for each of the 1"),
        ("schedule.decay=50000", "schedule.decay 50000 given with schedule.images 40000"),
        ("objective.penalties.gradient_penalty=0", "wasserstein given without a gradient penalty"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load(
            "digits-stargan",
            ["objective.identity=0", override]
            if "=acgan" not in override
            else ["objective={name: acgan}", "head={name: classifier}"],
        )
    assert message in str(error.value)


# ---- translating


class Tints(Generator):
    """Perfect translations of tinted digits: reads gray off the image and tints it anew."""

    latent_dim = None

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.wrong = nn.Parameter(torch.tensor(wrong))

    def forward(self, images: Tensor, labels: Labels) -> Tensor:
        pixels = to_uint8(images).float()
        paper = pixels[:, :, :1, :1]
        gray = (
            255
            * (pixels - paper).abs().sum(1, keepdim=True)
            / (pixels - paper).abs().sum(1).amax((1, 2)).clamp(min=1)[:, None, None, None]
        )
        values = labels.values[:, :4]
        return (to_float(tint(gray.clamp(0, 255), values)) + self.wrong).clamp(-1, 1)


class ReadsTints(nn.Module):
    """Reads ink and paper off the image; of a second field says always the same."""

    def __init__(self, spec: LabelSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images: Tensor, labels: Labels) -> DiscriminatorOutput:
        every = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]])
        darkest = torch.stack([image.flatten(1)[:, image.sum(0).argmin()] for image in images])
        full = to_float(tint(torch.full((6, 1, 1, 1), 255.0), every))[:, :, 0, 0]
        blank = to_float(tint(torch.zeros(6, 1, 1, 1), every))[:, :, 0, 0]
        far = torch.cdist(darkest, full) + torch.cdist(images[:, :, 0, 0], blank)
        logits = 4 * every[far.argmin(1)] - 2
        others = torch.zeros(len(images), self.spec.width - 4)
        others[:, :1] = 1
        return DiscriminatorOutput(logits[:, 0], named={"logits": torch.cat([logits, others], 1)})


WITH_SIDE = LabelSpec((*TINTS.fields, Field("side", ("left", "right", "Red_Ink"))))


def perfect(spec: LabelSpec = TINTS, wrong: float = 0.0) -> Translator:
    return Translator(Tints(wrong), ReadsTints(spec), spec, ImageShape(3, 16, 16), "white", 0)


def test_domains_are_all_values_and_a_lonely_attribute_is_flipped() -> None:
    assert [(d.name, d.flips) for d in domains(WITH_SIDE)] == [
        ("attributes.Red_Ink", False), ("Green_Ink", False), ("Blue_Ink", False), ("Dark_Paper", True),
        ("left", False), ("right", False), ("side.Red_Ink", False),
    ]  # fmt: skip
    labels = known(TINTS, torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]]))
    assert toward(labels, domains(TINTS)[1]).values.tolist() == [[0, 1, 0, 1], [0, 1, 0, 0]]
    assert toward(labels, domains(TINTS)[3]).values.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]
    both = known(WITH_SIDE, torch.tensor([[1.0, 0, 0, 1, 1, 0, 0]]))
    target = toward(both, domains(WITH_SIDE)[5])
    assert target.values.tolist() == [[0, 0, 0, 0, 0, 1, 0]]
    assert target.known.tolist() == [[False, True]]


def test_the_discriminator_reads_labels_and_what_is_known_goes_before() -> None:
    data = read("tinted-digits", 16, 3).held_out
    model = perfect()
    assert torch.equal(model.read(data.images).values, data.labels.values)
    model = perfect(WITH_SIDE)
    stated = known(WITH_SIDE, torch.tensor([[0.0, 1, 0, 0, 0, 0, 0]]), [True, False])
    red = torch.nonzero(data.labels.values[:, 0] > 0)[0]
    assert model.complete(data.images[red], stated).values.tolist() == [[0, 1, 0, 0, 1, 0, 0]]


def test_a_group_switches_off_its_others_and_the_change_is_told() -> None:
    split = read("tinted-digits", 16, 3).held_out.at(torch.arange(6))
    done = perfect().apply(split.images, {"Green_Ink": True})
    for image, labels, change in zip(done.images, split.labels.values, done.changes, strict=True):
        was = [*TINTS.fields[0].values][int(labels[:3].argmax())]
        assert change == ({} if was == "Green_Ink" else {was: False, "Green_Ink": True})
        target = labels.clone()
        target[:3] = torch.tensor([0.0, 1, 0])
        seen = perfect().read(image[None]).values[0]
        assert torch.equal(seen, target)


def test_changes_of_several_data_sets_come_one_after_the_other() -> None:
    asked: list[Labels] = []
    model = perfect(WITH_SIDE)
    model.generator.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    image = read("tinted-digits", 16, 3).held_out.images[:1]
    done = model.apply(image, {"Dark_Paper": True, "Green_Ink": True, "side": "right"})
    assert [labels.known.tolist() for labels in asked] == [[[True, False]], [[False, True]]]
    assert done.changes[0]["right"] is True
    assert done.changes[0]["left"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Red_Inkk": True}, r"unknown label 'Red_Inkk': did you mean 'Red_Ink'"),
        ({"Green_Ink": True, "Blue_Ink": True}, "Green_Ink and Blue_Ink given, which exclude each other"),
        ({"left": True, "side": "right"}, "left and right given, which exclude each other"),
        ({"Green_Ink": True, "attributes.Green_Ink": False}, "Green_Ink given as 1 and as 0"),
        ({"left": "0"}, "left=0 given: an image is always of one of left, right"),
        ({"Red_Ink": True}, "label 'Red_Ink' stands in attributes and side: write attributes.Red_Ink"),
        ({"Green_Ink": "yes"}, "Green_Ink=yes given: expected 1 or 0, or one of the fields attributes, side"),
        ({"side": "up"}, "unknown label 'side.up'"),
        ({}, "no label to change given"),
    ],
)
def test_changes_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        perfect(WITH_SIDE if "Red_Inkk" not in changes else TINTS).apply(
            torch.zeros(1, 3, 16, 16, dtype=torch.uint8), changes
        )


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("a=1", {"a": "1"}),
        ("a,b=1,a=0", {"a,b": "1", "a": "0"}),
        ("a=b=1, +x=0", {"a=b": "1", "+x": "0"}),
        ("-y=1,kind.a=1", {"-y": "1", "kind.a": "1"}),
        ("kind=a,b", {"kind": "a,b"}),
        ("kind=a=b,a=1", {"kind": "a=b", "a": "1"}),
        (" lead=1", {" lead": "1"}),
        ("c = 1", {"c": "1"}),
        ("c=2", {"c": "2"}),
    ],
)
def test_changes_name_labels_with_any_letters(text: str, changes: dict[str, str]) -> None:
    values = ("a", "b", "a,b", "a=b", "+x", "-y", " lead")
    model = perfect(LabelSpec((Field("kind", values, exclusive=False),)))
    assert _changes(text, model) == changes


def test_threads_translate_their_own_pictures() -> None:
    model = perfect()
    pictures = [Image.new("RGB", (8, 8), (20 * number, 99, 7)) for number in range(8)]
    alone = [np.asarray(model.translate(one, {"Red_Ink": True})[0]) for one in pictures]
    together = Barrier(8)

    def translated(picture: Image.Image) -> np.ndarray:
        together.wait()
        return np.asarray(model.translate(picture, {"Red_Ink": True})[0])

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert all(map(np.array_equal, alone, pool.map(translated, pictures)))


def test_a_single_picture_its_pixels_or_its_file_is_translated() -> None:
    model, picture = perfect(), Image.effect_noise((9, 7), 50).convert("RGB")
    picture.save("a.png")
    (expected,) = model.translate([picture], {"Red_Ink": True})
    for given in (picture, np.asarray(picture), np.asarray(picture)[None], "a.png", Path("a.png"), [Path("a.png")]):
        (found,) = model.translate(given, {"Red_Ink": True})
        assert np.array_equal(np.asarray(found), np.asarray(expected))
        assert list(model.every_domain(given)[0]) == model.domains


def test_pictures_of_any_size_and_mode_are_translated() -> None:
    split = read("tinted-digits", 16, 3).held_out
    picture = Image.fromarray(split.images[0].permute(1, 2, 0).numpy())
    model = perfect()
    done = model.translate([picture, picture.resize((64, 64), 0), picture.convert("RGBA")], {"Blue_Ink": True})
    assert [one.size for one in done] == [(16, 16)] * 3
    assert np.array_equal(np.asarray(done[0]), np.asarray(done[2]))
    every = model.every_domain([picture])[0]
    assert list(every) == model.domains == ["Red_Ink", "Green_Ink", "Blue_Ink", "Dark_Paper"]
    assert np.array_equal(np.asarray(every["Blue_Ink"]), np.asarray(done[0]))
    wide = [(16, 16), (64, 48), (64, 48), (8, 8), (9, 9), (10, 10)]
    said = fitting(wide, ImageShape(3, 16, 16))
    assert said[0] == "resized 2 images of 64×48, their central square, to 16×16, the size that the run was trained at"
    assert said[3] == "and images of 1 more size"


def test_names_are_kept_and_never_collide() -> None:
    names = ["a.png", "b.jpg", "c/d.jpeg", "e.jpg", "e.bmp", "f.png", "f.jpg"]
    written = ["a.png", "b.png", "c/d.png", "e.jpg.png", "e.bmp.png", "f.png", "f.jpg.png"]
    assert output_names(names) == written
    with pytest.raises(UserError, match="two of the images would be written to 'e.jpg.png'"):
        output_names(["e.jpg", "e.png", "e.jpg.png"])


# ---- evaluating


@pytest.mark.slow
def test_a_perfect_translator_scores_like_real_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = read("tinted-digits", 16, 3)
    real = Real("tinted-digits", "held-out", data, stored(data, "tinted-digits", "train"))

    def compared(model: Translator) -> dict:
        return compare_images(translations_of(model, data.held_out, 0), real, EvaluationOptions(), {})[0].metrics()

    metrics = compared(perfect())
    assert metrics["attribute_accuracy"] == pytest.approx(metrics["real"]["attribute_accuracy"], abs=0.01) == 1
    assert metrics["kept_accuracy"] > 0.99
    assert metrics["content_accuracy"] == pytest.approx(metrics["real"]["content_accuracy"], abs=0.02)
    assert metrics["real"]["content_accuracy"] > 0.9
    for name in ("reconstruction_l1", "identity_l1", "target_mae"):
        assert metrics[name] < 0.01
    assert metrics["fd_classifier"] < metrics["real"]["fd_classifier"]
    assert set(metrics["per_attribute"]) == set(TINTS.fields[0].values)

    off = compared(perfect(wrong=0.2))  # brighter by a tenth of the range, where there is room
    assert 0.04 < off["identity_l1"] < 0.1
    assert 0.04 < off["target_mae"] < 0.1

    class Copies(Tints):
        def forward(self, images: Tensor, labels: Labels) -> Tensor:
            return images

    copied = compared(Translator(Copies(), ReadsTints(TINTS), TINTS, ImageShape(3, 16, 16), "white", 0))
    assert copied["attribute_accuracy"] < 0.02, "only translations that change something count"
    assert copied["kept_accuracy"] > 0.99
    assert copied["identity_l1"] == copied["reconstruction_l1"] == 0

    class Blots(Tints):
        """Makes of every digit the same blot, on the other paper."""

        def forward(self, images: Tensor, labels: Labels) -> Tensor:
            blot = torch.zeros(len(images), 1, 16, 16)
            blot[:, :, 4:12, 4:12] = 255
            values = labels.values.clone()
            values[:, 3] = 1 - values[:, 3]
            return to_float(tint(blot, values))

    spoiled = compared(Translator(Blots(), ReadsTints(TINTS), TINTS, ImageShape(3, 16, 16), "white", 0))
    assert spoiled["content_accuracy"] < 0.25
    assert spoiled["per_attribute"]["Red_Ink"]["kept_accuracy"] < 0.1
    targets = permuted(data.held_out.labels, 0).values.clone()
    blot = torch.zeros(len(targets), 1, 16, 16)
    blot[:, :, 4:12, 4:12] = 255
    own = data.held_out.labels.values.clone()
    own[:, 3] = 1 - own[:, 3]
    far = np.abs(tint(blot, own).numpy().astype(float) - data.held_out.images.numpy()).mean() / 255
    assert spoiled["reconstruction_l1"] == spoiled["identity_l1"] == pytest.approx(far)
    true = []
    for domain in domains(TINTS):
        asked = toward(data.held_out.labels[:], domain)
        index = torch.nonzero((asked.values != data.held_out.labels.values).any(1)).flatten()
        wanted, _ = data.exact["attributes"](index, asked[index])
        true.append(float((data.held_out.images[index].double() - wanted.double()).abs().mean() / 255))
    assert copied["target_mae"] == pytest.approx(np.mean(true))
    scorer = TranslatorScorer(data)
    scores = [scorer.score(model) for model in (perfect(), perfect(wrong=0.2))]
    assert scores[0]["label_agreement"] > 0.99
    assert scores[0]["identity_l1"] < scores[1]["identity_l1"]


def test_permuted_labels_stay_in_their_data_set() -> None:
    spec = BOTH
    values = torch.cat([torch.eye(13)[:5], torch.eye(13)[5:]])
    labels = LabelTable.of(Labels(spec, values, torch.tensor([[True, False]] * 5 + [[False, True]] * 8)))
    mixed = permuted(labels, 0)
    assert torch.equal(mixed.known, labels.known)
    assert not torch.equal(mixed.values, values)
    assert torch.equal(mixed.values[:5].sum(0), values[:5].sum(0))


# ---- the commands


@pytest.fixture(scope="session")
def trained() -> Path:
    """A short run of digits-stargan, and one of two data sets."""
    root = SHARED / "translators"
    with FileLock(SHARED / "translators.lock"):
        for name, source in (("one", "tinted-digits"), ("both", "[tinted-digits, digits]")):
            if not (root / name / "metrics.json").exists():
                package.train_run(load("digits-stargan", [*TINY_TRANSLATOR, f"data.source={source}"]), root / name)
    return root


@pytest.mark.slow
def test_a_resumed_run_ends_like_an_uninterrupted_one(capsys: pytest.CaptureFixture[str]) -> None:
    """While rates fall and data sets take turns."""
    command = [
        "train", "digits-stargan", *TINY_TRANSLATOR, "data.source=[tinted-digits, digits]", "schedule.d_steps=2",
        "schedule.keep_last=5", "--out", "run",
    ]  # fmt: skip
    assert condgan(capsys, *command).code == 0
    whole = weights(Path("run"))
    remove_after(Path("run/checkpoints"), 64)
    done = condgan(capsys, *command)
    assert "resuming run at 64 images" in done.err
    assert weights(Path("run")) == whole


def test_evaluation_gives_what_is_promised(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    metrics = json.loads(condgan(capsys, "evaluate", trained / "one", "--json").out)
    assert {"attribute_accuracy", "kept_accuracy", "fd_classifier"} <= set(metrics["real"]) < set(metrics)
    assert set(metrics["per_attribute"]) == set(TINTS.fields[0].values)
    for row in metrics["per_attribute"].values():
        assert 0 <= row["attribute_accuracy"] <= 1
        assert row["real"]["attribute_accuracy"] > 0.95
    for name in ("reconstruction_l1", "identity_l1", "target_mae"):
        assert 0 < metrics[name] < 1
    both = json.loads(condgan(capsys, "evaluate", trained / "both", "--json").out)
    assert set(both["per_field"]) == {"attributes", "class"}
    row = both["per_field"]["class"]
    assert "attribute_accuracy" in row
    assert set(row["across"]) == {"attribute_accuracy"} <= set(row["real"])
    table = condgan(capsys, "evaluate", trained / "both", "--full").out
    assert "other data sets" in table
    assert "Dark_Paper" in table
    asked = "fd_classifier,precision,copies,label_agreement,attribute_accuracy,identity_l1"
    for name in ("one", "both"):
        found = json.loads(condgan(capsys, "evaluate", trained / name, "--metrics", asked, "--n", 50, "--json").out)
        assert found["about"]["fakes"] == 50
        assert 0 <= found["label_agreement"] <= found["real"]["label_agreement"]
        assert found["fd_classifier"] > 0
        assert set(found["real"]) == {"attribute_accuracy", "label_agreement", "fd_classifier", "precision"}
        assert set(found["per_attribute"]["Red_Ink"]) <= {"attribute_accuracy", "real", "across"}
        assert "kept_accuracy" not in found
    asked = ["evaluate", trained / "one", "--metrics", "identity_l1", "--n", 50, "--json"]
    own, given = (json.loads(condgan(capsys, *asked, *data).out) for data in ([], ["--data", "tinted-digits"]))
    assert own["identity_l1"] == given["identity_l1"]
    refused(condgan(capsys, "evaluate", trained / "one", "--metrics", "ms_ssim"), "these are attributes")
    refused(condgan(capsys, "evaluate", trained / "one", "--metrics", "target_mea"), "did you mean 'target_mae'?")
    refused(condgan(capsys, "evaluate", trained / "one", "--truncation", 1), "options of latents given")
    refused(condgan(capsys, "evaluate", trained / "one", "--data", "digits"), "with the labels that it knows, ")


def test_images_and_folders_are_translated_under_their_names(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    write_image(Path("photos/inner/a.jpg"), 100, (40, 30), "RGB")
    write_image(Path("photos/b.png"), 150, (16, 16), "RGBA")
    Path("photos/notes.txt").write_text("beside them")
    write_image(Path("c.png"), 50)
    done = condgan(
        capsys, "translate", trained / "one", "c.png", "photos", "--set", "Blue_Ink=1,Dark_Paper=0", "--out", "made"
    )
    assert done.code == 0, done.err
    assert sorted(str(p.relative_to("made")) for p in Path("made").rglob("*.png")) == ["b.png", "c.png", "inner/a.png"]
    assert Image.open("made/inner/a.png").size == (16, 16)
    assert "resized 1 image of 40×30, its central square, to 16×16" in done.out
    assert "'photos': 1 file left out: 1 .txt, which are no images by their names" in done.err
    lines = [line.split(":")[0] for line in done.out.splitlines() if ":" in line]
    assert lines == ["c.png", "b.png", "inner/a.jpg"]
    model = package.load_translator(trained / "one")
    again = model.translate([Image.open("c.png")], {"Blue_Ink": True, "Dark_Paper": False})
    assert np.array_equal(np.asarray(again[0]), np.asarray(Image.open("made/c.png")))
    done = condgan(capsys, "translate", trained / "one", "c.png", "--every-domain", "--out", "strips")
    assert done.code == 0, done.err
    assert Image.open("strips/c.png").size[0] > 4 * Image.open("strips/c.png").size[1] / 2


def test_a_held_out_split_is_one_command(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    done = condgan(capsys, "translate", trained / "both", "--held-out", "--set", "class=1", "--out", "made")
    assert done.code == 0, done.err
    data = read(["tinted-digits", "digits"], 16, 3)
    files = sorted(str(path.relative_to("made")) for path in Path("made").rglob("*.png"))
    assert files == sorted(data.held_out.names)
    assert f"wrote {len(files)} images to made" in done.out
    line = next(line for line in done.out.splitlines() if line.startswith(data.held_out.names[-1]))
    digit = int(data.held_out.labels.values[-1, 4:].argmax())
    assert digit > 1
    assert line.endswith(f": +1, −{digit}")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["text.png", "--set", "Blue_Ink=1"], ["'text.png' is no image of a known format"]),
        (["cut.png", "--set", "Blue_Ink=1"], ["'cut.png' is unreadable"]),
        (["nowhere.png", "--set", "Blue_Ink=1"], ["'nowhere.png' does not exist: give an image"]),
        (["empty", "--set", "Blue_Ink=1"], ["'empty' holds no image"]),
        (["c.png", "mixed", "--set", "Blue_Ink=1"], ["'bad.png' of 'mixed' is no image"]),
        (["c.png", "c.png", "--set", "Blue_Ink=1"], ["another image of that name"]),
        (["c.png", "--set", "Blue_Inc=1"], ["unknown label 'Blue_Inc'", "did you mean 'Blue_Ink'?"]),
        (["c.png", "--set", "BLUEINK=1"], ["unknown label 'BLUEINK'", "did you mean 'Blue_Ink'?"]),
        (["c.png", "--set", "Blue_Ink=1,Red_Ink=1"], ["Red_Ink and Blue_Ink given, which exclude each other"]),
        (["c.png", "--set", "Blue_Ink"], ["--set Blue_Ink given: expected LABEL=1 or LABEL=0"]),
        (["c.png", "--set", "Blue_Ink=1,Blue_Ink=0"], ["'Blue_Ink' stands there twice"]),
        (["c.png", "--set", "Blue_Ink=1", "--set", "Red_Ink=1"], ["Red_Ink and Blue_Ink given, which exclude"]),
        (["c.png", "--set", "Blue_Ink=2"], ["Blue_Ink=2 given: expected 1 or 0"]),
        (["c.png", "--set", "Blue_Ink=1,attributes.Blue_Ink=0"], ["Blue_Ink given as 1 and as 0"]),
        (["c.png"], ["neither --set nor --every-domain given"]),
        (["c.png", "--set", "Blue_Ink=1", "--every-domain"], ["expected one of them"]),
        (["--every-domain"], ["neither images nor --held-out given"]),
        (["c.png", "--held-out", "--every-domain"], ["images and --held-out given"]),
        (["c.png", "--every-domain", "--checkpoint", "7"], ["no checkpoint 7"]),
    ],
)
def test_bad_translations_are_one_line_and_write_nothing(
    capsys: pytest.CaptureFixture[str], trained: Path, arguments: list[str], parts: list[str]
) -> None:
    for path in ("c.png", "mixed/good.png"):
        write_image(Path(path))
    Path("text.png").write_text("no image")
    Path("mixed/bad.png").write_text("no image")
    Path("cut.png").write_bytes(Path("c.png").read_bytes()[:200])
    Path("empty").mkdir()
    refused(condgan(capsys, "translate", trained / "one", *arguments, "--out", "made"), *parts)
    assert not Path("made").exists()


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    write_image(Path("photos/a.png"))
    before = Path("photos/a.png").read_bytes()
    command = ["translate", trained / "one", "--set", "Blue_Ink=1"]
    refused(
        condgan(capsys, *command, "photos", "--out", "photos"), "in the data 'photos', which nothing is written into"
    )
    refused(condgan(capsys, *command, "photos/a.png", "--out", "photos"), "'photos/a.png' is one of the images")
    refused(
        condgan(capsys, *command, "photos/a.png", "--out", "photos/a.png"), "'photos/a.png' is a file; give a folder"
    )
    refused(condgan(capsys, *command, "photos/a.png", "--out", "photos/a.png/b"), "'photos/a.png' is a file")
    assert Path("photos/a.png").read_bytes() == before
    write_image(Path("made/other.png"))
    refused(condgan(capsys, *command, "photos", "--out", "made"), "other images are", "'other.png'", "another folder")
    refused(condgan(capsys, *command, "photos", "--out", trained / "one" / "samples"), "which belongs to run")
    refused(condgan(capsys, *command, "photos", "--out", trained / "one"), "which belongs to run")
    assert not Path("made/a.png").exists()
    assert [condgan(capsys, *command, "photos", "--out", "again").code for _ in range(2)] == [0, 0]


def test_a_run_whose_rates_fall_is_not_made_longer(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "digits-stargan", *TINY_TRANSLATOR, "--out", "run"]
    done = condgan(capsys, *command)
    assert "schedule.images=320 schedule.decay=128 --fresh" in done.out
    refused(condgan(capsys, *command, "schedule.images=320"), "schedule.images 160 there and 320 here", "--fresh")


def test_the_other_kind_of_run_is_refused(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    run = trained / "one"
    refused(
        condgan(capsys, "sample", run, "--out", "made"),
        "translates images and has none of its own",
        "condgan translate",
    )
    refused(condgan(capsys, "truncation", run, "--out", "made"), "translates images and has none of its own")
    refused(condgan(capsys, "evaluate", run, "--standing", 2), "options of latents given with run")
    assert condgan(capsys, "train", *TINY, "schedule.images=64").code == 0
    write_image(Path("c.png"))
    refused(
        condgan(capsys, "translate", "runs/digits-acgan", "c.png", "--every-domain", "--out", "made"),
        "run 'runs/digits-acgan' is no translator",
        "condgan sample",
    )


def test_attributes_are_chosen_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["12", "Bright Hat Round"]
    for i in range(12):
        write_image(Path(f"faces/{i}.png"), 60 + 120 * (i % 2))
        lines.append(f"{i}.png {2 * (i % 2) - 1} {1 if i % 3 else -1} -1")
    Path("faces/list_attr.txt").write_text("\n".join(lines))
    arguments = ["train", "digits-stargan", *TINY_TRANSLATOR, "--data", "faces"]
    done = condgan(capsys, *arguments, "--attributes", "Bright, Hat", "--out", "run")
    assert done.code == 0, done.err
    assert package.load_translator("run").domains == ["Bright", "Hat"]
    refused(condgan(capsys, *arguments, "--attributes", "Bright,Hot", "--out", "x"), "'Hot'", "did you mean 'Hat'?")
    assert not Path("x").exists()
    Path("faces/list_attr.txt").write_text("\n".join([*lines[:5], "3.png 1 1", *lines[6:]]))
    refused(condgan(capsys, *arguments, "--out", "x"), "line 6: 2 values given for '3.png', expected 3")


@pytest.mark.slow
def test_digits_are_translated_and_stay_themselves() -> None:
    metrics = package.train_run(load("digits-stargan"), "run")
    assert metrics["attribute_accuracy"] >= 0.95
    assert metrics["content_accuracy"] >= 0.95
    assert metrics["target_mae"] <= 0.06
    assert metrics["identity_l1"] <= 0.06
