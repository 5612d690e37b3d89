"""How far exported files are from this package: `python -m benchmarks.export OUT [RUN …]`.

Of the recipes below with weights as they are drawn, and of trained runs. Writes OUT/record.json: of each recipe and
format, the largest difference of a pixel of [−1, 1] in batches of 1, 2 and 7 from the generator as it is trained; and
the standard deviation of pixels, in gray levels, without which a difference says little.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from benchmarks.record import keep
from condgan.app.export.programs import METADATA
from condgan.app.export.write import ExportOptions, export
from condgan.build import build_state
from condgan.labels import Field, LabelSpec
from condgan.recipes.load import dump, load
from condgan.runs.checkpoint import save_checkpoint
from condgan.runs.directory import recipe_of
from condgan.runs.models import load_either
from condgan.sampling.latents import normal
from condgan.sampling.model import Model, standing_statistics
from condgan.sampling.translator import Translator

TEN = LabelSpec.of_classes([str(number) for number in range(10)])
INKS = LabelSpec((Field("attributes", ("Red_Ink", "Blue_Ink", "Dark_Paper", "Bold"), exclusive=False),))
RECIPES = {
    "digits-acgan": TEN,
    "digits-biggan": TEN,
    "digits-sagan": TEN,
    "digits-stargan": INKS,
    "any-projection": TEN,
}


def untrained(recipe_name: str, spec: LabelSpec, out: Path) -> Path:
    """A run directory of a recipe with a checkpoint of weights as they are drawn."""
    recipe = load(recipe_name)
    state = build_state(recipe, spec)
    if not recipe.translates:
        standing_statistics(state.ema.module, normal, spec, 2, 0)  # or images would be almost gray
    save_checkpoint(out / "checkpoints", state, recipe, spec, {})
    (out / "recipe.yaml").write_text(dump(recipe))
    return out


def parity(form: str, out: Path) -> dict[str, float]:
    """What a file says of how far it is."""
    if form == "onnx":
        (entry,) = onnx.load(out / "model.onnx").metadata_props
        return json.loads(entry.value)["parity"]
    found = {METADATA: ""}
    torch.export.load(out / "model.pt2", extra_files=found)
    return json.loads(found[METADATA])["parity"]


def contrast(model: Model | Translator) -> float:
    """The standard deviation of pixels, in gray levels."""
    if isinstance(model, Model):
        return float(model.sample(per_class=2).std())
    noise = np.random.default_rng(0).integers(0, 256, (4, *model.shape), np.uint8)
    return float(model.to_every_domain(torch.from_numpy(noise)).float().std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="*", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        drawn = [untrained(name, spec, Path(folder) / name) for name, spec in RECIPES.items()]
        for number, run in enumerate([*drawn, *given.runs]):
            model = load_either(run, precision="float32")
            about = {"recipe": recipe_of(run).name, "images_of_training": model.images, "contrast": contrast(model)}
            for form in ("onnx", "pt2"):
                place = Path(folder) / f"{number}-{form}"
                export(run, place, form, options=ExportOptions(output="float"))
                rows.append(about | {"format": form, "parity": parity(form, place)})
                print(rows[-1], flush=True)
    keep(given.out / "record.json", "benchmarks.export", rows=rows)


if __name__ == "__main__":
    main()
