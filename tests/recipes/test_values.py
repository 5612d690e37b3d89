"""What YAML may hold, and that whatever else is given for an option is told in one line, soon."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from condgan.build import empty_networks
from condgan.labels import LabelSpec
from condgan.recipes import text
from condgan.recipes.load import as_tree, from_tree, load
from condgan.recipes.values import MOST, read_values
from condgan.utils.errors import UserError
from condgan.utils.limits import TEXT

MERGED = "a: &a {x: 1, y: 2}\nb: &b {x: 3, z: 4}\nc:\n  <<: [*a, *b]\n  y: 5"
LAUGHS = "[" + "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1], " * 10 + "]"
for level in "bcdefgh":
    LAUGHS = f"[&{level} {LAUGHS}{f', *{level}' * 9}]"


def read(text: str) -> Any:
    return read_values(text, "recipe 'x.yaml'", "mend it")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: '5'\nb: !!str 5\nc: 1e-4\nd: 2e6\ne: 1_000", {"a": "5", "b": "5", "c": 1e-4, "d": 2_000_000, "e": 1000}),
        ("a: [null, true, 'no', 0.5]", {"a": [None, True, "no", 0.5]}),
        (r'a: "\ud83d\ude00"', {"a": "😀"}),
        ("a: &a [1, 2]\nb: *a", {"a": [1, 2], "b": [1, 2]}),
        (f"{MERGED}", {"a": {"x": 1, "y": 2}, "b": {"x": 3, "z": 4}, "c": {"x": 1, "y": 5, "z": 4}}),
    ],
)
def test_plain_values_are_read(text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, f"more than {MOST:,} values"),
        ("[" * 100_000, "nested more than"),
        ("- " * 100_000, "nested more than"),
        ("&a [*a]", r"its \*a stands for nothing"),
        ("a: &a\n  <<: *a", r"its \*a stands for nothing"),
        ("a: *b", r"its \*b stands for nothing"),
        ("a: " + "9" * 5000, "is no int"),
        ("a: 1:" + "59:" * 5000 + "1", "is no int"),
        ("a: !!int abc", "'abc' is no int"),
        ("a: !!int", "'' is no int"),
        ("a: !!float x", "'x' is no float"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!binary aGk=", "kind 'binary'"),
        ("a: !!set {x}", "kind 'set'"),
        ("a: !!timestamp 2020-01-01", "kind 'timestamp'"),
        ("a: !!python/object/apply:os.getcwd []", "kind 'python/object/apply:os.getcwd'"),
        ("a: !mine 3", "kind '!mine'"),
        ("a: 1\na: 2", "its key 'a' stands there twice"),
        ("1: 2", "its key 1 is no text"),
        ("yes: 2", "its key yes is no text"),
        ("[1]: 2", "is no text"),
        ("a: {<<: 3}", "before what is no mapping"),
        ("a: 1\n---\nb: 2", "several documents"),
        ("a:\n\t- b", "cannot start any token"),
        ("a: \0", "not allowed"),
        (r'a: "\ud800"', "decode"),
        ("a: \udcff", "not allowed"),
    ],
)
def test_anything_else_is_told_in_one_line_at_once(text: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=f"recipe 'x.yaml' cannot be read .*{said}.*: mend it") as error:
        read(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert time.monotonic() - began < 5


def test_a_recipe_is_a_file_of_text_that_is_not_large(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("\ufeff" + text("digits-acgan"), encoding="utf-8")
    assert load(recipe).name == "mine"
    assert load(str(recipe), "seed=3").seed == 3
    for content, said in ((bytes(TEXT + 1), "more than 1,048,576 bytes"), ("a: 1".encode("utf-16"), "in UTF-8")):
        recipe.write_bytes(content)
        with pytest.raises(UserError, match=said):
            load(recipe)
    recipe.unlink()
    os.mkfifo(recipe)
    with pytest.raises(UserError, match="is no file"):
        load(recipe)
    with pytest.raises(UserError, match="expected a path"):
        load("a\0.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        " a",
        "a ",
        "\x1b[31m",
        "x" * 101,
        "é" * 51,
        "\udcff",
    ],
)
def test_a_name_is_one_that_a_folder_can_have(name: str) -> None:
    tree = as_tree(load("digits-acgan"))
    with pytest.raises(UserError) as error:
        from_tree(tree | {"name": name})
    assert "\n" not in str(error.value)
    with pytest.raises(UserError):
        from_tree(tree | {"averages": {name: {"decay": 0.5}}})


def test_other_names_are_names() -> None:
    for name in ("digits-acgan", "Stiefmütterchen 2", "猫", "2024-01-01", "a:b", "x" * 100):
        assert load("digits-acgan", [f"name='{name}'"]).name == name


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("generator.width=100_000_000", "less than or equal to 65536"),
        ("generator.latent_dim=1e9", "less than or equal to 65536"),
        ("data.classes=1e12", "less than or equal to 1000000"),
        ("data.classes=1e308", "option data.classes: 1000"),
        ("schedule.images=1e300", "less than or equal to 1000000000000"),
        ("schedule.d_steps=1e6", "less than or equal to 64"),
        ("data.pad_crop=1e9", "less than or equal to 4096"),
        ("data.background=nothing", "expected a color"),
        (f"data.attributes=[{'a, ' * 20_000}]", "at most 10000"),
        (f"objective.name={'x' * 5000}", "unknown objective 'xxx"),
        (f"{'a.' * 1000}b=1", "none lies so deep"),
        ("a..b=1", "expected an override"),
    ],
)
def test_options_are_bounded(override: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load("digits-acgan", [override])
    assert said in str(error.value)
    assert len(str(error.value)) < 600


def test_networks_of_any_depth_are_bounded() -> None:
    for name, override in (
        ("digits-stargan", "generator.blocks=1e6"),
        ("biggan-deep-imagenet128", "generator.depth=99"),
    ):
        with pytest.raises(UserError, match="less than or equal to"):
            load(name, [override])


def options(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from options(value, f"{prefix}{name}.")


VALUES = (
    "null", "true", "-1", "0", "1", "3", "65536", "1e8", "1e308", ".nan", ".inf", "0.5", '""', f'"{"x" * 1000}"',
    '"a\\0b"', "[]", "{}", "[[1]]", "[null]", "{a: 1}", "{name: x}", "2020-01-01", "!!set {a}", "[[x, x]]",
    "{start: 0, end: 1e308, images: 1}",
)  # fmt: skip
RECIPES = ("digits-acgan", "digits-biggan", "digits-stargan", "tacgan-imagenet128")
OPTIONS = [(name, option) for name in RECIPES for option in dict.fromkeys(options(as_tree(load(name))))]


@settings(max_examples=150, deadline=timedelta(seconds=10), suppress_health_check=list(HealthCheck))
@given(st.sampled_from(OPTIONS), st.sampled_from(VALUES))
def test_any_value_of_any_option_gives_a_recipe_or_one_line(option: tuple[str, str], value: str) -> None:
    said = refusal(option[0], f"{option[1]}={value}")
    assert "\n" not in said
    assert len(said) < 700


def refusal(name: str, override: str) -> str:
    try:
        recipe = load(name, [override])
        empty_networks(recipe, recipe.data.published_spec() or LabelSpec.of_classes(["a", "b"]))
    except UserError as error:
        return str(error)
    return ""
