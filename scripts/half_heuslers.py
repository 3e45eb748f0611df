"""Candidates that nobody has made: half-Heusler crystals of eight valence electrons, relaxed with SevenNet-0.

    python scripts/half_heuslers.py candidates.json
    zoo discover discover_total 'candidates={path: candidates.json}' top=2 rounds=1 --out runs/half_heuslers

Of each combination of elements the three ways to place them are relaxed, and the one of lowest energy is kept; those
whose formula petousis2017 holds in any structure are left out.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.io.ase import AseAtomsAdaptor
from sevenn.calculator import SevenNetCalculator

from zoo.contract.plugin import Record
from zoo.data.petousis2017 import Petousis2017, Petousis2017Hypers
from zoo.storage.run_folder import write_json

COMBINATIONS = [
    *itertools.product(("Li", "Na"), ("Be",), ("N", "P", "As")),
    *itertools.product(("Li", "Na"), ("B", "Al"), ("C", "Si")),
]


def main(path: Path) -> None:
    """Write the candidates as JSON, and say of each what it is."""
    calculator = SevenNetCalculator("7net-0", device="cpu")
    records = (r for r in Petousis2017(Petousis2017Hypers()).records() if isinstance(r, Record))
    known = {record.structure.composition.reduced_formula for record in records}
    found = {}
    for elements in COMBINATIONS:
        atoms = min((relaxed(order, calculator) for order in orders(elements)), key=Atoms.get_potential_energy)
        structure = AseAtomsAdaptor.get_structure(atoms)
        formula = structure.composition.reduced_formula
        edge = structure.lattice.a * 2**0.5
        if formula in known:
            print(f"{formula}: is in the dataset")
            continue
        print(f"{formula}: {atoms.symbols[0]} between, a = {edge:.3f} Å", flush=True)
        found[f"half-Heusler-{formula}"] = {"structure": structure.as_dict()}
    write_json(path, found)


def orders(elements: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """Each of the three once on the site that the two others are both bonded to."""
    first, second, third = elements
    return [(first, second, third), (second, third, first), (third, first, second)]


def relaxed(elements: tuple[str, str, str], calculator: SevenNetCalculator) -> Atoms:
    """Cell and atoms, within F-43m."""
    a = 5.5
    cell = [[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]
    atoms = Atoms(
        elements, scaled_positions=[[0.25] * 3, [0] * 3, [0.5] * 3], cell=cell, pbc=True, calculator=calculator
    )
    FIRE(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=0.005, steps=300)
    return atoms


if __name__ == "__main__":
    main(Path(sys.argv[1]))
