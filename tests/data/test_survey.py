"""What `condgan data` says of labeled images, and which recipe `condgan train` chooses for them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgan import suggest
from condgan.data.open import list_source
from condgan.data.survey import describe_survey, quick_look, survey, warnings
from condgan.estimate import count_parameters
from condgan.recipes.load import dump, load
from condgan.suggest import choose_recipe
from condgan.utils.files import cache_directory
from tests.conftest import write_image
from tests.helpers import condgan, refused


def folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (40, 36), mode: str = "RGB") -> Path:
    for i, (name, count) in enumerate(counts.items()):
        for j in range(count):
            write_image(root / name / f"{j}.png", (37 * i + j) % 200 + 20, size, mode)
            if mode != "L":
                with Image.open(root / name / f"{j}.png") as picture:
                    marked = np.array(picture)
                marked[0, 0] = j % 250
                Image.fromarray(marked).save(root / name / f"{j}.png")
    return root


def said(root: Path) -> list[str]:
    return warnings(survey(list_source(str(root))))


def test_a_data_set_is_described(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photos / "apple" / "0.png", photos / "apple" / "again.png")
    (photos / "banana" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    done = condgan(capsys, "data", photos, "--out", "look.png")
    assert done.code == 0, done.err
    lines = {line.partition(" ")[0]: line for line in done.out.splitlines()}
    assert lines["images"] == "images         26 of 3 classes: 23 to train on, 3 held out"
    assert lines["classes"].endswith("apple 9, banana 9, cherry 8")
    assert "16×24 to 23×17" in lines["sizes"] or "16×" in lines["sizes"]
    assert lines["formats"].endswith("PNG 25")
    assert set(lines["modes"].split()[1::2]) == {"L", "RGB", "RGBA", "P"}
    assert "1 of other images, such as" in lines["copies"]
    assert "1: 'banana/broken.jpg' of class 'banana'" in lines["unreadable"]
    assert lines["look"].endswith("look.png")
    with Image.open("look.png") as sheet:
        assert sheet.width > 3 * 64
        assert sheet.height > 8 * 64
    found = json.loads(condgan(capsys, "data", photos, "--json").out)
    assert found["counts"]["apple"] == {"train": 8, "held_out": 1}
    assert (
        found["unreadable"]
        == ["'banana/broken.jpg' of class 'banana' (image file is truncated (0 bytes not processed))"]
        or found["unreadable"]
    )
    assert len(found["copies"]) == 1
    assert Path(found["sheet"]).is_file()


def test_what_may_go_wrong_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "rare", {"common": 40, "rare": 3})
    assert any("class 'rare' has 3 images: too few" in one for one in said(root))
    assert any("'common' has 13 times the images of 'rare': data.class_balance" in one for one in said(root))
    root = folder(tmp_path / "alike", {"Cat": 25, "cat ": 25})
    assert any("2 classes are called 'cat' but for upper case or blanks" in one for one in said(root))
    root = folder(tmp_path / "long", {"a": 25, "b": 25}, size=(100, 30))
    assert any("data.crop=pad keeps all" in one for one in said(root))
    assert said(folder(tmp_path / "fine", {"a": 25, "b": 25})) == []
    for split in ("train", "test"):
        shutil.copytree(tmp_path / "fine", tmp_path / "leak" / split)
    assert any("50 pictures are both trained on and held out" in one for one in said(tmp_path / "leak"))
    shutil.copy(tmp_path / "fine" / "a" / "0.png", tmp_path / "fine" / "b" / "wrong.png")
    assert any(
        "1 picture has several labels, such as 'a/0.png' = 'b/wrong.png'" in one for one in said(tmp_path / "fine")
    )


def test_rare_and_single_images_are_said_at_once_and_described_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "mine", {"common": 25, **{f"rare{i}": 1 for i in range(10)}})
    found = said(root)
    assert "10 classes have fewer than 20 images, too few to learn from: 'rare0' 1, 'rare1' 1, 'rare2' 1" in found[0]
    assert "10 of the classes have one image only, and training needs two" in found[1]
    assert sum("rare" in one for one in found) == 2
    assert "images         35 of 11 classes: 33 to train on, 2 held out" in condgan(capsys, "data", root).out
    refused(
        condgan(capsys, "train", "any-projection", "--data", root, "data.size=16", "schedule.decay=0"),
        "10 classes have too few readable images in", "'rare0' 1, 'rare1' 1", ", …): at least 2 needed, one to train",
        "leave these classes out",
    )  # fmt: skip


def test_a_class_that_the_test_split_lacks_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine" / "train", {"a": 25, "b": 25})
    folder(tmp_path / "mine" / "test", {"a": 5})
    assert any(
        "class 'b' is without held-out images, and training needs one of each" in one and "data.held_out=0.1" in one
        for one in said(root.parent)
    )


def test_a_folder_too_deep_is_hinted_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "pets", {"cat": 4, "dog": 4, "fox": 4})
    hint = f"note           if 'dog', 'fox' beside it are other classes, give '{root}'"
    assert hint in condgan(capsys, "data", root / "cat").out
    assert "beside it" not in condgan(capsys, "data", root).out


def test_the_contact_sheet_is_written_beside_the_data_and_never_into_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "my.photos", {"a": 4, "b": 4})
    before = sorted(root.rglob("*"))
    for here, given, sheet in (
        (tmp_path, "my.photos", "my.photos-sheet.png"),
        (root, ".", tmp_path / "my.photos-sheet.png"),
        (root / "a", "..", tmp_path / "my.photos-sheet.png"),
        (root, root, tmp_path / "my.photos-sheet.png"),
    ):
        monkeypatch.chdir(here)
        done = condgan(capsys, "data", given)
        assert done.out.splitlines()[-1] == f"look at        {sheet}", done.err
        assert Path(sheet).is_file()
        Path(sheet).unlink()
    monkeypatch.setattr("os.access", lambda *_: False)
    found = json.loads(condgan(capsys, "data", root, "--json").out)
    assert Path(found["sheet"]).parent == cache_directory() / "sheets"
    assert sorted(root.rglob("*")) == before


def test_nothing_is_written_into_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "mine", {"a": 40, "b": 40})
    (tmp_path / "link").symlink_to(root)
    before = sorted(root.rglob("*"))
    said = "nothing is written into: give a place elsewhere"
    refused(condgan(capsys, "data", root, "--out", root / "sheet.png"), f"--out {root}/sheet.png given", said)
    refused(condgan(capsys, "data", root, "--out", "link/a/sheet.png"), said)
    refused(condgan(capsys, "prepare", root, root / "small", "--size", 8), said)
    refused(condgan(capsys, "prepare", root, root, "--size", 8), said)
    refused(condgan(capsys, "train", "any-projection", "--data", root, "--out", root / "run", "--dry-run"), said)
    refused(condgan(capsys, "statistics", root, root / "mine.npz"), said)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(dump(load("any-projection", [f"data.source={root}"])))
    for verb in ("sample", "interpolate", "attention", "truncation"):
        refused(condgan(capsys, verb, "run", "--out", root / "made"), said)
    refused(condgan(capsys, "report", "run", "--out", root / "made.html"), said)
    refused(condgan(capsys, "translate", "run", "--held-out", "--every-domain", "--out", root / "made"), said)
    assert sorted(root.rglob("*")) == before


def test_many_classes_are_said_in_short(tmp_path: Path) -> None:
    root = folder(tmp_path / "many", {f"{i:02}": 2 + i for i in range(20)}, size=(8, 8))
    line = describe_survey(quick_look(list_source(str(root))))[1]
    assert line == "classes        19 21, 18 20, 17 19, 16 18, 15 17, …, 04 6, 03 5, 02 4, 01 3, 00 2"


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 GB; what is kept there is estimated as on a CPU, in float32 unless a test says otherwise."""
    monkeypatch.setattr(suggest, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(4e9), int(4e9)))


