"""What is done to bytes, texts, values and files."""

import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.campaign.cases import Rng

Made = TypeVar("Made")

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-3, 70) | st.floats() | st.text(max_size=30)
    | st.sampled_from([1e308, -1, 0, 10**9, 10**12, 10**400, "x" * 3_000, "../..", "/dev/zero", "", "auto", "\x1b[1m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def one_of(rng: Rng, options: Sequence[Made]) -> Made:
    return options[int(rng.integers(len(options)))]


def drawn(rng: Rng, strategy: st.SearchStrategy[Made]) -> Made:
    """An example of a strategy of hypothesis."""
    found: list[Made] = []

    @seed(int(rng.integers(1 << 31)))
    @settings(
        max_examples=3,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(strategy)
    def keep(value: Made) -> None:
        found.append(value)

    keep()
    return found[-1]


EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(rng: Rng, content: bytes) -> bytes:
    """Some bytes changed, moved, removed or added, most often at the beginning."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        size = len(data)
        near = min(size, 128) if rng.random() < 0.5 else size
        at, length = int(rng.integers(near)), int(rng.integers(1, min(64, size) + 1))
        match int(rng.integers(9)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                number, form = one_of(rng, EXTREMES), one_of(rng, ("<I", ">I", "<H", ">H", "<Q"))
                packed = struct.pack(form, number & ((1 << 8 * struct.calcsize(form)) - 1))
                data[at : at + len(packed)] = packed
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                data[at : at + length] = bytes(length)
            case 7:
                other = int(rng.integers(size))
                data[at : at + length] = data[other : other + length]
            case _:
                data += rng.bytes(length)
    return bytes(data)


def damaged_text(rng: Rng, text: str) -> str:
    """Lines and words removed, repeated, moved or replaced by strange ones."""
    lines = text.split("\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        words = re.split(r"([,:;\s{}\[\]]+)", lines[at])
        match int(rng.integers(5)):
            case 0:
                del lines[at]
                lines = lines or [""]
            case 1:
                lines.insert(at, lines[int(rng.integers(len(lines)))])
            case 2:
                words[int(rng.integers(len(words)))] = one_of(rng, WORDS)
                lines[at] = "".join(words)
            case 3:
                place = int(rng.integers(len(lines[at]) + 1))
                lines[at] = lines[at][:place] + one_of(rng, WORDS) + lines[at][place:]
            case _:
                del words[int(rng.integers(len(words)))]
                lines[at] = "".join(words)
    return "\n".join(lines)


WORDS = (
    "", " ", "\t", "-", "--", "null", "~", "true", "nan", ".nan", ".inf", "-1", "0", "1e308", "1e999", "9" * 5000,
    "0x7fffffff", "!!int abc", "!!python/object/apply:os.system [x]", "!!binary aGk=", "2020-01-01", "&a", "*a",
    "<<: *a", "[" * 300, "{a: " * 300, "'", '"', "\\", "\x1b[31m", "\x00", "\ufeff", "é", "\u202e", "a" * 3000, "..",
    "../../..", "/dev/zero", "/etc/passwd", "%s", "{}", "[]", "1,2", "a,b", "a;b", "train", "test", "0.5", "1_000",
    "١", "𝟙",
)  # fmt: skip


def another(rng: Rng, value: Any) -> Any:
    """A value of the same type that might be meant."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * one_of(rng, (-1, 0, 1, 2, 3, 10, 1_000, 10**6, 10**10)) + int(rng.integers(2))
    if isinstance(value, float):
        return value * one_of(rng, (-1.0, 0.0, 0.5, 2.0, 10.0, 1e6, 1e300))
    if isinstance(value, list) and value:
        return value * int(one_of(rng, (1, 2, 5_000))) if rng.random() < 0.5 else [another(rng, one) for one in value]
    return (
        one_of(rng, ("none", "auto", "plain", "concatenate", "gan", "acgan", 1, 1e-4, None)) if value is None else value
    )


def special(rng: Rng, path: Path) -> str:
    """Something in a folder that is no file, instead of what may be there; what it is."""
    if path.is_dir() and not path.is_symlink():
        return "nothing more"
    path.unlink(missing_ok=True)
    match int(rng.integers(4)):
        case 0:
            os.mkfifo(path)
            return "a FIFO"
        case 1:
            path.symlink_to(one_of(rng, ("/dev/zero", "/dev/null", "nowhere", ".", "..", path.name)))
            return "a link to nothing that is read"
        case 2:
            path.mkdir()
            return "a folder of that name"
        case _:
            path.touch()
            return "an empty file"


def replace_leaf(rng: Rng, tree: dict[str, Any]) -> None:
    at = tree
    key = one_of(rng, list(at))
    while isinstance(at[key], dict) and at[key] and rng.random() < 0.9:
        at = at[key]
        key = one_of(rng, list(at))
    at[key] = another(rng, at[key]) if rng.random() < 0.5 else drawn(rng, VALUES)
    if rng.random() < 0.1:
        del at[key]
