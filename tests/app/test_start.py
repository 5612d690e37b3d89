"""What comes at once: the public names, help and errors of usage, without torch and the like."""

import ast
import json
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import condgan
from condgan.__main__ import SPINS
from condgan.app.cli.main import app
from condgan.data.open import EMBEDDED
from condgan.data.preprocessing import Preprocessing
from condgan.data.readers.known import KNOWN
from condgan.sampling.interpolate import VARY, WAYS
from condgan.utils import provenance
from condgan.utils.choices import EMBEDDED_NAMES, KNOWN_NAMES, Crop, Precision, Vary, Way
from condgan.utils.device import device, precision

ROOT = Path(condgan.__file__).parent.parent
HEAVY = ("torch", "numpy", "PIL", "pydantic", "scipy", "matplotlib")
AT_ONCE = {
    0: ["", "--help", "--version", "recipes", "recipes digits-acgan", *(f"{verb} --help" for verb in app.commands)],
    2: [
        "smaple",
        "--color",
        "sample",
        "sample a",
        "sample a b --out x",
        "sample a --out",
        "sample a --outt x",
        "sample a --out x --per-class x",
        "sample a --out x --precision foo",
        "sample a --out x --compile=3",
        "sample a --out x --classes 3 --mixture 3=1",
        "sample a --out x.npz --mixture 3=1",
        "sample nowhere --out x",
        "interpolate nowhere --out x --vary latent",
        "attention nowhere --out x",
        "truncation nowhere --out x",
        "truncation nowhere --out x --at 1,x",
        "translate nowhere --out x --held-out --every-domain",
        "translate nowhere --out x",
        "translate nowhere image.png --out x --set a",
        "report nowhere",
        "export nowhere --out x",
        "push nowhere a/b --license mit",
        "push nowhere a/b",
        "push nowhere b --license mit",
        "pull",
        "pull nowhere",
        "sample a/b --out x",
        "app",
        "app nowhere",
        "recipes digit-acgan",
        "train digit-acgan",
        "train digit-acgan --data photos g_opt.lr=1",
        "train nowhere.yaml",
        "prepare a b --size 8 --format zip",
        "prepare a b --size 8 --channels 5",
    ],
}
"""Command lines by exit code."""


def told(script: str) -> list:
    """What a Python process of its own prints as JSON in its last line."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_help_and_errors_of_usage_import_nothing_heavy() -> None:
    lines = [line for of_code in AT_ONCE.values() for line in of_code]
    ends = told(f"""
import contextlib, io, json, sys
from condgan.app.cli.main import main
ends = []
for line in {lines!r}:
    sys.argv = ["condgan", *line.split()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            code = end.code
    ends.append([line, code, said.getvalue().count("\\n"), [name for name in {HEAVY!r} if name in sys.modules]])
print(json.dumps(ends))
""")
    assert ends == [[line, code, code // 2, []] for code, of_code in AT_ONCE.items() for line in of_code]


def test_importing_condgan_is_light_until_a_name_is_asked_for() -> None:
    script = f"import json, sys, condgan; dir(condgan); print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    assert told(script) == []
    assert told(script.replace("dir(condgan)", "condgan.UserError, condgan.__version__")) == []
    assert "torch" in told(script.replace("dir(condgan)", "condgan.load"))


def test_networks_to_load_into_import_no_compiler() -> None:
    """It takes a second, and is met wherever a tensor without storage is computed with."""
    assert (
        told("""
import json, sys
from condgan.build import empty_networks
from condgan.labels import Field, LabelSpec, Range
from condgan.recipes import names
from condgan.recipes.load import load
classes, number = LabelSpec.of_classes(list("abcd")), LabelSpec((Field.of_number("age", Range(1.0, 9.0)),))
drawn = [f"{part}.init={kind}" for kind in ("normal", "xavier") for part in ("generator", "backbone", "head")]
cases = [(name, [], classes) for name in names()] + [("digits-projection", [], number)]
cases += [("digits-biggan", drawn[start:], classes) for start in (0, 3)]
cases += [("digits-biggan", ["backbone.spectral_norm={values: 3}"], classes)]
for name, options, labels in cases:
    empty_networks(load(name, options), labels)
    if "torch._dynamo" in sys.modules:
        print(json.dumps([name, options]))
        break
else:
    print("[]")
""")
        == []
    )


def test_the_public_names_are_listed_and_found() -> None:
    assert dir(condgan) == sorted(condgan.__all__)
    for name in condgan.__all__:
        assert getattr(condgan, name).__module__.startswith("condgan.")
    everything: dict[str, object] = {}
    exec("from condgan import *", everything)
    assert set(condgan.__all__) <= set(everything)
    assert everything["load"] is condgan.load
    with pytest.raises(AttributeError, match="module 'condgan' has no attribute 'lode'"):
        _ = condgan.lode
    with pytest.raises(ImportError):
        exec("from condgan import lode")


def test_checkers_are_told_of_the_same_names() -> None:
    tree = ast.parse((ROOT / "condgan" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told_of = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told_of == {name: f"condgan.{place}" for name, place in condgan._PLACES.items()}
    assert sorted(told_of) == sorted(condgan.__all__)


def test_no_module_takes_a_public_names_place() -> None:
    assert not {module.name for module in pkgutil.iter_modules(condgan.__path__)} & set(condgan.__all__)


@pytest.mark.parametrize(
    "first", ["import condgan.app.cli.main, condgan.runs.utility", "import condgan; condgan.utility"]
)
def test_public_names_are_what_they_are_in_any_order(first: str) -> None:
    kinds = told(f"""
{first}
import importlib, inspect, json, pkgutil, condgan
for module in pkgutil.walk_packages(condgan.__path__, "condgan."):
    if not module.name.endswith(("__main__", ".web.page")):  # which an extra is needed for
        importlib.import_module(module.name)
print(json.dumps([name for name in condgan.__all__ if inspect.ismodule(getattr(condgan, name))]))
""")
    assert kinds == []


def test_the_version_stands_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "condgan.__version__"}
    installed = provenance.version

    def of_others(name: str) -> str:
        assert name != "condgan", "which need not be installed"
        return installed(name)

    monkeypatch.setattr(provenance, "version", of_others)
    assert provenance.describe_machine()["condgan"] == condgan.__version__


def test_a_record_knows_the_commit_of_the_source() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    commit = provenance.describe_machine()["commit"]
    assert commit is not None
    assert head.startswith(commit.removesuffix("+"))


def test_what_can_be_chosen_is_there() -> None:
    assert tuple(KNOWN) == KNOWN_NAMES
    assert tuple(EMBEDDED) == EMBEDDED_NAMES
    assert tuple(VARY) == get_args(Vary)
    assert tuple(WAYS) == get_args(Way)
    for crop in get_args(Crop):
        assert Preprocessing(8, 8, 3, crop).crop == crop
    for wanted in get_args(Precision):
        assert precision(wanted, device()).is_floating_point


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": str(SPINS)}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_threads_wait_asleep_where_nobody_said_otherwise(given: dict[str, str], expected: dict[str, str]) -> None:
    """Before torch is imported, which reads it."""
    script = (
        "import os, sys; from condgan import __main__; from unittest import mock\n"
        "def main(): print({n: v for n, v in os.environ.items() if n in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')})\n"
        "sys.modules['condgan.app.cli.main'] = mock.Mock(main=main)\n"
        "__main__.start(); assert 'torch' not in sys.modules"
    )
    others = {n: v for n, v in os.environ.items() if n not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], env=others | given, capture_output=True, text=True)
    assert done.stdout.strip() == str(expected), done.stderr
