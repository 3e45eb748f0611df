"""Tables of modes, Born charges and oscillators in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.table import Table

from zoo.cli.terminal import console
from zoo.phonons.mode_table import mode_lines

MOST_ATOMS = 40  # whose charges are shown


def modes_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table of rows of `zoo.phonons.mode_table.mode_rows`."""
    header, lines = mode_lines(rows)
    return _table(header, lines, left=("", "irrep"))


def show_explanation(file: str, explanation: Mapping[str, Any]) -> None:
    """Print what `zoo.inference.explanation.Explanation.as_dict` gives: the modes, then the charges."""
    from zoo.inference.explanation import FIXED_CELL

    rows = explanation["modes"]
    size = explanation["primitive_atoms"]
    atoms = "one atom" if size == 1 else f"{size} atoms"
    click.echo(
        f"{file}: modes at Γ, {atoms} in the primitive cell{'' if rows else ': no optic modes, no ionic tensor'}"
    )
    if rows:
        console().print(modes_table(rows))
        click.echo(
            "frequencies are those of the force constants as the model corrects them; in the last column what the "
            "potential itself gives the same displacements"
        )
    charges = list(zip(explanation["elements"], explanation["born_charges"], strict=True))
    header = ("atom", "", *(f"{a}{b}" for a in "xyz" for b in "xyz"))
    lines = [
        (str(number), element, *(f"{round(value, 2) + 0.0:.2f}" for row in born for value in row))
        for number, (element, born) in enumerate(charges[:MOST_ATOMS], 1)
    ]
    click.echo("Born charges, e (polarisation, displacement)")
    console().print(_table(header, lines, left=("",)))
    if len(charges) > MOST_ATOMS:
        click.echo(f"and {len(charges) - MOST_ATOMS} more atoms: take --format json")
    click.echo(f"ε0 is {FIXED_CELL}")
    click.echo(
        f"the ε0 that these modes make differs by {explanation['deviation']:.2g} (Frobenius norm) from the answer"
    )


def oscillators_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of rows of `zoo.phonons.oscillators.oscillator_rows`."""

    def cell(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    named = any(row["irrep"] for row in rows)
    header = ("TO, cm⁻¹", "LO, cm⁻¹", *(("irrep",) if named else ()), "strength Δε")
    return _table(
        header,
        [
            (
                cell(row["transverse"], ".1f"),
                cell(row["longitudinal"], ".1f"),
                *((row["irrep"] or "–",) if named else ()),
                cell(row["strength"], ".4f"),
            )
            for row in rows
        ],
        left=("irrep",),
    )


def _table(header: Sequence[str], lines: Iterable[Sequence[str]], left: Sequence[str] = ()) -> Table:
    table = Table(box=None, header_style="bold")
    for name in header:
        table.add_column(name, justify="left" if name in left else "right")
    for line in lines:
        table.add_row(*line)
    return table
