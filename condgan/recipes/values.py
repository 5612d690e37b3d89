"""Plain values from YAML: text, numbers, true, false and null, in lists and mappings. Nothing else is in a recipe."""

import re
from typing import Any

import yaml

from condgan.utils.errors import said_of, shown

MOST = 50_000
"""Values of a text; what an alias stands for counts again."""
DEEPEST = 20
LONGEST_NUMBER = 400
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null", "exponent")


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in YAML 1.2, and 2e6 a whole one; dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in of_first if tag != f"{_TAG}timestamp"]
        for first, of_first in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    f"{_TAG}exponent", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_values(text: str, what: str, do: str) -> Any:
    """The value that a text in YAML holds. Raises UserError, which says what it is of and what to do, for any other."""
    with said_of(what, do, yaml.YAMLError, ValueError):
        loader = _Loader(text)
        try:
            return _Values(loader).only()
        finally:
            loader.dispose()


class _Values:
    """What a text's events stand for, one after the other: never more of it than is allowed.

    Raises ValueError for what no recipe holds.
    """

    def __init__(self, loader: Any) -> None:
        self.loader, self.count = loader, 0
        self.anchors: dict[str, tuple[Any, int]] = {}
        """Values that aliases stand for, and how many are in each."""

    def only(self) -> Any:
        """The value of the one document."""
        self.loader.get_event()
        if isinstance(self.loader.get_event(), yaml.StreamEndEvent):
            return None
        value = self._next(self.loader.get_event(), 0)
        self.loader.get_event()
        if not isinstance(self.loader.get_event(), yaml.StreamEndEvent):
            raise ValueError("it holds several documents")
        return value

    def _next(self, event: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        before = self.count
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise ValueError(f"its *{shown(event.anchor, 60)} stands for nothing that is whole before it")
            value, size = self.anchors[event.anchor]
        else:
            value, size = self._new(event, depth), 1
        self.count += size
        if self.count > MOST:
            raise ValueError(f"it holds more than {MOST:,} values")
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self.anchors[event.anchor] = value, self.count - before
        return value

    def _new(self, event: Any, depth: int) -> Any:
        tag = self._tag(event)
        if isinstance(event, yaml.MappingStartEvent) and tag == "map":
            return self._mapping(depth)
        if isinstance(event, yaml.SequenceStartEvent) and tag == "seq":
            return self._sequence(depth)
        if isinstance(event, yaml.ScalarEvent) and tag in _SCALARS:
            return self._scalar(event.value, tag)
        raise ValueError(f"it holds a value of the kind '{shown(tag, 60)}', which recipes do not have")

    def _tag(self, event: Any) -> str:
        if event.tag not in (None, "!"):
            return event.tag.removeprefix(_TAG)
        if isinstance(event, yaml.ScalarEvent):
            return self.loader.resolve(yaml.ScalarNode, event.value, event.implicit).removeprefix(_TAG)
        return "map" if isinstance(event, yaml.MappingStartEvent) else "seq"

    def _sequence(self, depth: int) -> list[Any]:
        found = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            found.append(self._next(event, depth + 1))
        return found

    def _mapping(self, depth: int) -> dict[str, Any]:
        """With what `<<` brings in, where no key of its own has another value."""
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := self.loader.get_event(), yaml.MappingEndEvent):
            tag = self._tag(event) if isinstance(event, yaml.ScalarEvent) else ""
            if tag not in ("str", "merge"):
                raise ValueError(f"its key {shown(getattr(event, 'value', '…'), 60)} is no text; put it in quotes")
            key, value = event.value, self._next(self.loader.get_event(), depth + 1)
            if tag == "merge":
                merged |= _merged(value)
            elif key in own:
                raise ValueError(f"its key '{shown(key, 60)}' stands there twice")
            else:
                own[key] = value
        return merged | own

    def _scalar(self, text: str, tag: str) -> Any:
        if tag == "str":
            return text.encode("utf-16", "surrogatepass").decode("utf-16")  # joins what JSON escapes in two halves
        try:
            if len(text) > LONGEST_NUMBER:
                raise ValueError
            if tag == "exponent":
                number = float(text)
                return int(number) if number.is_integer() and "." not in text and "-" not in text[1:] else number
            return getattr(self.loader, f"construct_yaml_{tag}")(yaml.ScalarNode(f"{_TAG}{tag}", text))
        except (ValueError, KeyError, IndexError):
            raise ValueError(f"{shown(repr(text), 60)} is no {tag} that can be read") from None


def _merged(value: Any) -> dict[str, Any]:
    """What stands behind a `<<`: a mapping, or several, of which the first has the last word."""
    merged: dict[str, Any] = {}
    for one in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(one, dict):
            raise ValueError("its << stands before what is no mapping")
        merged |= one
    return merged
