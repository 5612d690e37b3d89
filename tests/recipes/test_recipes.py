import json
import re
from pathlib import Path

import pytest

import condgan
from condgan.build import build_state
from condgan.data.open import read
from condgan.labels import LabelSpec
from condgan.recipes import DEFAULT, catalog, names, text
from condgan.recipes.load import as_tree, differences, dump, load
from condgan.recipes.schema import Part
from condgan.suggest import run_name
from condgan.utils.errors import UserError
from tests.golden import ELSEWHERE, written

NAMES = names()


def test_the_recipes_are_there() -> None:
    """Each is a file, and is in the golden file and in the list; none that they, the code or the pages name is not."""
    files = {path.stem for path in (Path(condgan.__file__).parent / "recipes").glob("*.yaml")}
    assert files == set(NAMES) == set(written()) - set(ELSEWHERE) == set(catalog())
    root = Path(__file__).parents[2]
    pages = "".join(page.read_text() for page in (root / "README.md", *(root / "docs").glob("*.md")))
    named = re.findall(r"condgan (?:train|recipes) ([a-z0-9]+(?:-[a-z0-9]+)+)", pages)
    assert {DEFAULT, "any-biggan", "any-projection", "any-stargan", *named} <= files
    assert len(set(named)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_recipe_loads_again(name: str, tmp_path: Path) -> None:
    recipe = load(name, ["seed=7"])
    (tmp_path / "again.yaml").write_text(dump(recipe))
    assert load(tmp_path / "again.yaml") == recipe
    assert recipe.description in text(name)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("g_opt.lr=1e-4", "g_opt", "lr", 1e-4),
        ("schedule.images=5e4", "schedule", "images", 50_000),
        ("schedule.batch=1e2", "schedule", "batch", 100),
        ("schedule.images=50_000", "schedule", "images", 50_000),
        ("g_opt.betas=[0, 0.9]", "g_opt", "betas", (0.0, 0.9)),
        ("schedule.joint=false", "schedule", "joint", False),
        ("ema.decay=0", "ema", "decay", 0.0),
    ],
)
def test_overrides_are_read_by_type(override: str, section: str, key: str, value: object) -> None:
    found = getattr(load("digits-acgan", [override]), section)
    assert (found.options[key] if isinstance(found, Part) else getattr(found, key)) == value


def test_parts_take_their_constructors_options() -> None:
    recipe = load("digits-acgan", ["generator.width=8", "objective.weight=3"])
    assert recipe.generator.options["width"] == 8
    assert recipe.generator.options["conditioning"] == "concatenate"
    assert recipe.objective.options["weight"] == 3.0


def test_nested_options_are_filled_in_and_overridden() -> None:
    recipe = load("digits-biggan", ["backbone.spectral_norm.iterations=2", "generator.spectral_norm=null"])
    assert as_tree(recipe)["backbone"]["spectral_norm"] == {"values": 1, "iterations": 2, "eps": 1e-8}
    assert as_tree(recipe)["generator"]["spectral_norm"] is None
    recipe = load("digits-biggan", ["objective.penalties.gradient_penalty=10"])
    assert as_tree(recipe)["objective"]["penalties"]["gradient_penalty"] == 10


def test_learning_to_classify_first_needs_a_classifier() -> None:
    with pytest.raises(UserError, match=r"head 'projection' given with schedule.init_classifier"):
        load("digits-projection", ["schedule.init_classifier=100"])


