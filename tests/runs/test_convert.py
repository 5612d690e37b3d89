"""Published weights: the original layers, stated anew from what is known of them, make the same images as our run.

Spectral norms divide by σ after one power iteration from the stored vector u, which is what the originals do once more
in evaluation. Axes: b images, c channels, h × w pixels.
"""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import condgan
from condgan.labels import Labels
from tests.conftest import write_image
from tests.helpers import condgan as command
from tests.helpers import refused

State = dict[str, Tensor]
RANDOM = torch.Generator()
"""Of the originals' weights."""


def drawn(*shape: int, std: float = 0.1) -> Tensor:
    return std * torch.randn(*shape, generator=RANDOM)


@pytest.fixture(autouse=True)
def _random() -> None:
    RANDOM.manual_seed(11)


def sigma(weight: Tensor, u: Tensor) -> Tensor:
    """The largest singular value as one power iteration tells it, of the weight with a row per entry of its axis 0."""
    matrix = weight.double().flatten(1)
    v = matrix.T @ u.double().flatten()
    v = v / v.norm()
    after = matrix @ v
    return (after / after.norm() @ after).float()


class BigGAN:
    """BigGAN-PyTorch's generators: keys of a state dict, and images of them."""

    def __init__(self, size: int, width: int, multiples: list[int], classes: int, latent: int, shared: int, at: int):
        self.state: State = {}
        self.size, self.latent, self.shared, self.at = size, latent, shared, at
        self.channels = [width * one for one in multiples]
        self.classes = classes

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = weight = drawn(*shape)
        u, matrix = drawn(1, shape[0]), weight.flatten(1)
        for _ in range(2):  # as training leaves it: near the singular vector, not there
            u = F.normalize(F.normalize(u @ matrix) @ matrix.T)
        self.state[f"{name}.u0"], self.state[f"{name}.sv0"] = u, torch.ones(1)
        if bias:
            self.state[f"{name}.bias"] = drawn(shape[0])

    def norm(self, name: str, channels: int, condition: int) -> None:
        self.state[f"{name}.stored_mean"] = drawn(channels)
        self.state[f"{name}.stored_var"] = drawn(channels).abs() + 0.5
        for part in ("gain", "bias"):
            if condition == 0:
                self.state[f"{name}.{part}"] = drawn(channels) + (part == "gain")
            elif self.shared:
                self.layer(f"{name}.{part}", channels, condition, bias=False)
            else:
                self.state[f"{name}.{part}.weight"] = drawn(self.classes, channels)

    def attention(self, name: str, channels: int) -> None:
        for part, shape in {"theta": (channels // 8, channels), "phi": (channels // 8, channels),
                            "g": (channels // 2, channels), "o": (channels, channels // 2)}.items():  # fmt: skip
            self.layer(f"{name}.{part}", *shape, 1, 1, bias=False)
        self.state[f"{name}.gamma"] = torch.tensor(0.7)

    def weight(self, name: str) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return weight / sigma(weight, self.state[f"{name}.u0"]) if f"{name}.u0" in self.state else weight

    def convolved(self, name: str, x: Tensor) -> Tensor:
        weight = self.weight(name)
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def normed(self, name: str, x: Tensor, condition: Tensor | None) -> Tensor:
        mean, variance = self.state[f"{name}.stored_mean"], self.state[f"{name}.stored_var"]
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        if condition is None:
            return x * self.state[f"{name}.gain"][:, None, None] + self.state[f"{name}.bias"][:, None, None]
        gain, bias = (
            condition @ self.weight(f"{name}.{part}").T
            if self.shared
            else self.state[f"{name}.{part}.weight"][condition]
            for part in ("gain", "bias")
        )
        return x * (1 + gain)[..., None, None] + bias[..., None, None]

    def attended(self, name: str, x: Tensor) -> Tensor:
        query = self.convolved(f"{name}.theta", x).flatten(2)
        key = F.max_pool2d(self.convolved(f"{name}.phi", x), 2).flatten(2)
        value = F.max_pool2d(self.convolved(f"{name}.g", x), 2).flatten(2)
        weights = torch.einsum("bcq,bck->bqk", query, key).softmax(2)
        out = torch.einsum("bqk,bck->bcq", weights, value).unflatten(2, x.shape[2:])
        return x + self.state[f"{name}.gamma"] * self.convolved(f"{name}.o", out)

    def image(self, x: Tensor) -> Tensor:
        return torch.tanh(self.convolved("output_layer.2", F.relu(self.normed("output_layer.0", x, None))))


class Plain(BigGAN):
    """BigGAN: a residual block of two 3×3 convolutions for each doubling; with `shared` a hierarchical latent."""

    def __init__(self, *how: int | list[int]) -> None:
        super().__init__(*how)  # pyright: ignore[reportArgumentType]
        slots = len(self.channels) if self.shared else 1
        self.chunk = self.latent // slots
        if self.shared:
            self.state["shared.weight"] = drawn(self.classes, self.shared, std=1)
        self.layer("linear", self.channels[0] * 16, self.chunk)
        for i, (fewer, more) in enumerate(pairwise(self.channels)):
            self.norm(f"blocks.{i}.0.bn1", fewer, self.shared + self.chunk)
            self.norm(f"blocks.{i}.0.bn2", more, self.shared + self.chunk)
            self.layer(f"blocks.{i}.0.conv1", more, fewer, 3, 3)
            self.layer(f"blocks.{i}.0.conv2", more, more, 3, 3)
            self.layer(f"blocks.{i}.0.conv_sc", more, fewer, 1, 1)
            if 8 << i == self.at:
                self.attention(f"blocks.{i}.1", more)
        self.norm("output_layer.0", self.channels[-1], 0)
        self.layer("output_layer.2", 3, self.channels[-1], 3, 3)

    def __call__(self, latent: Tensor, index: Tensor) -> Tensor:
        first, *parts = latent.split(self.chunk, 1)
        x = (first @ self.weight("linear").T + self.state["linear.bias"]).unflatten(1, (-1, 4, 4))
        for i in range(len(self.channels) - 1):
            condition = torch.cat([self.state["shared.weight"][index], parts[i]], 1) if self.shared else index
            name = f"blocks.{i}.0"
            hidden = F.interpolate(F.relu(self.normed(f"{name}.bn1", x, condition)), scale_factor=2)
            hidden = F.relu(self.normed(f"{name}.bn2", self.convolved(f"{name}.conv1", hidden), condition))
            x = self.convolved(f"{name}.conv_sc", F.interpolate(x, scale_factor=2))
            x = x + self.convolved(f"{name}.conv2", hidden)
            if 8 << i == self.at:
                x = self.attended(f"blocks.{i}.1", x)
        return self.image(x)


class Deep(BigGAN):
    """BigGAN-deep: two bottlenecks of four convolutions for each doubling; the latent comes before the label."""

    def __init__(self, *how: int | list[int]) -> None:
        super().__init__(*how)  # pyright: ignore[reportArgumentType]
        condition = self.latent + self.shared
        self.state["shared.weight"] = drawn(self.classes, self.shared, std=1)
        self.layer("linear", self.channels[0] * 16, condition)
        for i, (fewer, more) in enumerate(pairwise(self.channels)):
            for block, leaving in ((2 * i, fewer), (2 * i + 1, more)):
                hidden = fewer // 4
                for n, channels in enumerate((fewer, hidden, hidden, hidden), 1):
                    self.norm(f"blocks.{block}.0.bn{n}", channels, condition)
                for n, (ins, outs, size) in enumerate(
                    ((fewer, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, leaving, 1)), 1
                ):
                    self.layer(f"blocks.{block}.0.conv{n}", outs, ins, size, size)
            if 8 << i == self.at:
                self.attention(f"blocks.{2 * i + 1}.1", more)
        self.norm("output_layer.0", self.channels[-1], 0)
        self.layer("output_layer.2", 3, self.channels[-1], 3, 3)

    def __call__(self, latent: Tensor, index: Tensor) -> Tensor:
        condition = torch.cat([latent, self.state["shared.weight"][index]], 1)
        x = (condition @ self.weight("linear").T + self.state["linear.bias"]).unflatten(1, (-1, 4, 4))
        for block in range(2 * len(self.channels) - 2):
            name, hidden = f"blocks.{block}.0", x
            for n in (1, 2, 3, 4):
                hidden = F.relu(self.normed(f"{name}.bn{n}", hidden, condition))
                if n == 2 and block % 2:
                    hidden = F.interpolate(hidden, scale_factor=2)
                hidden = self.convolved(f"{name}.conv{n}", hidden)
            x = x[:, : hidden.shape[1]]
            x = hidden + (F.interpolate(x, scale_factor=2) if block % 2 else x)
            if f"blocks.{block}.1.gamma" in self.state:
                x = self.attended(f"blocks.{block}.1", x)
        return self.image(x)


class SAGAN:
    """heykeetae's generator at 64 pixels: its spectral norms take a row per channel that enters."""

    latent = 128

    def __init__(self) -> None:
        self.state: State = {}
        channels = [self.latent, 512, 256, 128, 64]
        for n, (fewer, more) in enumerate(pairwise(channels), 1):
            layer = f"l{n}.0.module"
            self.state |= {f"{layer}.weight_bar": drawn(fewer, more, 4, 4), f"{layer}.bias": drawn(more)}
            self.state |= {f"{layer}.weight_u": drawn(fewer), f"{layer}.weight_v": drawn(more * 16)}
            self.state |= {f"l{n}.1.{part}": drawn(more) + (part == "weight") for part in ("weight", "bias")}
            self.state |= {f"l{n}.1.running_mean": drawn(more), f"l{n}.1.running_var": drawn(more).abs() + 0.5}
        for n, channels_there in ((1, 128), (2, 64)):
            for part, leaving in (
                ("query", channels_there // 8),
                ("key", channels_there // 8),
                ("value", channels_there),
            ):
                self.state[f"attn{n}.{part}_conv.weight"] = drawn(leaving, channels_there, 1, 1)
                self.state[f"attn{n}.{part}_conv.bias"] = drawn(leaving)
            self.state[f"attn{n}.gamma"] = torch.tensor([0.7])
        self.state |= {"last.0.weight": drawn(64, 3, 4, 4), "last.0.bias": drawn(3)}

    def __call__(self, latent: Tensor, _index: Tensor) -> Tensor:
        state, x = self.state, latent[..., None, None]
        for n in (1, 2, 3, 4):
            layer = f"l{n}.0.module"
            weight = state[f"{layer}.weight_bar"] / sigma(state[f"{layer}.weight_bar"], state[f"{layer}.weight_u"])
            x = F.conv_transpose2d(x, weight, state[f"{layer}.bias"], *((1, 0) if n == 1 else (2, 1)))
            mean, variance = state[f"l{n}.1.running_mean"], state[f"l{n}.1.running_var"]
            x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
            x = F.relu(x * state[f"l{n}.1.weight"][:, None, None] + state[f"l{n}.1.bias"][:, None, None])
            x = self.attended(f"attn{n - 2}", x) if n > 2 else x
        return torch.tanh(F.conv_transpose2d(x, state["last.0.weight"], state["last.0.bias"], 2, 1))

    def attended(self, name: str, x: Tensor) -> Tensor:
        query, key, value = (
            F.conv2d(x, self.state[f"{name}.{part}_conv.weight"], self.state[f"{name}.{part}_conv.bias"]).flatten(2)
            for part in ("query", "key", "value")
        )
        weights = torch.einsum("bcq,bck->bqk", query, key).softmax(2)
        return x + self.state[f"{name}.gamma"] * torch.einsum("bqk,bck->bcq", weights, value).unflatten(2, x.shape[2:])


class StarGAN:
    """yunjey's pair: convolutions without bias, norms of each image and channel; patches and labels at the end."""

    def __init__(self, size: int, width: int, blocks: int, depth: int, labels: int) -> None:
        self.generator: State = {}
        self.discriminator: State = {}
        self.blocks, self.depth, self.labels = blocks, depth, labels
        self.put("main.0", (width, 3 + labels, 7, 7), "main.1", width)
        self.put("main.3", (2 * width, width, 4, 4), "main.4", 2 * width)
        self.put("main.6", (4 * width, 2 * width, 4, 4), "main.7", 4 * width)
        for block in range(9, 9 + blocks):
            for conv, norm in ((0, 1), (3, 4)):
                shape = (4 * width, 4 * width, 3, 3)
                self.put(f"main.{block}.main.{conv}", shape, f"main.{block}.main.{norm}", 4 * width)
        self.up = 9 + blocks
        self.put(f"main.{self.up}", (4 * width, 2 * width, 4, 4), f"main.{self.up + 1}", 2 * width)
        self.put(f"main.{self.up + 3}", (2 * width, width, 4, 4), f"main.{self.up + 4}", width)
        self.generator[f"main.{self.up + 6}.weight"] = drawn(3, width, 7, 7)
        channels = [3, *(width << i for i in range(depth))]
        for i, (fewer, more) in enumerate(pairwise(channels)):
            self.discriminator |= {f"main.{2 * i}.weight": drawn(more, fewer, 4, 4), f"main.{2 * i}.bias": drawn(more)}
        self.discriminator["conv1.weight"] = drawn(1, channels[-1], 3, 3)
        self.discriminator["conv2.weight"] = drawn(labels, channels[-1], size >> depth, size >> depth)

    def put(self, conv: str, shape: tuple[int, ...], norm: str, channels: int) -> None:
        """A convolution and its norm, with averages that the original keeps and never uses."""
        self.generator |= {f"{conv}.weight": drawn(*shape), f"{norm}.weight": drawn(channels) + 1}
        self.generator |= {f"{norm}.bias": drawn(channels), f"{norm}.running_mean": drawn(channels)}
        self.generator |= {f"{norm}.running_var": drawn(channels), f"{norm}.num_batches_tracked": torch.tensor(7)}

    def normed(self, name: str, x: Tensor) -> Tensor:
        centered = x - x.mean((2, 3), keepdim=True)
        x = centered / (centered.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        return x * self.generator[f"{name}.weight"][:, None, None] + self.generator[f"{name}.bias"][:, None, None]

    def translated(self, images: Tensor, values: Tensor) -> Tensor:
        state = self.generator
        x = torch.cat([images, values[..., None, None].expand(-1, -1, *images.shape[2:])], 1)
        x = F.relu(self.normed("main.1", F.conv2d(x, state["main.0.weight"], padding=3)))
        for conv, norm in ((3, 4), (6, 7)):
            x = F.relu(self.normed(f"main.{norm}", F.conv2d(x, state[f"main.{conv}.weight"], stride=2, padding=1)))
        for block in range(9, 9 + self.blocks):
            name = f"main.{block}.main"
            hidden = F.relu(self.normed(f"{name}.1", F.conv2d(x, state[f"{name}.0.weight"], padding=1)))
            x = x + self.normed(f"{name}.4", F.conv2d(hidden, state[f"{name}.3.weight"], padding=1))
        for conv in (self.up, self.up + 3):
            up = F.conv_transpose2d(x, state[f"main.{conv}.weight"], stride=2, padding=1)
            x = F.relu(self.normed(f"main.{conv + 1}", up))
        return torch.tanh(F.conv2d(x, state[f"main.{self.up + 6}.weight"], padding=3))

    def judged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        state, x = self.discriminator, images
        for i in range(self.depth):
            x = F.conv2d(x, state[f"main.{2 * i}.weight"], state[f"main.{2 * i}.bias"], stride=2, padding=1)
            x = F.leaky_relu(x, 0.01)
        return F.conv2d(x, state["conv1.weight"], padding=1), F.conv2d(x, state["conv2.weight"]).flatten(1)


CIFAR = ["generator.width=4", "generator.latent_dim=7", "generator.attention=[8]"]
GENERATORS: dict[str, tuple[Callable, list[str]]] = {
    "biggan-imagenet128": (
        lambda: Plain(128, 2, [16, 16, 8, 4, 2, 1], 5, 24, 6, 32),
        ["generator.width=2", "generator.latent_dim=24", "generator.shared_dim=6", "generator.attention=[32]"],
    ),
    "biggan-imagenet256": (
        lambda: Plain(256, 2, [16, 16, 8, 8, 4, 2, 1], 5, 14, 3, 16),
        ["generator.width=2", "generator.latent_dim=14", "generator.shared_dim=3", "generator.attention=[16]"],
    ),
    "biggan-cifar10": (
        lambda: Plain(32, 4, [4, 4, 4, 4], 5, 7, 0, 8),
        CIFAR,
    ),
    "biggan-deep-imagenet128": (
        lambda: Deep(128, 4, [16, 16, 8, 4, 2, 1], 5, 9, 6, 16),
        ["generator.width=4", "generator.latent_dim=9", "generator.shared_dim=6", "generator.attention=[16]"],
    ),
    "sagan-celeba64": (SAGAN, ["data.classes=1"]),
}
SMALL = ["backbone.width=2", "backbone.attention=[]", "data.classes=5"]


@pytest.mark.parametrize("recipe", GENERATORS)
def test_a_converted_generator_makes_the_originals_images(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    original, settings = GENERATORS[recipe][0](), GENERATORS[recipe][1]
    torch.save(original.state, "G_ema.pth")
    done = command(capsys, "convert", "G_ema.pth", "--as", recipe, *SMALL, *settings, "--out", "run")
    assert done.code == 0, done.err
    model = condgan.load("run", precision="float32")
    index = torch.tensor([3, 1]) % len(model.classes)
    latents = torch.randn(2, original.latent)
    with torch.no_grad():
        made = model.generator(latents, Labels.from_index(model.spec, index))
        expected = original(latents, index)
    assert expected.std() > 0.02, "images that are not one color, which any network makes"
    assert (expected[0] - expected[1]).abs().max() > 0.005
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    assert model.images is None, "nobody knows"
    assert condgan.Run("run").sheet(model.classes[-1], 2).mode == "RGB"


def test_a_converted_translator_is_the_originals_pair(capsys: pytest.CaptureFixture[str]) -> None:
    original = StarGAN(size=32, width=4, blocks=2, depth=3, labels=5)
    torch.save(original.generator, "200000-G.ckpt", _use_new_zipfile_serialization=False)
    torch.save(original.discriminator, "200000-D.ckpt", _use_new_zipfile_serialization=False)
    settings = ["data.size=32", "generator.width=4", "generator.blocks=2", "backbone.width=4", "backbone.depth=3"]
    pair = ["200000-G.ckpt", "200000-D.ckpt"]
    done = command(capsys, "convert", *pair, "--as", "celeba-stargan", *settings, "--out", "run")
    assert done.code == 0, done.err
    model = condgan.load_translator("run", precision="float32")
    assert model.domains == ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
    images, values = torch.rand(3, 3, 32, 32) * 2 - 1, torch.eye(5)[:3] + torch.eye(5)[3]
    labels = Labels(model.spec, values, torch.ones(3, 1, dtype=torch.bool))
    with torch.no_grad():
        made, said = model.generator(images, labels), model.discriminator(images, labels)
    score, logits = original.judged(images)
    torch.testing.assert_close(made, original.translated(images, values), atol=1e-5, rtol=0)
    torch.testing.assert_close(said.score, score[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(said.logits, logits, atol=1e-5, rtol=1e-5)
    write_image(Path("face.png"), size=(40, 50), mode="RGB")
    assert command(capsys, "translate", "run", "face.png", "--every-domain", "--out", "strips").code == 0
    assert Image.open("strips/face.png").width > 6 * 32


def test_a_converted_run_has_classes_by_name_and_is_compared(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Plain(32, 4, [4, 4, 4, 4], 3, 7, 0, 8).state, "G_ema.pth")
    convert = ["convert", "G_ema.pth", "--as", "biggan-cifar10", *CIFAR, *SMALL, "data.classes=3"]
    assert command(capsys, *convert, "--out", "nameless").code == 0
    assert condgan.load("nameless").classes == ("0", "1", "2")
    Path("names.txt").write_text("apple\nbanana\ncherry\n")
    assert command(capsys, *convert, "--classes", "names.txt", "--out", "run").code == 0
    assert condgan.load("run").classes == ("apple", "banana", "cherry")
    assert np.array_equal(condgan.load("nameless").sample("1", 2), condgan.load("run").sample("banana", 2))
    refused(command(capsys, *convert, "--out", "run"), "--out run given, which is there", "give a new directory")
    results = condgan.evaluate("run", photos, condgan.EvaluationOptions(metrics=["label_agreement"]))
    assert 0 <= results["label_agreement"] <= 1
    assert results["about"]["fakes"] == 3


def test_an_interrupted_conversion_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(Plain(32, 4, [4, 4, 4, 4], 3, 7, 0, 8).state, "G_ema.pth")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("condgan.runs.convert.save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        condgan.convert("G_ema.pth", "biggan-cifar10", "run", [*CIFAR, *SMALL, "data.classes=3"])
    assert [path.name for path in Path().iterdir()] == ["G_ema.pth"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: state | {"linear.weight": torch.zeros(3, 2)}, "linear.weight is [3, 2] there and [256, 7] here"),
        (lambda state: state | {"blocks.9.0.conv1.weight": torch.zeros(2)}, "blocks.9.0.conv1.weight is [2] there"),
        (lambda state: {name: one for name, one in state.items() if name != "linear.bias"}, "linear.bias is absent"),
        (lambda state: state | {"linear.bias": torch.full((256,), torch.nan)}, "linear.bias holds values"),
        (lambda state: state | {"config": {"G_ch": 64}}, "it holds no tensor as config"),
        (lambda state: state | {"linear.bias": torch.zeros(1).expand(256)}, "it holds no tensor as linear.bias"),
        (lambda state: state | {"config": subprocess.run}, "it is no state dict"),
        (lambda state: [*state.values()], "it holds no tensors by name"),
    ],
)  # fmt: skip
def test_other_weights_are_refused_in_one_line(spoil: Callable, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(spoil(Plain(32, 4, [4, 4, 4, 4], 5, 7, 0, 8).state), "G_ema.pth")
    settings = [*CIFAR, *SMALL]
    done = command(capsys, "convert", "G_ema.pth", "--as", "biggan-cifar10", *settings, "--out", "run")
    refused(done, "weights 'G_ema.pth' cannot be read", said, "expected weights of BigGAN-PyTorch's", "KEY=VALUE")
    assert not Path("run").exists()


def test_what_cannot_be_converted_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({}, "a.pth")
    Path("two.txt").write_text("a\nb\n")
    convert = ["convert", "a.pth", "--out", "run"]
    refused(
        command(capsys, *convert, "--as", "digits-acgan"), "whose generator is 'acgan'", "stargan (StarGAN (yunjey))"
    )
    refused(command(capsys, *convert, "--as", "biggan"), "unknown recipe 'biggan': did you mean")
    refused(command(capsys, *convert, "--as", "celeba-stargan"), "1 files of weights given", "the discriminator's")
    refused(command(capsys, *convert, "b.pth", "--as", "biggan-cifar10"), "2 files of weights given", "expected one")
    refused(command(capsys, "convert", "--as", "biggan-cifar10", "--out", "run"), "no file of weights given")
    refused(
        command(capsys, *convert, "--as", "any-biggan"), "does not say how many classes there are: add data.classes"
    )
    both = ["--classes", "two.txt", "--as", "biggan-cifar10"]
    refused(command(capsys, *convert, *both), "2 names of classes given", "add data.classes=2")
    Path("none.txt").write_text("\n")
    refused(command(capsys, *convert, "--classes", "none.txt", "--as", "any-biggan"), "holds none: give one a line")
    refused(command(capsys, "convert", "b.pth", "--out", "run", "--as", "biggan-cifar10", *SMALL), "b.pth")
    assert not Path("run").exists()


def test_nothing_in_a_file_of_weights_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle that writes a file when it is read as a pickle, and does not here."""
    script = f"""
import pickle
class Bad:
    def __reduce__(self):
        return open, ({str(tmp_path / "written")!r}, "w")
pickle.dump({{"linear.weight": Bad()}}, open({str(tmp_path / "bad.pth")!r}, "wb"))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    done = command(capsys, "convert", tmp_path / "bad.pth", "--as", "biggan-cifar10", *SMALL, "--out", "run")
    refused(done, "bad.pth' cannot be read (it is no state dict")
    assert not (tmp_path / "written").exists()
