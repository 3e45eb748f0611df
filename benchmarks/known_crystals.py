"""Well-known crystals, from published lattice constants, by the model in the box, beside experiment.

    python benchmarks/known_crystals.py docs/results/known_crystals.csv --cifs FOLDER

Experiment is that at room temperature, of the clamped crystal where it is piezoelectric. Compared is tr/3. `seen` says
whether a crystal of the training has the same formula and crystal system.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

import zoo

KITTEL = "Kittel, Introduction to Solid State Physics"
FONTANELLA = "Fontanella et al., J. Appl. Phys. 45, 2852 (1974)"
LOWNDES = "Lowndes, Martin, Proc. R. Soc. A 308, 473 (1969)"


class Known(NamedTuple):
    """A crystal, and what is measured of it, perpendicular and parallel to c: ε∞ and ε."""

    name: str
    structure: Structure
    electronic: tuple[float, float]
    total: tuple[float, float]
    source: str


def cubic(
    name: str,
    group: str,
    a: float,
    species: list[str],
    sites: Sequence[Sequence[float]],
    electronic: float,
    total: float,
    source: str,
) -> Known:
    """A cubic crystal."""
    structure = Structure.from_spacegroup(group, Lattice.cubic(a), species, sites).get_primitive_structure()
    return Known(name, structure, (electronic, electronic), (total, total), source)


def rock_salt(a: float, cation: str, anion: str, electronic: float, total: float, source: str) -> Known:
    """A crystal of the structure of NaCl."""
    sites: list[list[float]] = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return cubic(f"{cation}{anion}", "Fm-3m", a, [cation, anion], sites, electronic, total, source)


def zinc_blende(a: float, cation: str, anion: str, electronic: float, total: float, source: str) -> Known:
    """A crystal of the structure of ZnS, or of diamond."""
    sites: list[list[float]] = [[0, 0, 0], [0.25, 0.25, 0.25]]
    name, group = (cation, "Fd-3m") if cation == anion else (f"{cation}{anion}", "F-43m")
    kept = 1 if cation == anion else 2
    return cubic(name, group, a, [cation, anion][:kept], sites[:kept], electronic, total, source)


def perovskite(name: str, a: float, cation: str, electronic: float, total: float, source: str) -> Known:
    """A cubic perovskite of titanium."""
    sites: list[list[float]] = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    return cubic(name, "Pm-3m", a, [cation, "Ti", "O"], sites, electronic, total, source)


def uniaxial(
    name: str,
    group: str,
    lattice: Lattice,
    sites: dict[str, Sequence[Sequence[float]]],
    electronic: tuple[float, float],
    total: tuple[float, float],
    source: str,
) -> Known:
    """A crystal with one axis, or none."""
    species = [element for element, of_element in sites.items() for _ in of_element]
    coordinates = [site for of_element in sites.values() for site in of_element]
    structure = Structure.from_spacegroup(group, lattice, species, coordinates).get_primitive_structure()
    return Known(name, structure, electronic, total, source)


def crystals() -> list[Known]:
    """Twelve that everybody knows, and twelve more."""
    h, t, third = Lattice.hexagonal, Lattice.tetragonal, 1 / 3
    wurtzite = [third, 2 * third]
    return [
        rock_salt(4.212, "Mg", "O", 2.96, 9.83, FONTANELLA),
        zinc_blende(5.431, "Si", "Si", 11.7, 11.7, KITTEL),
        zinc_blende(5.653, "Ga", "As", 10.89, 12.90, KITTEL),
        uniaxial(
            "quartz",
            "P3_221",
            h(4.913, 5.405),
            {"Si": [[0.4697, 0, 2 * third]], "O": [[0.4135, 0.2669, 0.7858]]},
            (2.36, 2.38),
            (4.52, 4.64),
            FONTANELLA,
        ),
        uniaxial(
            "Al2O3",
            "R-3c",
            h(4.759, 12.991),
            {"Al": [[0, 0, 0.3522]], "O": [[0.3063, 0, 0.25]]},
            (3.08, 3.07),
            (9.40, 11.59),
            FONTANELLA,
        ),
        uniaxial(
            "rutile",
            "P4_2/mnm",
            t(4.594, 2.959),
            {"Ti": [[0, 0, 0]], "O": [[0.3053, 0.3053, 0]]},
            (6.8, 8.4),
            (86, 170),
            "Parker, Phys. Rev. 124, 1719 (1961)",
        ),
        perovskite("SrTiO3", 3.905, "Sr", 5.2, 300, KITTEL),
        perovskite("BaTiO3, cubic", 4.00, "Ba", 5.4, np.nan, "above 393 K alone, there above 1,000"),
        uniaxial(
            "BaTiO3, tetragonal",
            "P4mm",
            t(3.992, 4.036),
            {"Ba": [[0, 0, 0]], "Ti": [[0.5, 0.5, 0.5224]], "O": [[0.5, 0.5, -0.0244], [0.5, 0, 0.4895]]},
            (5.2, 5.1),
            (2180, 56),
            "Zgonik et al., Phys. Rev. B 50, 5941 (1994)",
        ),
        uniaxial(
            "LiNbO3",
            "R3c",
            h(5.148, 13.863),
            {"Li": [[0, 0, 0.2787]], "Nb": [[0, 0, 0]], "O": [[0.0476, 0.3433, 0.0633]]},
            (5.0, 4.6),
            (44, 27.9),
            "Weis, Gaylord, Appl. Phys. A 37, 191 (1985)",
        ),
        uniaxial(
            "h-BN",
            "P6_3/mmc",
            h(2.504, 6.661),
            {"B": [[third, 2 * third, 0.25]], "N": [[third, 2 * third, 0.75]]},
            (4.95, 4.10),
            (7.04, 5.09),
            "Geick et al., Phys. Rev. 146, 543 (1966)",
        ),
        uniaxial(
            "HfO2",
            "P2_1/c",
            Lattice.from_parameters(5.117, 5.175, 5.291, 90, 99.22, 90),
            {"Hf": [[0.276, 0.040, 0.208]], "O": [[0.074, 0.332, 0.347], [0.449, 0.758, 0.480]]},
            (4.4, 4.4),
            (18, 18),
            "polycrystals, 16 to 22",
        ),
        rock_salt(5.640, "Na", "Cl", 2.33, 5.90, LOWNDES),
        rock_salt(6.293, "K", "Cl", 2.17, 4.84, LOWNDES),
        rock_salt(4.027, "Li", "F", 1.93, 9.04, LOWNDES),
        rock_salt(4.811, "Ca", "O", 3.33, 12.0, KITTEL),
        cubic("CaF2", "Fm-3m", 5.463, ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]], 2.05, 6.80, FONTANELLA),
        zinc_blende(3.567, "C", "C", 5.7, 5.7, KITTEL),
        zinc_blende(4.360, "Si", "C", 6.52, 9.72, "Patrick, Choyke, Phys. Rev. B 2, 2255 (1970)"),
        zinc_blende(5.409, "Zn", "S", 5.1, 8.3, KITTEL),
        uniaxial(
            "ZnO",
            "P6_3mc",
            h(3.250, 5.207),
            {"Zn": [[*wurtzite, 0]], "O": [[*wurtzite, 0.382]]},
            (3.70, 3.78),
            (7.78, 8.74),
            "Ashkenov et al., J. Appl. Phys. 93, 126 (2003)",
        ),
        uniaxial(
            "GaN",
            "P6_3mc",
            h(3.189, 5.185),
            {"Ga": [[*wurtzite, 0]], "N": [[*wurtzite, 0.377]]},
            (5.2, 5.4),
            (9.5, 10.4),
            "Barker, Ilegems, Phys. Rev. B 7, 743 (1973)",
        ),
        uniaxial(
            "MgF2",
            "P4_2/mnm",
            t(4.621, 3.052),
            {"Mg": [[0, 0, 0]], "F": [[0.303, 0.303, 0]]},
            (1.89, 1.93),
            (5.50, 4.83),
            FONTANELLA,
        ),
        cubic("CsCl", "Pm-3m", 4.123, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.63, 6.95, LOWNDES),
    ]


def main() -> None:
    """Ask, write the table, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--cifs", type=Path, help="write the crystals into this folder, too")
    arguments = parser.parse_args()
    known = crystals()
    if arguments.cifs is not None:
        arguments.cifs.mkdir(parents=True, exist_ok=True)
        for one in known:
            one.structure.to(str(arguments.cifs / f"{one.name.replace(', ', '_')}.cif"))
    predictor = zoo.load()
    assert predictor.reference is not None
    names = predictor.reference.names
    rows: list[dict[str, Any]] = []
    for one, answer in zip(known, predictor.predict([one.structure for one in known]), strict=True):
        system = SpacegroupAnalyzer(one.structure, 0.01).get_crystal_system()
        row: dict[str, Any] = {"crystal": one.name, "formula": answer.formula}
        for part, measured in (("electronic", one.electronic), ("total", one.total)):
            tensor = answer if part == "total" else answer.parts[part]
            middle = (2 * measured[0] + measured[1]) / 3
            low, high = tensor.intervals["polycrystalline"]
            row |= {
                f"{part}": round(float(tensor.derived["polycrystalline"]), 2),
                f"{part}_low": round(low, 2),
                f"{part}_high": round(high, 2),
                f"{part}_measured": round(middle, 2),
            }
        row["seen"] = any(name["formula"] == answer.formula and name["crystal_system"] == system for name in names)
        rows.append({**row, "source": one.source, "warnings": "; ".join(answer.warnings)})
    table = pd.DataFrame(rows)
    table.to_csv(arguments.csv, index=False)
    print(table.drop(columns=["source", "warnings"]).to_markdown(index=False))
    for row in rows:
        if row["warnings"]:
            print(f"{row['crystal']}: {row['warnings']}")


if __name__ == "__main__":
    main()
