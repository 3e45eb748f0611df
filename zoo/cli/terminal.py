"""Console for tables."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """Return a console on the terminal, or one wide enough that no number is cut in a file, a pipe or a notebook."""
    # Not rich's is_terminal: Jupyter sets FORCE_COLOR, and then a file is a terminal of 80 columns to it.
    return Console() if sys.stdout.isatty() else Console(width=140)
