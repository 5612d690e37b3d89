"""What the README and the pages of docs/ tell to type works, in the order told; what they link to exists.

A block's language says what is done with it. `sh`: commands of condgan are run, with settings so small that they train
in a second; of those of torchrun, which want GPUs, of benchmarks, which take minutes, and of published weights, recipe
or module and options must exist. `python`: run, and trains as shortly. `text`: shown alone, such as downloads and a
cluster's scripts.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import condgan as api
from condgan import recipes
from condgan.data.preprocessing import Preprocessing
from condgan.data.readers import digits
from condgan.evaluation import classifier
from condgan.runs import chosen, utility
from condgan.utils.files import cache_directory
from tests.conftest import TINY, TINY_TRANSLATOR
from tests.helpers import condgan, linear_classifier

ROOT = Path(__file__).parent.parent
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
MAP = "docs/README.md"
README_BYTES = 9_216
"""How long a README may be that is read."""
ELSEWHERE = ("convert",)
"""Verbs that want files which nobody has here."""
FEW, HELD_OUT = 150, 30
"""Digits that there are here, of which a fifth is held out."""


def text(page: str) -> str:
    return (ROOT / page).read_text()


def links(page: str) -> list[str]:
    """The files that a page links to, from the root."""
    found = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(page))
    return [(ROOT / page).parent.joinpath(link).resolve().relative_to(ROOT).as_posix() for link in found]


def in_order() -> list[str]:
    """The README, then the pages as the map lists them."""
    return ["README.md", *(page for page in links(MAP) if page.startswith("docs/"))]


def blocks(page: str, *languages: str) -> Iterator[tuple[str, str]]:
    """Language and text of a page's blocks, those of lists too."""
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text(page), re.DOTALL | re.MULTILINE):
        if language in languages or not languages:
            yield language, block


