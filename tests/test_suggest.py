"""Which networks, length and rules are chosen, by speeds that a test sets, and how a chosen run goes on."""

from pathlib import Path

import pytest

from condgan import suggest, timing
from condgan.data.mirror import Mirrored
from condgan.data.survey import Survey
from condgan.recipes.load import dump
from condgan.recipes.schema import Recipe
from condgan.runs.chosen import ChosenRun, choose_run
from condgan.suggest import LADDER, choose_recipe, look_at_data, two_digits
from condgan.utils.errors import UserError
from tests.conftest import write_image
from tests.helpers import condgan, refused


def pictures(root: Path, counts: dict[str, int], size: int = 64) -> str:
    for i, (name, count) in enumerate(counts.items()):
        for j in range(count):
            write_image(root / name / f"{name}{j}.png", (40 * i + j) % 250, (size, size), "RGB")
    return str(root)


@pytest.fixture
def pets(tmp_path: Path) -> str:
    return pictures(tmp_path / "pets", {"cat": 3, "dog": 3})


@pytest.fixture
def look(pets: str) -> Survey:
    return look_at_data([pets], [])


def pixels_per_second(monkeypatch: pytest.MonkeyPatch, speed: float) -> None:
    """A machine whose time goes with the pixels of images and with the width of networks."""

    def timed(recipe: Recipe, _labels: object) -> float:
        return speed / (int(recipe.data.size) ** 2 * recipe.generator.options["width"])

    monkeypatch.setattr(timing, "images_per_second", timed)


def width(recipe: Recipe) -> int:
    return recipe.generator.options["width"]


