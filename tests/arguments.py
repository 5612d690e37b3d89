"""Calls of every public function with what people give, right and wrong: without the checks of types that tests have.

`python -m tests.arguments RUN` prints a line for each call that neither works nor is refused in one line.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import condgan
from condgan.build import build_discriminator, build_generator, build_model
from condgan.labels import Field
from condgan.networks.attention import Attention
from condgan.recipes.load import load as load_recipe
from tests.helpers import tiny

Calls = dict[str, Callable[[], Any]]
SEVEN = np.arange(7 * 9 * 3).reshape(7, 9, 3).astype(np.uint8)
NAN, INF = float("nan"), float("inf")


def translator() -> condgan.Translator:
    recipe = load_recipe("digits-stargan", ["generator.width=4", "generator.blocks=1", "backbone.width=4"])
    inks = ("Red_Ink", "Green_Ink", "Blue_Ink")
    spec = condgan.LabelSpec((Field("attributes", (*inks, "Dark_Paper"), exclusive=False, groups=(inks,)),))
    networks = build_generator(recipe, spec), build_discriminator(recipe, spec)
    for network in networks:
        network.eval().requires_grad_(False)
    model = build_model(recipe, spec, *networks, 0)
    assert isinstance(model, condgan.Translator)
    return model


def of_model() -> tuple[Calls, Calls]:
    """Calls of a model that work, and that are refused."""
    model: Any = tiny(3, Attention(8, pooled=True), condgan.LabelSpec.of_classes([str(number) for number in range(10)]))
    works: Calls = {
        f"sample({classes!r})": lambda classes=classes: model.sample(classes, 1)
        for classes in (
            None, 3, "3", np.int64(3), np.str_("3"), torch.tensor(3), [3, "4"], (3,), range(3), np.arange(3),
            torch.arange(3), np.array(["3", "4"]), {"3": 0.5, 8: 1}, {3: np.float32(0.5)}, iter(["3"]),
        )
    }  # fmt: skip
    refused: Calls = {
        f"sample({classes!r})": lambda classes=classes: model.sample(classes, 1)
        for classes in (
            [], (), {}, True, 3.5, NAN, "cat", "", b"3", [None], [[3]], object(), np.zeros((2, 2)), torch.tensor([0.5]),
            {"3": 0}, {"3": -1}, {"3": NAN}, {"3": INF}, {"3": "1"}, {"3": True}, {"3": None}, {"x": 1}, -1, 10,
            "x" * 9999,
        )
    }  # fmt: skip
    for good in (1, np.int32(2), np.array(2), torch.tensor(2)):
        works[f"per_class {good!r}"] = lambda good=good: model.sample("3", good)
        works[f"seed {good!r}"] = lambda good=good: model.sample("3", 1, good)
    works["seed 2^64 - 1"] = lambda: model.sample("3", 1, 2**64 - 1)
    for bad in ("3", 2.0, True, None, NAN, -1, [1], 10**12, 10**400, b"1", object()):
        refused[f"per_class {bad!r:.40}"] = lambda bad=bad: model.sample("3", bad)
        refused[f"npz per_class {bad!r:.40}"] = lambda bad=bad: model.npz("3", bad)
        refused[f"pictures per_class {bad!r:.40}"] = lambda bad=bad: model.pictures("3", bad)
        refused[f"attention per_class {bad!r:.40}"] = lambda bad=bad: model.attention("3", bad)
        refused[f"rows {bad!r:.40}"] = lambda bad=bad: model.interpolate(rows=bad)
        refused[f"steps {bad!r:.40}"] = lambda bad=bad: model.interpolate(steps=bad)
        refused[f"standing {bad!r:.40}"] = lambda bad=bad: model.with_standing_statistics(bad)
        if bad != 10**12:
            refused[f"seed {bad!r:.40}"] = lambda bad=bad: model.sample("3", 1, bad)
            refused[f"interpolate seed {bad!r:.40}"] = lambda bad=bad: model.interpolate(seed=bad)
            refused[f"standing seed {bad!r:.40}"] = lambda bad=bad: model.with_standing_statistics(1, bad)
    for bad in (0, -1, NAN, INF, "0.5", True, [1], object()):
        refused[f"truncation {bad!r:.40}"] = lambda bad=bad: model.with_latents(truncation=bad)
        refused[f"latent_scale {bad!r:.40}"] = lambda bad=bad: model.with_latents(latent_scale=bad)
    works["truncation"] = lambda: model.with_latents(truncation=np.float32(0.5)).sample("3", 1)
    works["latent_scale"] = lambda: model.with_latents(latent_scale=1).sample("3", 1)
    refused["both laws"] = lambda: model.with_latents("a", "b")
    refused["images that are not finite"] = lambda: model.with_latents(latent_scale=1e300).sample("3", 1)
    for bad in ("color", "", None, 3, ["both"]):
        refused[f"vary {bad!r}"] = lambda bad=bad: model.interpolate(bad)
        refused[f"path {bad!r}"] = lambda bad=bad: model.interpolate("both", bad)
    for bad in ("38", ["3"], [], ["3", "4", "5"], {"3": 1}, 3, ["3", None]):
        refused[f"interpolate between {bad!r}"] = lambda bad=bad: model.interpolate(classes=bad)
    works["interpolate"] = lambda: model.interpolate("latent", "spherical", np.int64(1), 2, np.array([3, 4]))
    for bad in ("8,8", [], [3], [(1, 2, 3)], [("a", "b")], [(0.5, 1)], [(8, 0)], [(-1, 0)], 3, {1: 2}, [None]):
        refused[f"positions {bad!r}"] = lambda bad=bad: model.attention("3", 1, bad)
    works["positions"] = lambda: model.attention("3", 1, np.array([[0, 7]]))
    found = model.directions(2, np.str_("3"))
    works["directions"] = lambda: model.along(model.directions(np.int64(2), 3), {"3": 1}, reach=2, steps=np.int64(3))
    for bad in (0, 5, "2", 2.0, True, NAN, [1], object()):
        refused[f"directions {bad!r:.40}"] = lambda bad=bad: model.directions(bad)
    for bad in ("cat", 10, 3.5, True, [3], {"3": 1}):
        refused[f"directions of {bad!r}"] = lambda bad=bad: model.directions(2, bad)
    for bad in (None, 3, "x", [[1.0]], np.eye(4), (found.vectors, found.strengths)):
        refused[f"along {bad!r:.40}"] = lambda bad=bad: model.along(bad, "3")
    for bad in (0, -1, NAN, INF, "1", True, None):
        refused[f"reach {bad!r}"] = lambda bad=bad: model.along(found, "3", reach=bad)
    for bad in (1, "3", 2.0, None, 10**12):
        refused[f"steps along {bad!r}"] = lambda bad=bad: model.along(found, "3", steps=bad)
    refused["npz of a mixture"] = lambda: model.npz({"3": 1})
    return works, refused


def of_translator(folder: Path) -> tuple[Calls, Calls]:
    """The same of a translator."""
    model: Any = translator()
    change = {"Red_Ink": True}
    picture = Image.fromarray(SEVEN)
    file = folder / "a.png"
    picture.save(file)
    (folder / "bad.png").write_bytes(b"no picture")
    modes = [picture.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I")]
    works: Calls = {f"translate {one.mode}": lambda one=one: model.translate([one], change) for one in modes}
    for good in (
        picture, file, str(file), [file, picture, SEVEN], SEVEN, SEVEN[None], SEVEN[..., 0], SEVEN[..., :1], [],
        (picture,), iter([picture]), torch.from_numpy(SEVEN), np.stack([SEVEN, SEVEN]),
    ):  # fmt: skip
        works[f"translate {good!r:.60}"] = lambda good=good: model.translate(good, change)
    works["every_domain"] = lambda: model.every_domain(SEVEN)
    refused: Calls = {}
    for bad in (
        None, 3, b"x", {"a": 1}, object(), [None], [3], SEVEN / 255, [SEVEN.astype(np.float32)], np.zeros(3, np.uint8),
        [np.zeros((4, 4, 2), np.uint8)], np.zeros((0, 4), np.uint8), [[1, 2]], "nowhere.png", folder,
        folder / "bad.png",
        "a\0b", Image.fromarray(np.zeros((4, 4), np.float32)), Image.new("RGB", (0, 5)), torch.zeros(3, 8, 8),
    ):  # fmt: skip
        refused[f"translate {bad!r:.60}"] = lambda bad=bad: model.translate(bad, change)
        refused[f"every_domain {bad!r:.60}"] = lambda bad=bad: model.every_domain(bad)
        refused[f"sheet {bad!r:.60}"] = lambda bad=bad: model.sheet(bad)
    refused["sheet of nothing"] = lambda: model.sheet([])
    for good in ({"Red_Ink": 1}, {"Red_Ink": "1"}, {"Red_Ink": np.bool_(True)}, {"attributes": "Red_Ink"}):
        works[f"change {good!r}"] = lambda good=good: model.translate(picture, good)
    for bad in (
        None, {}, [], "Red_Ink", ["Red_Ink"], {"Red": 1}, {"Red_Ink": 2}, {"Red_Ink": None}, {"Red_Ink": NAN},
        {"Red_Ink": "yes"}, {"Red_Ink": 0.5}, {"Red_Ink": []}, {3: True}, {None: True}, {"Red_Ink": 1, "Blue_Ink": 1},
    ):  # fmt: skip
        refused[f"change {bad!r}"] = lambda bad=bad: model.translate(picture, bad)
    return works, refused


def of_runs(run: Path) -> tuple[Calls, Calls]:
    """The same of what takes a run, a recipe or data."""
    api: Any = condgan
    os.environ["HOME"] = str(run.parent)
    last = max(int(path.name) for path in (run / "checkpoints").iterdir())
    works: Calls = {
        "load ~": lambda: api.load(f"~/{run.name}"),
        "load int": lambda: api.load(run, last),
        "load np": lambda: api.load(run, np.int64(last)),
        "load str": lambda: api.load(str(run), str(last)),
        "recipe": lambda: api.load_recipe("digits-acgan", "seed=3"),
        "metrics": lambda: api.EvaluationOptions(metrics="fd_classifier"),
        "n": lambda: api.EvaluationOptions(n=np.int64(3)),
    }
    refused: Calls = {}
    for bad in (None, 3, b"x", {"a": 1}, [], [None], SEVEN / 255, "nowhere.png", run):
        refused[f"invert {bad!r:.40}"] = lambda bad=bad: api.Run(run).invert(bad)
    for bad in (0, "3", 2.0, True, None, -1, NAN):
        refused[f"invert in classes {bad!r}"] = lambda bad=bad: api.Run(run).invert(SEVEN, bad)
        refused[f"invert in steps {bad!r}"] = lambda bad=bad: api.Run(run).invert(SEVEN, steps=bad)
    pair = [SEVEN, Image.fromarray(SEVEN)]
    works["invert"] = lambda: api.Run(run).invert(pair, np.int64(2), steps=2, seed=np.int64(1))
    for bad in (None, 3, b"x", "nowhere", "a\0b", "", [], object(), "~nobody-at-all/x"):
        refused[f"load {bad!r:.40}"] = lambda bad=bad: api.load(bad)
        refused[f"load_translator {bad!r:.40}"] = lambda bad=bad: api.load_translator(bad)
        refused[f"load_recipe {bad!r:.40}"] = lambda bad=bad: api.load_recipe(bad)
        refused[f"evaluate {bad!r:.40}"] = lambda bad=bad: api.evaluate(bad, "digits")
        refused[f"utility {bad!r:.40}"] = lambda bad=bad: api.utility(bad, "digits")
        refused[f"read {bad!r:.40}"] = lambda bad=bad: api.read(bad, 8, 1)
    for bad in (None, -1, 7, 0.5, True, "first", "", [], NAN):
        refused[f"which {bad!r}"] = lambda bad=bad: api.load(run, bad)
    for bad in (3, b"x", "nowhere", "a\0b", "", [], object(), np.zeros((2, 8, 8)), ["digits", 3], {"a": 1}):
        refused[f"train {bad!r:.40}"] = lambda bad=bad: api.train(bad)
    for bad in (
        {"minutes": 0}, {"minutes": -1}, {"minutes": NAN}, {"minutes": INF}, {"minutes": "x"}, {"minutes": True},
        {"minutes": [1]}, {"recipe": 3}, {"recipe": "nowhere"}, {"recipe": []}, {"overrides": 3}, {"overrides": [3]},
        {"overrides": "seed"}, {"overrides": {"seed": 3}}, {"recipe": "digits-acgan", "minutes": 1},
        {"recipe": "digits-acgan", "translate": True}, {"out": 3}, {"out": ""}, {"out": run.parent},
    ):  # fmt: skip
        refused[f"train {bad!r}"] = lambda bad=bad: api.train("digits", **bad)
    works["a run"] = lambda: api.Run(f"~/{run.name}").sample(np.int64(3), torch.tensor(1))
    works["its sheet"] = lambda: api.Run(run).sheet(np.array(["3", "4"]), np.int64(1))
    works["its mixture's sheet"] = lambda: api.Run(run).sheet({3: np.float32(0.5), "8": 1}, 1)
    for bad in (None, 3, b"x", "nowhere", "a\0b", "", [], object()):
        refused[f"run {bad!r:.40}"] = lambda bad=bad: api.Run(bad)
    for bad in (None, 0, -1, 2.0, "3", True, []):
        refused[f"sheet per_class {bad!r}"] = lambda bad=bad: api.Run(run).sheet("3", bad)
    refused["a run that does not translate"] = lambda: api.Run(run).translate(SEVEN, {"Red_Ink": True})
    for bad in ("half", None, 3, []):
        refused[f"precision {bad!r}"] = lambda bad=bad: api.load(run, precision=bad)
        refused[f"average {bad!r}"] = lambda bad=bad: api.load(run, average=bad)
    for bad in ([3], [None], 3, "seed", ["seed"]):
        refused[f"overrides {bad!r}"] = lambda bad=bad: api.load_recipe("digits-acgan", bad)
    for bad in (
        {"metrics": []}, {"metrics": 3}, {"metrics": [3]}, {"metrics": {"a": 1}}, {"n": 0}, {"n": "3"}, {"n": 2.0},
        {"n": True}, {"split": "x"}, {"split": []}, {"size": "x"}, {"size": 0}, {"size": []}, {"per_class": 3},
        {"extractor": None}, {"weights": 3}, {"skip_bad_images": "yes"},
    ):  # fmt: skip
        refused[f"options {bad!r}"] = lambda bad=bad: api.EvaluationOptions(**bad)
    for bad in (
        {"seed": -1}, {"seed": "x"}, {"truncation": "x"}, {"truncation": 0}, {"standing": 0}, {"standing": "x"},
        {"batch": 1}, {"batch": "x"}, {"which": None}, {"which": "x"}, {"standing": 1, "batch": 2}, {"batch": 2.0},
    ):  # fmt: skip
        sampling = api.Sampling(**bad)
        refused[f"sampling {bad!r}"] = lambda sampling=sampling: api.evaluate(run, sampling=sampling)
    for bad in ("nowhere", 3, b"x", [], object()):
        refused[f"data {bad!r:.40}"] = lambda bad=bad: api.evaluate(run, bad)
    for bad in (
        {"size": 0}, {"size": "x"}, {"size": None}, {"size": 8.0}, {"channels": 2}, {"channels": "1"},
        {"background": "x"}, {"background": 3}, {"crop": "x"}, {"crop": None}, {"held_out": 0}, {"held_out": "x"},
        {"held_out": NAN}, {"attributes": ["x"]}, {"attributes": 3}, {"source": ["digits"] * 2}, {"channels": None},
        {"source": ["digits", 3]}, {"source": {"a": 1}},
    ):  # fmt: skip
        refused[f"read {bad!r}"] = lambda bad=bad: api.read(**{"source": "digits", "size": 8, "channels": 1} | bad)
    return works, refused


def wrong(works: Calls, refused: Calls) -> Iterator[str]:
    """The calls that do not end as they should."""
    for what, call in works.items():
        try:
            call()
        except Exception as error:
            yield f"{what}: should work, and {type(error).__name__}: {error}"
    for what, call in refused.items():
        try:
            found = call()
        except (condgan.UserError, OSError) as error:
            if "\n" in str(error) or len(str(error)) > 600 or (isinstance(error, OSError) and error.filename is None):
                yield f"{what}: not a line that says all: {error}"
        except Exception as error:
            yield f"{what}: should be refused, and {type(error).__name__}: {error}"
        else:
            yield f"{what}: should be refused, and gives {found!r:.60}"


def main(run: Path) -> None:
    for calls in (of_model(), of_translator(run.parent), of_runs(run)):
        for line in wrong(*calls):
            print(" ".join(line.split())[:400])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
