"""The `sweep` section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError

from zoo.config import recipe
from zoo.config.recipe import Recipe, Section, put
from zoo.errors import ZooError, did_you_mean, explain_validation
from zoo.sweep.axes import Axis, axis, label, refuse_conflicts


class Range(Section):
    """Numbers that Optuna may choose from; whole ones where both ends are whole."""

    low: int | float
    """Smallest."""
    high: int | float
    """Largest."""
    log: bool = False
    """Even on a logarithmic scale."""
    step: int | float | None = None
    """Only low, low + step, ..."""


class Choices(Section):
    """Values that Optuna may choose from."""

    choices: Any
    """A list of values, or named choices that set several keys each, as in a grid."""


class Optuna(Section):
    """A search by Optuna for the lowest objective: validation MAE_ten, mean over the seeds."""

    search: dict[str, Range | Choices] = Field(min_length=1)
    """Dotted key of the recipe -> where to search."""
    trials: PositiveInt = 20
    """Trials of the study, those of all processes together."""
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe: tree-structured Parzen estimator; random: to compare with."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the sampler."""
    storage: str | None = None
    """null: a journal file in the sweep's folder; a database URL shares the study with other folders and machines."""
    study: str | None = None
    """Name of the study; null: the recipe's name."""


class Sweep(Section):
    """Either `grid` or `optuna`."""

    grid: dict[str, Any] | None = None
    """Axis -> list of values of that key, or named choices that set several keys each. A cell for each combination."""
    compare: dict[str, Any] | None = None
    """Axis -> the value that the other cells of this axis are compared with, seed by seed."""
    optuna: Optuna | None = None
    """A search in place of a grid."""


@dataclass(frozen=True)
class Plan:
    """A recipe and how it is varied."""

    base: Recipe
    sweep: Sweep

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return the axes of the grid, in the recipe's order."""
        return tuple(axis(name, content) for name, content in (self.sweep.grid or {}).items())

    @property
    def content(self) -> dict[str, Any]:
        """The resolved base recipe: what a cell's choices change."""
        return recipe.resolved(self.base)

    def dump(self) -> str:
        """The resolved recipe, sweep section included, as YAML."""
        content = {**self.content, "sweep": self.sweep.model_dump(mode="json", exclude_none=True)}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe | Plan:
    """A recipe, or a plan where it has a `sweep` section.

    `sweep.grid.KEY=[...]` on the command line adds or replaces an axis, `=null` takes it away.

    Raises:
        ZooError: as `zoo.config.recipe.read`; a sweep section that makes no sense.
    """
    ours = tuple(override for override in overrides if override.startswith("sweep."))
    content, where = recipe.read_content(name_or_path, tuple(o for o in overrides if o not in ours))
    if "sweep" not in content and not ours:
        return recipe.parse(content, where)
    sweep = content.pop("sweep", None) or {}
    if not isinstance(sweep, dict):
        raise ZooError(f"{where}: 'sweep' must be a section with 'grid' or 'optuna'")
    if not all(isinstance(key, str) for key in sweep):
        raise ZooError(f"{where}: every key of 'sweep' must be a text")
    for override in ours:
        _override(sweep, *recipe.parse_override(override.removeprefix("sweep.")))
    _make_paths_absolute(sweep.get("grid"))
    _make_storage_absolute(sweep.get("optuna"))
    base = recipe.parse(content, where)
    try:
        section = Sweep(**sweep)
    except ValidationError as error:
        raise ZooError(explain_validation(error, Sweep, f"{where}: sweep")) from None
    plan = Plan(base, section)
    _check(plan, where)
    return plan


def _override(sweep: dict[str, Any], dotted: str, value: Any) -> None:
    """The keys of axes hold dots themselves: the longest axis that is there is meant, else a new one."""
    for place in ("grid", "optuna.search"):
        if not dotted.startswith(f"{place}."):
            continue
        axes = sweep
        for part in place.split("."):
            axes[part] = {} if axes.get(part) is None else axes[part]
            axes = axes[part]
            if not isinstance(axes, dict) or not all(isinstance(name, str) for name in axes):
                raise ZooError(f"'sweep.{place}' must map keys of the recipe to values, so that '{dotted}' can be set")
        key = dotted.removeprefix(f"{place}.")
        known = max((name for name in axes if key == name or key.startswith(f"{name}.")), key=len, default=key)
        if key != known:
            inner = axes[known]
            name, _, rest = key.removeprefix(f"{known}.").partition(".")
            if not isinstance(inner, dict):
                raise ZooError(f"sweep axis '{known}' is a list: give it whole, 'sweep.{place}.{known}=[...]'")
            if value is None:
                inner.pop(name, None)
            elif rest:
                inner.setdefault(name, {})[rest] = value
            else:
                inner[name] = value
        elif value is None:
            axes.pop(key, None)
        else:
            axes[key] = value
        return
    put(sweep, dotted, value)


def _make_paths_absolute(grid: Any) -> None:
    for name, choices in grid.items() if isinstance(grid, dict) else ():
        if name == "dataset.path" and isinstance(choices, list):
            boxes = [{"path": path} for path in choices]
            for box in boxes:
                recipe.make_path_absolute(box)
            grid[name] = [box["path"] for box in boxes]
        for choice in choices.values() if isinstance(choices, dict) else choices if isinstance(choices, list) else ():
            recipe.make_path_absolute(
                choice if name == "dataset" else choice.get("dataset") if isinstance(choice, dict) else None
            )


def _make_storage_absolute(optuna: Any) -> None:
    """`sqlite:///mine.db` is a file of this folder; resumed from another one, it must be the same study."""
    storage = optuna.get("storage") if isinstance(optuna, dict) else None
    if isinstance(storage, str) and storage.startswith("sqlite"):
        driver, _, path = storage.partition(":///")
        if path and not path.startswith((":memory:", "file:")):
            name, mark, options = path.partition("?")
            optuna["storage"] = f"{driver}:///{Path(name).resolve().as_posix()}{mark}{options}"


def _check(plan: Plan, where: str) -> None:
    sweep = plan.sweep
    if (sweep.grid is None) == (sweep.optuna is None):
        raise ZooError(f"{where}: the sweep section needs 'grid' or 'optuna', one of them")
    if sweep.optuna is not None:
        if sweep.compare is not None:
            raise ZooError(f"{where}: 'sweep.compare' goes with a grid")
        if sweep.optuna.storage is not None and _has_password(sweep.optuna.storage):
            raise ZooError(
                f"{where}: 'sweep.optuna.storage' holds a password, which would be written into the run folder; "
                "leave it to the database's own means (PGPASSWORD or .pgpass, .my.cnf)"
            )
        return
    axes = {one.name: one for one in plan.axes}
    if not axes:
        raise ZooError(f"{where}: 'sweep.grid' has no axes")
    refuse_conflicts(plan.axes)
    for name, value in (sweep.compare or {}).items():
        if name not in axes:
            raise ZooError(f"{where}: 'sweep.compare' names no axis '{name}'.{did_you_mean(name, axes)}")
        labels = [choice.label for choice in axes[name].choices]
        if label(value) not in labels:
            raise ZooError(
                f"{where}: 'sweep.compare': axis '{name}' has no '{label(value)}'.{did_you_mean(label(value), labels)}"
            )


def _has_password(url: str) -> bool:
    options = url.partition("?")[2].split("&")
    named = any(option.partition("=")[0].lower() in ("password", "passwd") for option in options)
    return named or ":" in url.partition("//")[2].rpartition("@")[0]
