"""Publications as BibTeX: those that the zoo's plugins cite, and how any plugin says what to cite."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, ClassVar


class Citable:
    """Part of a plugin that says which publications its answers rest on, for `zoo cite`.

    Class attributes:
        citation: BibTeX, one entry or several; each begins a line with `@` and has a key of its own. Empty for a plugin
            that nobody has published.
    """

    citation: ClassVar[str] = ""

    @classmethod
    def cites(cls, hypers: Any) -> str:
        """BibTeX for these hyperparameters: to be overridden where it depends on them, as on which weights are read."""
        return cls.citation


def references(*keys: str) -> str:
    """BibTeX of publications that the zoo knows, by the keys of `zoo/contract/references.bib`.

    Raises:
        KeyError: there is none of that key.
    """
    known = _known()
    return "\n".join(known[key] for key in keys)


def entries(text: str) -> dict[str, str]:
    """Take BibTeX apart: key -> entry. What stands before the first `@` at the start of a line is no entry.

    Raises:
        ValueError: an entry has no key or no closing brace, or two different ones have one key.
    """
    found: dict[str, str] = {}
    for part in re.split(r"(?m)^(?=@)", text)[1:]:
        entry = part.strip() + "\n"
        head = re.match(r"@\w+\{\s*([^\s,{}]+)\s*,", entry)
        depth = len(re.findall(r"(?<!\\)\{", entry)) - len(re.findall(r"(?<!\\)\}", entry))
        if head is None or depth or not entry.endswith("}\n"):
            raise ValueError(f"no BibTeX entry with a key and balanced braces: {' '.join(entry.split())[:80]}")
        if found.setdefault(head[1], entry) != entry:
            raise ValueError(f"two different BibTeX entries have the key '{head[1]}'")
    return found


@cache
def _known() -> dict[str, str]:
    return entries(resources.files("zoo.contract").joinpath("references.bib").read_text(encoding="utf-8"))
