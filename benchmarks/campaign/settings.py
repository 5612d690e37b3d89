"""Recipes' files, and options of recipes and of verbs."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.campaign.cases import Case, Command, Rng
from benchmarks.campaign.damage import VALUES, another, damaged, damaged_text, drawn, one_of, replace_leaf
from condgan import recipes
from condgan.recipes.load import as_tree, load


@cache
def _leaves(name: str) -> list[tuple[str, Any]]:
    """The options of a recipe and their values."""

    def walk(tree: Any, prefix: str) -> list[tuple[str, Any]]:
        if not isinstance(tree, dict):
            return [(prefix, tree)]
        return [(prefix, tree)] * bool(prefix) + [
            one for key, value in tree.items() for one in walk(value, f"{prefix}.{key}".strip("."))
        ]

    return walk(as_tree(load(name)), "")


def _recipe(rng: Rng) -> str:
    return one_of(rng, sorted(recipes.catalog()))


def _as_option(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def options(rng: Rng, folder: Path, shared: Path) -> Case:
    """Options of a recipe with values of any kind; or a verb's options."""
    if rng.random() < 0.3:
        return _verbs(rng, folder, shared)
    name = _recipe(rng)
    overrides = []
    for _ in range(int(rng.integers(1, 4))):
        key, value = one_of(rng, _leaves(name))
        new = another(rng, value) if rng.random() < 0.6 else drawn(rng, VALUES)
        key = damaged_text(rng, key) if rng.random() < 0.05 else key
        overrides.append(f"{key}={_as_option(new)}".replace("\0", ""))
    data = ["--data", "digits"] if load(name).data.source is None else []
    return Case([Command(["train", name, *data, "--dry-run", *overrides])], "", len(overrides))


def _verbs(rng: Rng, folder: Path, shared: Path) -> Case:
    """A verb on a run with odd values."""
    run = Path("run")
    shutil.copytree(shared / run, folder / run)
    value = _as_option(drawn(rng, VALUES)).replace("\0", "")
    option = one_of(
        rng,
        (
            "--classes",
            "--mixture",
            "--per-class",
            "--seed",
            "--truncation",
            "--latent-scale",
            "--standing",
            "--checkpoint",
        ),
    )
    verb = one_of(rng, ("sample", "interpolate", "attention", "train"))
    if verb == "train":
        return Case(
            [Command(["train", str(run / "recipe.yaml"), "--out", "run", f"{option[2:]}={value}"], may_change=True)], ""
        )
    out = one_of(rng, ("o", "o.npz", "run", ".", "run/checkpoints", "/dev/full", "/proc/x", "o/\x1b[31m"))
    return Case([Command([verb, "run", "--out", out, f"{option}={value}"])], "")


def recipe_files(rng: Rng, folder: Path, _: Path) -> Case:
    """A recipe's file, damaged."""
    name = _recipe(rng)
    text = yaml.safe_dump(as_tree(load(name)), sort_keys=False) if rng.random() < 0.5 else recipes.text(name)
    match int(rng.integers(4)):
        case 0:
            content, what = damaged(rng, text.encode()), "bytes"
        case 1:
            content, what = damaged_text(rng, text).encode(one_of(rng, ("utf-8", "utf-16")), "replace"), "text"
        case 2:
            tree = as_tree(load(name))
            for _turn in range(int(rng.integers(1, 4))):
                replace_leaf(rng, tree)
            content, what = yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"), "values"
        case _:
            content, what = _laughs(rng, text).encode(), "laughs"
    (folder / "x.yaml").write_bytes(content)
    return Case([Command(["train", "x.yaml", "--data", "digits", "--dry-run"])], what)


def _laughs(rng: Rng, text: str) -> str:
    """Anchors that refer to each other."""
    depth, width = int(rng.integers(2, 12)), int(rng.integers(2, 12))
    lines = [f"l0: &l0 [{', '.join(['a'] * width)}]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * width)}]" for i in range(1, depth)]
    key = one_of(rng, ("data", "name", "seed", "generator", "averages", "x"))
    ending = one_of(rng, (f"{key}: *l{depth - 1}", f"{key}: &r [*r]", f"<<: *l{depth - 1}"))
    return one_of(rng, ("\n".join([*lines, text, ending]), text.replace("{", "{attributes: [" + "[" * depth * 50, 1)))
