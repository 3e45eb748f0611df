"""The models that come with the zoo itself: they answer where no other is named."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "box"
DEFAULT = "zoo-dielectric-1"
"""Name of the model that answers where none is named: electronic, ionic and total dielectric tensor."""


def names() -> list[str]:
    """Return the names of the models in the box, each the name of its folder; a new release gets a new number."""
    return sorted(path.parent.name for path in FOLDER.glob("*/model.json"))


def folder_of(name: str) -> Path | None:
    """Return the model folder of that name, None where there is none in the box."""
    return FOLDER / name if name in names() else None