CHOICES = [
    ({"a": 30, "b": 30}, (40, 36), "RGB", {"data.size": 32, "data.channels": 3, "head.name": "projection"}),
    ({"a": 30, "b": 30}, (20, 90), "L", {"data.size": 16, "data.channels": 1}),
    ({"a": 30, "b": 3}, (40, 36), "RGB", {"data.class_balance": 0.5}),
    ({"only": 30}, (300, 200), "RGB", {"head.name": "plain", "generator.conditioning": "none"}),
    ({"a": 30, "b": 30}, (9, 9), "L", {"data.size": 16}),
]


@pytest.mark.parametrize(("counts", "size", "mode", "expected"), CHOICES)
def test_a_recipe_is_chosen_for_the_data(tmp_path: Path, counts: dict, size: tuple, mode: str, expected: dict) -> None:
    root = folder(tmp_path / "mine", counts, size, mode)
    look = quick_look(list_source(str(root)))
    recipe, reasons, _ = choose_recipe(look, str(root), [])
    assert recipe.name == "mine"
    assert recipe.data.source == str(root)
    assert any("since there is no GPU here" in reason for reason in reasons)
    for key, value in expected.items():
        part = recipe
        for name in key.split("."):
            options = getattr(part, "options", {})
            part = options[name] if name in options else getattr(part, name)
        assert part == value, key
    count_parameters(recipe, look.listing.labels.spec)


