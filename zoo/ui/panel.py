"""Numbers of one crystal on the page: the predictions of one model or two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component
from pymatgen.core import Structure

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import to_voigt
from zoo.evaluation.derived import describe, is_stiffness
from zoo.evaluation.predictions import component_names
from zoo.inference.prediction import Prediction
from zoo.model.checkpoint import Card
from zoo.ui.about import about
from zoo.ui.modes_tab import modes_tab, spectrum_tab
from zoo.ui.structure_tab import structure_tab

DIMENSIONLESS = ("anisotropy", "refractive_index")
HUGE = 100_000
ATOMS_SHOWN = 20  # of a target with one tensor an atom
AXES = ("x", "y", "z")
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
NUMBERS = {
    "polycrystalline": "Polycrystalline, tr/3",
    "eigenvalues": "Eigenvalue",
    "anisotropy": "Anisotropy, λ₃/λ₁",
    "refractive_index": "Refractive index, √(tr/3)",
    "bulk_modulus": "Bulk modulus",
    "shear_modulus": "Shear modulus",
}


@dataclass(frozen=True)
class Said:
    """By one model of the crystal.

    Attributes:
        model: what the page calls it.
        card: of the model.
        answer: of the model.
    """

    model: str
    card: Card
    answer: Prediction


def comparable(first: TensorTarget, second: TensorTarget) -> bool:
    """Whether a difference of the two means something: tensors of one kind in one unit."""
    return (first.formula, first.unit, first.per_atom) == (second.formula, second.unit, second.per_atom)


def tabs(said: Sequence[Said]) -> dict[str, str]:
    """The tabs that there are, and their labels: modes and spectrum where a model explains its answer."""
    found = {"answer": "Answer", "structure": "Structure"}
    if any(one.answer.explanation for one in said):
        found |= {"modes": "Modes", "spectrum": "Spectrum"}
    return found


def content(tab: str, said: Sequence[Said], structure: Structure) -> list[Component]:
    """Write what is on one of `tabs`, by one model or by two."""
    if tab == "structure":
        return structure_tab(structure)
    if tab == "answer":
        return answer_tab(said) if said else []
    written = modes_tab if tab == "modes" else spectrum_tab
    explained = [(one.model if len(said) > 1 else None, one.answer.explanation) for one in said]
    return [part for model, why in explained if why for part in written(model, why)]


def answer_tab(said: Sequence[Said]) -> list[Component]:
    """Warnings, tensors, numbers and the nearest training crystals, of one model or of two."""
    warnings: list[Component] = [
        html.P(
            f"{one.model}: {warning}" if len(said) > 1 else str(warning),
            className="warning",
            role="alert",
        )
        for one in said
        for warning in one.answer.warnings
    ]
    parts = [_section("Tensor", *_tensors(said), note="In the Cartesian frame of the file." + _spread_note(said))]
    if any(one.answer.derived for one in said):
        parts.append(_section("Numbers", _numbers(said), note=_interval_note(said)))
    parts += [part for one in said for part in _nearest(one, len(said) > 1)]
    parts.append(_section("Model" if len(said) == 1 else "Models", *(about(one.model, one.card) for one in said)))
    return [*warnings, *parts]


def heading(answer: Prediction, atoms: int, file: str) -> list[Component | str]:
    """Formula, crystal system, number of atoms, file."""
    count = f"{atoms} atom{'' if atoms == 1 else 's'} in the cell"
    return [
        html.Span(formula(answer.formula), className="formula"),
        f" {answer.crystal_system}, {count}",
        html.Span(file, className="file"),
    ]


def keys(said: Sequence[Said]) -> list[Component]:
    """The numbers that are looked for first, above all else: of each model, or of one model's answer and its parts."""
    found: list[Component] = []
    for title, answer in _columns(said):
        for name in ("polycrystalline", "bulk_modulus", "shear_modulus"):
            if name in answer.derived:
                label = NUMBERS[name] if title == "Value" else f"{title}, {'tr/3' if name[0] == 'p' else NUMBERS[name]}"
                found.append(html.Div([html.Span(label, className="label"), *_with_interval(answer, name)]))
    return found


def formula(plain: str) -> list[Component | str]:
    """`TiO2` with its 2 set low."""
    parts = re.split(r"(?<=[A-Za-z)\]])(\d+\.?\d*)", plain)
    return [html.Sub(part) if n % 2 else part for n, part in enumerate(parts) if part]


def number(value: float | None, places: int = 3) -> str:
    """For people: three decimals, one of large numbers; of huge ones only that they are; a minus that is one."""
    if value is None or not np.isfinite(value):
        return "undefined"
    if abs(value) >= HUGE:
        return f"over {HUGE:,.0f}" if value > 0 else f"under −{HUGE:,.0f}"
    text = f"{value:.{places if abs(value) < 100 else 1}f}"
    zero = not float(text)
    return text.lstrip("-") if zero else text.replace("-", "−")


def _places(target: TensorTarget) -> int:
    """Decimals of its numbers; what has a unit is GPa and the like, and less precise."""
    return 3 if target.unit == "1" else 1


