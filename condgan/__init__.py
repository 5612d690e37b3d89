"""Train, judge and use conditional image GANs.

>>> import condgan
>>> run = condgan.train("photos", minutes=10)  # a folder with a folder for each class
>>> run.sheet()  # a PIL image, a column per class
>>> apples = run.sample("apple", per_class=16, seed=0)  # uint8 array, 16 × height × width × 3
>>> results = run.evaluate()
>>> run.export("shared")  # for others; run.app() is a page in the browser
>>> model = condgan.load("runs/photos")  # its generator alone
>>> translator = condgan.load_translator("runs/digits-stargan")
>>> blue = translator.translate("seven.png", {"Blue_Ink": True})
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from condgan.app.export.averages import average
    from condgan.app.export.push import pull, push
    from condgan.app.export.subject import ExportOptions
    from condgan.app.export.write import export
    from condgan.app.run import Run
    from condgan.app.run import train_on as train
    from condgan.data.dataset import Dataset, Split
    from condgan.data.open import read
    from condgan.evaluation.options import EvaluationOptions
    from condgan.labels import Field, Labels, LabelSpec
    from condgan.losses import Objective, Term
    from condgan.recipes.load import load as load_recipe
    from condgan.recipes.schema import Recipe
    from condgan.runs.convert import convert_weights as convert
    from condgan.runs.evaluate import evaluate
    from condgan.runs.models import load_model as load
    from condgan.runs.models import load_translator
    from condgan.runs.results import Results
    from condgan.runs.train import train_run
    from condgan.runs.utility import utility
    from condgan.sampling.model import Model
    from condgan.sampling.options import Sampling
    from condgan.sampling.translator import Translator
    from condgan.training.state import State
    from condgan.utils.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "Dataset", "EvaluationOptions", "ExportOptions", "Field", "LabelSpec", "Labels", "Model", "Objective", "Recipe",
    "Results", "Run", "Sampling", "Split", "State", "Term", "Translator", "UserError", "average", "convert", "evaluate",
    "export", "load", "load_recipe", "load_translator", "pull", "push", "read", "train", "train_run", "utility",
]  # fmt: skip
_PLACES = {
    "Dataset": "data.dataset.Dataset",
    "EvaluationOptions": "evaluation.options.EvaluationOptions",
    "ExportOptions": "app.export.subject.ExportOptions",
    "Field": "labels.Field",
    "LabelSpec": "labels.LabelSpec",
    "Labels": "labels.Labels",
    "Model": "sampling.model.Model",
    "Objective": "losses.Objective",
    "Recipe": "recipes.schema.Recipe",
    "Results": "runs.results.Results",
    "Run": "app.run.Run",
    "Sampling": "sampling.options.Sampling",
    "Split": "data.dataset.Split",
    "State": "training.state.State",
    "Term": "losses.Term",
    "Translator": "sampling.translator.Translator",
    "UserError": "utils.errors.UserError",
    "average": "app.export.averages.average",
    "convert": "runs.convert.convert_weights",
    "evaluate": "runs.evaluate.evaluate",
    "export": "app.export.write.export",
    "load": "runs.models.load_model",
    "load_recipe": "recipes.load.load",
    "load_translator": "runs.models.load_translator",
    "pull": "app.export.push.pull",
    "push": "app.export.push.push",
    "read": "data.open.read",
    "train": "app.run.train_on",
    "train_run": "runs.train.train_run",
    "utility": "runs.utility.utility",
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
