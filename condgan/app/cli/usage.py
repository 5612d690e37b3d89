"""The form of a command line: commands made of functions' signatures, and errors of usage as one line."""

import inspect
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import click

from condgan.utils.errors import shown
from condgan.utils.files import path_of

LONGEST_REPEATED = 300
"""Characters of what a line repeats of the command line."""


class Argument(NamedTuple):
    """How an annotated parameter is told that is given by its place: `RUN`."""

    metavar: str
    help: str


class Option(NamedTuple):
    """How an annotated parameter is told that is given by its name: `--per-class`, of `per_class`, or another."""

    help: str
    name: str | None = None


class Commands(click.Group):
    """Commands in the order in which they were added; a function becomes one with its docstring as help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def verb(self, function: Callable[..., None]) -> None:
        """Add `NAME_command`, whose parameters are annotated with types and with an `Argument` or `Option` each.

        A parameter without default is required; of a tuple there may be any number.
        """
        self.add_command(
            click.Command(
                function.__name__.removesuffix("_command"),
                callback=function,
                params=[_parameter(one) for one in inspect.signature(function).parameters.values()],
                help=inspect.getdoc(function),
                context_settings={"show_default": True},
            )
        )


def _parameter(of: inspect.Parameter) -> click.Parameter:
    annotation, about = get_args(of.annotation)
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    (kind,) = (one for one in kinds if one is not NoneType)
    many = get_origin(kind) is tuple
    how: dict[str, Any] = {} if of.default is inspect.Parameter.empty else {"default": of.default}
    how |= {"type": _type(get_args(kind)[0] if many else kind), "help": about.help}
    if isinstance(about, Argument):
        required = "default" not in how
        return click.Argument([of.name], metavar=about.metavar, nargs=-1 if many else 1, required=required, **how)
    name = about.name or f"--{of.name.replace('_', '-')}"
    flag = {"is_flag": True} if kind is bool else {"multiple": many}
    return click.Option([name, of.name], required="default" not in how, **flag, **how)


def _type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return GivenPath() if kind is Path else kind


class GivenPath(click.Path):
    """A path, with ~ for home also where no shell saw to it, as in --out=~/images."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return path_of(value)


def in_one_line(error: click.ClickException, arguments: Sequence[str], verbs: Commands) -> str:
    """Say what is wrong with a command line, the line itself, and what to do."""
    said, hint = error.message, ""
    if isinstance(error, click.MissingParameter) and error.param is not None:
        said = f"missing {error.param.param_type_name} {error.param.get_error_hint(error.ctx)}"
    elif isinstance(error, click.BadParameter) and error.param is not None:
        said = f"{error.param.param_type_name} {error.param.get_error_hint(error.ctx)}: {said}"
    elif isinstance(error, click.NoSuchOption | click.NoSuchCommand) and error.possibilities:
        hint = f"did you mean '{error.possibilities[0]}'? "
    said, given = (
        shown(said[:1].lower() + said[1:].rstrip("."), LONGEST_REPEATED),
        shown(shlex.join(arguments), LONGEST_REPEATED),
    )
    verb = next((f" {one}" for one in arguments[:1] if one in verbs.commands), "")
    return f"{said}, given 'condgan {given}': {hint}see condgan{verb} --help"
