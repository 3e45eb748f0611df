"""The dielectric tensors of the Materials Project as it is today, asked for with the user's key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.config.dataset_settings import FrameCheck
from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.references import references
from zoo.contract.target import TensorTarget
from zoo.data.formats import open_text
from zoo.data.frame import offenders
from zoo.data.lattice_labels import usable
from zoo.data.mp_download import FORMAT, fetch_dielectric
from zoo.data.structures import checked_structure
from zoo.data.tensors import DIELECTRIC, read_target
from zoo.errors import ZooError
from zoo.storage.cache import cache_root, content_key
from zoo.storage.user_path import user_path
from zoo.storage.weights import sha256_of

LEVELS = {"gga": "PBE", "gga+u": "PBE+U", "pbe": "PBE", "pbe+u": "PBE+U", "pbesol": "PBEsol", "r2scan": "r2SCAN"}
"""Type of a calculation, in lower case -> level of theory."""
OTHER = 0.05
"""Largest change of the eigenvalues, relative, between the published tensor and that of the calculation it names."""


class MaterialsProjectHypers(Hypers):
    """Location of the file."""

    path: str | None = None
    """A file that `zoo data fetch materials-project` has written; null: downloaded once, into the cache."""


class MaterialsProjectDielectric(Dataset):
    """The Materials Project's dielectric tensors of today, by your key, each with its calculation's own structure.

    `pip install "crystal-tensor-zoo[mp]"`, `export MP_API_KEY=...`, `zoo data fetch materials-project`. Keys are the
    Materials Project ids, which are the property `mp_id` too; the others are band_gap (eV, of the calculation),
    space_group, task_id and source. Level of theory is that of the calculation.
    A tensor is left out, with the reason, where it breaks the point group of its structure (more than 5 %), where its
    eigenvalues are not those of the tensor that is published, near metals (an eigenvalue of ε∞ above 30), and ε0 above
    100. A crystal whose calculation is not given, or has no tensor, is a record that cannot be read.
    """

    Hypers = MaterialsProjectHypers
    hypers: MaterialsProjectHypers
    licence: ClassVar[str] = (
        "CC BY 4.0 (materialsproject.org/about/terms): cite A. Jain et al., APL Materials 1, 011002 (2013), and "
        "I. Petousis et al., Scientific Data 4, 160134 (2017)"
    )
    citation: ClassVar[str] = references("jain2013materials", "petousis2017dielectric")

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the electronic, ionic and total dielectric tensor; dimensionless."""
        return DIELECTRIC

    def fetch(self) -> Path:
        """Return the file that `path` names or, downloaded if necessary, the one in the cache.

        Raises:
            ZooError: mp-api or the key is missing, or the Materials Project does not answer.
        """
        if self.hypers.path is not None:
            return user_path(self.hypers.path, "dataset.path")
        return fetch_dielectric(cache_root() / "datasets" / "materials-project")

    def fingerprint(self) -> str:
        """Return a hash of the file and of the version of the database that it is of.

        Raises:
            ZooError: the file cannot be downloaded or read.
        """
        file = self.fetch()
        return content_key(sha256_of(file), next(_lines(file))["database"])

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records by id.

        Raises:
            ZooError: the file cannot be downloaded or read.
        """
        for row in islice(_lines(self.fetch()), 1, None):
            key = str(row.get("mp_id"))
            try:
                yield _record(key, row)
            except ZooError as error:
                yield BadRecord(key, str(error))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the first line, and those of the crystals.

    Raises:
        ZooError: the file cannot be read, is another one, or has lost some.
    """
    anew = "zoo data fetch materials-project makes it"
    number, wanted = -1, 0
    try:
        with open_text(file) as text:
            for number, line in enumerate(map(json.loads, text)):
                if not isinstance(line, dict):
                    raise ZooError(f"{file}: line {number + 1} is no JSON object; {anew}")
                if number == 0:
                    wanted = _crystals_of(file, line, anew)
                yield line
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{file}: cannot be read ({error}); {anew}") from None
    if number != wanted:
        raise ZooError(f"{file}: holds {max(number, 0):,} of {wanted:,} crystals; {anew}")


def _crystals_of(file: Path, head: Mapping[str, Any], anew: str) -> int:
    if head.get("format") != FORMAT or "database" not in head or not isinstance(head.get("crystals"), int):
        raise ZooError(f"{file}: is no file of the dataset materials-project, or of another zoo; {anew}")
    return int(head["crystals"])


def _record(key: str, row: Mapping[str, Any]) -> Record:
    if "refused" in row:
        raise ZooError(str(row["refused"]))
    try:
        species = list(row["species"])
        lattice, fractions = (np.array(row[name], dtype=np.float64) for name in ("lattice", "frac"))
        structure = checked_structure(lattice, species, fractions)
        present = [name for name in ("electronic", "ionic") if row[name] is not None]
        published = dict(row["published"])
    except (KeyError, TypeError, ValueError) as error:
        raise ZooError(f"a field is missing or of another kind ({type(error).__name__}: {error})") from None
    tensors = {name: read_target(row[name], DIELECTRIC[name], len(species)) for name in present}
    if set(tensors) == {"electronic", "ionic"}:
        tensors["total"] = tensors["electronic"] + tensors["ionic"]
    whole = Record(key, structure, tensors)
    reasons: dict[str, str] = {}
    for name in tensors:
        for found in offenders([whole], DIELECTRIC[name], FrameCheck()):
            if found.residual is not None:
                reasons[name] = f"it changes by {found.residual:.0%} under the point group of its structure"
    for name in present:
        if _is_another(tensors[name], published.get(name)):
            other = "its eigenvalues are not the published tensor's: its document names another calculation"
            reasons.setdefault(name, other)
    if reasons and "total" in tensors:
        reasons.setdefault("total", "a part of it is left out")
    _, _, beyond = usable(tensors)
    reasons = {**beyond, **reasons}
    kept = {name: tensor for name, tensor in tensors.items() if name not in reasons}
    known = {name: row.get(name) for name in ("band_gap", "space_group", "task_id")}
    properties = {name: value for name, value in known.items() if value is not None}
    properties |= {"mp_id": key, "source": "materials-project"}
    level = LEVELS.get(str(row.get("run_type")).lower(), "unknown")
    return Record(key, structure, kept, properties, level, left_out=reasons)


def _is_another(tensor: np.ndarray, published: Any) -> bool:
    """Whether a tensor has other eigenvalues than the published one, which is symmetrised and in another frame."""
    try:
        other = np.array(published, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    if other.shape != (3, 3) or not np.isfinite(other).all():
        return False
    change = np.linalg.eigvalsh(tensor) - np.linalg.eigvalsh(0.5 * (other + other.T))
    # Of an ionic tensor next to zero, as diamond's, the change is noise.
    return float(np.linalg.norm(change)) > OTHER * max(float(np.linalg.norm(tensor)), 1.0)
