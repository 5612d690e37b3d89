"""What the README tells to type works, in the order told."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import TINY, TINY_TRANSLATOR
from tests.helpers import condgan

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_commands_and_the_python_work(
    capsys: pytest.CaptureFixture[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condgan.evaluation.usefulness.training_steps", lambda _images, _spec: 5)
    assert photos == Path.cwd() / "photos"
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("condgan ")]
    assert {command[0] for command in commands} == {
        "train",
        "data",
        "prepare",
        "sample",
        "evaluate",
        "recipes",
        "interpolate",
        "truncation",
        "attention",
        "translate",
        "report",
        "utility",
    }
    for command in commands:
        tiny = TINY_TRANSLATOR if "digits-stargan" in command else TINY
        short = ["schedule.images=64", *(["schedule.decay=32"] if tiny is TINY_TRANSLATOR else [])]
        done = condgan(capsys, *command, *([*tiny, *short] if command[0] == "train" else []))
        assert done.code == 0, (command, done.err)
    assert len(list(Path("images").rglob("*.png"))) == 33
    assert len(list(Path("between-3-and-8").rglob("*.png"))) == 17
    assert {path.name for path in Path("curve").iterdir()} == {"truncation.csv", "truncation.png", "sheet.png"}
    assert [path.name for path in Path("looks").iterdir()] == ["attention.8.png"]
    assert len(list(Path("strips").iterdir())) == 359
    assert len(list(Path("blue").rglob("*.png"))) == 24
    for block in blocks("python"):
        names: dict[str, object] = {}
        exec(block, names)
        assert getattr(names["threes"], "shape", None) == (16, 16, 16)
        assert getattr(names["ways"], "shape", None) == (4, 8, 16, 16)


def test_make_and_ci_have_what_the_readme_names() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", *(f"docs/{path.name}" for path in PAGES)])
def test_files_and_recipes_named_exist(page: str) -> None:
    found = re.findall(r"\]\(([^)#:]+)\)|`((?:docs|benchmarks)/[\w./-]*\w)`", (ROOT / page).read_text())
    assert found or page == "docs/architecture.md", "which names modules"
    for link, name in found:
        assert (ROOT / page).parent.joinpath(link).exists() if link else (ROOT / name).exists(), (link, name)
