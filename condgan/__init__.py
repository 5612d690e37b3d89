"""Train, judge and use conditional image GANs.

>>> import condgan
>>> model = condgan.load("runs/digits-acgan")
>>> threes = model.sample("3", per_class=16, seed=0)  # uint8 array, 16 × height × width
>>> pictures = model.pictures(["3", "7"], per_class=4)  # PIL images
>>> translator = condgan.load_translator("runs/digits-stargan")
>>> blue = translator.translate(pictures, {"Blue_Ink": True})
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from condgan.use import utility

__version__ = "0.1.0"
__all__ = [
    "Dataset", "Field", "LabelSpec", "Labels", "Model", "Objective", "Question", "Recipe", "Sampling", "Split", "State",
    "Term", "Translator", "UserError", "evaluate", "load", "load_recipe", "load_translator", "read", "train_run",
    "utility",
]  # fmt: skip
_PLACES = {
    "Dataset": "data.dataset.Dataset",
    "Field": "labels.Field",
    "LabelSpec": "labels.LabelSpec",
    "Labels": "labels.Labels",
    "Model": "sample.Model",
    "Objective": "objectives.Objective",
    "Question": "evaluation.Question",
    "Recipe": "recipe.Recipe",
    "Sampling": "sides.Sampling",
    "Split": "data.dataset.Split",
    "State": "train.State",
    "Term": "objectives.Term",
    "Translator": "translate.Translator",
    "UserError": "errors.UserError",
    "evaluate": "evaluation.evaluate",
    "load": "runs.load_model",
    "load_recipe": "recipe.load",
    "load_translator": "runs.load_translator",
    "read": "data.sources.read",
    "train_run": "run.train_run",
    "utility": "use.utility",
}
"""Where each public name is defined: it is imported, and torch with it, when it is first asked for."""


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'condgan' has no attribute '{name}'")
    from importlib import import_module

    module, _, own = _PLACES[name].rpartition(".")
    globals()[name] = found = getattr(import_module(f"condgan.{module}"), own)
    return found


def __dir__() -> list[str]:
    return sorted(_PLACES)
