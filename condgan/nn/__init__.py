"""The networks by their names in recipes; keyword-only arguments are a recipe's options."""

from condgan.nn.dcgan import ACGANBackbone, ACGANGenerator
from condgan.nn.heads import ClassifierHead, Discriminator

GENERATORS = {"acgan": ACGANGenerator}
BACKBONES = {"acgan": ACGANBackbone}
HEADS = {"classifier": ClassifierHead}

__all__ = ["BACKBONES", "GENERATORS", "HEADS", "Discriminator"]
