"""The networks by their names in recipes; keyword-only arguments are a recipe's options."""

from condgan.nn.biggan import BigGANDeepBackbone, BigGANDeepGenerator
from condgan.nn.dcgan import ACGANBackbone, ACGANGenerator
from condgan.nn.heads import ClassifierHead, Discriminator, DomainHead, PlainHead, ProjectionHead, TwinHead
from condgan.nn.mlp import MLPBackbone, MLPGenerator
from condgan.nn.resnet import ResNetBackbone, ResNetGenerator
from condgan.nn.sagan import SAGANDCGANBackbone, SAGANDCGANGenerator
from condgan.nn.stargan import StarGANBackbone, StarGANGenerator

GENERATORS = {
    "acgan": ACGANGenerator,
    "biggan-deep": BigGANDeepGenerator,
    "mlp": MLPGenerator,
    "resnet": ResNetGenerator,
    "sagan-dcgan": SAGANDCGANGenerator,
    "stargan": StarGANGenerator,
}
BACKBONES = {
    "acgan": ACGANBackbone,
    "biggan-deep": BigGANDeepBackbone,
    "mlp": MLPBackbone,
    "resnet": ResNetBackbone,
    "sagan-dcgan": SAGANDCGANBackbone,
    "stargan": StarGANBackbone,
}
HEADS = {
    "classifier": ClassifierHead,
    "domain": DomainHead,
    "plain": PlainHead,
    "projection": ProjectionHead,
    "twin": TwinHead,
}

__all__ = ["BACKBONES", "GENERATORS", "HEADS", "Discriminator"]
