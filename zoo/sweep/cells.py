"""The cells of a grid: a whole recipe each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.config import recipe
from zoo.config.recipe import Recipe
from zoo.errors import ZooError
from zoo.sweep.axes import Axis, Choice, changed
from zoo.sweep.sweep_config import Plan


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        slug: name of its folder.
        labels: axis -> what was chosen.
        values: axis -> the value, None for a named choice.
        config: its recipe.
    """

    slug: str
    labels: dict[str, str]
    values: dict[str, Any]
    config: Recipe

    @property
    def title(self) -> str:
        """For people."""
        return ", ".join(self.says(name) for name in self.labels)

    def says(self, name: str) -> str:
        """Describe the choice on an axis: a name speaks for itself, a number or a list does not."""
        speaks = self.values[name] is None or isinstance(self.values[name], str)
        return self.labels[name] if speaks else f"{name} {self.labels[name]}"


def expand(plan: Plan) -> list[Cell]:
    """A cell for each combination of the grid's axes; the first axis changes slowest.

    Raises:
        ZooError: an unknown key or a bad value in one of them.
    """
    axes = plan.axes
    cells: list[Cell] = []
    for choices in itertools.product(*(one.choices for one in axes)):
        chosen = dict(zip((one.name for one in axes), choices, strict=True))
        cells.append(cell(plan, _free(slug_of(axes, choices), cells), chosen))
    return cells


def cell(plan: Plan, slug: str, chosen: dict[str, Choice]) -> Cell:
    """The cell of some choices, by axis. It registers no model: of many, that is one's own choice.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    content = changed(plan.content, list(chosen.values()))
    recipe.put(content, "name", f"{plan.base.name}-{slug}")
    recipe.put(content, "tracking.register_model", False)
    config = recipe.parse(content, f"sweep cell '{slug}'")
    labels = {name: choice.label for name, choice in chosen.items()}
    return Cell(slug, labels, {name: choice.value for name, choice in chosen.items()}, config)


def slug_of(axes: Sequence[Axis], choices: Sequence[Choice]) -> str:
    """`DTNet-total`, `layer-3`: words speak for themselves, numbers come with the last part of their key."""
    parts = []
    for one, choice in zip(axes, choices, strict=True):
        speaks = choice.value is None or isinstance(choice.value, str | dict)
        parts.append(choice.label if speaks else f"{one.name.rpartition('.')[2]}-{choice.label}")
    return file_name("-".join(parts))


def file_name(text: str) -> str:
    """Reduce a text to what may be in the name of a folder and of a recipe."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:100] or "cell"


def _free(slug: str, cells: Sequence[Cell]) -> str:
    # Some file systems do not tell upper from lower case.
    taken = {one.slug.lower() for one in cells}
    candidates = itertools.chain([slug], (f"{slug}-{number}" for number in itertools.count(2)))
    return next(name for name in candidates if name.lower() not in taken)


def one_line(error: BaseException) -> str:
    """An error as one line of moderate length."""
    text = " ".join(str(error).split())
    text = text if isinstance(error, ZooError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= 500 else f"{text[:497]}..."
