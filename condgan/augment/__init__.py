"""Augmentations by name: real and fake images alike go through one on their way to the discriminator.

An augmentation is a module from images in [−1, 1] to images of about this range, differentiable, with its random
numbers from `Draws`; keyword-only arguments of its constructor are a recipe's options. Its buffers are saved and
resumed with the run.
"""

from collections.abc import Callable

from torch import nn

from condgan.augment.ada import ADA
from condgan.augment.diffaugment import DiffAugment

AUGMENTATIONS: dict[str, Callable[..., nn.Module]] = {"none": nn.Identity, "ada": ADA, "diffaugment": DiffAugment}