def _section(title: str, *content: Component, note: str = "") -> Component:
    parts = [html.H2(title), *content]
    if note:
        parts.append(html.P(note, className="note"))
    return html.Section(parts)


def _tensors(said: Sequence[Said]) -> list[Component]:
    blocks = [_block(one.answer.title if len(said) == 1 else one.model, one.answer, n) for n, one in enumerate(said)]
    if len(said) == 1:
        blocks += [_block(part.title, part, f"part {name}") for name, part in said[0].answer.parts.items()]
    if len(said) == 2:
        first, second = (one.answer for one in said)
        if comparable(first.target, second.target) and first.tensor.shape == second.tensor.shape:
            difference = second.tensor - first.tensor
            blocks.append(_figure("Second − first", _matrix(difference, None, first.target), "difference"))
    return [html.Div(blocks, className="tensors")]


def _block(title: str, answer: Prediction, index: int | str) -> Component:
    if not answer.target.per_atom:
        matrix = _matrix(answer.tensor, answer.spread, answer.target)
    else:
        spreads: Any = [None] * len(answer.tensor) if answer.spread is None else answer.spread
        lines = [
            html.Li([f"atom {n + 1}", _matrix(tensor, spread, answer.target)])
            for n, (tensor, spread) in enumerate(zip(answer.tensor, spreads, strict=True))
        ]
        left_out = len(lines) - ATOMS_SHOWN
        if left_out > 0:
            lines[ATOMS_SHOWN:] = [html.Li(f"and {left_out} more: download the JSON")]
        matrix = html.Ul(lines, className="atoms")
    return _figure(title, matrix, f"model-{index}" if isinstance(index, int) else index)


def _figure(title: str, matrix: Component, kind: str) -> Component:
    return html.Figure([html.Figcaption(title), matrix], className=f"tensor {kind}")


def _matrix(tensor: np.ndarray, spread: np.ndarray | None, target: TensorTarget) -> Component:
    """Rank 2 as 3×3, a stiffness as Voigt's 6×6, others as a list of their independent components."""
    if target.rank > 2 and not is_stiffness(target):
        rows = [
            html.Tr([html.Th(name, scope="row"), _entry(tensor.flat[k], None if spread is None else spread.flat[k])])
            for name, k in component_names(target)
        ]
        return html.Table(html.Tbody(rows), className="matrix")
    stiff = is_stiffness(target)
    lines = to_voigt(tensor) if stiff else np.atleast_2d(tensor)
    spreads = None if spread is None else (to_voigt(spread) if stiff else np.atleast_2d(spread))
    places = _places(target)
    names = VOIGT if stiff else AXES
    rows = [
        html.Tr(
            [
                html.Th(names[i] if len(lines) > 1 else "", scope="row"),
                *(_entry(x, None if spreads is None else spreads[i, j], places) for j, x in enumerate(line)),
            ]
        )
        for i, line in enumerate(lines)
    ]
    head = html.Thead(html.Tr([html.Th(""), *(html.Th(name, scope="col") for name in names)]))
    return html.Table([head, html.Tbody(rows)], className="matrix square stiff" if stiff else "matrix square")


def _entry(value: float, spread: float | None, places: int = 3) -> Component:
    shown: list[Component | str] = [number(float(value), places)]
    if spread is not None:
        shown.append(html.Span(f" ± {number(float(spread), places)}", className="spread"))
    return html.Td(shown)


def _spread_note(said: Sequence[Said]) -> str:
    """Explain the ± of a number."""
    voigt = ""
    if any(is_stiffness(one.answer.target) for one in said):
        voigt = " Stiffnesses as Voigt's 6×6 matrix: xx, yy, zz, yz, xz, xy."
    if all(one.answer.spread is None for one in said):
        return voigt + " A single model: without a spread."
    return voigt + " ± is the standard deviation over the members of the ensemble."


def _numbers(said: Sequence[Said]) -> Component:
    """A column for each of two models and their difference, or one for the answer and each of its parts."""
    first, *second = (one.answer for one in said)
    columns = _columns(said)
    answers = [answer for _, answer in columns]
    head = ["", *(title for title, _ in columns)]
    difference = bool(second) and comparable(first.target, second[0].target)
    if difference:
        head.append("Second − first")
    rows = []
    for name, label in _lines(answers):
        values = [_value(answer, name) for answer in answers]
        cells = [html.Td(_with_interval(answer, name)) for answer in answers]
        if difference:
            known = values[0] is not None and values[1] is not None
            places = _places(first.target)
            cells.append(html.Td(number(values[1] - values[0], places) if known else "", className="value"))  # type: ignore[operator]
        rows.append(html.Tr([html.Th(label, scope="row"), *cells]))
    if any(answer.tensor_radius is not None for answer in answers):
        cells = [html.Td(_radius(answer)) for answer in answers] + [html.Td("")] * difference
        rows.append(html.Tr([html.Th("Whole tensor, ‖true − predicted‖", scope="row"), *cells]))
    head_row = html.Thead(html.Tr([html.Th(name, scope="col") for name in head]))
    return html.Table([head_row, html.Tbody(rows)], className="numbers two" if len(answers) > 1 else "numbers")


