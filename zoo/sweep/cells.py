"""The cells of a sweep: one complete recipe for each combination of choices."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.config import recipe as recipes
from zoo.config.recipe import Recipe
from zoo.errors import ZooError
from zoo.sweep.axes import Axis, Choice, changed
from zoo.sweep.sweep_config import Plan


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        slug: name of its folder.
        labels: axis -> label of the choice.
        values: axis -> value, None for a named choice.
        recipe: the complete recipe.
    """

    slug: str
    labels: dict[str, str]
    values: dict[str, Any]
    recipe: Recipe

    @property
    def title(self) -> str:
        """All choices in one line."""
        return ", ".join(self.describe(name) for name in self.labels)

    def describe(self, name: str) -> str:
        """The choice on one axis: a name stands alone, a number or a list comes with its key."""
        alone = self.values[name] is None or isinstance(self.values[name], str)
        return self.labels[name] if alone else f"{name} {self.labels[name]}"


def expand(plan: Plan) -> list[Cell]:
    """Build a cell for each combination of the grid's axes; the first axis changes slowest.

    Raises:
        ZooError: an unknown key or a bad value in one of them.
    """
    axes = plan.axes
    cells: list[Cell] = []
    for choices in itertools.product(*(axis.choices for axis in axes)):
        chosen = dict(zip((axis.name for axis in axes), choices, strict=True))
        cells.append(build_cell(plan, _unused(slug_of(axes, choices), cells), chosen))
    return cells


def build_cell(plan: Plan, slug: str, chosen: dict[str, Choice]) -> Cell:
    """Build the cell of one choice on each axis. It registers no model: the user decides which of many to register.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    content = changed(plan.content, list(chosen.values()))
    recipes.put(content, "name", f"{plan.base.name}-{slug}")
    recipes.put(content, "tracking.register_model", False)
    recipe = recipes.parse(content, f"sweep cell '{slug}'")
    labels = {name: choice.label for name, choice in chosen.items()}
    return Cell(slug, labels, {name: choice.value for name, choice in chosen.items()}, recipe)


def slug_of(axes: Sequence[Axis], choices: Sequence[Choice]) -> str:
    """Name of a cell's folder, as `DTNet-total` or `layer-3`: numbers come with the last part of their key."""
    parts = []
    for axis, choice in zip(axes, choices, strict=True):
        alone = choice.value is None or isinstance(choice.value, str | dict)
        parts.append(choice.label if alone else f"{axis.name.rpartition('.')[2]}-{choice.label}")
    return file_name("-".join(parts))


def file_name(text: str) -> str:
    """Reduce a text to the characters that are allowed in the name of a folder and of a recipe."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:100] or "cell"


def _unused(slug: str, cells: Sequence[Cell]) -> str:
    # Some file systems do not tell upper from lower case.
    used = {cell.slug.lower() for cell in cells}
    candidates = itertools.chain([slug], (f"{slug}-{number}" for number in itertools.count(2)))
    return next(name for name in candidates if name.lower() not in used)


def one_line(error: BaseException) -> str:
    """Write an error as one line of at most 500 characters."""
    text = " ".join(str(error).split())
    text = text if isinstance(error, ZooError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= 500 else f"{text[:497]}..."
