"""1,181 inorganic crystals with elasticity tensors from DFT, embedded in the zoo.

De Jong et al., Sci. Data 2, 150009 (2015), doi 10.1038/sdata.2015.9; LICENSE.md beside this file has the licence and
the way the numbers came.

The table has the stiffness twice, in the IEEE orientation and as calculated ("original"); they differ by more than a
thousandth in 219 crystals. The original one is in the Cartesian frame of the stored structures: turned to the IEEE
orientation of its structure (by pymatgen) it is the other one in 197 of the 219, whereas the other one stays as it is
in 2. The residuals under the point group tell less, since most rotations between the two frames map the point group
onto itself: the median is 6e-5 and the 95 % quantile 0.023 for both, above 0.05 are 19 crystals for the original and 20
for the other (the one more is trigonal mp-938: 0.71 instead of 0.03). The 19, up to 0.16, are calculations that were
not converged to the symmetry: 13 hexagonal, 3 trigonal and 3 cubic crystals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from zoo.contract.plugin import Hypers, Record
from zoo.contract.references import references
from zoo.contract.target import TensorTarget
from zoo.data.elasticity import from_voigt
from zoo.data.embedded import Embedded, embedded_structure
from zoo.data.tensors import read_tensor

ELASTICITY = TensorTarget("elasticity", formula="ijkl=jikl=klij", unit="GPa", quantity="elastic")
"""Stiffness C_ijkl, which maps strain to stress."""


class Elastic2015Hypers(Hypers):
    """This dataset has no settings."""


class Elastic2015(Embedded):
    """The 1,181 crystals of de Jong et al. (2015), embedded: the elasticity tensor, C_ijkl in GPa.

    Keys are Materials Project ids. All tensors are positive definite; their elements lie within -71 and 1242 GPa
    (diamond).
    Properties are bulk_modulus and shear_modulus (GPa, the table's Voigt-Reuss-Hill averages), space_group (number),
    formula and source.
    """

    Hypers = Elastic2015Hypers
    licence: ClassVar[str] = "CC0 1.0 (data) and CC BY 4.0 (article): cite de Jong et al., Sci. Data 2, 150009 (2015)"
    citation: ClassVar[str] = references("dejong2015elastic", "jain2013materials")
    file: ClassVar[str] = "elastic2015.json.gz"

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the elasticity tensor, in GPa."""
        return {ELASTICITY.name: ELASTICITY}

    def record(self, entry: Mapping[str, Any]) -> Record:
        """Return the record of an entry of the table."""
        upper = np.zeros((6, 6))
        upper[np.triu_indices(6)] = entry["stiffness"]
        stiffness = from_voigt(upper + np.triu(upper, 1).T)
        structure = embedded_structure(entry)
        return Record(
            key=entry["key"],
            structure=structure,
            targets={ELASTICITY.name: read_tensor(stiffness, ELASTICITY)},
            properties={
                "bulk_modulus": entry["K_VRH"],
                "shear_modulus": entry["G_VRH"],
                "space_group": entry["space_group"],
                "formula": structure.composition.reduced_formula,
                "source": "elastic2015",
            },
            functional="PBE",
        )
