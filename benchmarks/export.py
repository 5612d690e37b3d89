"""How far exported files are from this package: `python -m benchmarks.export OUT`.

Weights and statistics of batch norms are as they are drawn, since differences do not depend on training. Writes
OUT/record.json: of each recipe and format, the largest difference of a pixel of [−1, 1] in batches of 1, 2 and 7 from
the generator as it is trained, and the seconds that the export took.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import onnx
import torch
from torch import nn

from benchmarks.record import keep
from condgan.app.export.programs import METADATA
from condgan.app.export.write import ExportOptions, export
from condgan.build import build_state
from condgan.labels import Field, LabelSpec
from condgan.recipes.load import dump, load
from condgan.runs.checkpoint import save_checkpoint

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
    for norm in state.ema.module.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.manual_seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in RECIPES.items():
            run = untrained(name, spec, Path(folder) / name)
            for form in ("onnx", "pt2"):
                began = time.perf_counter()
                place = Path(folder) / f"{name}-{form}"
                export(run, place, form, options=ExportOptions(output="float"))
                seconds = round(time.perf_counter() - began, 1)
                rows.append({"recipe": name, "format": form, "parity": parity(form, place), "seconds": seconds})
                print(rows[-1], flush=True)
    keep(out / "record.json", "benchmarks.export", rows=rows)


if __name__ == "__main__":
    main()
