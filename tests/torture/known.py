"""Failures that are known and not mended yet: they are in the table, and do not make the harness fail."""

from __future__ import annotations

import re

from torture.cases import Tried

KNOWN: tuple[tuple[str, str, str], ...] = ()
"""Pattern of the table's line, pattern of what happened, and the reason why it is left."""


def reason_of(kind: str, tried: Tried) -> str | None:
    """Why a failure is left for now; None where it is not known."""
    for what, why, reason in KNOWN:
        if re.search(what, f"{kind}: {tried.what}") and re.search(why, f"{tried.how}: {tried.outcome.why}"):
            return reason
    return None
