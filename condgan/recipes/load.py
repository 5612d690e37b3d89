"""Recipes from YAML files, overridden by key=value, and written back."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from condgan.recipes import DEFAULT, text
from condgan.recipes.schema import Part, Recipe, check_names, type_error
from condgan.utils.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in YAML 1.2, and 2e6 a whole one."""


def _construct_number(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    number = float(node.value)
    return int(number) if number.is_integer() and "." not in node.value and "-" not in node.value[1:] else number


_Loader.add_implicit_resolver(
    "!exponent", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


_Loader.add_constructor("!exponent", _construct_number)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)


def load(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that YAML file, with overrides such as g_opt.lr=1e-4.

    Raises UserError for an unknown recipe or option (with the closest known one) and for a wrong type.
    """
    tree = _tree(name)
    for override in overrides:
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


def from_tree(tree: dict[str, Any]) -> Recipe:
    """The recipe of plain nested mappings, validated."""
    check_names(Recipe, tree, "")
    try:
        return TypeAdapter(Recipe).validate_json(json.dumps(tree, default=str))
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
    try:
        tree = _parse(text(name))
    except yaml.YAMLError as error:
        raise UserError(f"recipe '{name}' is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(
            f"recipe '{name}' holds no settings: expected a mapping such as `condgan recipes {DEFAULT}` prints"
        )
    return {"name": Path(name).stem} | tree


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not (key and equals):
        raise UserError(f"'{override}' given: expected an override such as g_opt.lr=1e-4")
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"'{override}' given: '{section}' is an option, not a section")
    try:
        tree[last] = _parse(value)
    except yaml.YAMLError:
        raise UserError(f"'{override}' given: '{value}' cannot be read as a value") from None
