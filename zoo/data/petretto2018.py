"""The phonon database of Petretto et al. (2018): ε∞ and Born charges by PBEsol, to be downloaded.

G. Petretto, S. Dwaraknath, H. P. C. Miranda, et al., Sci. Data 5, 180065 (2018), doi 10.1038/sdata.2018.65.
`scripts/derive_open_labels.py` makes the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.references import references
from zoo.contract.target import TensorTarget
from zoo.data.lattice_labels import LABELS, MOST_IONIC, locate, rows_of, usable
from zoo.data.structures import structure_from_dict
from zoo.data.tensors import read_target
from zoo.errors import ZooError
from zoo.storage.weights import sha256_of


class Petretto2018Hypers(Hypers):
    """Location of the file."""

    path: str | None = None
    """The folder with petretto2018.json.gz, or this file; null: the cache, where scripts/derive_open_labels.py places
    it."""


class Petretto2018(Dataset):
    """The crystals of Petretto et al. (2018; ABINIT, PBEsol): ε∞ and Born charges.

    Keys are `petretto-` and the Materials Project id, the property `mp_id`, with `-2` behind it where a second record
    has the same; a crystal without an id has its number in the file, `petretto-row-0012`.
    `born` is Z*, e, (atom, field, displacement). Left out, with the reason, are all tensors of near-metals (an
    eigenvalue of ε∞ above 30) and charges above 15 e.
    The mean of the total constant is known of most (`Record.means`), and left out above 100. A property is source.
    """

    Hypers = Petretto2018Hypers
    hypers: Petretto2018Hypers
    licence: ClassVar[str] = (
        "CC BY 4.0 (article and data, figshare collection 3938023): cite Petretto et al., Sci. Data 5, 180065 (2018)"
    )
    citation: ClassVar[str] = references("petretto2018phonons")

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the electronic dielectric tensor, dimensionless, and the Born charges, e."""
        return {name: LABELS[name] for name in ("electronic", "born")}

    def fetch(self) -> Path:
        """Return the file that is here; it is made by a script, not downloaded.

        Raises:
            ZooError: it is not here.
        """
        return locate(self.hypers.path, "petretto2018")

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file.

        Raises:
            ZooError: it is not here.
        """
        return sha256_of(self.fetch())

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records in the order of the file.

        Raises:
            ZooError: the file cannot be read.
        """
        seen = Counter[str]()
        for number, row in enumerate(rows_of(self.fetch())):
            name = row.get("mpid") or f"row-{number:04d}"
            seen[name] += 1
            key = f"petretto-{name}" + (f"-{seen[name]}" if seen[name] > 1 else "")
            try:
                yield _record(key, row)
            except ZooError as error:
                yield BadRecord(key, str(error))


def _record(key: str, row: Mapping[str, Any]) -> Record:
    fields = {"electronic": "electronic", "born": "born_charges"}
    missing = [field for field in ("structure", *fields.values()) if field not in row]
    if missing:
        raise ZooError(f"has no '{missing[0]}'")
    structure = structure_from_dict(row["structure"])
    tensors = {name: read_target(row[field], LABELS[name], len(structure)) for name, field in fields.items()}
    kept, _, reasons = usable(tensors)
    properties = {"mp_id": row["mpid"]} if row.get("mpid") is not None else {}
    mean, means = row.get("eps_total_mean"), {}
    # Not of a near-metal, nor of a crystal at a phase transition.
    if "electronic" in kept and isinstance(mean, int | float) and 1 <= mean <= MOST_IONIC:
        means["total"] = float(mean)
    properties |= {"source": "petretto2018"}
    return Record(key, structure, kept, properties, "PBEsol", left_out=reasons, means=means)
