"""Networks whose features images are compared by: published ones by their names, and those of users.

Axes: b images, c channels, h × w pixels, d features, k classes, n places of patches.
"""

import hashlib
import http.client
import importlib
import inspect
import math
import os
import re
import socket
import sys
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from condgan.utils.device import tf32
from condgan.utils.errors import UserError, unknown
from condgan.utils.files import cache_directory, new_file

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

TIMEOUT = 30
"""Seconds without an answer after which a download is given up."""
EXTRACTED_AT_ONCE = 32
"""So many images go through a network at once."""
DINOV2 = "vit_large_patch14_dinov2.lvd142m"
DOCUMENTED = ("classifier", "inception", "dinov2", "timm:NAME", "package.module:callable")
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
    "vit_h_14": {"image_size": 518},
}
"""What torchvision builds differently where it builds a model for its published weights."""
OF_MAPS = (
    nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
"""Modules that make feature maps b × c × h × w; four dims of others may be of another order, or those of attention."""


@cache
def torchvision_models() -> tuple[str, ...]:
    """Classification models of torchvision, but for those without a linear layer."""
    from torchvision import models

    return tuple(name for name in models.list_models(module=models) if not name.startswith("squeezenet"))


class Observed(NamedTuple):
    """What a network makes of images."""

    features: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"] | None
    """Of classes, where the network has them."""


@dataclass(frozen=True)
class Extractor:
    """A network that looks at images, and where it comes from."""

    name: str
    """What numbers are called after: fd_<name>."""
    sha256: str
    """Of the file that the weights were read from; of users' own networks, their `state_hash`."""
    resize: str
    """What becomes of an image before the network sees it."""
    network: nn.Module
    """Images of 0 … 255, b × c × h × w, → features b × d, or (features, logits b × k or None)."""
    known: bool = True
    """Whether the weights are the published ones of this name."""

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b c h w"]) -> Observed:
        """Look at images of 0 … 255; what is seen is float32, on the network's device.

        Raises UserError for a number of channels that the network does not take, and where it returns something else
        than an `Extractor` needs.
        """
        with tf32(False):
            parts = [self._observed(chunk.to(self._device)) for chunk in images.split(EXTRACTED_AT_ONCE)]
        logits = [part.logits for part in parts if part.logits is not None]
        return Observed(torch.cat([part.features for part in parts]), torch.cat(logits) if logits else None)

    @torch.inference_mode()
    def maps(self, images: UInt8[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The last feature map at each resolution, b × c × h × w, finest first; none of networks that make none.

        All images go through the network at once, and all of its maps are kept.
        """
        found: dict[torch.Size, Tensor] = {}

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if output.ndim == 4:
                found[output.shape[2:]] = output

        hooks = [one.register_forward_hook(keep) for one in self.network.modules() if isinstance(one, OF_MAPS)]
        try:
            with tf32(False):
                self.network(images.to(self._device))
        finally:
            for hook in hooks:
                hook.remove()
        return [found[size].float() for size in sorted(found, key=math.prod, reverse=True)]

    @property
    def _device(self) -> torch.device:
        return next(chain(self.network.parameters(), self.network.buffers()), torch.empty(0)).device

    def _observed(self, images: Tensor) -> Observed:
        try:
            output = self.network(images)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # it may be the user's code
            shape = " × ".join(map(str, images.shape))
            raise UserError(
                f"extractor '{self.name}' fails on images of {shape} ({_line(error)}): mend it, or give another --size"
            ) from None
        match output:
            case (Tensor(ndim=2) as features, None) | (Tensor(ndim=2) as features) if len(features) == len(images):
                logits = None
            case (Tensor(ndim=2) as features, Tensor(ndim=2) as logits) if len(features) == len(logits) == len(images):
                logits = logits.float()
            case _:
                raise UserError(
                    f"extractor '{self.name}' returns {_described(output)} for {len(images)} images, expected features "
                    "b × d or a tuple (features b × d, logits b × k): change what it returns"
                )
        return Observed(features.float(), logits)


def find_extractor(name: str, weights: Path | None = None, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of a name, with its published weights or those of a file; "classifier" is the caller's.

    "inception" is that of FID (Heusel et al. 2017) as torch-fidelity has it; "dinov2" that of FD-DINOv2 (Stein et al.
    2023); others are models of torchvision, "timm:NAME" of timm, and "package.module:callable" of users: the callable
    makes the network, of weights=PATH where there is a file. Weights are a state dict, in a file of torch.save or
    .safetensors; nothing in it is executed. Published ones are downloaded when first asked for.

    Raises UserError for unknown names, weights that cannot be had, are damaged or do not fit, and networks of users
    that are none.
    """
    with torch.random.fork_rng(devices=[]):  # networks are drawn before they are filled
        if name in BUILDERS:
            extractor = BUILDERS[name](weights)
        elif name in torchvision_models():
            extractor = _torchvision(name, weights)
        elif name.startswith("timm:"):
            extractor = _timm(name, name.removeprefix("timm:"), weights)
        elif re.fullmatch(r"\w+(\.\w+)*:\w+", name):
            extractor = _own(name, weights)
        else:
            raise unknown("extractor", name, [*DOCUMENTED, *torchvision_models()])
    extractor.network.to(device).eval().requires_grad_(False)
    return extractor


def state_hash(module: nn.Module) -> str:
    """The SHA-256 of a module's state dict: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Inception(nn.Module):
    """torch-fidelity's network, faster: batch norms are part of the convolutions, resizing is two matrix products."""

    def __init__(self, network: "FeatureExtractorInceptionV3") -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

        super().__init__()
        for block in network.modules():
            if isinstance(block, BasicConv2d):
                block.conv = fuse_conv_bn_eval(block.conv, block.bn)
                block.add_module("bn", nn.Identity())
        *layers, self.classes = network.children()
        self.body = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        images = (_rgb(images, "inception").float() - 128) / 128
        height, width = (_interpolation(size).to(images.device) for size in images.shape[2:])
        resized = (height @ images @ width.T).contiguous(memory_format=torch.channels_last)
        features = self.body(resized).flatten(1)
        return features, features @ self.classes.weight.T  # of FID's network, without the bias


class _Torchvision(nn.Module):
    """What goes into a classifier's last linear layer, and what comes out."""

    def __init__(self, name: str, network: nn.Module, prepare: nn.Module) -> None:
        super().__init__()
        last = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        self.name, self.prepare, self.classes = name, prepare, network.get_submodule(last)
        network.set_submodule(last, nn.Identity())
        self.body = network

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        features = self.body(self.prepare(_rgb(images, self.name)))
        return features, self.classes(features)


class _Timm(nn.Module):
    """A model of timm, which sees the whole image at its own size."""

    def __init__(self, name: str, network: Any, config: dict[str, Any]) -> None:
        super().__init__()
        from torchvision.transforms import functional as transforms

        self.name, self.body = name, network
        self.resize = partial(
            transforms.resize,
            size=list(config["input_size"][1:]),
            interpolation=transforms.InterpolationMode(config["interpolation"]),
            antialias=True,
        )
        self.normalize = partial(transforms.normalize, mean=config["mean"], std=config["std"])

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        prepared = self.normalize(self.resize(_rgb(images, self.name)).float() / 255)
        features = self.body.forward_head(self.body.forward_features(prepared), pre_logits=True)
        classes = self.body.get_classifier()
        return features, classes(features) if isinstance(classes, nn.Linear) else None


class _Own(nn.Module):
    """A user's network."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name, self.body = name, network

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> Any:
        return self.body(_rgb(images, self.name))


def _inception(weights: Path | None) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    kept = cache_directory() / "weights" / _file(URL_INCEPTION_V3)
    path = weights or _fetched("the weights of FID's Inception network", URL_INCEPTION_V3, kept)
    state, sha256 = _read(path)
    file = BytesIO()  # torch-fidelity unpickles whatever it is given: it gets what was read safely
    torch.save(state, file)
    file.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], file)
    except RuntimeError as error:
        raise _misfit("inception", path, error) from None
    known = sha256.startswith(_expected(_file(URL_INCEPTION_V3)))
    return Extractor("inception", sha256, "bilinear as in TensorFlow 1, to 299 × 299", _Inception(network), known)


def _torchvision(name: str, weights: Path | None) -> Extractor:
    from torchvision import models

    published = models.get_model_weights(name)["DEFAULT"]
    hub = Path(torch.hub.get_dir()) / "checkpoints" / _file(published.url)
    path = weights or _fetched(f"the weights of '{name}'", published.url, hub)
    state, sha256 = _read(path)
    # the published DenseNets are older than the names of their layers
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): value for key, value in state.items()}
    network = models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _misfit(name, path, error) from None
    prepare = published.transforms()
    (shorter,), (crop,) = prepare.resize_size, prepare.crop_size
    resize = f"{prepare.interpolation.value} antialiased, shorter side to {shorter}, center {crop} × {crop}"
    known = sha256.startswith(_expected(_file(published.url)))
    return Extractor(name, sha256, resize, _Torchvision(name, network, prepare), known)


def _timm(name: str, model: str, weights: Path | None) -> Extractor:
    network, config, sha256 = _timm_network(name, model, weights)
    height, width = config["input_size"][1:]
    resize = f"{config['interpolation']} antialiased, to {height} × {width}"
    return Extractor(name, sha256, resize, _Timm(name, network, config), weights is None)


def _dinov2(weights: Path | None) -> Extractor:
    network, config, sha256 = _timm_network("dinov2", DINOV2, weights)
    positions = network.pos_embed.detach()
    network.set_input_size(224)
    network.pos_embed.data = _positions(positions, *network.patch_embed.grid_size)
    config |= {"input_size": (3, 224, 224)}
    resize = "bicubic antialiased, to 224 × 224"
    return Extractor("dinov2", sha256, resize, _Timm("dinov2", network, config), weights is None)


def _own(name: str, weights: Path | None) -> Extractor:
    module_name, _, attribute = name.partition(":")
    sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"extractor '{name}' cannot be imported ({error}): '{module_name}' has to be installed, or a module of the "
            "current folder"
        ) from None
    except Exception as error:  # it is the user's code
        raise UserError(f"extractor '{name}' cannot be imported ({_line(error)}): mend '{module_name}'") from None
    finally:
        sys.path.pop()
    if not hasattr(module, attribute):
        raise UserError(f"extractor '{name}': '{module_name}' has no '{attribute}'; give the name of one it has")
    make = getattr(module, attribute)
    given = {} if weights is None else {"weights": weights}
    try:
        inspect.signature(make).bind(**given)
    except TypeError as error:
        call = f"{attribute}({'weights=PATH' if given else ''})"
        raise UserError(f"extractor '{name}' cannot be called as {call} ({error}): change what it takes") from None
    try:
        network = make(**given)
    except Exception as error:  # it is the user's code
        raise UserError(f"extractor '{name}' cannot be made ({_line(error)}): mend '{attribute}'") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"extractor '{name}' makes {_described(network)}, expected a torch.nn.Module: return one")
    code = Path(module.__file__).read_bytes() if module.__file__ else b""  # what it does to images is in it
    sha256 = hashlib.sha256(code + state_hash(network).encode()).hexdigest()
    return Extractor(name, sha256, "by the network itself", _Own(name, network))


BUILDERS: dict[str, Callable[[Path | None], Extractor]] = {"inception": _inception, "dinov2": _dinov2}


def _timm_network(name: str, model: str, weights: Path | None) -> tuple[Any, dict[str, Any], str]:
    """A model of timm with its weights, how images are prepared for it, and the hash of the weights' file."""
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ImportError:
        raise UserError(f"extractor '{name}' needs timm, which is not installed: pip install 'condgan[timm]'") from None
    names = [*timm.list_models(), *timm.list_pretrained()]
    if model not in names:
        raise unknown("timm model", model, names)
    path = weights or _of_hub(name, timm.get_pretrained_cfg_value(model, "hf_hub_id"))
    state, sha256 = _read(path)
    overlay = {"state_dict": state, "custom_load": False}
    try:
        network: Any = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # its conversions of other projects' weights raise whatever they like
        raise _misfit(name, path, error) from None
    del network.pretrained_cfg["state_dict"]
    return network, resolve_model_data_config(network), sha256


def _of_hub(name: str, repository: str | None) -> Path:
    """The file of a model's published weights, from the Hugging Face hub's cache or the hub."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    if repository is None:
        raise UserError(f"extractor '{name}' has no weights on the Hugging Face hub: give --weights PATH")
    cached = try_to_load_from_cache(repository, file := "model.safetensors")
    if isinstance(cached, str):
        return Path(cached)
    kept = cache_directory() / "weights" / f"{repository.replace('/', '-')}.safetensors"
    return _fetched(f"the weights of '{name}'", hf_hub_url(repository, file), kept)


def _fetched(what: str, url: str, path: Path) -> Path:
    """The file of published weights, "the weights of …", downloaded if it is not there."""
    if path.exists():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with new_file(path) as new:
            torch.hub.download_url_to_file(url, str(new), _expected(path.name), progress=sys.stderr.isatty())
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # the last: of another hash
        raise UserError(
            f"{what} are needed, and {url} cannot be downloaded ({_line(error)}): save it as '{path}' or give "
            "--weights PATH; --extractor classifier needs none"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """A state dict and the hash of its file, which must be that of the file's name if there is one in it."""
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights '{path}' cannot be read ({error.strerror}): give the file of a state dict") from None
    expected = _expected(path.name)
    if not sha256.startswith(expected):
        raise UserError(
            f"weights '{path}' are damaged or misnamed: their SHA-256 begins with {sha256[: len(expected)]}, the name "
            f"says {expected}: remove or rename the file"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of how the file was written
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception:  # of damaged and hostile files it raises anything
        state = None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(
            f"weights '{path}' are no state dict: give a whole .safetensors file, or one of "
            "torch.save(network.state_dict(), path)"
        )
    return state, sha256


def _misfit(name: str, path: Path, error: Exception) -> UserError:
    details = re.sub(r"^Error\(s\) in loading state_dict for \w+: ", "", _line(error))
    reason = textwrap.shorten(details, 160, placeholder=" …")
    return UserError(f"weights '{path}' do not fit '{name}' ({reason}): give a state dict of this network")


def _file(url: str) -> str:
    return url.rpartition("/")[2]


def _expected(file_name: str) -> str:
    """What the file's SHA-256 begins with by torch hub's convention of names; nothing where it does not follow it."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", file_name)
    return match[1] if match else ""


def _rgb(images: UInt8[Tensor, "b c h w"], name: str) -> UInt8[Tensor, "b 3 h w"]:
    """Gray images get three equal channels."""
    if images.shape[1] not in (1, 3):
        raise UserError(
            f"images have {images.shape[1]} channels, extractor '{name}' takes 1 or 3: give gray or RGB images, or "
            "--extractor classifier"
        )
    return images.expand(-1, 3, -1, -1)


def _interpolation(size: int) -> Float[Tensor, "299 {size}"]:
    """Bilinear interpolation as in TensorFlow 1, along an axis: output i is at i · size / 299, in single precision."""
    place = torch.arange(299) * torch.tensor(size / 299)
    below = place.long()
    share = place - below
    above = (below + 1).clamp(max=size - 1)
    return F.one_hot(below, size) * (1 - share)[:, None] + F.one_hot(above, size) * share[:, None]


def _positions(trained: Float[Tensor, "1 n d"], height: int, width: int) -> Float[Tensor, "1 m d"]:
    """Embeddings of places, after the class token's, for another grid, as DINOv2's authors resample them.

    Bicubic without antialiasing, at scales of a tenth of a place more than the sizes' ratios.
    """
    side = math.isqrt(trained.shape[1] - 1)
    grid = trained[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = ((height + 0.1) / side, (width + 0.1) / side)
    resampled = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([trained[:, :1], resampled.flatten(2).mT], 1)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(_described(one) for one in value)}"
    return f"an object of {type(value).__name__}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
