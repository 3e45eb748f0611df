"""Console for tables."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """Return a console on the terminal, or one wide enough that no number is cut in a file or pipe."""
    shown = Console()
    return shown if shown.is_terminal else Console(width=140)
