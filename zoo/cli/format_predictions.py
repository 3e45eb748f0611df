"""Format predictions as rows of a CSV file, and as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import numpy as np
from rich.table import Table

from zoo.cli.terminal import console
from zoo.contract.target import TensorTarget
from zoo.data.elasticity import to_voigt
from zoo.evaluation.derived import is_stiffness
from zoo.evaluation.predictions import component_names
from zoo.model.checkpoint import Card

SCALARS = (
    "polycrystalline",
    "polycrystalline_spread",
    "anisotropy",
    "refractive_index",
    "bulk_modulus",
    "shear_modulus",
)
COLUMNS = ("eigenvalues", "polycrystalline", "anisotropy", "bulk_modulus", "shear_modulus")


def rows_of(answer: dict[str, Any], target: TensorTarget) -> Iterator[dict[str, Any]]:
    """Yield one row per tensor: the independent components, then the scalars derived from them.

    Of a joint target the columns are those of its main part, then those of the other parts after their names.
    """
    if target.parts:
        (row,) = rows_of(answer, target.main)
        warnings = row.pop("warnings")
        for part in target.parts:
            if part != target.main:
                (of_part,) = rows_of({**answer, **answer[part.name]}, part)
                common = ("file", "formula", "crystal_system", "novelty", "coverage", "warnings")
                row |= {f"{part.name}_{key}": value for key, value in of_part.items() if key not in common}
        yield {**row, "warnings": warnings}
        return
    tensors = np.array(answer["tensor"])
    start = {key: answer[key] for key in ("file", "formula", "crystal_system")}
    eigenvalues = {f"eigenvalue_{k}": value for k, value in enumerate(answer.get("eigenvalues", ()), 1)}
    plain = {key: answer[key] for key in SCALARS if key in answer}
    for key, interval in answer["intervals"].items():
        if key in plain:
            plain[f"{key}_low"], plain[f"{key}_high"] = interval
    if target.per_atom:
        plain = {}
    for atom, tensor in enumerate(tensors if target.per_atom else [tensors]):
        number = {"atom": atom} if target.per_atom else {}
        # The digits that float32 has; after a projection, the noise of float64 is none.
        components = {name: f"{tensor.flat[index]:.7g}" for name, index in component_names(target)}
        sure = {} if target.per_atom else {k: answer[k] for k in ("coverage", "tensor_radius")}
        novelty = {"novelty": (answer["novelty"] or {}).get("distance")}
        warnings = {"warnings": "; ".join(answer["warnings"])}
        yield {**start, **number, **components, **eigenvalues, **plain, **sure, **novelty, **warnings}


def show(answers: list[dict[str, Any]], card: Card) -> None:
    """Print a table, of a joint target one for each part, and warnings on stderr."""
    for part in card.target.parts or (card.target,):
        main = part == card.target.main
        measured = card.metrics if main else card.metrics["parts"][part.name]
        _show(answers if main else [{**answer, **answer[part.name]} for answer in answers], part, measured)
    for answer in answers:
        for near in answer.get("nearest", ()):
            click.echo(f"near {answer['file']}: {_neighbour(near)}")
    for answer in answers:
        for warning in answer["warnings"]:
            click.echo(f"warning: {answer['file']}: {warning}", err=True)


def _show(answers: list[dict[str, Any]], target: TensorTarget, measured: Mapping[str, Any]) -> None:
    """Print the table of one tensor; `measured` are its errors and coverage on the test part."""
    unit = "" if target.unit == "1" else f", {target.unit}"
    kind = "dielectric tensor" if "dielectric" in target.quantity else "tensor"
    table = Table(title=f"{target.name} {kind}{unit}", title_justify="left", box=None, header_style="bold")
    for column in ("file", "formula", "crystal system"):
        table.add_column(column)
    if target.per_atom:
        table.add_column("atom", justify="right")
    table.add_column(f"{_layout(target)} (frame of the file)", justify="right")
    shown = [] if target.per_atom else [key for key in COLUMNS if key in answers[0]]
    for key in shown:
        table.add_column(key.replace("_", " "), justify="right")
    for answer in answers:
        start = [answer["file"], answer["formula"], answer["crystal_system"]]
        if target.per_atom:
            for atom, tensor in enumerate(answer["tensor"]):
                table.add_row(*(start if atom == 0 else ["", "", ""]), str(atom), _matrix(np.array(tensor), target))
        else:
            table.add_row(*start, _matrix(np.array(answer["tensor"]), target), *[_cell(answer, key) for key in shown])
    console().print(table)
    sure = next((answer for answer in answers if answer["intervals"]), None)
    if sure is not None:
        known = [key for key in shown if key in sure["intervals"]]
        click.echo(_about_intervals(sure["coverage"], known, measured["calibration"]["test"]))


def _layout(target: TensorTarget) -> str:
    """Name the form in which `_matrix` writes a tensor."""
    if target.rank <= 2:
        return "tensor"
    return "6×6, Voigt" if is_stiffness(target) else "independent components"


def _matrix(tensor: np.ndarray, target: TensorTarget) -> str:
    """Write a tensor as lines of numbers."""
    if target.rank > 2 and not is_stiffness(target):
        return "\n".join(f"{name} {tensor.flat[index]:10.4g}" for name, index in component_names(target))
    lines = to_voigt(tensor) if is_stiffness(target) else np.atleast_2d(tensor)
    return "\n".join(" ".join(f"{round(value, 3) + 0.0:8.3f}" for value in line) for line in lines)


def _cell(answer: dict[str, Any], key: str) -> str:
    value = answer[key]
    if value is None:
        return "–"
    if isinstance(value, list):
        return "\n".join(f"{number:.3f}" for number in value)
    if key in answer["intervals"]:
        low, high = answer["intervals"][key]
        return f"{value:.3f}\n({low:.2f} to {high:.2f})"
    spread = answer.get(f"{key}_spread")
    return f"{value:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _about_intervals(coverage: float, keys: list[str], measured: Mapping[str, Any]) -> str:
    """Say what the intervals promise, and how often they held the true value on the test part."""
    held = []
    for key in keys:
        at = measured.get(key, {}).get("levels", {}).get(str(coverage))
        if at is not None:
            held.append(f"{100 * at['covered']:.0f} % ({key.replace('_', ' ')})")
    held_words = f"; on the test crystals they held {', '.join(held)}" if held else ""
    return (
        f"in brackets: intervals meant to hold the true value of {100 * coverage:.0f} % of crystals, calibrated on the "
        f"validation crystals that also chose the members' epochs{held_words}"
    )


def _neighbour(near: dict[str, Any]) -> str:
    """Write a training crystal in one line: `mp-149 Si, cubic, at 0.12, its tr/3 13.1`."""
    words = f"{near['key']} {near['formula']}, {near['crystal_system']}, at {near['distance']:.2f}"
    if near["tensor"] is None or np.ndim(near["tensor"]) != 2:
        return words
    return f"{words}, its tr/3 {np.trace(near['tensor']) / 3:.2f}"
