"""With which code, versions and command a run was made."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from zoo import __version__
from zoo.config import plugins
from zoo.tracking.connect import without_password


def provenance(names: dict[str, str]) -> dict[str, Any]:
    """Describe which code and which versions something was made with; `names` are its plugins, by kind."""
    return {
        "zoo": __version__,
        "git_commit": git_commit(),
        "plugins": plugins.versions(names),
        "packages": {name: d.version for d in distributions() if (name := d.metadata["Name"])},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": without_password(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """The commit of the checkout that the zoo runs from, `-dirty` where it was changed; None for an installed wheel."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # a wheel inside of another project's checkout is not its code
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
