"""Format predictions as rows of a CSV file, and as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import numpy as np
from rich.markup import escape
from rich.table import Table

from zoo.cli.format_modes import show_explanation
from zoo.cli.terminal import console
from zoo.contract.target import TensorTarget
from zoo.evaluation.derived import is_stiffness
from zoo.evaluation.predictions import component_names
from zoo.inference.prediction_text import LABELS, block, matrix, number, symbol, with_interval
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
COMMON = ("file", "formula", "crystal_system", "novelty", "coverage", "warnings", "warning_kinds")
"""Columns that are of a crystal, not of one of its tensors."""


def rows_of(answer: dict[str, Any], target: TensorTarget) -> Iterator[dict[str, Any]]:
    """Yield one row per tensor: the independent components, then the scalars derived from them.

    Of a joint target the columns of each tensor start with its name: `electronic_xx`, `ionic_polycrystalline`.
    """
    if target.parts:
        (main,) = rows_of(answer, target.main)
        row = {key: main[key] for key in COMMON[:3]}
        for part in target.parts:
            own = main if part == target.main else next(rows_of({**answer, **answer[part.name]}, part))
            row |= {f"{part.name}_{key}": value for key, value in own.items() if key not in COMMON}
        yield row | {key: main[key] for key in COMMON[3:]}
        return
    tensors = np.array(answer["tensor"])
    start = {key: answer[key] for key in COMMON[:3]}
    eigenvalues = {f"eigenvalue_{k}": value for k, value in enumerate(answer.get("eigenvalues", ()), 1)}
    plain = {key: answer[key] for key in SCALARS if key in answer}
    if answer["coverage"] is not None:  # the same columns for a crystal of which a number is not defined
        for key in [key for key in plain if not key.endswith("_spread")]:
            plain[f"{key}_low"], plain[f"{key}_high"] = answer["intervals"].get(key, (None, None))
    if target.per_atom:
        plain = {}
    for atom, tensor in enumerate(tensors if target.per_atom else [tensors]):
        each = {"atom": atom} if target.per_atom else {}
        components = {name: f"{tensor.flat[index]:g}" for name, index in component_names(target)}
        sure = {} if target.per_atom else {k: answer[k] for k in ("coverage", "tensor_radius")}
        yield {
            **start,
            **each,
            **components,
            **eigenvalues,
            **plain,
            **sure,
            "novelty": (answer["novelty"] or {}).get("distance"),
            "warnings": "; ".join(answer["warnings"]),
            "warning_kinds": _kinds(answer),
        }


def show(answers: list[dict[str, Any]], card: Card) -> None:
    """Print a table, of one crystal or few numbers its tensors in full, and warnings on stderr."""
    target = card.target
    parts = target.parts or (target,)
    if len(answers) == 1 and not target.per_atom:
        click.echo(f"{answers[0]['file']}: {block(answers[0], parts)}")
    elif target.parts:
        _show_constants(answers, parts)
    else:
        _show_tensors(answers, target)
    _show_promise(answers, card)
    for answer in answers:
        if "explanation" in answer:
            show_explanation(answer["file"], answer["explanation"])
    for answer in answers:
        for near in answer.get("nearest", ()):
            click.echo(f"near {answer['file']}: {_neighbour(near)}")
    for answer in answers:
        for warning in answer["warnings"]:
            click.echo(f"warning: {answer['file']}: {warning}", err=True)


def _show_constants(answers: Sequence[dict[str, Any]], parts: Sequence[TensorTarget]) -> None:
    """Print a row for each crystal: the constants of all parts, refractive index and anisotropy, kinds of warnings.

    On a terminal of less than 100 columns refractive index and anisotropy are left out.
    """
    place = console()
    wide = place.width >= 100
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("file, crystal", overflow="fold", max_width=26)
    for part in parts:
        table.add_column(symbol(part), justify="right", no_wrap=True)
    for name in ("n", "λmax/λmin") if wide else ():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("warnings", no_wrap=True)
    for answer in answers:
        own = {part.name: answer if part == parts[-1] else answer[part.name] for part in parts}
        index = next((one for one in own.values() if "refractive_index" in one), None)
        more = ["" if index is None else _in_two_lines(index, "refractive_index"), _in_two_lines(answer, "anisotropy")]
        table.add_row(
            escape(f"{answer['file']}\n{answer['formula']}, {answer['crystal_system']}"),
            *(_in_two_lines(one, "polycrystalline") for one in own.values()),
            *(more if wide else ()),
            _kinds(answer).replace(", ", "\n"),
        )
    place.print(table)
    names = ", ".join(symbol(part) for part in parts)
    index_too = "n: refractive index" if wide else "refractive index and anisotropy from 100 columns on"
    click.echo(f"{names}: tr/3, ε0 at fixed cell; {index_too}; tensors: ask for one crystal, or --format json")


def _show_tensors(answers: Sequence[dict[str, Any]], target: TensorTarget) -> None:
    """Print the table of tensors of one kind."""
    unit = "" if target.unit == "1" else f", {target.unit}"
    kind = "dielectric tensor" if "dielectric" in target.quantity else "tensor"
    table = Table(title=f"{target.name} {kind}{unit}", title_justify="left", box=None, header_style="bold")
    for column in ("file", "formula", "crystal system"):
        table.add_column(column, overflow="fold")
    if target.per_atom:
        table.add_column("atom", justify="right")
    table.add_column(f"{_layout(target)} (frame of the file)", justify="right", no_wrap=True)
    shown = [] if target.per_atom else [key for key in COLUMNS if key in answers[0]]
    for key in shown:
        table.add_column(key.replace("_", " "), justify="right", no_wrap=True)
    for answer in answers:
        start = [answer["file"], answer["formula"], answer["crystal_system"]]
        if target.per_atom:
            for atom, tensor in enumerate(answer["tensor"]):
                lines = "\n".join(matrix(np.array(tensor), target))
                table.add_row(*(start if atom == 0 else ["", "", ""]), str(atom), lines)
        else:
            lines = "\n".join(matrix(np.array(answer["tensor"]), target))
            table.add_row(*start, lines, *[_in_two_lines(answer, key) for key in shown])
    console().print(table)


def _layout(target: TensorTarget) -> str:
    """Name the form in which a tensor is written."""
    if target.rank <= 2:
        return "tensor"
    return "6×6, Voigt" if is_stiffness(target) else "independent components"


def _in_two_lines(answer: Mapping[str, Any], key: str) -> str:
    """Write a number, and its interval below it; eigenvalues one a line."""
    if isinstance(answer[key], list):
        return "\n".join(map(number, answer[key]))
    return with_interval(answer, key).replace(" (", "\n(").replace(" to ", "–")


def _kinds(answer: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(answer["warning_kinds"]))


def _show_promise(answers: Sequence[dict[str, Any]], card: Card) -> None:
    """Say what the intervals promise, and how often they held the true value on the test part."""
    sure = next((answer for answer in answers if answer["intervals"]), None)
    if sure is None:
        return
    held = []
    several = bool(card.target.parts)
    for part in card.target.parts or (card.target,):
        metrics = card.metrics if part == card.target.main else card.metrics["parts"][part.name]
        measured = metrics.get("calibration", {}).get("test", {})
        for key in ("polycrystalline",) if several else COLUMNS:
            at = measured.get(key, {}).get("levels", {}).get(str(sure["coverage"]))
            if at is not None:
                name = symbol(part) if several else LABELS[key]
                held.append(f"{100 * at['covered']:.0f} % ({name})")
    share = f"{100 * sure['coverage']:.0f} %"
    on, of = "the validation crystals that also chose the members' epochs", "test crystals"
    if "folds" in card.metrics:  # of zoo refit
        on, of = "test crystals of its cross-validation", "other crystals"
    click.echo(f"in brackets: {share} intervals, calibrated on {on}")
    if held:
        click.echo(f"on {of}, {', '.join(held)} of true values were within")


def _neighbour(near: dict[str, Any]) -> str:
    """Write a training crystal in one line: `mp-149 Si, cubic, at 0.12, its tr/3 13.1`."""
    words = f"{near['key']} {near['formula']}, {near['crystal_system']}, at {near['distance']:.2f}"
    if near["tensor"] is None or np.ndim(near["tensor"]) != 2:
        return words
    return f"{words}, its tr/3 {np.trace(near['tensor']) / 3:.2f}"
