"""Check the cells of a sweep before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence

from zoo.config import plugins
from zoo.config.recipe import Recipe
from zoo.errors import ZooError
from zoo.model import tensor_model
from zoo.sweep.cells import Cell, one_line
from zoo.workflows import train as runs


def check_all(cells: Sequence[Cell]) -> dict[str, str]:
    """Return slug -> reason for every cell that cannot work on this machine.

    Raises:
        ZooError: a recipe is wrong, or no cell can work.
    """
    built: dict[str, str | None] = {}
    reasons: dict[str, str] = {}
    for cell in cells:
        try:
            reason = _obstacle(cell.recipe, built)
        except ZooError as error:
            raise ZooError(f"sweep cell '{cell.slug}': {error}{_hint(cell)}") from None
        if reason is not None:
            reasons[cell.slug] = reason
    if len(reasons) == len(cells):
        raise ZooError(f"no cell of the sweep can work; the first, '{cells[0].slug}': {reasons[cells[0].slug]}")
    return reasons


def _hint(cell: Cell) -> str:
    sections = [name.removesuffix(".name") for name in ("dataset.name", "encoder.name", "readout.name")]
    section = next((section for section in sections if f"{section}.name" in cell.labels), None)
    if section is None:
        return ""
    return f" (an axis '{section}' of whole sections, [{{name: ...}}, ...], leaves the base recipe's settings behind)"


def _obstacle(recipe: Recipe, built: dict[str, str | None]) -> str | None:
    """The reason why a recipe cannot work: a plugin or an extra is not installed, or a pair does not fit; else None.

    `built` remembers the pairs of encoder and readout that were built before.

    Raises:
        ZooError: the recipe is wrong (an unknown setting of a plugin, a bad value, an unknown target).
    """
    try:
        for kind, name in recipe.plugins.items():
            plugins.load(kind, name)
    except ZooError as error:
        return str(error)
    target = runs.target_of(recipe)
    plugins.hypers("encoder", recipe.encoder.name, recipe.encoder.settings)
    plugins.hypers("readout", recipe.readout.name, recipe.readout.settings)
    key = json.dumps([recipe.encoder.model_dump(), recipe.readout.model_dump(), repr(target)], default=str)
    if key not in built:
        try:
            tensor_model.build(recipe.encoder, recipe.readout, target, recipe.force_constants.potential)
            built[key] = None
        except Exception as error:  # a third-party plugin may raise anything; the cell fails, not the sweep
            built[key] = one_line(error)
    return built[key]
