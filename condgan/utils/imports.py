"""Import what users name as package.module:callable."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from condgan.utils.errors import UserError, shown


def is_import(name: str) -> bool:
    """Whether a name is one such as package.module:callable."""
    return re.fullmatch(r"\w+(\.\w+)*:\w+", name) is not None


def imported(what: str, name: str, given: dict[str, Any], call: str) -> tuple[ModuleType, Callable[..., Any]]:
    """A module and its callable, by package.module:callable. Modules of the current folder are found as well.

    Raises UserError for what cannot be imported, and for a callable that does not take what is `given`, which `call`
    tells.
    """
    module_name, _, attribute = name.partition(":")
    sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"{what} '{name}' cannot be imported ({error}): '{module_name}' has to be installed, or a module of the "
            "current folder"
        ) from None
    except Exception as error:  # it is the user's code
        raise UserError(f"{what} '{name}' cannot be imported ({shown(error)}): mend '{module_name}'") from None
    finally:
        sys.path.pop()
    if not hasattr(module, attribute):
        raise UserError(f"{what} '{name}': '{module_name}' has no '{attribute}'; give the name of one it has")
    make = getattr(module, attribute)
    try:
        inspect.signature(make).bind(**given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what} '{name}' cannot be called as {attribute}({call}) ({error}): change what it takes"
        ) from None
    return module, make
