"""Check that what a plugin says to cite is BibTeX."""

from __future__ import annotations

from zoo.contract.references import Citable, entries


def refuse_unreadable(plugin: type[Citable]) -> None:
    """Check that a plugin's citation is entries alone, each with a key of its own and balanced braces."""
    try:
        found = entries(plugin.citation)
    except ValueError as error:
        raise AssertionError(f"{plugin.__name__}: the citation cannot be read: {error}") from None
    assert found or not plugin.citation.strip(), f"{plugin.__name__}: the citation has no entry: @article{{key, ...}}"
