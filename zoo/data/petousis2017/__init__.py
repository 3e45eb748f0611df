"""1,056 inorganic crystals with electronic and total dielectric tensors from DFPT, embedded in the zoo.

Petousis et al., Sci. Data 4, 160134 (2017), doi 10.1038/sdata.2016.134; LICENSE.md beside this file has the licence and
the way the numbers came. The tensors are in the Cartesian frame of the stored structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from zoo.contract.plugin import Hypers, Record
from zoo.contract.references import references
from zoo.contract.target import TensorTarget
from zoo.data.embedded import Embedded, embedded_structure
from zoo.data.tensors import DIELECTRIC, read_tensor


class Petousis2017Hypers(Hypers):
    """This dataset has no settings."""


class Petousis2017(Embedded):
    """The 1,056 crystals of Petousis et al. (2017), embedded: electronic, ionic and total tensors.

    By Materials Project id; ionic = total - electronic, and all three are symmetrised. Properties are band_gap (eV),
    space_group (number) and source. The functional is PBE, with a Hubbard U where the Materials Project uses one; the
    table does not say in which records.
    """

    Hypers = Petousis2017Hypers
    licence: ClassVar[str] = "CC0 1.0 (data) and CC BY 4.0 (article): cite Petousis et al., Sci. Data 4, 160134 (2017)"
    citation: ClassVar[str] = references("petousis2017dielectric", "jain2013materials")
    file: ClassVar[str] = "petousis2017.json.gz"

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the electronic, ionic and total dielectric tensor; dimensionless."""
        return DIELECTRIC

    def record(self, entry: Mapping[str, Any]) -> Record:
        """Return the record of an entry of the table."""
        electronic = read_tensor(entry["electronic"], DIELECTRIC["electronic"])
        total = read_tensor(entry["total"], DIELECTRIC["total"])
        return Record(
            key=entry["key"],
            structure=embedded_structure(entry),
            targets={"electronic": electronic, "ionic": total - electronic, "total": total},
            properties={
                "band_gap": entry["band_gap"],
                "space_group": entry["space_group"],
                "source": "petousis2017",
            },
            functional="PBE",
        )
