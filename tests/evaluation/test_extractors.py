import hashlib
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision import models

from benchmarks.evaluation import seeded
from condgan.evaluation.extractors import EXTRACTED_AT_ONCE, Extractor, find_extractor, state_hash, timm_models
from condgan.evaluation.extractors.inception import _interpolation
from condgan.utils.errors import UserError
from tests.conftest import write_image

URL = "torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3"
UNREACHABLE = "http://127.0.0.1:9/weights-6726825d.pth"


def noise(count: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    drawing = torch.Generator().manual_seed(count + channels)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=drawing)


def close(a: Tensor, b: Tensor, share: float = 1e-5) -> bool:
    return float((a - b).norm() / b.norm()) <= share


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def published(path: Path) -> Path:
    """The file under a name with its hash, as torch hub has them."""
    return path.rename(path.with_name(f"{path.stem}-{digest(path)[:8]}.pth"))


def message(name: str, weights: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        find_extractor(name, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    network = seeded(models.resnet18())
    path = tmp_path_factory.mktemp("resnet") / "resnet.pth"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.fixture(scope="session")
def inception(fidelity: tuple[nn.Module, Path]) -> Extractor:
    return find_extractor("inception", fidelity[1])


@pytest.mark.parametrize("size", [(32, 32), (310, 25)])
def test_inception_is_that_of_torch_fidelity(
    fidelity: tuple[nn.Module, Path], inception: Extractor, size: tuple[int, int]
) -> None:
    images = noise(3, 3, *size)
    features, logits = fidelity[0](images)
    observed = inception(images)
    assert observed.features.shape == (3, 2048)
    assert close(observed.features, features)
    assert observed.logits is not None
    assert close(observed.logits, logits)
    assert not close(features[:1], features[1:2], 1e-2)


def test_inception_sees_gray_images_in_three_channels_and_says_what_it_is_of(
    fidelity: tuple[nn.Module, Path], inception: Extractor
) -> None:
    gray = noise(1, 1)
    assert torch.equal(inception(gray).features, inception(gray.repeat(1, 3, 1, 1)).features)
    with pytest.raises(UserError, match=r"images have 4 channels, extractor 'inception' takes 1 or 3.*classifier"):
        inception(noise(1, 4))
    assert inception.sha256 == digest(fidelity[1])
    assert not inception.known
    assert not inception.network.training


@given(st.integers(1, 700))
@settings(max_examples=40)
def test_interpolation_is_that_of_tensorflow(size: int) -> None:
    columns = torch.rand(1, 1, size, 2) * 255
    wanted = interpolate_bilinear_2d_like_tensorflow1x(columns, size=(299, 2), align_corners=False)
    assert torch.allclose(_interpolation(size) @ columns, wanted, atol=1e-4)


def test_weights_of_inception_are_downloaded_once_and_checked_ever_after(
    fidelity: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    zeros = {
        key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in fidelity[0].state_dict().items()
    }
    torch.save(zeros, tmp_path / "zeros.pth")
    source = published(tmp_path / "zeros.pth")
    monkeypatch.setattr(URL, source.as_uri())
    assert find_extractor("inception").known
    kept = tmp_path / "cache" / "weights" / source.name
    assert [*kept.parent.iterdir()] == [kept]
    kept.write_bytes(kept.read_bytes()[:-1000])
    said = message("inception")
    assert all(one in said for one in (str(kept), digest(kept)[:8], source.stem[-8:], "damaged", "remove"))


def test_a_download_of_other_content_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "weights-6726825d.pth"
    source.write_bytes(b"other")
    monkeypatch.setattr(URL, source.as_uri())
    said = message("inception")
    assert "6726825d" in said
    assert digest(source)[:8] in said
    assert not [*(tmp_path / "cache" / "weights").iterdir()]


def test_without_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(URL, UNREACHABLE)
    said = message("inception")
    wanted = tmp_path / "cache" / "weights" / "weights-6726825d.pth"
    assert all(one in said for one in (UNREACHABLE, str(wanted), "--weights PATH", "--extractor classifier"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    said = message("resnet18")
    assert all(one in said for one in ("resnet18-f37072fd.pth", str(tmp_path / "hub"), "--weights PATH"))


def unreachable(*_args: object, **_options: object) -> None:
    raise ConnectionRefusedError("refused")


class Hostile:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_weights_that_are_none_are_told_in_a_line(
    resnet: tuple[nn.Module, Path], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    state, data = resnet[0].state_dict(), resnet[1].read_bytes()
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "truncated.pth").write_bytes(data[: len(data) // 2])
    (tmp_path / "truncated.safetensors").write_bytes(data[:1000])
    (tmp_path / "empty.pth").write_bytes(b"")
    write_image(tmp_path / "image.png")
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps({"weight": Hostile()}))
    torch.save({"weight": Hostile()}, tmp_path / "hostile-zip.pth")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "nested.pth")
    torch.save(resnet[0], tmp_path / "network.pth")
    torch.save({3: torch.zeros(3)}, tmp_path / "numbered.pth")
    for name, said in (
        ("missing.pth", "No such file"), ("folder.pth", "Is a directory"), ("truncated.pth", "no state dict"),
        ("truncated.safetensors", "no state dict"), ("empty.pth", "no state dict"), ("image.png", "no state dict"),
        ("hostile.pth", "no state dict"), ("hostile-zip.pth", "no state dict"), ("nested.pth", "no state dict"),
        ("network.pth", "no state dict"), ("numbered.pth", "no state dict"),
    ):  # fmt: skip
        told = message("resnet18", tmp_path / name)
        assert said in told
        assert str(tmp_path / name) in told
    assert not Path("executed").exists()
    assert not recwarn


def test_weights_of_another_network_are_told_in_a_line(resnet: tuple[nn.Module, Path], tmp_path: Path) -> None:
    assert "do not fit 'inception' (Missing key(s)" in message("inception", resnet[1])
    state = resnet[0].state_dict()
    torch.save({**state, "fc.weight": torch.zeros(7, 512)}, tmp_path / "seven.pth")
    assert "do not fit 'resnet18' (size mismatch for fc.weight" in message("resnet18", tmp_path / "seven.pth")
    torch.save({**state, "more": torch.zeros(7)}, tmp_path / "more.pth")
    assert "do not fit 'resnet18' (Unexpected key(s)" in message("resnet18", tmp_path / "more.pth")
    torch.save(state, tmp_path / "resnet18-00112233.pth")
    told = message("resnet18", tmp_path / "resnet18-00112233.pth")
    assert "00112233" in told
    assert digest(tmp_path / "resnet18-00112233.pth")[:8] in told


def test_torchvision_models_are_themselves(resnet: tuple[nn.Module, Path]) -> None:
    network, path = resnet
    extractor, images = find_extractor("resnet18", path), noise(3, 3, 40, 60)
    prepared = models.ResNet18_Weights.DEFAULT.transforms()(images)
    with torch.no_grad():
        features = nn.Sequential(*[*network.children()][:-1], nn.Flatten())(prepared)
        logits = network(prepared)
    observed = extractor(images)
    assert close(observed.features, features)
    assert observed.logits is not None
    assert close(observed.logits, logits)
    assert (extractor.sha256, extractor.known) == (digest(path), False)
    assert extractor.resize == "bilinear antialiased, shorter side to 256, center 224 × 224"
    assert not observed.features.requires_grad


def test_safetensors_are_weights_too(resnet: tuple[nn.Module, Path], tmp_path: Path) -> None:
    save_file(resnet[0].state_dict(), tmp_path / "resnet.safetensors")
    one, other = (find_extractor("resnet18", path) for path in (resnet[1], tmp_path / "resnet.safetensors"))
    assert state_hash(one.network) == state_hash(other.network)
    assert one.sha256 != other.sha256


def test_googlenet_is_built_as_torchvision_builds_it_for_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its published weights come with another preparation of images, and classifiers that are used in training."""
    state = seeded(models.googlenet(init_weights=False)).state_dict()
    torch.save(state, tmp_path / "googlenet.pth")
    weights = models.GoogLeNet_Weights.DEFAULT
    monkeypatch.setattr(models.GoogLeNet_Weights, "get_state_dict", lambda self, **_: state)
    plain, images = models.googlenet(weights=weights).eval(), noise(2)
    with torch.no_grad():
        wanted = plain(weights.transforms()(images))
    logits = find_extractor("googlenet", tmp_path / "googlenet.pth")(images).logits
    assert logits is not None
    assert close(logits, wanted)


def test_densenets_under_their_published_names(tmp_path: Path) -> None:
    network = models.densenet121()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for key, v in network.state_dict().items()}
    assert old.keys() != network.state_dict().keys()
    torch.save(old, tmp_path / "densenet.pth")
    extractor = find_extractor("densenet121", tmp_path / "densenet.pth")
    assert torch.equal(
        extractor.network.get_parameter("body.features.denseblock4.denselayer16.norm1.weight"),
        network.get_parameter("features.denseblock4.denselayer16.norm1.weight"),
    )


def test_finding_draws_nothing_from_the_global_generator(resnet: tuple[nn.Module, Path]) -> None:
    before = torch.get_rng_state()
    find_extractor("resnet18", resnet[1])
    assert torch.equal(torch.get_rng_state(), before)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.third = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.third(self.second(self.first(images.float()))).flatten(1)


def test_maps_are_the_last_at_each_resolution() -> None:
    network, images = seeded(Small()), noise(2, 3, 8, 12)
    maps = Extractor("small", state_hash(network), "none", network).maps(images)
    first = network.first(images.float())
    second = network.second(first)
    wanted = (first, second, network.third(second))
    assert [tuple(one.shape) for one in maps] == [(2, 4, 8, 12), (2, 6, 4, 6), (2, 6, 2, 3)]
    assert all(torch.equal(one, other) for one, other in zip(maps, wanted, strict=True))
    assert not network.third._forward_hooks


def test_maps_of_known_networks(resnet: tuple[nn.Module, Path], inception: Extractor) -> None:
    images = noise(1)
    extractor = find_extractor("resnet18", resnet[1])
    shapes = [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7), (512, 1)]
    assert [(one.shape[1], one.shape[2]) for one in extractor.maps(images)] == shapes
    assert torch.equal(extractor.maps(images)[-1].flatten(1), extractor(images).features)
    maps = inception.maps(images)
    assert [one.shape[2] for one in maps] == [149, 147, 73, 71, 35, 17, 8, 1]
    assert all((one >= 0).all() for one in maps[:2])


def test_images_are_seen_in_batches() -> None:
    network, images = seeded(Small()).requires_grad_(False), noise(2 * EXTRACTED_AT_ONCE + 3, 3, 8, 8)
    features = Extractor("small", "", "none", network)(images).features
    assert close(features, network(images))


OWN = """
import torch
from torch import nn

class Mean(nn.Module):
    def __init__(self, weights=None):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()) if weights is None else torch.load(weights, weights_only=True))
    def forward(self, images):
        return self.scale * images.double().mean((2, 3))

class Both(Mean):
    def forward(self, images):
        return super().forward(images), images.float().amax((2, 3))

class None_(Mean):
    def forward(self, images):
        return super().forward(images), None

class Maps(nn.Identity):
    def __init__(self):
        super().__init__()

class Three(Mean):
    def forward(self, images):
        return (super().forward(images),) * 3

class Pooled(Mean):
    def forward(self, images):
        return super().forward(images).mean(0, keepdim=True)

def number():
    return 3

def demanding(path):
    return Mean()

constant = 7
"""


def test_a_network_of_ones_own_may_look_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_extractors.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "own_extractors", raising=False)
    paths, images = [*sys.path], noise(4, 3)
    extractor = find_extractor("own_extractors:Mean")
    observed = extractor(images)
    assert sys.path == paths
    assert observed.logits is None
    assert observed.features.dtype == torch.float32
    assert torch.allclose(observed.features, images.float().mean((2, 3)))
    assert (extractor.name, len(extractor.sha256)) == ("own_extractors:Mean", 64)
    assert torch.allclose(extractor(images[:, :1]).features, images[:, :1].float().mean((2, 3)).expand(-1, 3))
    assert torch.equal(find_extractor("own_extractors:Both")(images).logits, images.float().amax((2, 3)))
    assert find_extractor("own_extractors:None_")(images).logits is None
    torch.save(torch.tensor(2.0), "two.pth")
    twice = find_extractor("own_extractors:Mean", Path("two.pth"))
    assert torch.allclose(twice(images).features, 2 * observed.features)
    assert twice.sha256 != extractor.sha256
    for name, said in (
        ("own_extractors:Missing", "has no 'Missing'"), ("no_such_module:Mean", "No module named 'no_such_module'"),
        ("own_extractors:number", "makes an object of int, expected a torch.nn.Module"),
        ("own_extractors:demanding", "missing a required argument: 'path'"),
        ("own_extractors:constant", "not a callable"),
    ):  # fmt: skip
        assert said in message(name)
    assert "weights" in message("own_extractors:Maps", Path("two.pth"))
    for name in ("Maps", "Three", "Pooled"):
        with pytest.raises(
            UserError, match=rf"'own_extractors:{name}' returns a.* for 4 images, expected features b × d"
        ):
            find_extractor(f"own_extractors:{name}")(images)


def test_unknown_names_get_a_suggestion() -> None:
    for given_, meant in (("incepton", "inception"), ("dino2", "dinov2"), ("resnet81", "resnet18")):
        assert f"did you mean '{meant}'?" in message(given_)
    assert "unknown extractor './own.py:make'" in message("./own.py:make")


@given(st.integers(0, 3), st.integers(0, 255))
def test_the_hash_of_a_state_tells_every_difference(place: int, value: int) -> None:
    def module(name: str, values: Tensor) -> nn.Module:
        one = nn.Module()
        one.register_buffer(name, values)
        return one

    values = torch.tensor([1, 2, 3, 4], dtype=torch.uint8)
    changed = values.clone()
    changed[place] = value
    known = state_hash(module("weight", values))
    assert known == state_hash(module("weight", values.clone()))
    assert (state_hash(module("weight", changed)) == known) == torch.equal(changed, values)
    for other in (
        module("bias", values),
        module("weight", values.view(2, 2)),
        module("weight", values.view(torch.int8)),
    ):
        assert state_hash(other) != known


# timm


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("dinov2", "timm:resnet18"):
        assert "-e '.[timm]'" in message(name)


def test_models_of_timm_are_themselves(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = seeded(timm.create_model("test_resnet"))
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    extractor, images = find_extractor("timm:test_resnet", tmp_path / "resnet.pth"), noise(2, 3, 20, 30)
    config = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[one])[:, None, None] for one in ("mean", "std"))
    resized = nn.functional.interpolate(
        images.float(), config["input_size"][1:], mode=config["interpolation"], antialias=True
    )
    with torch.no_grad():
        prepared = (resized.round().clamp(0, 255) / 255 - mean) / std
        features, logits = network.forward_head(network.forward_features(prepared), pre_logits=True), network(prepared)
    observed = extractor(images)
    assert close(observed.features, features)
    assert observed.logits is not None
    assert close(observed.logits, logits)
    assert extractor.resize == f"{config['interpolation']} antialiased, to 160 × 160"
    assert extractor.sha256 == digest(tmp_path / "resnet.pth")
    assert "did you mean 'test_resnet'?" in message("timm:test_resnt")
    assert "do not fit 'timm:test_vit' (" in message("timm:test_vit", tmp_path / "resnet.pth")


@pytest.mark.parametrize("grid", [(16, 16), (5, 9)])
def test_places_are_resampled_as_dinov2s_authors_do(grid: tuple[int, int]) -> None:
    """Cubic convolution (Keys 1981, a = −¾) at (i + ½) · side / (grid + 0.1) − ½, with the borders repeated."""
    side, trained = 7, np.random.default_rng(0).normal(size=(50, 3))

    def weights(places: int) -> np.ndarray:
        matrix = np.zeros((places, side))
        for i in range(places):
            at = (i + 0.5) * side / (places + 0.1) - 0.5
            for j in range(math.floor(at) - 1, math.floor(at) + 3):
                x, a = abs(at - j), -0.75
                near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
                matrix[i, min(max(j, 0), side - 1)] += near if x <= 1 else far
        return matrix

    wanted = np.einsum("yj,xi,jid->yxd", weights(grid[0]), weights(grid[1]), trained[1:].reshape(side, side, 3))
    found = timm_models._positions(torch.tensor(trained[None]), *grid)[0].numpy()
    np.testing.assert_allclose(found[1:], wanted.reshape(-1, 3), atol=1e-5)
    np.testing.assert_array_equal(found[0], trained[0])


def test_dinov2_is_timms_at_224_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(timm_models, "DINOV2", "test_vit")
    network = timm.create_model("test_vit", num_classes=0, img_size=224)
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    extractor, images = find_extractor("dinov2", tmp_path / "vit.pth"), noise(2)
    state = torch.load(tmp_path / "vit.pth", weights_only=True)
    state["pos_embed"] = timm_models._positions(state["pos_embed"], 14, 14)
    network.load_state_dict({key: value for key, value in state.items() if not key.startswith("head.")})
    resized = nn.functional.interpolate(images.float(), (224, 224), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(one)[:, None, None] for one in ((0.5,) * 3, (0.5,) * 3))
    with torch.no_grad():
        wanted = network.eval()((resized.round().clamp(0, 255) / 255 - mean) / std)
    assert close(extractor(images).features, wanted)
    assert (extractor.name, extractor.resize) == ("dinov2", "bicubic antialiased, to 224 × 224")


def test_timms_weights_come_from_its_hub_and_without_a_network_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm, hub = pytest.importorskip("timm"), pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub, "hf_hub_url", lambda repository, file: f"http://127.0.0.1:9/{repository}/{file}")
    said = message("timm:test_resnet")
    url = "http://127.0.0.1:9/timm/test_resnet.r160_in1k/model.safetensors"
    assert all(one in said for one in (url, str(tmp_path / "cache"), "--weights PATH", "--extractor classifier"))
    network = timm.create_model("test_resnet")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(hub, "hf_hub_url", lambda repository, file: (tmp_path / file).as_uri())
    extractor = find_extractor("timm:test_resnet")
    assert extractor.known
    assert extractor.sha256 == digest(tmp_path / "model.safetensors")
    assert torch.equal(extractor.network.body.fc.weight, network.fc.weight)