def test_the_time_decides_on_networks_and_length(look: Survey, pets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels_per_second(monkeypatch, 0.75e7)
    found = {minutes: choose_recipe(look, pets, [], minutes) for minutes in (0.5, 2.0, 60.0, 600.0)}
    sizes = [one.recipe.data.size for one in found.values()]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    for minutes, one in found.items():
        recipe = one.recipe
        worth = [rung for rung in LADDER if rung.size == recipe.data.size]
        assert recipe.schedule.images == two_digits(timing.images_within(minutes, one.speed))
        assert timing.images_within(minutes, one.speed) >= worth[0].images
        assert recipe.schedule.save == pytest.approx(recipe.schedule.images / 10, rel=0.06)
    assert width(found[600].recipe) == 2 * width(found[60].recipe)
    assert "since 0.5 minutes at 32 are" in "\n".join(found[0.5].lines)
    assert "since the median picture is 64×64" in "\n".join(found[600].lines)


def test_what_is_said_is_what_is_measured(look: Survey, pets: str) -> None:
    recipe, lines, _ = choose_recipe(look, pets, [], 10.0)
    assert lines[0].startswith("measured       32 pixels, width 8: 100 images/s; 32 pixels, width 16: 100 images/s")
    assert any(line.startswith("takes          about 10 minutes on this machine") for line in lines)
    assert recipe.schedule.images == 48_000
    assert recipe.description == "chosen for 'pets' and 10 minutes"


def test_what_is_stated_stays(look: Survey, pets: str) -> None:
    stated = ["data.size=16", "schedule.images=1234", "generator.width=8", "data.flip=true", "description=mine"]
    recipe, lines, _ = choose_recipe(look, pets, stated, 10.0)
    assert (recipe.data.size, recipe.schedule.images, width(recipe), recipe.data.flip) == (16, 1234, 8, True)
    assert recipe.description == "mine"
    assert len(lines[0].split(";")) == 1, "nothing else is tried"
    assert not any("flips" in line or "1,234" in line or "16 pixels, since" in line for line in lines)


@pytest.mark.parametrize(
    ("mirrored", "flip", "said"),
    [
        (Mirrored(1000, 2000), True, "since few mirrored images look different: a network tells 50% of 2,000"),
        (Mirrored(1800, 2000), False, "no flips, since mirrored images look different: a network tells 90% of 2,000"),
        (None, False, "no flips, since 4 images are too few to tell"),
    ],
)
def test_flips_are_for_images_whose_mirror_images_are_like_them(
    look: Survey, pets: str, monkeypatch: pytest.MonkeyPatch, mirrored: Mirrored | None, flip: bool, said: str
) -> None:
    monkeypatch.setattr(suggest, "tell_mirrored", lambda _images, _labels: mirrored)
    recipe, lines, _ = choose_recipe(look, pets, [])
    assert recipe.data.flip == flip
    assert any(said in line for line in lines)


def test_few_images_a_class_are_warned_of(look: Survey, pets: str, tmp_path: Path) -> None:
    assert any("2 images a class to train on are few" in line for line in choose_recipe(look, pets, []).lines)
    many = pictures(tmp_path / "many", {"a": 60}, size=8)
    assert not any(
        "a class to train on are few" in line for line in choose_recipe(look_at_data([many], []), many, []).lines
    )


def test_a_rule_that_does_not_apply_leaves_no_trace(look: Survey, pets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        rule = suggest.Rule(lambda _, there=there: there, ["data.pad_crop=4"], "{images} images are shifted")
        monkeypatch.setattr(suggest, "RULES", (rule,))
        recipe, lines, _ = choose_recipe(look, pets, [])
        assert recipe.data.pad_crop == 4 * there
        assert ("chose          4 images are shifted" in lines) == there


@pytest.fixture
def _in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """What images show has its place."""
    monkeypatch.setattr(suggest, "share_in_place", lambda _images: suggest.LOOSE)


@pytest.mark.usefixtures("_in_place")
def test_images_that_are_seen_again_and_again_are_augmented(look: Survey, pets: str) -> None:
    stated = choose_recipe(look, pets, ["objective.adversarial=hinge"], 10.0).recipe
    assert stated.augment.name == "ada"
    assert stated.augment.options["images"] == 24_000
    assert not stated.augment.options["color"]
    often = choose_recipe(look, pets, [], 10.0)
    penalties = often.recipe.objective.options["penalties"]
    assert (penalties.approximate_r1, penalties.consistency, often.recipe.augment.name) == (1, 0, "none")
    assert any("since each image is seen 12000 times" in line for line in often.lines)
    seldom = choose_recipe(look, pets, ["schedule.images=399"], 10.0)
    assert seldom.recipe.augment.name == "none"
    assert seldom.recipe.objective.options["penalties"].approximate_r1 == 0
    assert not any("augment" in line or "penalty" in line for line in seldom.lines)


def test_scores_are_the_same_for_shifted_images_that_are_seen_again_and_again(look: Survey, pets: str) -> None:
    often = choose_recipe(look, pets, [], 10.0)
    penalties = often.recipe.objective.options["penalties"]
    assert (penalties.consistency, penalties.approximate_r1, often.recipe.augment.name) == (10, 0, "none")
    assert any("since each image is seen 12000 times" in line for line in often.lines)
    stated = choose_recipe(look, pets, ["objective.adversarial=hinge"], 10.0).recipe
    assert (stated.objective.options["penalties"].consistency, stated.augment.name) == (0, "ada")
    seldom = choose_recipe(look, pets, ["schedule.images=399"], 10.0).recipe
    assert seldom.objective.options["penalties"].consistency == 0


@pytest.mark.usefixtures("_in_place")
@pytest.mark.parametrize(
    ("stated", "changed", "left"),
    [("augment.name=diffaugment", "penalty", "ada"), ("objective.adversarial=hinge", "ada", "penalty")],
)
def test_what_was_said_of_a_part_stands_for_all_of_it(
    look: Survey, pets: str, stated: str, changed: str, left: str
) -> None:
    lines = "\n".join(choose_recipe(look, pets, [stated], 10.0).lines)
    assert changed in lines
    assert left not in lines


def test_what_does_not_go_with_the_chosen_parts_is_left_out(look: Survey, pets: str) -> None:
    other = choose_recipe(look, pets, ["backbone={name: acgan, width: 8}"], 10.0).recipe
    penalties = other.objective.options["penalties"]
    assert (penalties.consistency, penalties.approximate_r1) == (0, 0), "they are no part for strangers"
    squares = choose_recipe(look, pets, ["objective.adversarial=least-squares"], 10.0).recipe
    assert squares.augment.name == "none", "its scores tell nothing by their sign"
    falling = choose_recipe(look, pets, ["schedule.decay=1000"], 10.0).recipe
    assert (falling.schedule.decay, falling.schedule.patience) == (1000, None)


@pytest.mark.usefixtures("_in_place")
def test_what_slows_training_shortens_it(look: Survey, pets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "images_per_second", lambda recipe, _: 100 / (1 + (recipe.augment.name == "ada")))
    recipe, lines, _ = choose_recipe(look, pets, ["objective.adversarial=hinge"], 10.0)
    assert recipe.schedule.images == 24_000
    assert recipe.augment.options["images"] == 12_000, "what is told and set goes with the shorter run"
    assert any("each is seen 6000 times" in line for line in lines)


def test_files_of_the_same_names_may_be_translated(tmp_path: Path, pets: str) -> None:
    for name in ("back", "front"):
        for j in range(4):
            write_image(tmp_path / "views" / name / f"{j}.png", 9 * j, (20, 20))
    views = str(tmp_path / "views")
    told = choose_recipe(look_at_data([views], []), views, [])
    assert any("--translate (any-stargan with data.paired=true)" in line for line in told.lines)
    recipe = choose_recipe(look_at_data([views], [], translate=True), views, [], translate=True).recipe
    assert (recipe.generator.name, recipe.data.paired) == ("stargan", True)
    assert recipe.schedule.decay == pytest.approx(recipe.schedule.images / 2, abs=1)
    recipe, lines, _ = choose_recipe(look_at_data([pets], [], translate=True), pets, [], translate=True)
    assert (recipe.generator.name, recipe.data.paired) == ("stargan", False)
    assert not any("same names" in line for line in lines)


def begun(pets: str, *overrides: str, **how: object) -> ChosenRun:
    """Choose a run, and begin it as far as its recipe."""
    found = choose_run([pets], overrides, **how)
    found.directory.mkdir(parents=True, exist_ok=True)
    (found.directory / "recipe.yaml").write_text(dump(found.recipe))
    return found


def test_the_same_command_goes_on_with_its_run(pets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begun(pets, "seed=3", minutes=10.0)
    pixels_per_second(monkeypatch, 5e6)
    for minutes in (10.0, None):
        again = begun(pets, "seed=3", minutes=minutes)
        assert again[:2] == first[:2]
        assert "the recipe of run 'runs/pets', since it is there" in again.lines[-1]
        assert again.speed is None, "nothing is timed"
    fresh = choose_run([pets], ["seed=3"], 10.0, fresh=True)
    assert fresh.directory == Path("runs/pets-2")
    assert fresh.recipe != first.recipe


def test_more_minutes_are_more_images_of_the_same_run(pets: str) -> None:
    first = begun(pets, minutes=10.0, out=Path("here"))
    more = begun(pets, minutes=20.0, out=Path("here"))
    assert more.directory == first.directory
    assert more.recipe.schedule.images == 2 * first.recipe.schedule.images
    assert more.recipe.schedule.save == first.recipe.schedule.save
    assert more.recipe.schedule.patience == 2 * first.recipe.schedule.patience
    assert begun(pets, minutes=20.0, out=Path("here")).recipe == more.recipe
    less = begun(pets, minutes=5.0, out=Path("here"))
    assert less.recipe == more.recipe
    assert less.lines[-1] == "chose          96,000 images of training as before: 5 minutes are less"


def test_a_run_whose_rates_fall_gets_no_more(pets: str) -> None:
    begun(pets, minutes=10.0, translate=True)
    begun(pets, minutes=10.0, translate=True)
    with pytest.raises(UserError, match=r"--minutes 20 given, and the learning rates of run 'runs/pets' fall to zero"):
        choose_run([pets], [], 20.0, translate=True)


def test_what_no_recipe_is_chosen_by_is_refused(pets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = "train", "--data", pets, "--dry-run"
    refused(condgan(capsys, *train, "--minutes", 0), "--minutes 0 given: expected a time above 0")
    refused(condgan(capsys, *train, "--minutes", "nan"), "--minutes nan given")
    refused(condgan(capsys, "train", "any-projection", "--data", pets, "--minutes", 3), "--minutes 3 given with recipe")
    refused(condgan(capsys, "train", "any-projection", "--data", pets, "--translate"), "--translate given with recipe")
    refused(condgan(capsys, "train", "--minutes", 3), "--minutes 3 given without --data")
    refused(condgan(capsys, "train", "--data", pets, "--full"), "--full given without --dry-run")
    alone = pictures(tmp_path / "alone", {"cat": 3})
    refused(condgan(capsys, "train", "--data", alone, "--translate"), "--translate given with images of one class")
    done = condgan(capsys, *train, "--minutes", 10)
    assert done.code == 0, done.err
    assert "\ntime           about 10 minutes: 48,000 images of training, 100 in a second\n" in done.out
    assert "run directory  runs/pets" in done.out


@pytest.mark.parametrize(("count", "rounded"), [(0.2, 1), (7, 7), (1_234, 1_200), (99_900, 100_000), (48_000, 48_000)])
def test_counts_are_rounded_to_two_digits(count: float, rounded: int) -> None:
    assert two_digits(count) == rounded
