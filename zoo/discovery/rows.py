"""Candidates of one chunk, and the table that is written of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymatgen.core import Structure

from zoo.contract.target import TensorTarget
from zoo.discovery.candidate_source import printable
from zoo.discovery.scoring import Rejected, Scored
from zoo.evaluation.predictions import component_names

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Row:
    """A candidate on its way.

    Attributes:
        index: its place among all, from 0.
        structure: None where it was not read.
        outcome: what became of it; None until that is known.
        keep: write its structure down: it is among the best so far.
        replaces: the place of the same crystal with a lower score, which was among the best until now.
    """

    index: int
    key: str
    properties: Mapping[str, Any]
    structure: Structure | None = None
    outcome: Scored | Rejected | None = None
    keep: bool = False
    replaces: int | None = None


def component_columns(target: TensorTarget) -> dict[str, int]:
    """`total_xx`, ...: name of the column of each independent component, of all parts -> its flat index."""
    return {
        f"{part.name}_{name}": k * 3**target.rank + index
        for k, part in enumerate(target.parts or (target,))
        for name, index in component_names(part)
    }


def table_of(rows: Sequence[Row], target: TensorTarget) -> pa.Table:
    """A row a candidate, in their order.

    `status` is `predicted`, `filtered` or `failed`, for `reason` and `detail` of the latter two. `mean`, `std`,
    `score`, `novelty`, `warnings` (their kinds) and the tensor's components are null where nothing was predicted.
    `properties` and `structure` are JSON, the latter of those alone that were among the best when the row was written.
    `replaces` is the `index` of an earlier row that is the same crystal, with a lower score, and no longer in the
    running for that.
    """
    import pyarrow as pa

    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "index": (pa.int64(), [row.index for row in rows]),
        "key": (pa.string(), [row.key for row in rows]),
        "formula": (
            pa.string(),
            [None if row.structure is None else row.structure.composition.reduced_formula for row in rows],
        ),
        "n_atoms": (pa.int32(), [None if row.structure is None else len(row.structure) for row in rows]),
        "status": (
            pa.string(),
            [row.outcome.status if isinstance(row.outcome, Rejected) else "predicted" for row in rows],
        ),
        "reason": (pa.string(), [row.outcome.reason if isinstance(row.outcome, Rejected) else None for row in rows]),
        "detail": (
            pa.string(),
            [printable(row.outcome.detail) if isinstance(row.outcome, Rejected) else None for row in rows],
        ),
    }
    scored = [row.outcome if isinstance(row.outcome, Scored) else None for row in rows]
    columns["replaces"] = (pa.int64(), [row.replaces for row in rows])
    for name in ("mean", "std", "score", "novelty"):
        columns[name] = (pa.float64(), [one and getattr(one, name) for one in scored])
    columns["warnings"] = (pa.string(), [one and ", ".join(one.warnings) for one in scored])
    for name, flat in component_columns(target).items():
        columns[name] = (pa.float64(), [one and float(one.tensor.flat[flat]) for one in scored])
    columns["properties"] = (
        pa.string(),
        [_json(row.properties) if isinstance(row.outcome, Scored) else None for row in rows],
    )
    columns["structure"] = (
        pa.string(),
        [json.dumps(row.structure.as_dict()) if row.keep and row.structure is not None else None for row in rows],
    )
    return pa.table({name: pa.array(values, type=kind) for name, (kind, values) in columns.items()})


def _json(properties: Mapping[str, Any]) -> str:
    plain = {name: v for name, v in properties.items() if not isinstance(v, float) or math.isfinite(v)}
    return json.dumps(plain, ensure_ascii=False)
