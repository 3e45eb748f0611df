"""Tab of the page that tells the crystal itself: its cell, its symmetry, its atoms and what surrounds them."""

from __future__ import annotations

from collections import Counter

from dash import html
from dash.development.base_component import Component
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from zoo.ui.bonding import coordination

ATOMS_SHOWN = 100
SYMPREC = 0.01  # Å


def structure_tab(structure: Structure) -> list[Component]:
    """Sections of one crystal, of a file that was read."""
    lattice = structure.lattice
    lines = {
        "a, b, c": f"{lattice.a:.4f}, {lattice.b:.4f}, {lattice.c:.4f} Å",
        "α, β, γ": f"{lattice.alpha:.2f}, {lattice.beta:.2f}, {lattice.gamma:.2f}°",
        "Volume": f"{structure.volume:.2f} Å³, {structure.volume / len(structure):.2f} Å³ an atom",
        "Density": f"{float(structure.density):.3f} g/cm³",
        f"Space group within {SYMPREC:g} Å": _space_group(structure),
        "Atoms": ", ".join(f"{count} {symbol}" for symbol, count in _counted(structure).items()),
    }
    cell = html.Table(
        html.Tbody([html.Tr([html.Th(name, scope="row"), html.Td(value)]) for name, value in lines.items()]),
        className="numbers",
    )
    header = ("Atom", "", "a", "b", "c", "Bonded to", "at, Å")
    around = coordination(structure)
    rows = []
    for number, (site, near) in enumerate(zip(structure[:ATOMS_SHOWN], around, strict=False), 1):
        partners = Counter(structure[other].specie.symbol for other, _ in near)
        lengths = [distance for _, distance in near]
        between = (
            f"{lengths[0]:.2f}" + (f" to {lengths[-1]:.2f}" if lengths[-1] - lengths[0] > 0.005 else "")
            if near
            else "–"
        )
        told = ", ".join(f"{count} {symbol}" for symbol, count in partners.items()) or "–"
        place = [f"{x:.4f}" for x in site.frac_coords]
        rows.append(html.Tr([html.Td(one) for one in (str(number), site.specie.symbol, *place, told, between)]))
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in header]))
    left_out = len(structure) - ATOMS_SHOWN
    note = "Fractional coordinates. Bonded is what is nearer than 1.15 times the sum of the covalent radii."
    if left_out > 0:
        note += f" The first {ATOMS_SHOWN} of {len(structure):,} atoms."
    return [
        html.Section([html.H2("Cell"), cell]),
        html.Section(
            [
                html.H2("Atoms"),
                html.Div(html.Table([head, html.Tbody(rows)], className="sites"), className="wide"),
                html.P(note, className="note"),
            ]
        ),
    ]


def _counted(structure: Structure) -> Counter[str]:
    return Counter(site.specie.symbol for site in structure)


def _space_group(structure: Structure) -> str:
    try:
        found = SpacegroupAnalyzer(structure, symprec=SYMPREC)
        return f"{found.get_space_group_symbol()} (number {found.get_space_group_number()})"
    except (SymmetryUndeterminedError, TypeError, ValueError):
        return "not found"
