"""Who may import whom: a room only from rooms below its own, and within a room no module in a circle."""

import ast
import graphlib
import importlib.util
from pathlib import Path

import pytest

import condgan

FLOORS = [
    {"utils"},
    {"labels", "schedules", "hub"},
    {"types"},
    {"data", "networks", "losses", "augment", "optimizers"},
    {"recipes"},
    {"training", "sampling"},
    {"build"},
    {"estimate"},
    {"training_steps"},
    {"evaluation", "timing"},
    {"suggest"},
    {"runs"},
    {"app"},
    {"__main__"},
]
"""Rooms (folders or modules) from used to user; those of a floor know nothing of each other."""
STAIRS = {
    "data": ["listing", "dataset", "readers", "open"],
    "evaluation": ["metrics", "statistics", "catalog", "compare"],
    "losses": ["terms", "adversarial", "methods"],
    "networks": ["blocks", "norms", "heads"],
    "runs": ["checkpoint", "directory", "models", "evaluate", "train", "chosen"],
    "training": ["state", "player_loss", "loop"],
}
"""Within rooms, parts of which none imports a later one; what is between them is free, but for circles."""
ROOT = Path(condgan.__file__).parent
VERSION = "__version__"
"""What `condgan` itself holds, for whose sake it imports nothing."""


def module_name(path: Path, root: Path = ROOT) -> str:
    """A module's name below the package; a folder's for its __init__."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """What a module imports of ours, wherever it does: above, within functions, for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative imports hide their room"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "condgan":
            below = node.module.partition(".")[2]
            found |= {f"{below}.{alias.name}".strip(".") for alias in node.names if alias.name != VERSION}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "condgan"}
    return found


def graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    modules = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
    known: dict[str, set[str]] = {}
    for name, path in modules.items():
        used = {one if one in modules else one.rpartition(".")[0] for one in imports(path)}
        assert used <= modules.keys(), f"{path} imports {used - modules.keys()}"
        known[name] = used - {name}
    return known


def floor_of(module: str) -> int:
    (number,) = [number for number, floor in enumerate(FLOORS) if module.split(".")[0] in floor]
    return number


def test_rooms_import_from_the_floors_below() -> None:
    known = graph()
    assert len(known) > 20
    wrong = [
        f"{module} imports {one}"
        for module, used in known.items()
        for one in used
        if module and one.split(".")[0] != module.split(".")[0] and floor_of(one) >= floor_of(module)
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    tuple(graphlib.TopologicalSorter({module: used for module, used in graph().items() if module}).static_order())


@pytest.mark.parametrize("room", STAIRS)
def test_within_a_room_imports_go_one_way(room: str) -> None:
    steps = {name: number for number, name in enumerate(STAIRS[room])}

    def step(module: str) -> int | None:
        parts = module.split(".")
        inside = parts[1:] if parts[0] == room else []
        return next((steps[part] for part in inside if part in steps), None)

    assert {*steps.values()} == {step(module) for module in graph()} - {None}, "a step that is no module"
    for module, used in graph().items():
        for one in used:
            mine, other = step(module), step(one)
            assert mine is None or other is None or other <= mine, f"{module} imports {one}"


def test_imports_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    lines = [
        f"from condgan import {VERSION}, build",
        "import condgan.utils.files",
        "if TYPE_CHECKING:\n    from condgan.labels import Field",
        "def main():\n    from condgan.app import cli\n    from condgan.runs.train import train_run",
    ]
    module.write_text("\n".join(lines))
    assert imports(module) == {"build", "utils.files", "labels.Field", "app.cli", "runs.train.train_run"}


def test_the_package_itself_imports_nothing_of_ours() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    above = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in above] == ["from typing import TYPE_CHECKING"]


def test_no_module_imports_private_names_of_another() -> None:
    wrong = [
        f"{path}: {alias.name}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("condgan")
        for alias in node.names
        if alias.name.startswith("_") and alias.name != VERSION
    ]
    assert not wrong


def test_scripts_in_strings_import_what_there_is() -> None:
    """Those that benchmarks and tests give to other processes."""
    root, found = ROOT.parent, 0
    for path in [*root.glob("benchmarks/*.py"), *root.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and "\nfrom condgan" in node.value):
                continue
            try:
                script = ast.parse(node.value)
            except SyntaxError:  # part of a longer one
                continue
            for one in ast.walk(script):
                if isinstance(one, ast.ImportFrom) and (one.module or "").startswith("condgan"):
                    module = importlib.import_module(one.module or "")
                    for alias in one.names:
                        found += 1
                        inner = f"{one.module}.{alias.name}"
                        assert hasattr(module, alias.name) or importlib.util.find_spec(inner), f"{path}: {inner}"
    assert found > 10


def test_no_public_name_has_two_meanings() -> None:
    """Constants and classes of one name are one thing, wherever they are imported from."""
    defined: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            for name in names:
                if not name.startswith("_"):
                    defined.setdefault(name, set()).add(module_name(path))
    assert {name: sorted(places) for name, places in defined.items() if len(places) > 1} == {}
