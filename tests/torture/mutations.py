"""Changed texts and values: what a user's editor, another program, a broken transfer or a joker makes of an input."""

from __future__ import annotations

import copy
import re
import reprlib
from typing import Any

import numpy as np

TOKENS = (
    "nan", "inf", "-1", "0", "1e400", "-0.0", "1e-300", "1e308", "9" * 30, "2147483648", "1_000", "0x10", "1/3",
    "5.64(3)", "null", "true", "~", "[]", "{}", '""', "''", "\x00", "\ufeff", "é", "\n", "\t", " ", ",", ":", "#", "'",
    '"', ";", "?", ".", "..", "/dev/null", "/", "１", "²", "Xx", "T", "D", "data_", "loop_", "- ", "&a", "*a",
    "!!python/object:os.system", "\u2028", "\r", "-", "e", "*" * 50, "(" * 2000, "[" * 2000, "{\"a\":" * 2000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 10**30, 10**400, 2**31,
    "", "x", "\x00", "é" * 100, "Xx", "Na", "9" * 5000, [], {}, [[]], [None], {"": None}, [1, 2, 3], ["a"], [[[1.0]]],
    "../x", "NaN",
)  # fmt: skip
SHORT = reprlib.Repr()
SHORT.maxlevel = 3
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def pick(random: np.random.Generator, choices: Any) -> Any:
    """One of them."""
    return choices[int(random.integers(len(choices)))]


def changed_text(text: str, other: str, random: np.random.Generator) -> tuple[str, str]:
    """The text after one to four changes, and their names."""
    names = []
    for _ in range(int(pick(random, (1, 1, 1, 2, 4)))):
        name = pick(random, sorted(_CHANGES))
        text = _CHANGES[name](text, other, random)[:2_000_000]
        names.append(name)
    return text, ", ".join(names)


def _slice(text: str, random: np.random.Generator, longest: int = 200) -> tuple[int, int]:
    start = int(random.integers(len(text) + 1))
    return start, min(len(text), start + int(random.integers(1, longest)))


def _delete(text: str, other: str, random: np.random.Generator) -> str:
    start, end = _slice(text, random)
    return text[:start] + text[end:]


def _double(text: str, other: str, random: np.random.Generator) -> str:
    start, end = _slice(text, random)
    return text[:end] + text[start:end] * int(pick(random, (1, 1, 1, 3, 300))) + text[end:]


def _insert(text: str, other: str, random: np.random.Generator) -> str:
    place = int(random.integers(len(text) + 1))
    return text[:place] + pick(random, TOKENS) + text[place:]


def _number(text: str, other: str, random: np.random.Generator) -> str:
    found = list(NUMBER.finditer(text))
    if not found:
        return text
    one = pick(random, found)
    return text[: one.start()] + pick(random, TOKENS) + text[one.end() :]


def _character(text: str, other: str, random: np.random.Generator) -> str:
    place = int(random.integers(len(text) + 1))
    return text[:place] + chr(int(pick(random, (random.integers(128), random.integers(0xD000))))) + text[place + 1 :]


def _lines(text: str, other: str, random: np.random.Generator) -> str:
    lines = text.split("\n")
    first, second = int(random.integers(len(lines))), int(random.integers(len(lines)))
    how = int(random.integers(3))
    if how == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif how == 1:
        del lines[first]
    else:
        lines.insert(first, lines[second])
    return "\n".join(lines)


def _cut(text: str, other: str, random: np.random.Generator) -> str:
    return text[: int(random.integers(len(text) + 1))]


def _splice(text: str, other: str, random: np.random.Generator) -> str:
    return text[: int(random.integers(len(text) + 1))] + other[int(random.integers(len(other) + 1)) :]


_CHANGES = {
    "a piece deleted": _delete,
    "a piece doubled": _double,
    "a token inserted": _insert,
    "a number replaced": _number,
    "a character replaced": _character,
    "lines moved": _lines,
    "cut": _cut,
    "spliced": _splice,
}


def changed_bytes(text: str, random: np.random.Generator) -> bytes:
    """The text in UTF-8, once in ten with a byte that is another."""
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if data and random.random() < 0.1:
        data[int(random.integers(len(data)))] ^= int(random.integers(1, 256))
    return bytes(data)


def changed_binary(data: bytes, other: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    """A file of any format after changes as those of a text, or with one to eight bytes that are others; and which."""
    if random.random() < 0.3:
        content = bytearray(data)
        places = [int(random.integers(len(content))) for _ in range(int(pick(random, (1, 1, 2, 8))) if content else 0)]
        for place in places:
            content[place] ^= int(random.integers(1, 256))
        return bytes(content), f"bytes {places} are others"
    text, how = changed_text(data.decode("latin-1"), other.decode("latin-1"), random)
    return text.encode("latin-1", "replace"), how


def changed_value(value: Any, random: np.random.Generator) -> tuple[Any, str]:
    """The JSON value, in place, with one to three of its parts replaced, deleted, doubled or wrapped; and which."""
    names = []
    for _ in range(int(pick(random, (1, 1, 2, 3)))):
        place, key, path = _place(value, random)
        if place is None:
            return copy.deepcopy(pick(random, VALUES)), "all of it replaced"
        how = pick(random, ("replaced", "replaced", "replaced", "deleted", "wrapped", "doubled", "renamed"))
        _change(place, key, how, random)
        names.append(f"{path} {how}")
    return value, ", ".join(names)


def _place(value: Any, random: np.random.Generator) -> tuple[Any, Any, str]:
    place, path = value, ""
    if not isinstance(place, dict | list) or not place:
        return None, None, ""
    while True:
        key = pick(random, list(place) if isinstance(place, dict) else range(len(place)))
        path += f".{str(key)[:20]}"
        inner = place[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.8:
            place = inner
            continue
        return place, key, path[1:]


def _change(place: Any, key: Any, how: str, random: np.random.Generator) -> None:
    if how == "deleted":
        del place[key]
    elif how == "wrapped":
        text = SHORT.repr(place[key])  # all that a bomb of YAML holds would not fit in memory
        place[key] = pick(random, ([place[key]], {"x": place[key]}, text))
    elif how == "doubled" and isinstance(place, list):
        place[key:key] = [copy.deepcopy(place[key]) for _ in range(int(pick(random, (1, 2, 100))))]
    elif how == "renamed" and isinstance(place, dict):
        place[pick(random, ("", "x", f"{key}s", "\x00", "é", str(key).upper()))] = place.pop(key)
    else:
        place[key] = copy.deepcopy(pick(random, VALUES))  # a later change of it must not reach the other cases
