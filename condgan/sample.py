"""From a generator to pictures: the same seed, class and position always give the same image."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from condgan.errors import UserError, unknown
from condgan.interfaces import Generator, to_uint8
from condgan.labels import Labels, LabelSpec
from condgan.seeds import derive_seed

CHUNK = 256


def draw_latents(seed: int, position: int, count: int, latent_dim: int) -> Float[Tensor, "b z"]:
    """The first `count` latents of a seed at a position (a class's number, for samples of that class).

    Raises UserError for a negative seed.
    """
    if seed < 0:
        raise UserError(f"seed {seed} given: expected 0 or more")
    rng = np.random.default_rng(derive_seed(seed, "latents", position))
    return torch.from_numpy(rng.standard_normal((count, latent_dim), np.float32))


@torch.inference_mode()
def generate(generator: Generator, latents: Float[Tensor, "b z"], labels: Labels) -> UInt8[Tensor, "b c h w"]:
    """Images of 0 … 255, on the CPU, from a generator in evaluation mode."""
    device = next(generator.parameters()).device
    chunks = range(0, len(latents), CHUNK)
    parts = [generator(latents[i : i + CHUNK].to(device), labels[slice(i, i + CHUNK)].to(device)) for i in chunks]
    return torch.cat([to_uint8(part).cpu() for part in parts])


def progress_sheet(generator: Generator, spec: LabelSpec, seed: int, rows: int = 10) -> Image.Image:
    """A column per class; a row shares its latent, and all sheets of a seed share all latents."""
    latents = draw_latents(seed, 0, rows, generator.latent_dim)
    classes = len(spec.classes)
    labels = Labels.from_index(spec, torch.arange(classes).repeat(rows))
    return sheet(generate(generator, latents.repeat_interleave(classes, 0), labels), spec.classes)


def sheet(images: UInt8[Tensor, "n c h w"], columns: Sequence[str]) -> Image.Image:
    """Images, row by row, in a grid with the columns' names above; small ones are enlarged to be seen."""
    scale = max(1, 48 // images.shape[2])
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid = make_grid(images, nrow=len(columns), padding=2, pad_value=255).permute(1, 2, 0).numpy()
    cell = images.shape[3] + 2
    picture = Image.new("RGB", (grid.shape[1], grid.shape[0] + 18), "white")
    picture.paste(Image.fromarray(grid), (0, 18))
    font, draw = ImageFont.load_default(12), ImageDraw.Draw(picture)
    for i, name in enumerate(columns):
        while font.getlength(name) > cell and len(name) > 1:
            name = name[:-2] + "…" if name.endswith("…") else name[:-1] + "…"
        draw.text((2 + i * cell + images.shape[3] / 2, 3), name, "black", font, anchor="ma")
    return picture


def class_sheet(images: UInt8[np.ndarray, "n h w *c"], classes: Sequence[str], rows: int = 32) -> Image.Image:
    """A sheet of what `Model.sample` returned: a column per class, of its first images."""
    by_class = torch.from_numpy(images).reshape(len(classes), -1, *images.shape[1:3], images[0, 0, 0].size)[:, :rows]
    return sheet(by_class.transpose(0, 1).flatten(0, 1).permute(0, 3, 1, 2), classes)


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Model:
    """A trained generator to sample from."""

    generator: Generator
    spec: LabelSpec
    images: int
    """Real images seen in training."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    def sample(
        self, classes: str | int | Sequence[str | int] | None = None, per_class: int = 16, seed: int = 0
    ) -> UInt8[np.ndarray, "n h w *c"]:
        """`per_class` images of each class, class by class; all classes where none is named.

        Pixels 0 … 255; no channel axis where images are gray. Raises UserError for an unknown class.
        """
        chosen = self.classes if classes is None else [classes] if isinstance(classes, str | int) else classes
        numbers = [self._number(name) for name in chosen]
        if per_class < 1:
            raise UserError(f"{per_class} images per class given: expected 1 or more")
        parts = []
        for number in numbers:
            latents = draw_latents(seed, number, per_class, self.generator.latent_dim)
            labels = Labels.from_index(self.spec, torch.full((per_class,), number))
            parts.append(generate(self.generator, latents, labels))
        images = torch.cat(parts).permute(0, 2, 3, 1).numpy()
        return images[..., 0] if images.shape[-1] == 1 else images

    def pictures(
        self, classes: str | int | Sequence[str | int] | None = None, per_class: int = 16, seed: int = 0
    ) -> list[Image.Image]:
        """The same as PIL images."""
        return [Image.fromarray(image) for image in self.sample(classes, per_class, seed)]

    def _number(self, name: str | int) -> int:
        if str(name) not in self.classes:
            raise unknown("class", name, self.classes)
        return self.classes.index(str(name))
