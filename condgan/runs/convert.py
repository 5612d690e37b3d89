"""A run made of weights that the authors of a method published: layers of theirs are ours under other names."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgan.build import build_state
from condgan.labels import LabelSpec
from condgan.networks.spectral_norm import TrainedNorms
from condgan.recipes.load import dump, load
from condgan.recipes.schema import Recipe
from condgan.runs.checkpoint import save_checkpoint
from condgan.utils.arguments import several
from condgan.utils.errors import UserError, said_of, shown
from condgan.utils.files import found, new_directory, path_of, read_bytes, write
from condgan.utils.limits import TEXT, TooLarge
from condgan.utils.weights import UnfitWeights, not_finite, read_state_dict

Weights = Mapping[str, Tensor]
"""A state dict."""
UNUSED = re.compile(r"\.(sv\d+|running_mean|running_var|num_batches_tracked)$")
"""What may be left over: singular values for a log, counts, StarGAN's averages, by which it never makes images."""
STORED = {"running_mean": "stored_mean", "running_var": "stored_var", "weight": "gain", "bias": "bias"}
"""BigGAN-PyTorch's words for what a batch norm holds."""
ATTENTION = {"query": "theta", "key": "phi", "value": "g", "output": "o"}
"""And for the convolutions of an attention."""


class Original(NamedTuple):
    """A code whose networks a generator of ours is, too."""

    title: str
    generator: Callable[[Sequence[str]], str]
    """The parts of the name of a tensor of ours → its name there."""
    discriminator: Callable[[Sequence[str]], str] | None = None
    """The same of the discriminator, where it takes part in sampling."""
    changed: Callable[[Weights], Weights] = dict
    """What is otherwise than ours in values, not in names alone."""
    settings: Sequence[str] = ()
    """What a recipe sets for these weights alone."""


def convert_weights(
    files: Sequence[str | Path],
    recipe: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> Path:
    """Write a run of a recipe whose generator has a file's weights; a translator's second file is its discriminator's.

    The run counts as trained to the recipe's end; a discriminator that is not given, and both optimizers, are new.
    `classes`: their names, by default numbers. Raises UserError for weights of other networks, or that are not finite,
    and for a directory that is there.
    """
    directory = path_of(out, "run directory")
    if found(directory):
        raise UserError(f"--out {directory} given, which is there: give a new directory")
    files, settings = several("weights", files), _recipe(recipe, overrides)
    original = ORIGINALS[settings.generator.name]
    named = [original.generator, original.discriminator] if original.discriminator else [original.generator]
    if len(files) != len(named):
        expected = "two, the generator's and the discriminator's" if len(named) == 2 else "one, the generator's"
        raise UserError(f"{len(files)} files of weights given: of {original.title} expected {expected}")
    advice = (
        f"expected weights of {original.title} with the settings of recipe '{settings.name}'; give others as "
        "KEY=VALUE, such as generator.width=64 or data.classes=10"
    )
    paths, theirs = [path_of(file, "weights") for file in files], []
    for path in paths:
        with said_of(f"weights '{path}'", advice, UnfitWeights, TooLarge):
            theirs.append(original.changed(read_state_dict(path)))
    spec = _labels(settings, classes)
    state = build_state(settings, spec)
    state.images = settings.schedule.images
    for path, given, network, name_of in zip(
        paths, theirs, (state.generator, state.discriminator), named, strict=False
    ):
        with said_of(f"weights '{path}'", advice, UnfitWeights):
            take_weights(network, given, name_of)
    for average in state.averages.values():
        average.module.load_state_dict(state.generator.state_dict())
    with new_directory(directory) as temporary:
        write(temporary / "recipe.yaml", dump(settings).encode())
        save_checkpoint(temporary / "checkpoints", state, settings, spec, {})
    return directory


def _recipe(recipe: str | Path, overrides: Sequence[str]) -> Recipe:
    settings = load(recipe, overrides)
    original = ORIGINALS.get(settings.generator.name)
    if original is None:
        known = ", ".join(f"{name} ({one.title})" for name, one in ORIGINALS.items())
        raise UserError(
            f"recipe '{recipe}' given, whose generator is '{settings.generator.name}': expected one of those whose "
            f"original's weights can be read, {known}"
        )
    return load(recipe, [*overrides, *original.settings])


def _labels(recipe: Recipe, classes: Sequence[str] | None) -> LabelSpec:
    """The labels of networks that were trained elsewhere."""
    spec = recipe.data.published_spec()
    if classes is None and spec is None:
        raise UserError(
            f"recipe '{recipe.name}' does not say how many classes there are: add data.classes=N, or their names by "
            "--classes FILE"
        )
    if classes is None:
        return spec  # pyright: ignore[reportReturnType]
    if recipe.data.classes is not None and len(classes) != recipe.data.classes:
        raise UserError(
            f"{len(classes)} names of classes given, and recipe '{recipe.name}' has {recipe.data.classes}: give one a "
            f"line, or add data.classes={len(classes)}"
        )
    return LabelSpec.of_classes(classes)


def class_names(path: Path) -> list[str]:
    """The names in a text file, one a line, in the order of their numbers. Raises UserError for another file."""
    with said_of(f"file '{path}' of class names", "expected UTF-8, a name a line", UnicodeDecodeError, TooLarge):
        lines = read_bytes(path, TEXT).decode("utf-8-sig").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"file '{path}' of class names holds none: give one a line")
    return names


