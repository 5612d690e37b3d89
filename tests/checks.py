"""How annotations are checked while tests run."""

from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations checked by beartype.

    Functions within functions, made anew in every call, would be wrapped as often, which took a fifth of a run's time:
    of these only those that are annotated with shapes are checked.
    """
    kinds = function.__annotations__.values()
    shapes = any(isinstance(kind, type) and issubclass(kind, AbstractArray) for kind in kinds)
    return beartype(function) if shapes or "<locals>" not in function.__qualname__ else function