def test_differences_name_what_changed() -> None:
    changed = differences(load("digits-acgan"), load("digits-acgan", ["g_opt.lr=7e-3", "generator.width=8"]))
    assert changed["g_opt.lr"][1] == 7e-3
    assert set(changed) == {"g_opt.lr", "generator.width"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("g_opt.lrr=1", "unknown option 'g_opt.lrr': did you mean 'g_opt.lr'?"),
        ("shedule.images=1", "unknown option 'shedule': did you mean 'schedule'?"),
        ("generator.widht=3", "unknown option of the generator 'acgan' 'widht': did you mean 'width'?"),
        ("generator.name=agan", "unknown generator 'agan': did you mean 'acgan'?"),
        ("objective.adversarial=hing", "option objective.adversarial: 'hing' given, expected"),
        ("g_opt.lr=fast", "option g_opt.lr: 'fast' given, expected a valid number"),
        ("g_opt.lr=-1", "option g_opt.lr: -1 given, expected greater than 0"),
        ("schedule.batch=1", "option schedule.batch: 1 given, expected greater than or equal to 2"),
        ("schedule.accumulate=3", "must divide into equal parts"),
        ("schedule.accumulate=64", "parts of two images or more"),
        ("schedule.d_steps=true", "option schedule.d_steps: True given, expected a valid integer"),
        ("g_opt.lr=.inf", "option g_opt.lr: inf given, expected a finite number"),
        ("generator.width=-5", "option generator.width: -5 given, expected greater than or equal to 2"),
        ("generator.name=[1]", "unknown generator '[1]'"),
        ("backbone.dropout=2", "option backbone.dropout: 2 given, expected less than 1"),
        ("objective.weight=.nan", "option objective.weight: nan given"),
        (
            "data.size=160000",
            "size '160000' given: expected pixels such as 64, or WIDTHxHEIGHT such as 96x64, up to 4096",
        ),
        ("generator.width=1e-2", "option generator.width: 0.01 given, expected a valid integer"),
        ("schedule=3", "option schedule: 3 given, expected a section"),
        ("data.channels=2", "option data.channels: 2 given, expected 1, 3 or 4"),
        ("seed.x=3", "'seed.x=3' given: 'seed' is an option, not a section"),
        ("=3", "expected an override such as g_opt.lr=1e-4"),
        ("seed=[", "'seed=[' cannot be read"),
        ("generator=acgan", "expected a mapping with the key 'name'"),
        (
            "head.name=projection",
            "with objective 'acgan': expected classifier or domain or adc or twin; set head.name=",
        ),
        ("objective.name=tacgan", "head 'classifier' given with objective 'tacgan': expected twin; set head.name=twin"),
        ("objective.name=gan", "head 'classifier' given with objective 'gan': expected projection or plain"),
        ("objective.adversarial=wasserstein", "add objective.penalties.gradient_penalty=10"),
        ("objective.penalties.r1=-1", "option objective.penalties.r1: -1 given, expected greater than or equal to 0"),
        ("objective.penalties.r3=1", "unknown option 'objective.penalties.r3': did you mean 'objective.penalties.r"),
    ],
)
def test_wrong_overrides_are_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load("digits-acgan", ["seed=0", override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_recipes_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown recipe 'digit-acgan': did you mean 'digits-acgan'\?"):
        load("digit-acgan")
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read .*give a YAML file in UTF-8"):
        load(tmp_path / "binary.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UserError, match="recipe '.*bad.yaml' cannot be read"):
        load(tmp_path / "bad.yaml")
    (tmp_path / "less.yaml").write_text(text("digits-acgan").replace("ema:", "# ema:"))
    with pytest.raises(UserError, match="option ema is missing"):
        load(tmp_path / "less.yaml")


def test_what_no_machine_holds_is_refused_before_it_is_made() -> None:
    with pytest.raises(UserError, match=r"networks of this width .* GiB of .*: lower generator.width"):
        build_state(
            load("digits-acgan", ["generator.width=65536", "generator.latent_dim=65536"]), LabelSpec.of_classes("ab")
        )
    with pytest.raises(UserError, match=r"digits of 4096×4096 pixels .* GiB of .*: lower data.size"):
        read("digits", 4096, 4)


@pytest.mark.parametrize(
    ("stem", "name"),
    [("photos", "photos"), ("", "_"), ("..", "_"), ("x" * 200, "x" * 100), ("a\nb", "a_b"), ("猫 1", "猫 1")],
)
def test_a_suggested_run_is_called_like_its_data_as_far_as_a_folder_can(stem: str, name: str) -> None:
    assert run_name(stem) == name
    assert load("digits-acgan", [f"name={json.dumps(run_name(stem))}"]).name == name
