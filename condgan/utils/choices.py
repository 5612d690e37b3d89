"""Names to choose from, for signatures, help and messages, which need nothing of what they stand for."""

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]
"""Number format that networks compute in."""
Crop = Literal["center", "random", "pad"]
"""The part that is kept of pictures of another shape."""
Way = Literal["linear", "spherical"]
"""From one latent to another."""
Vary = Literal["latent", "class", "both"]
"""The inputs of the generator that change on the way."""
LSUN = (
    "bedroom", "bridge", "church_outdoor", "classroom", "conference_room", "dining_room", "kitchen", "living_room",
    "restaurant", "tower",
)  # fmt: skip
EMNIST = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
VGGFACE2 = (200, 500, 2000)
"""Of how many identities there are parts."""
EMBEDDED_NAMES = ("digits", "tinted-digits")
"""Data sets that come with the package."""
KNOWN_NAMES = (
    "mnist", "fashion-mnist", "kmnist", *(f"emnist-{split}" for split in EMNIST), "cifar10", "cifar100", "svhn",
    "stl10", "omniglot", "celeba", "lsun", *(f"lsun-{category}" for category in LSUN), "imagenet", "vggface2",
    *(f"vggface2-{count}" for count in VGGFACE2), "rafd",
)  # fmt: skip
"""Data sets that are looked for in a folder, or downloaded."""
SOURCES = (*EMBEDDED_NAMES, *KNOWN_NAMES)
"""Data sets that are known by name."""
Criterion = Literal["agreement", "centroid", "discriminator", "copies"]
"""By which images are selected."""
ExportFormat = Literal["safetensors", "onnx", "pt2", "aoti", "web"]
"""What a model is exported as."""
ExportOutput = Literal["uint8", "float"]
"""Pixels of an exported model: 0 … 255 or [−1, 1]."""
