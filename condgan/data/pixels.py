"""From a picture of any kind to the pixels that a network sees."""

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageColor, ImageOps

from condgan.errors import UserError


def color(name: str) -> tuple[int, int, int]:
    """Red, green and blue of a color such as white or #ffcc00. Raises UserError for one that is none."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        raise UserError(f"data.background '{name}' given: expected a color such as white or #ffcc00") from None
    return red, green, blue


def pixels(
    image: Image.Image, size: int, channels: int, background: tuple[int, int, int]
) -> UInt8[np.ndarray, "c h w"]:
    """The central square of an image, upright, gray (1 channel), RGB (3) or RGBA (4), resized (bicubic, antialiased).

    Where it is transparent it is put on the background; of four channels, transparent pixels get its color.
    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of gray
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data and channels != 4:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    array = np.array(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)).reshape(size, size, channels)
    if channels == 4:
        array[array[..., 3] == 0] = (*background, 0)
    return array.transpose(2, 0, 1)
