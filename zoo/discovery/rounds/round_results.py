"""From the rounds to what they were for: tables, pictures, and a line a round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.data.structures import structure_from_dict
from zoo.discovery.rounds import round_figures
from zoo.discovery.rounds.aim import Aim
from zoo.discovery.rounds.discovery_config import Discovery
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder, RoundFolder
from zoo.discovery.rounds.evaluated_candidates import EvaluatedCandidate, evaluated_in, write_evaluated
from zoo.discovery.rounds.start import Known
from zoo.evaluation.metrics import primary
from zoo.storage.run_folder import read_json, read_rows, write_json, write_rows

_BEST = 9  # crystals that are drawn


def write(
    folder: DiscoveryFolder,
    known: Known,
    rounds: Sequence[RoundFolder],
    aim: Aim,
    config: Discovery,
) -> list[EvaluatedCandidate]:
    """asked.csv, rounds.csv and the figures, of the rounds so far; all of it follows from what these have written."""
    evaluated = [one for place in rounds for one in evaluated_in(place, aim)]
    write_evaluated(folder, evaluated, aim.target)
    if rounds:
        write_rows(folder.table, [_row(place, evaluated, known, aim) for place in rounds])
    _draw(folder, known, rounds, evaluated, aim, config)
    return evaluated


def _draw(
    folder: DiscoveryFolder,
    known: Known,
    rounds: Sequence[RoundFolder],
    evaluated: Sequence[EvaluatedCandidate],
    aim: Aim,
    config: Discovery,
) -> None:
    folder.figures.mkdir(exist_ok=True)
    words = f"{config.objective.name.replace('-', ' ')} ({aim.part.name})"
    # Of what was asked alone: the best that was known before is a line of its own.
    curves = {config.acquisition.name: [round_figures.best_so_far(evaluated, None)]}
    borders = round_figures.borders_of(evaluated)
    round_figures.progress(curves, folder.figures / "progress.png", words, known.best, evaluated, borders)
    round_figures.parity(evaluated, folder.figures / "parity.png", words)
    best = _best(evaluated)
    if best:
        structures = {facts["key"]: facts["structure"] for place in rounds for facts in read_json(place.chosen)}
        drawn = [
            (f"{one.formula}, {one.value:.3g}\n{one.key}", structure_from_dict(json.loads(structures[one.key])))
            for one in best
        ]
        round_figures.crystals(drawn, folder.figures / "best.png")


def _best(evaluated: Sequence[EvaluatedCandidate]) -> list[EvaluatedCandidate]:
    """The few of the highest value, the highest first."""
    return sorted((one for one in evaluated if not np.isnan(one.value)), key=lambda one: -one.value)[:_BEST]


def _row(place: RoundFolder, evaluated: Sequence[EvaluatedCandidate], known: Known, aim: Aim) -> dict[str, Any]:
    """One round: what was known, what was asked, what came, how well it had been predicted."""
    here = [one for one in evaluated if one.round == place.number]
    values = np.array([one.value for one in here])
    means = np.array([one.mean for one in here])
    so_far = [one.value for one in evaluated if one.round <= place.number and not np.isnan(one.value)]
    best = max((v for v in [known.best, *so_far] if v is not None), default=None)
    metrics = read_json(place.model.result)
    of_part = metrics.get("parts", {}).get(aim.part.name, metrics)  # those of the main part are not below `parts`
    ended = ~np.isnan(values)
    return {
        "round": place.number,
        "trained_on": metrics["n_train"],
        "validation_error": _short(of_part["val"][primary(of_part)]["mean"]),
        "asked": len(here),
        "done": sum(one.status == "done" for one in here),
        "failed": sum(one.status == "failed" for one in here),
        "best_of_round": _short(values[ended].max() if ended.any() else None),
        "mean_of_round": _short(values[ended].mean() if ended.any() else None),
        "best_so_far": _short(best),
        "mae_predicted": _short(np.abs(means - values)[ended].mean() if ended.any() else None),
        "seconds": round(sum(one.seconds or 0.0 for one in here), 1),
    }


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def for_reading(cell: str) -> str:
    """Round a number of rounds.csv to four significant digits at most, as it is shown."""
    if "." not in cell:
        return cell
    value = float(cell)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def line_of(folder: DiscoveryFolder, place: RoundFolder) -> str:
    """A round in one line."""
    row = {name: for_reading(cell) for name, cell in read_rows(folder.table)[place.number - 1].items()}
    failed = f", {row['failed']} failed" if row["failed"] != "0" else ""
    best = f": best {row['best_of_round']}, mean {row['mean_of_round']}" if row["best_of_round"] else ""
    off = f"; the predictions were off by {row['mae_predicted']} on average" if row["mae_predicted"] else ""
    return f"came      {row['done']} results{failed}{best}; best so far {row['best_so_far'] or 'none'}{off}"


def conclude(
    folder: DiscoveryFolder,
    known: Known,
    rounds: Sequence[RoundFolder],
    aim: Aim,
    config: Discovery,
) -> dict[str, Any]:
    """Tables and pictures once more and, last, summary.json.

    Returns:
        The content of summary.json.
    """
    evaluated = write(folder, known, rounds, aim, config)
    content = {
        "rounds": len(rounds),
        "asked": len(evaluated),
        "done": sum(one.status == "done" for one in evaluated),
        "failed": sum(one.status == "failed" for one in evaluated),
        "part": aim.part.name,
        "best_at_start": known.best,
        "best": [
            {"key": one.key, "formula": one.formula, "value": one.value, "round": one.round} for one in _best(evaluated)
        ],
    }
    write_json(folder.result, content)
    return content