def lines(block: str) -> list[str]:
    """Its commands, each on a line of its own."""
    return [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def fashioned_mnist(root: Path) -> None:
    """Eight noisy images a class in the files of MNIST, where they would be downloaded to."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (80, 28, 28), dtype=np.uint8)
        sizes = {"images-idx3": (0x803, *images.shape), "labels-idx1": (0x801, len(images))}
        contents = {"images-idx3": images.tobytes(), "labels-idx1": (np.arange(80, dtype=np.uint8) % 10).tobytes()}
        for kind, header in sizes.items():
            (root / f"{part}-{kind}-ubyte").write_bytes(np.array(header, ">i4").tobytes() + contents[kind])


def faces(folder: Path) -> None:
    """Gray pictures, the brighter the older, with a table of ages; of some it is not known."""
    folder.mkdir()
    ages = np.random.default_rng(0).integers(10, 80, 40)
    for number, age in enumerate(ages):
        Image.new("L", (16, 16), int(3 * age)).save(folder / f"{number}.png")
    rows = [f"{number}.png,{age if number % 4 else ''}" for number, age in enumerate(ages)]
    (folder / "ages.csv").write_text("\n".join(["file,age", *rows]) + "\n")


@pytest.fixture
def _small_data(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's folders `photos` and `faces`, an MNIST that needs no download, the first digits, and hasty judges."""
    assert photos == Path.cwd() / "photos"
    monkeypatch.setenv("CONDGAN_CACHE", str(Path.cwd() / "cache"))
    monkeypatch.setattr(classifier, "training_steps", lambda _images, _spec: 5)
    monkeypatch.setattr(utility, "training_batches", lambda _real: 2)
    monkeypatch.setattr(utility, "find_classifier", linear_classifier)
    monkeypatch.setattr(utility, "SELECTIONS", {"none": ()})
    faces(Path("faces"))
    fashioned_mnist(cache_directory() / "downloads" / "MNIST" / "raw")
    whole = digits._read

    def some(framing: Preprocessing) -> tuple[Tensor, Tensor]:
        images, index = whole(framing)
        return images[:FEW], index[:FEW]

    monkeypatch.setattr(digits, "_read", some)


def shortly(arguments: Iterable[str]) -> list[str]:
    """Settings with which a training of these arguments takes a second."""
    translates = any("stargan" in one for one in arguments)
    averages = any("width" in one for one in arguments)
    short = ["schedule.images=64", *(["schedule.decay=32"] if translates else [])]
    short += ["schedule.save=16"] if averages else []
    return [*(TINY_TRANSLATOR if translates else TINY), *short]


def run(command: list[str], capsys: pytest.CaptureFixture[str], where: str) -> None:
    """Run a command of condgan, made small if it trains."""
    arguments = command[1:]
    if arguments[0] == "train":
        arguments += shortly(arguments)
    if arguments[0] == "app":
        arguments += ["--help"]  # it would not end
    done = condgan(capsys, *arguments)
    assert done.code == 0, (where, command, done.err)


@pytest.mark.usefixtures("_small_data", "hub")
def test_the_commands_and_the_python_work(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    planned = chosen.plan_run
    monkeypatch.setattr(
        "condgan.app.run.plan_run", lambda sources, given, *how: planned(sources, [*given, *shortly(given)], *how)
    )
    done, verbs = set(), set()
    names: dict[str, object] = {}
    for page in in_order():
        for language, block in blocks(page, "sh", "python"):
            if language == "python":
                exec(block, names)
                continue
            for line in lines(block):
                command = shlex.split(line)
                if command[0] != "condgan" or command[1] in ELSEWHERE or line in done:
                    continue
                run(command, capsys, page)
                done.add(line)
                verbs.add(command[1])
    assert verbs == {
        "train", "data", "prepare", "sample", "evaluate", "recipes", "interpolate", "truncation", "attention",
        "translate", "report", "utility", "export", "push", "pull", "app", "ema", "directions", "invert", "neighbors",
        "tree",
    }  # fmt: skip
    assert len(list(Path("images").rglob("*.png"))) == 33
    assert len(list(Path("between-3-and-8").rglob("*.png"))) == 17
    assert {path.name for path in Path("curve").iterdir()} == {"truncation.csv", "truncation.png", "sheet.png"}
    assert [path.name for path in Path("looks").iterdir()] == ["attention.8.png"]
    assert len(list(Path("strips").iterdir())) == HELD_OUT
    assert len(list(Path("blue").rglob("*.png"))) == 24
    assert getattr(names["threes"], "shape", None) == (16, 16, 16)
    assert getattr(names["ways"], "shape", None) == (4, 8, 16, 16)
    assert repr(names["run"]) == repr(api.Run("runs/photos")) == "Run('runs/photos')"
    assert len(names["pictures"]) == 4


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", *DOCS])
def test_other_commands_name_what_exists(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are not run: make's targets, torchrun's and benchmarks with their options, extras of the package."""
    for language, block in blocks(page):
        assert language in ("sh", "python", "text", ""), f"{page}: a block of {language}"
        commands = [shlex.split(line) for line in lines(block)] if language == "sh" else []
        assert language != "text" or not re.search(r"^ *condgan ", block, re.MULTILINE), f"{page}: not run: {block}"
        for command in commands:
            known = command[0] in ("condgan", "torchrun", "make") or command[:2] == ["python", "-m"]
            assert known, f"{page}: {command} is not tried: make it a block of text"
            if command[0] == "torchrun":
                verb, *given = command[command.index("condgan") + 1 :]
                told = condgan(capsys, verb, "--help").out
                assert verb != "train" or given[0] in recipes.names(), command
                assert all(word in told for word in given if word.startswith("--")), command
            if command[0] == "condgan" and command[1] in ELSEWHERE:
                told = condgan(capsys, command[1], "--help").out
                assert command[command.index("--as") + 1] in recipes.names(), command
                assert all(word in told for word in command if word.startswith("--")), command
            if command[0] == "python":
                source = (ROOT / f"{command[2].replace('.', '/')}.py").read_text()
                options = [word for word in command if word.startswith("--")]
                assert all(f'"{option}"' in source for option in options), command
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert {*re.findall(r"(?:^|`)make ([a-z-]+)(?:$|`)", text(page), re.MULTILINE)} <= targets
    extras = re.findall(r"condgan\[(\w+)\]", text(page))
    assert all(f"\n{extra} = [" in text("pyproject.toml") for extra in extras)


def test_ci_runs_what_the_readme_names() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", *DOCS])
def test_files_named_exist(page: str) -> None:
    named = re.findall(r"`((?:docs|benchmarks)/[\w./-]*\w)`", text(page))
    assert links(page) or named or page in ("docs/architecture.md", "docs/words.md"), "which name none"
    for file in [*links(page), *named]:
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", *DOCS])
def test_headings_linked_to_exist(page: str) -> None:
    for link, heading in re.findall(r"\]\(([^):#]*)#([^)]+)\)", text(page)):
        linked = (ROOT / page).parent / link if link else ROOT / page
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        assert heading in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings]


def test_the_map_lists_every_page_once() -> None:
    listed = [page for page in links(MAP) if page.startswith("docs/")]
    assert sorted([*listed, MAP]) == DOCS


def test_the_readme_is_short_and_shows_small_pictures() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text("README.md"))
    assert pictures
    assert all((ROOT / picture).stat().st_size < 150_000 for picture in pictures)
