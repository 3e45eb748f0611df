"""YAML of a recipe file, or of a value on the command line; whatever is wrong with it is one line."""

from __future__ import annotations

from typing import Any

import yaml

from zoo.errors import ZooError

MOST_LEVELS = 32  # of nesting; a recipe has five
MOST_VALUES = 100_000  # of a file, each counted as often as an anchor repeats it

# PyYAML's own errors, and what its constructors raise on an impossible date, on `!!bool maybe`, or on too many digits.
_ERRORS = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)


def parse_yaml(text: str) -> Any:
    """Parse YAML into plain Python values.

    Raises:
        ZooError: no valid YAML, or nested or repeated (by anchors) beyond what a recipe can mean; the message does not
            say where the text is from.
    """
    try:
        content = yaml.safe_load(text)
    except RecursionError:
        raise ZooError(_TOO_DEEP) from None
    except _ERRORS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ZooError(f"is no valid YAML: {reason}") from None
    _measure(content, 1, {})
    return content


_TOO_DEEP = f"is nested too deeply: at most {MOST_LEVELS} levels of brackets or indentation are read"


def _measure(value: Any, level: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of values in a value and its levels, walking once through what anchors repeat.

    Raises:
        ZooError: there are too many values or levels, or the value holds itself.
    """
    if not isinstance(value, dict | list):
        return 1, 0
    if level > MOST_LEVELS:
        raise ZooError(_TOO_DEEP)
    if id(value) not in known:
        known[id(value)] = 1, MOST_LEVELS  # until it is measured: whoever comes here again is inside of it
        parts = [_measure(part, level + 1, known) for part in (value.values() if isinstance(value, dict) else value)]
        known[id(value)] = 1 + sum(count for count, _ in parts), 1 + max((levels for _, levels in parts), default=0)
    count, levels = known[id(value)]
    if level + levels - 1 > MOST_LEVELS:
        raise ZooError(_TOO_DEEP)
    if count > MOST_VALUES:
        raise ZooError(f"repeats values by anchors (&, *) beyond {MOST_VALUES:,} of them: write them out")
    return count, levels
