"""A few measured dielectric constants, from a table in this file: read your own source in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from pymatgen.core import Lattice, Structure

from zoo.api import BadRecord, Dataset, Hypers, Record, TensorTarget

# Rock salts: edge of the cubic cell (Å), optical and static dielectric constant (Ashcroft, Mermin, Solid State Physics,
# 1976, table 27.1).
ROCK_SALTS = {
    ("Li", "F"): (4.026, 1.96, 9.01), ("Na", "F"): (4.634, 1.74, 5.05), ("K", "F"): (5.347, 1.85, 5.46),
    ("Rb", "F"): (5.65, 1.96, 6.48), ("Li", "Cl"): (5.13, 2.78, 11.95), ("Na", "Cl"): (5.640, 2.34, 5.90),
    ("K", "Cl"): (6.293, 2.19, 4.84), ("Rb", "Cl"): (6.59, 2.19, 4.92), ("Li", "Br"): (5.50, 3.17, 13.25),
    ("Na", "Br"): (5.977, 2.59, 6.28), ("K", "Br"): (6.600, 2.34, 4.90), ("Rb", "Br"): (6.89, 2.34, 4.86),
    ("Li", "I"): (6.00, 3.80, 16.85), ("Na", "I"): (6.473, 2.93, 7.28), ("K", "I"): (7.066, 2.62, 5.10),
    ("Rb", "I"): (7.35, 2.59, 4.91),
}  # fmt: skip


class MyPluginHypers(Hypers):
    """Keys that a recipe may give beside the name; anything else is refused with the nearest key."""

    halogens: tuple[str, ...] = ("F", "Cl", "Br", "I")
    """Halides of these alone."""


class MyPlugin(Dataset):
    """Alkali halides with their measured dielectric constants."""

    Hypers = MyPluginHypers
    licence: ClassVar[str] = "measured values, free to use: cite Ashcroft, Mermin, Solid State Physics (1976)"
    # `zoo cite` prints it for every model that is trained on these data.
    citation: ClassVar[str] = """
@book{ashcroft1976solid,
  author = {Ashcroft, Neil W. and Mermin, N. David},
  title = {Solid State Physics},
  year = {1976},
}
"""

    hypers: MyPluginHypers

    def targets(self) -> Mapping[str, TensorTarget]:
        """electronic and total, dimensionless: tensors of rank 2 with ij=ji, one a crystal."""
        return {
            "electronic": TensorTarget("electronic", quantity="electronic dielectric"),
            "total": TensorTarget("total", quantity="dielectric"),
        }

    def records(self) -> Iterator[Record | BadRecord]:
        """All of them, in a fixed order; cleaning, deduplication and splits are the zoo's.

        A tensor is in the Cartesian frame of its structure: turn both or neither.
        """
        for (metal, halogen), (edge, electronic, total) in ROCK_SALTS.items():
            if halogen not in self.hypers.halogens:
                continue
            half = edge / 2
            lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
            yield Record(
                key=metal + halogen,
                structure=Structure(lattice, [metal, halogen], np.array([[0, 0, 0], [0.5, 0.5, 0.5]])),
                targets={"electronic": electronic * np.eye(3), "total": total * np.eye(3)},
                properties={"source": "my-plugin"},
            )
