"""Who may import whom: every module imports only from layers below its own, or beside it in its own room."""

import ast
from pathlib import Path

import condgan

LAYERS = [
    {"choices", "environment", "errors", "files", "options", "seeds", "usage"},
    {"directory", "hardware", "recipes"},
    {"world"},
    {"labels"},
    {"ema", "interfaces", "sheets"},
    {"nn", "objectives", "data", "metrics"},
    {"recipe"},
    {"train", "sample", "translate", "log"},
    {"build"},
    {"bench", "checkpoint", "choose", "reference"},
    {"runs"},
    {"sides"},
    {"evaluation", "report", "use"},
    {"run"},
    {"console"},
    {"cli"},
    {"__init__", "__main__"},
]
ROOT = Path(condgan.__file__).parent
VERSION = "__version__"
"""What `condgan` itself holds, for whose sake it imports nothing."""


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py") if parts else "__init__"


def imports(path: Path) -> set[str]:
    """The rooms that a module imports from, wherever it does: above, within functions, for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative imports hide their layer"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "condgan":
            below = node.module.split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names} - {VERSION}
        elif isinstance(node, ast.Import):
            found |= {
                room(tuple(alias.name.split(".")[1:])) for alias in node.names if alias.name.split(".")[0] == "condgan"
            }
    return found


def test_imports_point_from_used_to_user() -> None:
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    modules = sorted(ROOT.rglob("*.py"))
    assert len(modules) > 20
    wrong = []
    for path in modules:
        own = room(path.relative_to(ROOT).parts)
        for used in imports(path):
            assert used in rank, f"{path} imports {used}, which has no layer"
            if used != own and rank[used] >= rank[own]:
                wrong.append(f"{own} imports {used}")
    assert not wrong


def test_imports_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    lines = [
        f"from condgan import {VERSION}, choices",
        "import condgan.files",
        "if TYPE_CHECKING:\n    from condgan.labels import Field",
        "def main():\n    from condgan import console\n    from condgan.run import train_run",
    ]
    module.write_text("\n".join(lines))
    assert imports(module) == {"choices", "files", "labels", "console", "run"}


def test_the_package_itself_imports_nothing_of_ours() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    above = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in above] == ["from typing import TYPE_CHECKING"]