def named_there(network: nn.Module, name_of: Callable[[Sequence[str]], str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a network that an original has, too, by their names there."""
    for name, own in network.state_dict().items():
        plain = name.replace(".parametrizations.weight.original", ".weight").replace(".parametrizations.weight.0.", ".")
        *_, last = parts = plain.split(".")
        if last not in ("v", "num_batches_tracked"):
            yield name_of(parts), own


@torch.no_grad()
def take_weights(network: nn.Module, theirs: Weights, name_of: Callable[[Sequence[str]], str]) -> None:
    """Bring a network to the original's weights. Raises UnfitWeights for tensors that are missing, odd or too many.

    The singular vectors of spectral norms are those that the original would find next, as it does in evaluation.
    """
    used = set()
    for there, own in named_there(network, name_of):
        given = theirs.get(there)
        if given is None or given.squeeze().shape != own.squeeze().shape:
            found = "absent" if given is None else f"{list(given.shape)}"
            raise UnfitWeights(f"it is of another network: {there} is {found} there and {list(own.shape)} here")
        own.copy_(given.reshape(own.shape))
        used.add(there)
    if more := next((one for one in theirs if one not in used and not UNUSED.search(one)), None):
        raise UnfitWeights(f"it is of another network: {shown(more)} is {list(theirs[more].shape)} there, absent here")
    if (name := not_finite(network)) is not None:
        raise UnfitWeights(f"{name} holds values that are not finite")
    TrainedNorms(network).iterate()


def _biggan(name: Sequence[str]) -> str:
    match [*name[:-1], {"u": "u0"}.get(name[-1], name[-1])]:
        case ["label", tensor]:
            return f"shared.{tensor}"
        case ["attention", resolution, *layer]:
            return f"blocks.{_blocks_before(resolution)}.1.{_attention(layer)}"
        case ["blocks", block, norm, "norm", tensor]:
            return f"blocks.{block}.0.bn{norm[-1]}.{STORED[tensor]}"
        case ["blocks", block, ("norm1" | "norm2") as norm, part, tensor]:
            return f"blocks.{block}.0.bn{norm[-1]}.{part}.{tensor}"
        case ["blocks", block, "skip", tensor]:
            return f"blocks.{block}.0.conv_sc.{tensor}"
        case ["blocks", block, convolution, tensor]:
            return f"blocks.{block}.0.{convolution}.{tensor}"
        case other:
            return _biggan_ends(other)


def _biggan_deep(name: Sequence[str]) -> str:
    """Of two blocks at each resolution: the original can hold no other number."""
    match [*name[:-1], {"u": "u0"}.get(name[-1], name[-1])]:
        case ["label", tensor]:
            return f"shared.{tensor}"
        case ["attention", resolution, *layer]:
            return f"blocks.{2 * _blocks_before(resolution) + 1}.1.{_attention(layer)}"
        case ["blocks", stage, block, "norms", norm, "norm", tensor]:
            return f"blocks.{2 * int(stage) + int(block)}.0.bn{int(norm) + 1}.{STORED[tensor]}"
        case ["blocks", stage, block, "norms", norm, part, tensor]:
            return f"blocks.{2 * int(stage) + int(block)}.0.bn{int(norm) + 1}.{part}.{tensor}"
        case ["blocks", stage, block, _, convolution, tensor]:
            return f"blocks.{2 * int(stage) + int(block)}.0.conv{int(convolution) + 1}.{tensor}"
        case other:
            return _biggan_ends(other)


def _biggan_ends(name: Sequence[str]) -> str:
    match name:
        case ["image", "0", tensor]:
            return f"output_layer.0.{STORED[tensor]}"
        case ["image", layer, tensor]:
            return f"output_layer.{layer}.{tensor}"
    return ".".join(name)


def _blocks_before(resolution: str) -> int:
    """Blocks that double 4 × 4, but the one that leaves a resolution."""
    return int(resolution).bit_length() - 4


def _attention(layer: Iterable[str]) -> str:
    return ".".join(ATTENTION.get(part, part) for part in layer)


def _label_first(theirs: Weights) -> Weights:
    """BigGAN-deep's, in which the latent is followed by the label's embedding, as if it came after it."""
    label = theirs["shared.weight"].shape[-1] if "shared.weight" in theirs else 0
    condition = re.compile(r"(linear|gain|bias)\.weight$")
    swapped = {name: one.roll(label, 1) for name, one in theirs.items() if one.ndim == 2 and condition.search(name)}
    return {**theirs, **swapped}


def _sagan(name: Sequence[str]) -> str:
    match name:
        case ["attention", resolution, "gamma"]:
            return f"attn{int(resolution) // 16}.gamma"  # the first one is at 16 × 16, the second at 32 × 32
        case ["attention", resolution, convolution, tensor]:
            return f"attn{int(resolution) // 16}.{convolution}_conv.{tensor}"
        case ["convolutions", number, tensor]:
            return f"l{int(number) + 1}.0.module.{tensor}"
        case ["norms", number, _, tensor]:
            return f"l{int(number) + 1}.1.{tensor}"
    return "last.0." + name[-1]


def _normalized(theirs: Weights) -> Weights:
    """SAGAN's, with the weights that its spectral norms would compute next.

    Ours are none of its own: of a transposed convolution it divides by what the matrix with a row per input stretches.
    """
    found = {name: one for name, one in theirs.items() if not re.search(r"\.weight_(bar|u|v)$", name)}
    for name, weight in theirs.items():
        u = theirs.get(name.replace("_bar", "_u"))
        if not name.endswith(".weight_bar") or u is None or u.shape != weight.shape[:1]:
            continue
        v = F.normalize(u @ weight.flatten(1), dim=0)
        found[name.removesuffix("_bar")] = weight / (weight.flatten(1) @ v).norm()
    return found


def _stargan(name: Sequence[str]) -> str:
    """Their layers are counted in one sequence, in which blocks are sequences themselves; see `_counted_anew`."""
    starts = {"first": 0, "to_half": 3, "to_quarter": 6}
    match name:
        case [part, number, tensor] if part in starts:
            return f"main.{starts[part] + int(number)}.{tensor}"
        case ["blocks", number, _, *layer]:
            return ".".join(["main", str(9 + int(number)), "main", *layer])
        case ["last", tensor]:
            return f"main.after.6.{tensor}"
    return f"main.after.{3 * (name[0] == 'from_half') + int(name[1])}.{name[2]}"


def _counted_anew(theirs: Weights) -> Weights:
    """StarGAN's, in which the layers after the blocks, however many there are, are counted from 0."""
    blocks = {int(found[1]) for name in theirs if (found := re.match(r"main\.(\d+)\.main\.", name))}
    after = max(blocks, default=8) + 1
    if not any(name.startswith("main.6.") for name in theirs) or "conv1.weight" in theirs:
        return theirs

    def renamed(name: str) -> str:
        found = re.fullmatch(r"main\.(\d+)\.(\w+)", name)
        return f"main.after.{int(found[1]) - after}.{found[2]}" if found and int(found[1]) >= after else name

    return {renamed(name): one for name, one in theirs.items()}


def _stargan_discriminator(name: Sequence[str]) -> str:
    match name:
        case ["backbone", _, *layer]:
            return ".".join(["main", *layer])
        case ["head", "score", tensor]:
            return f"conv1.{tensor}"
    return f"conv2.{name[-1]}"


ORIGINALS = {
    "resnet": Original("BigGAN-PyTorch's BigGAN, SAGAN or SN-GAN", _biggan),
    "biggan-deep": Original("BigGAN-PyTorch's BigGAN-deep", _biggan_deep, changed=_label_first),
    "sagan-dcgan": Original(
        "Self-Attention-GAN (heykeetae)", _sagan, changed=_normalized, settings=["generator.spectral_norm=null"]
    ),
    "stargan": Original("StarGAN (yunjey)", _stargan, _stargan_discriminator, changed=_counted_anew),
}
"""By the generator's name in recipes."""