@pytest.mark.usefixtures("on_gpu")
def test_a_gpu_gets_larger_networks_that_fit_it(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", {"a": 3, "b": 3}, (300, 200))
    look = quick_look(list_source(str(root)))
    recipe, reasons, _ = choose_recipe(look, str(root), [])
    assert (recipe.data.size, recipe.generator.name) == (128, "resnet")
    assert recipe.schedule.batch < load("any-biggan").schedule.batch
    assert any("since more needs" in reason for reason in reasons)
    count_parameters(recipe, look.listing.labels.spec)
    rounded = choose_recipe(look, str(root), ["compute.precision=bfloat16"]).recipe
    assert rounded.schedule.batch == 2 * recipe.schedule.batch, "activations take half"
    tiny = quick_look(list_source(str(folder(tmp_path / "tiny", {"a": 3, "b": 3}, (17, 17)))))
    count_parameters(choose_recipe(tiny, "tiny", []).recipe, tiny.listing.labels.spec)
    alone = folder(tmp_path / "alone", {"a": 5}, (70, 70))
    look = quick_look(list_source(str(alone)))
    recipe = choose_recipe(look, str(alone), ["schedule.batch=8"]).recipe
    assert (recipe.data.size, recipe.head.name, recipe.schedule.batch) == (64, "plain", 8)
    count_parameters(recipe, look.listing.labels.spec)


def test_training_without_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "my photos", {"a": 40, "b": 40})
    (root / "a" / "notes.png").write_text("no image")
    (root / "a" / "notes.txt").write_text("a caption")
    command = ["train", "--data", root, "schedule.images=128", "generator.width=8", "backbone.width=8", "data.size=16"]
    refused(condgan(capsys, *command), "unreadable image 'a/notes.png' of class 'a'", "--skip-bad-images")
    done = condgan(capsys, *command, "--skip-bad-images")
    assert done.code == 0, done.err
    assert "images         81 of 2 classes" in done.out
    assert "chose          any-projection, since there is no GPU here" in done.out
    assert "left out 1 unreadable image" in done.err
    assert (Path("runs") / "my photos" / "sheet.png").is_file()
    again = condgan(capsys, *command, "--skip-bad-images")
    assert again.code == 0
    assert "is finished at 128 images" in again.err
    twice = condgan(capsys, "train", "--data", root, "--data", "digits")
    refused(twice, "--data given twice without a recipe")


def test_attributes_choose_a_translator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["file,Dark,Tall"]
    for i in range(70):
        write_image(tmp_path / "faces" / f"{i}.png", 60 + 100 * (i % 2), (20, 20 + i % 3))
        rows.append(f"{i}.png,{i % 2},{i % 3 == 2:d}")
    (tmp_path / "faces" / "labels.csv").write_text("\n".join(rows))
    done = condgan(
        capsys, "train", "--data", tmp_path / "faces", "schedule.images=64", "schedule.decay=32", "generator.width=4",
        "generator.blocks=1", "backbone.width=4",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "chose          any-stargan, since images have attributes" in done.out
    assert "condgan translate" in done.out


def test_images_without_labels_train_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(70):
        write_image(tmp_path / "flat" / f"{i}.png", 60 + i)
    done = condgan(capsys, "train", "--data", tmp_path / "flat", "--dry-run")
    assert done.code == 0, done.err
    assert "without labels, since there is one class only" in done.out


def test_nothing_readable_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        (tmp_path / "bad" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bad" / "a" / f"{i}.png").write_text("no")
    refused(condgan(capsys, "train", "--data", tmp_path / "bad"), "no picture of", "can be read")
    refused(condgan(capsys, "data", tmp_path / "nothing"), "does not exist")
    done = condgan(capsys, "data", tmp_path / "bad")
    assert done.code == 0
    assert "unreadable     5:" in done.out


def test_names_that_a_terminal_would_obey_are_escaped(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", {"a": 3, "b": 3})
    shutil.copy(root / "a/0.png", root / "a/\x1b[31mred\n.png")
    (root / "b/\x1b[31mbad.png").write_bytes(b"")
    look = survey(list_source(str(root)))
    lines = "".join([*describe_survey(look), *warnings(look), *look.unreadable])
    assert lines.isprintable()
    assert "copies" in lines
    assert "bad.png" in lines


def test_a_single_image_is_too_few(tmp_path: Path) -> None:
    assert any("one image only" in one for one in said(folder(tmp_path / "d", {".": 1})))
    assert not any("one image only" in one for one in said(folder(tmp_path / "e", {".": 2})))
