"""The packaged recipes as they are written: names, descriptions and YAML."""

from importlib.resources import files
from pathlib import Path

import yaml

from condgan.utils.errors import UserError, said_of, unknown
from condgan.utils.files import path_of
from condgan.utils.limits import TEXT, TooLarge, read_at_most

DEFAULT = "digits-acgan"


def names() -> list[str]:
    """The packaged recipes' names, sorted."""
    return sorted(path.name.removesuffix(".yaml") for path in files(__name__).iterdir() if path.name.endswith(".yaml"))


def catalog() -> dict[str, str]:
    """The packaged recipes' names and descriptions."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times as fast
    return {name: yaml.load(_packaged(name), loader)["description"] for name in names()}


def text(name: str | Path) -> str:
    """A recipe's YAML as written, by name or from a file. Raises UserError where there is none."""
    path = path_of(name, "recipe")
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            wrong = "is no file" if path.exists() else "does not exist"
            raise UserError(f"recipe file '{path}' {wrong}: give a YAML file, or a name that `condgan recipes` lists")
        expected = f"give a YAML file in UTF-8 such as `condgan recipes {DEFAULT}` prints"
        with said_of(f"recipe file '{path}'", expected, UnicodeDecodeError, TooLarge), open(path, "rb") as file:
            return read_at_most(file, TEXT).decode("utf-8-sig")
    if str(name) not in names():
        if (path / "recipe.yaml").is_file():
            raise UserError(f"recipe '{path}' given, which is a run: give '{path}/recipe.yaml' and --out '{path}'")
        raise unknown("recipe", name, names())
    return _packaged(str(name))


def _packaged(name: str) -> str:
    return files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