def _columns(said: Sequence[Said]) -> list[tuple[str, Prediction]]:
    """Title and answer: of each model, or of one model and the parts that it gives."""
    if len(said) != 1:
        return [(one.model, one.answer) for one in said]
    whole = said[0].answer
    parts = [(name.capitalize(), part) for name, part in whole.parts.items()]
    return [(whole.target.name.capitalize() if parts else "Value", whole), *parts]


def _lines(answers: Sequence[Prediction]) -> list[tuple[str | tuple[str, int], str]]:
    """Name (of the eigenvalues with the index) and label of each line of the table."""
    lines: list[tuple[str | tuple[str, int], str]] = []
    for name, label in NUMBERS.items():
        having = [answer for answer in answers if name in answer.derived]
        if not having:
            continue
        unit = having[0].target.unit
        suffix = f", {unit}" if unit != "1" and name not in DIMENSIONLESS else ""
        if name == "eigenvalues":
            lines += [((name, k), f"{label} λ{'₁₂₃'[k]}{suffix}") for k in range(3)]
        else:
            lines.append((name, label + suffix))
    return lines


def _value(answer: Prediction, name: str | tuple[str, int]) -> float | None:
    if isinstance(name, tuple):
        values = answer.derived.get(name[0])
        return None if values is None else values[name[1]]
    return answer.derived.get(name)


def _with_interval(answer: Prediction, name: str | tuple[str, int]) -> list[Component]:
    key, index = name if isinstance(name, tuple) else (name, None)
    if key not in answer.derived:
        return [html.Span("–", className="value")]
    places = 3 if key in DIMENSIONLESS else _places(answer.target)
    shown = number(_value(answer, name), places)
    interval = answer.intervals.get(key)
    # The members' spread is far narrower than a calibrated interval, and would be read as one.
    if interval is None and name == "polycrystalline" and answer.polycrystalline_spread is not None:
        shown += f" ± {number(answer.polycrystalline_spread, places)}"
    parts: list[Component] = [html.Span(shown, className="value")]
    if interval is not None and _value(answer, name) is not None:
        low, high = interval if index is None else interval[index]
        parts.append(html.Span(f"{number(low, places)} to {number(high, places)}", className="interval"))
    return parts


def _radius(answer: Prediction) -> list[Component]:
    shown = "–" if answer.tensor_radius is None else f"at most {number(answer.tensor_radius, _places(answer.target))}"
    return [html.Span(shown, className="interval")]


def _interval_note(said: Sequence[Said]) -> str:
    """Explain the intervals, for the models that have some."""
    having = [one for one in said if one.answer.intervals]
    if not having:
        if any(one.answer.coverage is not None for one in said):
            return (
                "Without intervals: the validation part was too small for this share of crystals. Choose a smaller one."
            )
        return "Without intervals: they need an ensemble, calibrated on a validation part that none of its members saw."
    note = (
        f"In grey: the {100 * (having[0].answer.coverage or 0):.0f} % interval. The true value is within it for that "
        "share of crystals like those of the validation part, by which it was calibrated."
    )
    return note + "".join(f" {one.model} has none." for one in said if one not in having)


def _nearest(one: Said, several: bool) -> list[Component]:
    answer = one.answer
    if not answer.nearest:
        return []
    rows = []
    label = None
    for near in answer.nearest:
        numbers = {} if near["tensor"] is None else describe(np.array(near["tensor"]), answer.target)
        found = next((name for name in ("polycrystalline", "bulk_modulus") if name in numbers), None)
        label = label or found
        cells = [html.Td(formula(near["formula"])), html.Td(near["key"]), html.Td(near["crystal_system"])]
        cells.append(html.Td(number(near["distance"], 2), className="value"))
        value = number(numbers[found], _places(answer.target)) if found else "–"
        cells.append(html.Td(value, className="value"))
        rows.append(html.Tr(cells))
    head = ["Crystal", "Key", "System", "Distance"]
    if label is None:
        rows = [html.Tr(row.children[:-1]) for row in rows]
    else:
        unit = "" if answer.target.unit == "1" else f", {answer.target.unit}"
        head.append(("Its tr/3" if label == "polycrystalline" else "Its bulk modulus") + unit)
    columns = html.Thead(html.Tr([html.Th(name, scope="col") for name in head]))
    note = "Distances are between the encoder's features; the last column is what the crystal is labelled with."
    if answer.novelty is not None:
        distance, threshold = answer.novelty["distance"], answer.novelty["threshold"]
        note += f" Mean distance {number(distance, 2)}; 99 % of held-out crystals are within {number(threshold, 2)}."
    title = "Nearest training crystals" + (f", {one.model}" if several else "")
    return [_section(title, html.Table([columns, html.Tbody(rows)], className="nearest"), note=note)]
