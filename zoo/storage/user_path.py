"""Paths as users write them, with `~` for a home folder."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import ZooError


def user_path(given: str | Path, named: str = "") -> Path:
    """Return a path with `~` and `~user` replaced by the home folder.

    Args:
        given: the path as the user wrote it.
        named: the setting that holds it, for the message; empty for a file that is itself what was asked for.

    Raises:
        ZooError: there is no such user, or the home folder is not known.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError:
        start = f"{named}: " if named else ""
        user = Path(given).parts[0]
        raise ZooError(
            f"{start}{str(given)[:200]}: no home folder is known for '{user}'; write the whole path"
        ) from None


def is_file(path: Path) -> bool:
    """Whether a path is a file that we may see; `Path.is_file` raises where a name is too long or a folder closed."""
    try:
        return path.is_file()
    except OSError:
        return False
