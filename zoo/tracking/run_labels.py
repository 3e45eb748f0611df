"""Parameters, tags and description of a run in MLflow, from its recipe and its run.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow.tracking.context.default_context import DefaultRunContext
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from pydantic import BaseModel

from zoo.config.recipe import Recipe
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.evaluation import error_table

LONGEST = 250
"""Characters of a parameter; recipe.yaml has the whole of what is cut."""
_FIRST = ("target", "encoder", "readout", "dataset", "auxiliary", "data", "split", "training", "seeds")
_ELSEWHERE = {"name", "description", "tracking"}  # name of the run, its description, and where it is shown
_COLUMNS = ("MAE_ten", "Frobenius", "≤ 25 %", "≤ 10 %")


def params_of(config: BaseModel) -> dict[str, str]:
    """Flatten a recipe: dotted keys with values as a recipe has them, what makes the model first, without nulls."""
    content = config.model_dump(mode="json", exclude=_ELSEWHERE)
    order = [*(key for key in _FIRST if key in content), *(key for key in content if key not in _FIRST)]
    return {key: _text(value) for key, value in _flat({key: content[key] for key in order}).items()}


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            value = {str(number): one for number, one in enumerate(value)}
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        elif value not in (None, []):
            found[f"{prefix}{key}"] = value
    return found


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def tags_of_work(origin: Mapping[str, Any]) -> dict[str, str]:
    """Tags of any work: the zoo's version, the code's commit, and what MLflow's list of runs shows as source and user.

    Args:
        origin: content of run.json.
    """
    command = origin.get("command", "zoo").split()
    tags = {"zoo.version": origin["zoo"], MLFLOW_SOURCE_NAME: " ".join(command[:2]), MLFLOW_SOURCE_TYPE: "LOCAL"}
    tags[MLFLOW_USER] = DefaultRunContext().tags()[MLFLOW_USER]
    return tags | ({MLFLOW_GIT_COMMIT: origin["git_commit"]} if origin.get("git_commit") else {})


def tags_of_parts(config: Recipe) -> dict[str, str]:
    """Tags of a model: what it predicts, by which parts, from which data."""
    named = [one["name"] for one in config.readout.settings.values() if isinstance(one, dict) and "name" in one]
    tags = {
        "zoo.recipe": config.name,
        "zoo.target": config.target,
        "zoo.encoder": config.encoder.name,
        "zoo.readout": " + ".join(named) if config.readout.name == "joint" else config.readout.name,
        "zoo.dataset": config.dataset.name,
    }
    more = ", ".join(one.name for one in config.auxiliary)
    return tags | ({"zoo.auxiliary": more} if more else {})


def tags_of(config: Recipe, origin: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a training: those of its work and of its parts, and the device that it ran on."""
    return tags_of_work(origin) | tags_of_parts(config) | {"zoo.device": origin.get("device", config.device)}


def note(*paragraphs: str | None) -> dict[str, str]:
    """Tag with the description of a run, in Markdown; what is None or empty is left out."""
    return {MLFLOW_RUN_NOTE: "\n\n".join(filter(None, paragraphs))}


def again(origin: Mapping[str, Any], command: str | None = "zoo run recipe.yaml") -> str:
    """Say by which command a work was begun and, where it has one, by which it is done again from its artifacts."""
    begun = f"Begun by `{origin['command']}`"
    more = f"; again by `{command}`, with the file of that name among the artifacts" if command else ""
    return f"{begun}{more}."


def errors_in_markdown(content: Mapping[str, Any]) -> str:
    """Tabulate the content of metrics.json: all crystals, the ensemble, the baseline, and the parts of a joint target.

    Crystal systems are in errors_per_crystal_system.json.
    """
    table = error_table.of_errors(content)
    columns = [0, 1, *(table.header.index(name) for name in _COLUMNS if name in table.header)]
    rows = [row for row in table.rows if row[0] not in CRYSTAL_SYSTEMS]
    return in_markdown(*([line[column] for column in columns] for line in (table.header, *rows)), title=table.title)


def in_markdown(header: Iterable[str], *rows: Iterable[str], title: str = "") -> str:
    """Write a table in Markdown, its title above it."""
    cells = list(header)
    lines = [cells, ["---", *["---:"] * (len(cells) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{title}\n\n{table}" if title else table
