"""Train, judge and use conditional image GANs.

>>> import condgan
>>> model = condgan.load("runs/digits-acgan")
>>> threes = model.sample("3", per_class=16, seed=0)  # uint8 array, 16 × height × width
>>> pictures = model.pictures(["3", "7"], per_class=4)  # PIL images
>>> translator = condgan.load_translator("runs/digits-stargan")
>>> blue = translator.translate(pictures, {"Blue_Ink": True})
"""

from condgan.data.dataset import Dataset, Split
from condgan.data.sources import read
from condgan.errors import UserError
from condgan.evaluation import evaluate, load_translator
from condgan.evaluation import load_model as load
from condgan.labels import Field, Labels, LabelSpec
from condgan.objectives import Objective, Term
from condgan.recipe import Recipe
from condgan.recipe import load as load_recipe
from condgan.run import train_run
from condgan.sample import Model
from condgan.train import State
from condgan.translate import Translator

__all__ = [
    "Dataset", "Field", "LabelSpec", "Labels", "Model", "Objective", "Recipe", "Split", "State", "Term", "Translator",
    "UserError", "evaluate", "load", "load_recipe", "load_translator", "read", "train_run",
]  # fmt: skip
