"""Command line `zoo`. Heavy imports are inside the commands, so that help is instant."""

from zoo.cli.main import main

__all__ = ["main"]
