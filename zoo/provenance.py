"""With which code, versions and command a run was made."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from zoo import __version__, plugins
from zoo.recipe import Recipe

PACKAGES = ("torch", "e3nn", "numpy", "pymatgen", "ase", "vesin", "spglib", "scikit-learn", "pytorch-ignite", "mlflow")


def provenance(made: Recipe) -> dict[str, Any]:
    """Which code and which versions a run was made with."""
    return {
        "zoo": __version__,
        "git_commit": git_commit(),
        "plugins": plugins.versions(made.plugins),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """The commit of the checkout that the zoo runs from, `-dirty` where it was changed; None outside of one."""
    here = Path(__file__).parent
    try:
        out = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip() or None
