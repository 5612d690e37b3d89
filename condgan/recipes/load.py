"""Recipes from YAML files, overridden by key=value, and written back."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from condgan.recipes import DEFAULT, text
from condgan.recipes.schema import Part, Recipe, check_names, type_error
from condgan.recipes.values import DEEPEST, read_values
from condgan.utils.arguments import several
from condgan.utils.errors import UserError, shown


def load(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that YAML file, with overrides such as g_opt.lr=1e-4.

    Raises UserError for an unknown recipe or option (with the closest known one) and for a wrong type.
    """
    tree = _tree(name)
    for override in several("overrides", overrides):
        if not isinstance(override, str):
            raise UserError(f"{shown(repr(override))} given: expected an override such as 'g_opt.lr=1e-4'")
        _override(tree, override)
    return from_tree(tree)


def dump(recipe: Recipe) -> str:
    """The whole recipe, every default spelled out, as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(as_tree(recipe), sort_keys=False, width=120)


def as_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain nested mappings."""

    def plain(value: Any) -> Any:
        if isinstance(value, Part):
            return {"name": value.name} | {name: plain(option) for name, option in value.options.items()}
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {name: plain(one) for name, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, tuple) else value

    return plain(recipe)


def from_tree(tree: Mapping[str, Any]) -> Recipe:
    """The recipe of plain nested mappings, validated."""
    if not isinstance(tree, Mapping):
        raise UserError(f"{shown(repr(tree))} given: expected the settings of a recipe")
    check_names(Recipe, tree, "")
    try:
        return TypeAdapter(Recipe).validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, UserError):
            raise cause from None
        raise type_error("", error) from None


def differences(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """The options in which two recipes differ, by their dotted names."""
    a, b = dict(_leaves(as_tree(before))), dict(_leaves(as_tree(after)))
    return {key: (a.get(key), b.get(key)) for key in [*a, *(b.keys() - a.keys())] if a.get(key) != b.get(key)}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tree(name: str | Path) -> dict[str, Any]:
    expected = f"expected a mapping such as `condgan recipes {DEFAULT}` prints"
    tree = read_values(text(name), f"recipe '{name}'", expected)
    if not isinstance(tree, dict):
        raise UserError(f"recipe '{name}' holds no settings: {expected}")
    return {"name": Path(name).stem} | tree


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *sections, last = key.split(".")
    if not (equals and all((*sections, last))):
        raise UserError(f"'{shown(override)}' given: expected an override such as g_opt.lr=1e-4")
    for depth, section in enumerate(sections):
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"'{shown(override)}' given: '{section}' is an option, not a section")
        if depth == DEEPEST:
            raise UserError(f"'{shown(override)}' given: expected an option of a recipe, none lies so deep")
    tree[last] = read_values(value, f"'{shown(override)}'", "expected a value such as 1e-4, true or [0, 0.9]")
