"""The cells of a grid: a whole recipe each, checked before anything is trained."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo import model as models
from zoo import plugins, recipe
from zoo import run as runs
from zoo.errors import ZooError
from zoo.recipe import Recipe
from zoo.sweep.axes import Axis, Choice, changed
from zoo.sweep.section import Plan


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        slug: name of its folder.
        labels: axis -> what was chosen.
        values: axis -> the value, None for a named choice.
        made: its recipe.
    """

    slug: str
    labels: dict[str, str]
    values: dict[str, Any]
    made: Recipe

    @property
    def title(self) -> str:
        """For people."""
        return ", ".join(self.labels.values())


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
    made = recipe.parse(content, f"sweep cell '{slug}'")
    labels = {name: choice.label for name, choice in chosen.items()}
    return Cell(slug, labels, {name: choice.value for name, choice in chosen.items()}, made)


def slug_of(axes: Sequence[Axis], choices: Sequence[Choice]) -> str:
    """`DTNet-total`, `layer-3`: words speak for themselves, numbers come with the last part of their key."""
    parts = []
    for one, choice in zip(axes, choices, strict=True):
        speaks = choice.value is None or isinstance(choice.value, str | dict)
        parts.append(choice.label if speaks else f"{one.name.rpartition('.')[2]}-{choice.label}")
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(parts)).strip("-.") or "cell"
    return slug[:100]


def _free(slug: str, cells: Sequence[Cell]) -> str:
    # Some file systems do not tell upper from lower case.
    taken = {one.slug.lower() for one in cells}
    candidates = itertools.chain([slug], (f"{slug}-{number}" for number in itertools.count(2)))
    return next(name for name in candidates if name.lower() not in taken)


class Check:
    """Whether a recipe can work, as far as that can be known without data; remembers what it has built."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __call__(self, made: Recipe) -> str | None:
        """Why it cannot work here (a plugin that is not installed, a missing extra, a pair that does not fit), or None.

        Raises:
            ZooError: the recipe is wrong (an unknown setting of a plugin, a bad value, an unknown target).
        """
        try:
            for kind, name in made.plugins.items():
                plugins.load(kind, name)
        except ZooError as error:
            return str(error)
        target = runs.target_of(made)
        plugins.hypers("encoder", made.encoder.name, made.encoder.settings)
        plugins.hypers("readout", made.readout.name, made.readout.settings)
        key = json.dumps([made.encoder.model_dump(), made.readout.model_dump(), repr(target)], default=str)
        if key not in self._known:
            self._known[key] = self._built(made, target)
        return self._known[key]

    @staticmethod
    def _built(made: Recipe, target: Any) -> str | None:
        try:
            models.build(made.encoder.name, made.encoder.settings, made.readout.name, made.readout.settings, target)
        except Exception as error:  # a stranger's plugin may raise anything; the cell's failure, not the sweep's
            return one_line(error)
        return None


def one_line(error: BaseException) -> str:
    """An error as one line of moderate length."""
    text = " ".join(str(error).split())
    text = text if isinstance(error, ZooError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= 500 else f"{text[:497]}..."
