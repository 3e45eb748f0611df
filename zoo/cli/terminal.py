"""Where tables go."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """The terminal, or a file or pipe wide enough that no number is cut."""
    shown = Console()
    return shown if shown.is_terminal else Console(width=140)
