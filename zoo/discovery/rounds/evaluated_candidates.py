"""All crystals that were asked for so far: what was predicted of each, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.discovery.rounds.aim import Aim
from zoo.discovery.rounds.calculations import Calculation, calculations_of
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder, RoundFolder
from zoo.discovery.rows import component_columns
from zoo.storage.run_folder import write_rows


@dataclass(frozen=True)
class EvaluatedCandidate:
    """One crystal.

    Attributes:
        round: in which it was asked for, from 1.
        rank: within the round, from 1.
        formula: reduced.
        mean, std, score: of the objective over the members, and by the acquisition, when it was chosen.
        predicted: (*target.shape) mean over the members.
        novel: whether it is unlike the crystals that the models were trained on; None where that is not known.
        status: `done`, `failed` or `waiting`.
        reason: why it failed.
        seconds: that the oracle took, in its last call.
        tensor: (*target.shape) that the oracle told; NaN for a part of a joint target that it did not.
        value: the objective of that; NaN where it is not defined.
        properties: what else is known of it: `band_gap` (eV), ...
    """

    round: int
    rank: int
    key: str
    formula: str
    mean: float
    std: float
    score: float
    predicted: np.ndarray
    novel: bool | None
    status: str
    reason: str = ""
    seconds: float | None = None
    tensor: np.ndarray | None = None
    value: float = float("nan")
    properties: Mapping[str, Any] = field(default_factory=dict)


def evaluated_in(place: RoundFolder, aim: Aim) -> list[EvaluatedCandidate]:
    """Read the evaluated candidates of one round, the highest score first."""
    calculations = calculations_of(place)
    outcomes = [one.outcome for one in calculations]
    tensors = [_tensor(outcome, aim) for outcome in outcomes]
    done = [i for i, tensor in enumerate(tensors) if tensor is not None]
    values = np.full(len(calculations), np.nan)
    if done:
        properties = [calculations[i].facts["properties"] for i in done]
        values[done] = aim.values(np.stack([t for t in tensors if t is not None]), properties)
    return [
        _evaluated(place.number, rank, one, outcome, tensor, float(value))
        for rank, (one, outcome, tensor, value) in enumerate(
            zip(calculations, outcomes, tensors, values, strict=True), 1
        )
    ]


def _tensor(outcome: Mapping[str, Any] | None, aim: Aim) -> np.ndarray | None:
    return None if outcome is None or outcome["status"] != "done" else aim.label(outcome["tensors"])


def _evaluated(
    number: int,
    rank: int,
    one: Calculation,
    outcome: Mapping[str, Any] | None,
    tensor: np.ndarray | None,
    value: float,
) -> EvaluatedCandidate:
    facts, outcome = one.facts, outcome or {"status": "waiting"}
    return EvaluatedCandidate(
        number,
        rank,
        one.key,
        facts["formula"],
        facts["mean"],
        facts["std"],
        facts["score"],
        np.asarray(facts["predicted"], dtype=np.float64),
        facts["novel"],
        outcome["status"],
        outcome.get("reason", ""),
        outcome.get("seconds"),
        tensor,
        value,
        facts["properties"],
    )


def write_evaluated(folder: DiscoveryFolder, evaluated: Sequence[EvaluatedCandidate], target: TensorTarget) -> None:
    """asked.csv: a row a crystal; components that the oracle told, and those that were predicted."""
    columns = component_columns(target)

    def row(one: EvaluatedCandidate) -> dict[str, Any]:
        numbers = np.full(one.predicted.shape, np.nan) if one.tensor is None else one.tensor
        told = {name: _short(numbers.flat[flat]) for name, flat in columns.items()}
        predicted = {f"predicted_{name}": f"{one.predicted.flat[flat]:.6g}" for name, flat in columns.items()}
        return {
            "round": one.round,
            "rank": one.rank,
            "key": one.key,
            "formula": one.formula,
            "status": one.status,
            "value": _short(one.value),
            "predicted": f"{one.mean:.6g}",
            "std": f"{one.std:.6g}",
            "score": f"{one.score:.6g}",
            "novel": "" if one.novel is None else "yes" if one.novel else "no",
            "seconds": "" if one.seconds is None else one.seconds,
            **told,
            **predicted,
            "reason": one.reason,
        }

    if evaluated:
        write_rows(folder.asked, map(row, evaluated))


def _short(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
