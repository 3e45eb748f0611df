"""A reason not to trust an answer."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "unseen element",
    "metal",
    "novel",
    "range",
    "force",
    "pressure",
    "soft modes",
    "potentials disagree",
    "not projected",
    "no intervals",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""All kinds, in the order in which an answer tells them."""


class Doubt(str):
    """A warning: one sentence, and `kind`, which stays the same where words change, to count warnings by."""

    __slots__ = ("kind",)

    kind: Kind

    def __new__(cls, kind: Kind, sentence: str) -> Doubt:
        """Make the sentence one that has a kind."""
        made = super().__new__(cls, sentence)
        made.kind = kind
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Return what a copy is made of."""
        return self.kind, str(self)
