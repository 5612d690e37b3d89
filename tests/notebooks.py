"""The notebooks of examples/, run as Jupyter would, without it: cells share their names, the last expression is shown.

`python -m tests.notebooks` runs all in a folder of their own, and keeps what they show in their files;
`python -m tests.notebooks digits` one.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"


def notebooks() -> list[Path]:
    return sorted(EXAMPLES.glob("*.ipynb"))


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with what its cells print and show."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, number = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell = cell | {"execution_count": number, "outputs": _outputs("".join(cell["source"]), names, number)}
        cells.append(cell)
    return notebook | {"cells": cells}


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    said = (
        [{"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())}] if printed.getvalue() else []
    )
    if value is None:
        return said
    shown = {"data": _shown(value), "execution_count": number, "metadata": {}, "output_type": "execute_result"}
    return [*said, shown]


def _shown(value: Any) -> dict[str, Any]:
    """A value as notebooks keep it: in the richest form that it has, and as text."""
    data: dict[str, Any] = {"text/plain": _lines(repr(value)[:500])}
    if (picture := getattr(value, "_repr_png_", lambda: None)()) is not None:
        data["image/png"] = base64.b64encode(picture).decode()
    if (page := getattr(value, "_repr_html_", lambda: None)()) is not None:
        data["text/html"] = _lines(page)
    return data


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(chosen: list[str]) -> None:
    for path in notebooks():
        if chosen and path.stem not in chosen:
            continue
        notebook = json.loads(path.read_text())
        folder = tempfile.mkdtemp(prefix="condgan-notebook-")
        os.chdir(folder)
        written = json.dumps(executed(notebook), indent=1, ensure_ascii=False)
        path.write_text(written.replace(f"{folder}/", "") + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
