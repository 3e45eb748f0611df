"""The axes of a sweep, and the recipe that results from one choice on each of them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.config.recipe import PLUGIN_SECTIONS, put
from zoo.errors import ZooError


@dataclass(frozen=True)
class Choice:
    """One value of an axis.

    Attributes:
        label: text in tables and in the names of folders.
        value: the value where the axis is a list of values, None for a named choice.
        sets: dotted keys of the recipe and their new values.
    """

    label: str
    value: Any
    sets: dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """A key of the recipe with a list of values, or a free name with named choices that set several keys each."""

    name: str
    choices: tuple[Choice, ...]

    @property
    def numeric(self) -> bool:
        """True if every choice is a number, so that the axis can be the abscissa of a plot."""
        return all(isinstance(c.value, int | float) and not isinstance(c.value, bool) for c in self.choices)


def parse_axis(name: str, content: Any) -> Axis:
    """Read an axis of the recipe.

    Raises:
        ZooError: neither a list of values nor named choices that map keys to values; two choices look the same.
    """
    if isinstance(content, list):
        choices = tuple(Choice(label(value), value, _flatten(name, value)) for value in content)
    elif isinstance(content, dict) and all(isinstance(sets, dict) for sets in content.values()):
        if not all(isinstance(key, str) for sets in content.values() for key in sets):
            raise ZooError(f"sweep axis '{name}': every key that a choice sets must be a text")
        choices = tuple(
            Choice(str(key), None, {k: v for part, inner in sets.items() for k, v in _flatten(part, inner).items()})
            for key, sets in content.items()
        )
    else:
        raise ZooError(
            f"sweep axis '{name}' must be a list of values of that key, or named choices that each map keys to values"
        )
    labels = [choice.label for choice in choices]
    if not labels:
        raise ZooError(f"sweep axis '{name}' has no values")
    twice = [text for text in labels if labels.count(text) > 1]
    if twice:
        raise ZooError(f"sweep axis '{name}' has '{twice[0]}' twice")
    return Axis(name, choices)


def label(value: Any) -> str:
    """Write a value in a few characters: `0.001`, `true`, `1+2+3`, `sevennet layer=4`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "+".join(map(label, value))
    if isinstance(value, dict):
        words = [str(value["name"])] if "name" in value else []
        return " ".join([*words, *(f"{key}={label(inner)}" for key, inner in value.items() if key != "name")])
    return str(value)


def refuse_conflicts(axes: Sequence[Axis]) -> None:
    """Check that no axis overwrites a key that an earlier axis has set; axes change the recipe in their order.

    Raises:
        ZooError: an axis does.
    """
    for earlier, later in itertools.combinations(axes, 2):
        before = {key for choice in earlier.choices for key in choice.sets}
        for key in sorted({key for choice in later.choices for key in choice.sets}):
            undone = [known for known in before if known == key or known.startswith(f"{key}.")]
            if undone:
                raise ZooError(
                    f"sweep axis '{later.name}' sets '{key}' and undoes '{undone[0]}' of axis '{earlier.name}'; "
                    "put it first, or leave one out"
                )


def changed(content: dict[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """Return a copy of a recipe's content with the keys of all choices set.

    Raises:
        ZooError: a key leads through a value.
    """
    content = copy.deepcopy(content)
    for choice in choices:
        for key, value in choice.sets.items():
            put(content, key, copy.deepcopy(value))
    return content


def _flatten(key: str, value: Any) -> dict[str, Any]:
    """Turn a nested section into dotted keys.

    A section that names a plugin stays one value: it replaces the whole section, so that no setting of the plugin that
    was there before reaches the new one. The content of a plugin's setting stays one value, too.
    """
    top, _, rest = key.partition(".")
    if not isinstance(value, dict) or (top in PLUGIN_SECTIONS and (rest or "name" in value)):
        return {key: value}
    return {k: v for part, inner in value.items() for k, v in _flatten(f"{key}.{part}", inner).items()}
