"""Checks of a sweep's cells before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence

from zoo.config import plugins
from zoo.config.recipe import Recipe
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.model import tensor_model as models
from zoo.sweep.cells import Cell, one_line
from zoo.workflows import train as runs


def check_all(cells: Sequence[Cell]) -> dict[str, str]:
    """Slug -> why a cell cannot work here, of those that cannot.

    Raises:
        ZooError: a recipe is wrong, or no cell can work.
    """
    check = Check()
    reasons: dict[str, str] = {}
    for cell in cells:
        try:
            reason = check(cell.config)
        except ZooError as error:
            raise ZooError(f"sweep cell '{cell.slug}': {error}{_hint(cell)}") from None
        if reason is not None:
            reasons[cell.slug] = reason
    if len(reasons) == len(cells):
        raise ZooError(f"no cell of the sweep can work; the first, '{cells[0].slug}': {reasons[cells[0].slug]}")
    return reasons


def _hint(cell: Cell) -> str:
    named = [
        name.removesuffix(".name") for name in cell.labels if name in ("dataset.name", "encoder.name", "readout.name")
    ]
    if not named:
        return ""
    section = named[0]
    return f" (an axis '{section}' of whole sections, [{{name: ...}}, ...], leaves the base recipe's settings behind)"


class Check:
    """Whether a recipe can work, as far as that can be known without data; remembers what it has built."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __call__(self, config: Recipe) -> str | None:
        """Why it cannot work here (a plugin that is not installed, a missing extra, a pair that does not fit), or None.

        Raises:
            ZooError: the recipe is wrong (an unknown setting of a plugin, a bad value, an unknown target).
        """
        try:
            for kind, name in config.plugins.items():
                plugins.load(kind, name)
        except ZooError as error:
            return str(error)
        target = runs.target_of(config)
        plugins.hypers("encoder", config.encoder.name, config.encoder.settings)
        plugins.hypers("readout", config.readout.name, config.readout.settings)
        key = json.dumps([config.encoder.model_dump(), config.readout.model_dump(), repr(target)], default=str)
        if key not in self._known:
            self._known[key] = self._built(config, target)
        return self._known[key]

    @staticmethod
    def _built(config: Recipe, target: TensorTarget) -> str | None:
        try:
            models.build(config.encoder, config.readout, target)
        except Exception as error:  # a stranger's plugin may raise anything; the cell's failure, not the sweep's
            return one_line(error)
        return None
