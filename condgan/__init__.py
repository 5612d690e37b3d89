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
from condgan.evaluation import Question, evaluate
from condgan.labels import Field, Labels, LabelSpec
from condgan.objectives import Objective, Term
from condgan.recipe import Recipe
from condgan.recipe import load as load_recipe
from condgan.run import train_run
from condgan.runs import load_model as load
from condgan.runs import load_translator
from condgan.sample import Model
from condgan.sides import Sampling
from condgan.train import State
from condgan.translate import Translator
from condgan.utility import utility

__all__ = [
    "Dataset", "Field", "LabelSpec", "Labels", "Model", "Objective", "Question", "Recipe", "Sampling", "Split", "State",
    "Term", "Translator", "UserError", "evaluate", "load", "load_recipe", "load_translator", "read", "train_run",
    "utility",
]  # fmt: skip
