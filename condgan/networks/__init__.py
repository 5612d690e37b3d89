"""The networks by their names in recipes; keyword-only arguments are a recipe's options."""

from condgan.networks.biggan_deep import BigGANDeepBackbone, BigGANDeepGenerator
from condgan.networks.dcgan import ACGANBackbone, ACGANGenerator
from condgan.networks.discriminator import Discriminator
from condgan.networks.heads import (
    ADCHead,
    ClassesAndFakeHead,
    ClassifierHead,
    ContrastiveHead,
    DomainHead,
    PlainHead,
    ProjectionHead,
    SlicingHead,
    TwinHead,
)
from condgan.networks.light import LightBackbone, LightGenerator
from condgan.networks.mlp import MLPBackbone, MLPGenerator
from condgan.networks.r3gan import R3GANBackbone, R3GANGenerator
from condgan.networks.resnet import ResNetBackbone, ResNetGenerator
from condgan.networks.sagan import SAGANDCGANBackbone, SAGANDCGANGenerator
from condgan.networks.stargan import StarGANBackbone, StarGANGenerator

GENERATORS = {
    "acgan": ACGANGenerator,
    "biggan-deep": BigGANDeepGenerator,
    "light": LightGenerator,
    "mlp": MLPGenerator,
    "r3gan": R3GANGenerator,
    "resnet": ResNetGenerator,
    "sagan-dcgan": SAGANDCGANGenerator,
    "stargan": StarGANGenerator,
}
BACKBONES = {
    "acgan": ACGANBackbone,
    "biggan-deep": BigGANDeepBackbone,
    "light": LightBackbone,
    "mlp": MLPBackbone,
    "r3gan": R3GANBackbone,
    "resnet": ResNetBackbone,
    "sagan-dcgan": SAGANDCGANBackbone,
    "stargan": StarGANBackbone,
}
HEADS = {
    "adc": ADCHead,
    "classes-and-fake": ClassesAndFakeHead,
    "classifier": ClassifierHead,
    "contrastive": ContrastiveHead,
    "domain": DomainHead,
    "plain": PlainHead,
    "projection": ProjectionHead,
    "slicing": SlicingHead,
    "twin": TwinHead,
}

__all__ = ["BACKBONES", "GENERATORS", "HEADS", "Discriminator"]
