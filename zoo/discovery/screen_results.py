"""From the parts of a screening to what it was for: the best candidates, as a table, as crystals, as pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from zoo.contract.target import TensorTarget
from zoo.data.export import file_names
from zoo.data.structures import structure_from_dict
from zoo.discovery import screen_figures
from zoo.discovery.rows import component_columns
from zoo.discovery.screen_config import Screen
from zoo.discovery.screen_folder import ScreenFolder
from zoo.discovery.top_k import Top
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, write_json, write_rows, write_text

_COLUMNS = ("index", "key", "formula", "n_atoms", "score", "mean", "std", "novelty", "warnings")


class NothingLeft(ZooError):
    """A screening chose nothing."""


def conclude(
    config: Screen,
    folder: ScreenFolder,
    target: TensorTarget,
    part: TensorTarget,
    threshold: float | None,
    speed: Mapping[str, Any],
) -> dict[str, Any]:
    """Write top.csv, top/, figures/ and, last, summary.json; all of it follows from the parts.

    Args:
        config: the recipe.
        folder: of the screening.
        target: what was predicted.
        part: what of it the objective is of.
        threshold: of the novelty; None where the model does not know its training crystals.
        speed: of this call, for summary.json.

    Returns:
        The content of summary.json, and under `top` the rows of top.csv.

    Raises:
        NothingLeft: no candidate is left.
    """
    counts, warned, best = _counted(config, folder)
    summary: dict[str, Any] = {
        "candidates": counts.total(),
        "predicted": counts["predicted", None],
        **{kind: {r: n for (s, r), n in counts.most_common() if s == kind} for kind in ("filtered", "failed")},
        "chosen": len(best.indices),
        "warnings": dict(warned.most_common()),
        "part": part.name,
        "novelty_threshold": threshold,
        "speed": dict(speed),
    }
    if not best.indices:
        why = ", ".join(f"{reason} {n:,}" for kind in ("filtered", "failed") for reason, n in summary[kind].items())
        said = f"of {counts.total():,} candidates none is left ({why})" if why else "there are no candidates"
        raise NothingLeft(f"{said}; what became of each is in {folder.path / 'parts'}")
    chosen_rows = _chosen(folder, best.indices, target)
    shown = [_row(rank, row, target, part, threshold) for rank, row in enumerate(chosen_rows, 1)]
    names = list(dict.fromkeys(name for row in shown for name in row))
    write_rows(folder.table, [{name: row.get(name, "") for name in names} for row in shown])
    _write_crystals(folder, chosen_rows)
    folder.figures.mkdir(exist_ok=True)
    screen_figures.histogram(config, folder, part, summary["predicted"], best.indices)
    screen_figures.merit(folder, part, summary["predicted"], best.indices)
    write_json(folder.result, summary)
    return {**summary, "top": shown}


def chosen(config: Screen, folder: ScreenFolder, target: TensorTarget) -> list[dict[str, Any]]:
    """The rows of the parts (`zoo.discovery.rows.table_of`) of the best candidates, the best first."""
    return _chosen(folder, _counted(config, folder)[2].indices, target)


def facts_of_chosen(config: Screen, folder: ScreenFolder, target: TensorTarget) -> list[dict[str, Any]]:
    """Describe the best candidates of a finished screening, the best first, ready for JSON.

    `key`, `formula`, `structure` (JSON), `properties`, `mean`, `std`, `score`, `predicted` (the tensor), `novel`.
    """
    columns, threshold = component_columns(target), read_json(folder.result).get("novelty_threshold")
    return [
        {name: row[name] for name in ("key", "formula", "structure", "mean", "std", "score")}
        | {
            "properties": json.loads(row["properties"]),
            "predicted": target.from_independent(torch.tensor([[row[name] for name in columns]]))[0].tolist(),
            "novel": _novel(row, threshold),
        }
        for row in chosen(config, folder, target)
    ]


def _counted(config: Screen, folder: ScreenFolder) -> tuple[Counter[tuple[str, str | None]], Counter[str], Top]:
    """Count how often each status and reason and each kind of warning occurs, and collect the best candidates."""
    counts: Counter[tuple[str, str | None]] = Counter()
    warned: Counter[str] = Counter()
    best = Top(config.top)
    for table in folder.tables(("index", "status", "reason", "score", "replaces", "warnings")):
        rows = table.to_pydict()
        counts.update(zip(rows["status"], rows["reason"], strict=True))
        for kinds in rows.get("warnings", ()):  # not in parts of an earlier zoo
            warned.update(kinds.split(", ") if kinds else ())
        for index in rows["replaces"]:
            if index is not None:
                best.discard(index)
        for index, status, score in zip(rows["index"], rows["status"], rows["score"], strict=True):
            if status == "predicted":
                best.push(score, index)
    return counts, warned, best


def _chosen(folder: ScreenFolder, indices: list[int], target: TensorTarget) -> list[dict[str, Any]]:
    """Their rows of the parts, the best first."""
    rank = {index: place for place, index in enumerate(indices)}
    found: dict[int, dict[str, Any]] = {}
    for table in folder.tables((*_COLUMNS, *component_columns(target), "properties", "structure")):
        for row, index in enumerate(table["index"].to_pylist()):
            if index in rank:
                found[rank[index]] = table.slice(row, 1).to_pylist()[0]
    return [found[place] for place in sorted(found)]


def _row(
    rank: int, found: Mapping[str, Any], target: TensorTarget, part: TensorTarget, threshold: float | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"rank": rank}
    row |= {name: found[name] for name in ("key", "formula", "n_atoms")}
    row |= {"part": part.name} if target.parts else {}
    row |= {name: f"{found[name]:.6g}" for name in ("score", "mean", "std", *component_columns(target))}
    novel = _novel(found, threshold)
    if novel is not None:
        row |= {"novelty": f"{found['novelty']:.4g}", "novel": "yes" if novel else "no"}
    row["warnings"] = found.get("warnings") or ""
    return row | {name: value for name, value in json.loads(found["properties"]).items() if name not in row}


def _novel(found: Mapping[str, Any], threshold: float | None) -> bool | None:
    return None if found["novelty"] is None or threshold is None else found["novelty"] > threshold


def _write_crystals(folder: ScreenFolder, chosen: list[dict[str, Any]]) -> None:
    """A VASP file, which keeps the frame that the tensor is in, and a CIF, which every program reads."""
    folder.crystals.mkdir(exist_ok=True)
    digits = len(str(len(chosen)))
    for rank, (row, name) in enumerate(zip(chosen, file_names(row["key"] for row in chosen), strict=True), 1):
        structure = structure_from_dict(json.loads(row["structure"]))
        place = folder.crystals / f"{rank:0{digits}d}_{name}"
        write_text(place.with_name(f"{place.name}.cif"), str(CifWriter(structure)))
        write_text(place.with_name(f"{place.name}.vasp"), Poscar(structure).get_str())
