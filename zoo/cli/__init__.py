"""The command `zoo`. Heavy imports are made inside the commands, so that help is instant."""

from zoo.cli.main import main

__all__ = ["main"]
