"""Provenance of a work folder, its run.json: which code, versions and command it was begun and resumed with."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Protocol

import torch

from zoo import __version__
from zoo.config import plugins
from zoo.errors import ZooError
from zoo.registry.connect import without_password
from zoo.storage.run_folder import read_json, write_json, write_text
from zoo.storage.work_folder import WorkFolder


def provenance(names: dict[str, str]) -> dict[str, Any]:
    """Describe which code and which versions something was made with; `names` are its plugins, by kind."""
    return {
        "zoo": __version__,
        "git_commit": git_commit(),
        "plugins": plugins.versions(names),
        "packages": dict(installed()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": without_password(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def installed() -> Mapping[str, str]:
    """Return the version of each package that is installed, read once: a discovery writes it down for each training."""
    return {name: d.version for d in distributions() if (name := d.metadata["Name"])}


def record(folder: WorkFolder, names: dict[str, str], **more: Any) -> None:
    """Write down what a work folder is begun with; `names` are its plugins, by kind."""
    write_json(folder.provenance, {**provenance(names), **more, "resumed": []})


def record_resumption(folder: WorkFolder, names: dict[str, str]) -> None:
    """Add to run.json that the work is resumed, and with which code."""
    begun, now = read_json(folder.provenance), provenance(names)
    begun["resumed"].append({key: now[key] for key in ("zoo", "git_commit", "command", "started")})
    write_json(folder.provenance, begun)


class Described(Protocol):
    """A recipe whose work can be resumed."""

    @property
    def content(self) -> dict[str, Any]:
        """Every key with its value, ready for JSON."""

    @property
    def fixed(self) -> dict[str, Any]:
        """The keys that must be the same when the work is resumed, with their values."""

    @property
    def plugins(self) -> dict[str, str]:
        """Names of the plugins, by kind."""

    def dump(self) -> str:
        """The recipe as YAML."""


def begin(folder: WorkFolder, config: Described, parse: Callable[[Any, str], Described], facts: dict[str, Any]) -> None:
    """Write down what a work folder is begun with, or check that it is resumed with the same.

    Args:
        folder: of the work.
        config: its recipe; at a resumption it takes the earlier one's place, as some keys may change.
        parse: reads the recipe that run.json holds; its second argument is the name in errors.
        facts: what else must be the same, by its name in errors.

    Raises:
        ZooError: the recipe or a fact is not the same.
    """
    if not folder.provenance.is_file():
        write_text(folder.recipe, config.dump())
        record(folder, config.plugins, recipe=config.content, facts=facts)
        return
    begun = read_json(folder.provenance)
    before = parse(begun["recipe"], str(folder.provenance)).fixed
    changed = [key for key, value in config.fixed.items() if value != before.get(key)]
    if changed:
        raise ZooError(
            f"{folder.path} was begun with another recipe ({', '.join(changed)} differ): go on with that one, or "
            "choose another folder with --out"
        )
    for name, value in facts.items():
        if begun["facts"].get(name) != value:
            raise ZooError(f"{folder.path} was begun with another {name}: choose another folder with --out")
    write_text(folder.recipe, config.dump())
    record_resumption(folder, config.plugins)


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
