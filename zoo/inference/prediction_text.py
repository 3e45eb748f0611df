"""Write answers as text: one line, and a block with the tensors of one crystal side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import to_voigt
from zoo.evaluation.derived import is_stiffness
from zoo.evaluation.predictions import component_names

SYMBOLS = {"electronic": "ε∞", "ionic": "ε0", "total": "ε"}
"""Symbols of the dielectric tensors: at optical frequencies, what the ions add at fixed cell, and their sum."""

LABELS = {
    "polycrystalline": "tr/3",
    "eigenvalues": "eigenvalues",
    "anisotropy": "anisotropy",
    "refractive_index": "refractive index",
    "bulk_modulus": "bulk modulus",
    "shear_modulus": "shear modulus",
}
"""Numbers that are written of each tensor, in this order."""


def symbol(target: TensorTarget) -> str:
    """Return ε∞, ε0 or ε of a dielectric tensor, the name of another."""
    kind = target.quantity.removesuffix("dielectric").strip() or target.name
    return SYMBOLS.get(kind, target.name) if "dielectric" in target.quantity else target.name


def header(target: TensorTarget) -> str:
    """Return the symbol with the unit, or with the condition that an ionic or total dielectric tensor holds under."""
    unit = "" if target.unit == "1" else f", {target.unit}"
    return symbol(target) + (" (fixed cell)" if symbol(target) == "ε0" else unit)


def number(value: float | None) -> str:
    """Write a derived number: three significant digits at least, thousands as they are."""
    if value is None or not np.isfinite(value):
        return "–"
    if abs(value) >= 1e5:
        return f"{value:.0e}"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}".replace("-0.00", "0.00")


def with_interval(content: Mapping[str, Any], name: str) -> str:
    """Write a derived number of a tensor with its interval, or else its standard deviation over the members."""
    value = number(content[name])
    if name in content["intervals"]:
        low, high = content["intervals"][name]
        return f"{value} ({number(low)} to {number(high)})"
    spread = content.get(f"{name}_spread")
    return value if spread is None else f"{value} ± {number(spread)}"


def matrix(tensor: np.ndarray, target: TensorTarget) -> list[str]:
    """Write a tensor as lines of numbers: a matrix, Voigt's of a stiffness, else the independent components."""
    if target.rank > 2 and not is_stiffness(target):
        return [f"{name} {tensor.flat[index]:10.4g}" for name, index in component_names(target)]
    rows = np.atleast_2d(to_voigt(tensor) if is_stiffness(target) else tensor)
    places = 3 if np.abs(rows).max(initial=0) < 1000 else 1
    cells = [[f"{round(float(value), places) + 0.0:.{places}f}" for value in row] for row in rows]
    width = max(len(cell) for row in cells for cell in row)
    return [" ".join(cell.rjust(width) for cell in row) for row in cells]


def of_each(content: Mapping[str, Any], targets: Sequence[TensorTarget]) -> list[Mapping[str, Any]]:
    """Return what `Prediction.as_dict` tells of each tensor: of the main one, the last, on its top level."""
    return [content if target == targets[-1] else content[target.name] for target in targets]


def in_one_line(content: Mapping[str, Any], targets: Sequence[TensorTarget]) -> str:
    """Write formula, crystal system, the constants with their intervals, and how many warnings there are.

    Args:
        content: `Prediction.as_dict`.
        targets: its tensors, of which the last is the main one.
    """
    told = []
    for one, target in zip(of_each(content, targets), targets, strict=True):
        name = next((name for name in ("polycrystalline", "bulk_modulus") if name in one), None)
        told.append(target.name if name is None else f"{symbol(target)} {with_interval(one, name)}")
    count = len(content["warnings"])
    warned = f", {count} warning{'' if count == 1 else 's'}" if count else ""
    return f"{content['formula']}, {content['crystal_system']}: {', '.join(told)}{warned}"


def block(content: Mapping[str, Any], targets: Sequence[TensorTarget]) -> str:
    """Write the tensors of a crystal side by side with their numbers, 100 columns wide at most for three matrices.

    Args:
        content: `Prediction.as_dict`.
        targets: its tensors, of which the last is the main one.
    """
    title = f"{content['formula']}, {content['crystal_system']}"
    each = of_each(content, targets)
    if targets[-1].per_atom:
        atoms = [matrix(np.array(tensor), targets[-1]) for tensor in content["tensor"]]
        lines = [f"atom {k:<4} {line}" for k, rows in enumerate(atoms) for line in rows]
        return "\n".join([title, f"{targets[-1].name}, one tensor an atom", *lines])
    rows: list[tuple[str, list[list[str]]]] = [("", [[header(target)] for target in targets])]
    tensors = [matrix(np.array(one["tensor"]), target) for one, target in zip(each, targets, strict=True)]
    rows.append(("6×6, Voigt" if is_stiffness(targets[-1]) else "tensor", tensors))
    for name, label in LABELS.items():
        if any(name in one for one in each):
            rows.append((label, [_cell(one, name) for one in each]))
    if any(_has_axes(one) for one in each):
        rows.append(("principal axes", [_axes(one) for one in each]))
    return "\n".join([title, *_side_by_side(rows)])


def _cell(content: Mapping[str, Any], name: str) -> list[str]:
    if name not in content:
        return [""]
    if name == "eigenvalues":
        return ["  ".join(number(value) for value in content[name])]
    return [with_interval(content, name)]


def _has_axes(content: Mapping[str, Any]) -> bool:
    """Whether the principal axes say something that x, y and z do not."""
    return "axes" in content and not np.allclose(content["axes"], np.eye(3), atol=1e-3)


def _axes(content: Mapping[str, Any]) -> list[str]:
    if not _has_axes(content):
        return ["x, y, z"]
    return ["  ".join(f"{round(value, 2) + 0.0:5.2f}" for value in axis) for axis in content["axes"]]


def _side_by_side(rows: Sequence[tuple[str, list[list[str]]]]) -> list[str]:
    """Put the cells of each row, lists of lines, into columns."""
    labels = max(len(label) for label, _ in rows) + 2
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    widths = [max(len(line) for cell in column for line in cell) + 3 for column in columns]
    lines = []
    for label, cells in rows:
        for k in range(max(map(len, cells))):
            line = "".join((cell[k] if k < len(cell) else "").ljust(w) for cell, w in zip(cells, widths, strict=True))
            lines.append(f"{label if k == 0 else '':<{labels}}{line}".rstrip())
    return lines
