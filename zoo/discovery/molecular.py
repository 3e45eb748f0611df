"""Detection of crystals that are made of molecules."""

from __future__ import annotations

import warnings

from pymatgen.analysis.dimensionality import get_dimensionality_larsen
from pymatgen.analysis.graphs import StructureGraph
from pymatgen.analysis.local_env import CrystalNN, JmolNN, NearNeighbors
from pymatgen.core import Structure


def is_molecular(structure: Structure) -> bool:
    """Whether its bonds make no network in any direction: dimensionality 0 after Larsen et al. (2019), by pymatgen.

    Bonds are those of CrystalNN. It takes 0.2 s, so the bonds of JmolNN are looked at first, in a tenth of the time:
    they reach no farther than covalent radii, so that a network of theirs is one. (That they make none says little: by
    them, NaCl is made of atoms.)
    """
    return all(_dimensionality(structure, bonds) == 0 for bonds in (JmolNN(), CrystalNN()))


def _dimensionality(structure: Structure, bonds: NearNeighbors) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oxidation states that are not there: radii are then atomic ones
        try:
            return int(get_dimensionality_larsen(StructureGraph.from_local_env_strategy(structure, bonds)))
        except (ValueError, RuntimeError):  # no Voronoi cell of an atom is closed: it has no neighbour near
            return 0
