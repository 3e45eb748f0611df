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
from zoo.sweep.axes import Axis, label, parse_axis, refuse_conflicts


class Range(Section):
    """A range of numbers that Optuna chooses from; integers if both ends are integers."""

    low: int | float
    """Smallest value."""
    high: int | float
    """Largest value."""
    log: bool = False
    """Sample uniformly on a logarithmic scale."""
    step: int | float | None = None
    """Distance of the allowed values: low, low + step, ...; null: all values."""


class Choices(Section):
    """A set of values that Optuna chooses from."""

    choices: Any
    """List of values, or named choices that set several keys each, as in a grid."""


class Optuna(Section):
    """A search by Optuna for the lowest validation MAE_ten (for other tensors the first error), mean over the seeds."""

    search: dict[str, Range | Choices] = Field(min_length=1)
    """Search space: dotted key of the recipe -> range or choices."""
    trials: PositiveInt = 20
    """Number of trials of the study, all processes together."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Sampler: tpe (tree-structured Parzen estimator) or random (a baseline)."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the sampler."""
    storage: str | None = None
    """Storage of the study; null: a journal file in the sweep's folder; folders and machines share a database URL."""
    study: str | None = None
    """Name of the study; null: the recipe's name."""


class Sweep(Section):
    """The `sweep` section of a recipe: either `grid` or `optuna`."""

    grid: dict[str, Any] | None = None
    """Axis -> list of values of that key, or named choices that set several keys each; each combination is a cell."""
    compare: dict[str, Any] | None = None
    """Baseline: axis -> the value that the other cells of this axis are compared with, seed by seed."""
    optuna: Optuna | None = None
    """Search in place of a grid."""


@dataclass(frozen=True)
class Plan:
    """A recipe together with its sweep section."""

    base: Recipe
    sweep: Sweep

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The grid's axes in the recipe's order; none for a search."""
        return tuple(parse_axis(name, content) for name, content in (self.sweep.grid or {}).items())

    @property
    def varied(self) -> dict[str, Any]:
        """Axis -> labels of a grid, or range or choices of a search."""
        if self.sweep.optuna is not None:
            return {key: at.model_dump() for key, at in self.sweep.optuna.search.items()}
        return {axis.name: ", ".join(choice.label for choice in axis.choices) for axis in self.axes}

    @property
    def content(self) -> dict[str, Any]:
        """Content of the resolved base recipe, which a cell's choices change."""
        return recipe.resolved(self.base)

    def dump(self) -> str:
        """Write the resolved recipe with its sweep section as YAML."""
        content = {**self.content, "sweep": self.sweep.model_dump(mode="json", exclude_none=True)}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe | Plan:
    """Read a recipe, or a plan if it has a `sweep` section.

    `sweep.grid.KEY=[...]` on the command line adds or replaces an axis, `=null` takes it away.

    Raises:
        ZooError: the recipe or its sweep section is wrong.
    """
    of_sweep = tuple(override for override in overrides if override.startswith("sweep."))
    content, where = recipe.read_content(name_or_path, tuple(o for o in overrides if o not in of_sweep))
    if "sweep" not in content and not of_sweep:
        return recipe.parse(content, where)
    sweep = content.pop("sweep", None) or {}
    if not isinstance(sweep, dict):
        raise ZooError(f"{where}: 'sweep' must be a section with 'grid' or 'optuna'")
    if not all(isinstance(key, str) for key in sweep):
        raise ZooError(f"{where}: every key of 'sweep' must be a text")
    for override in of_sweep:
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
    """Set a dotted key of the sweep section. Keys of axes hold dots themselves: the longest known axis is meant."""
    for section in ("grid", "optuna.search"):
        if not dotted.startswith(f"{section}."):
            continue
        axes = sweep
        for part in section.split("."):
            axes[part] = {} if axes.get(part) is None else axes[part]
            axes = axes[part]
            if not isinstance(axes, dict) or not all(isinstance(name, str) for name in axes):
                raise ZooError(
                    f"'sweep.{section}' must map keys of the recipe to values, so that '{dotted}' can be set"
                )
        key = dotted.removeprefix(f"{section}.")
        known = max((name for name in axes if key == name or key.startswith(f"{name}.")), key=len, default=key)
        if key != known:
            inner = axes[known]
            name, _, rest = key.removeprefix(f"{known}.").partition(".")
            if not isinstance(inner, dict):
                raise ZooError(f"sweep axis '{known}' is a list: give it whole, 'sweep.{section}.{known}=[...]'")
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
    """Make the path of an SQLite file absolute, so that a sweep resumed in another folder finds the same study."""
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
    axes = {axis.name: axis for axis in plan.axes}
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
