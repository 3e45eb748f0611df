"""Candidates from the Materials Project, asked for with the user's key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from zoo.data.mp_client import MaterialsProjectClient
from zoo.discovery.candidate_source import Found, Source
from zoo.discovery.screen_config import MaterialsProject
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, write_json

KEPT = "materials_project.json"
"""In a screening's folder: the ids that the query gave when it began, and of which database."""
AT_ONCE = 100  # crystals in memory, and in one request
FIELDS = ("material_id", "structure", "band_gap", "energy_above_hull", "formula_pretty", "symmetry", "theoretical")


class MaterialsProjectSource(Source):
    """Crystals that a query to the Materials Project returns, ordered by material id.

    The ids come first, all together. They are written into the screening's folder, so that it goes on with the same
    ones whatever has become of the database; a crystal that is no longer there is then a failure. Crystals follow in
    batches.
    """

    def __init__(self, query: MaterialsProject, folder: Path | None) -> None:
        """Asks for nothing yet.

        Args:
            query: which crystals.
            folder: of the screening; None where the ids need not be kept.

        Raises:
            ZooError: mp-api is not installed, or there is no key.
        """
        self._query, self._kept = query, None if folder is None else folder / KEPT
        self._client = MaterialsProjectClient(
            "candidates.materials_project", "what has been screened is kept (zoo screen --resume FOLDER)"
        )
        self._ids: list[str] | None = None

    def total(self) -> int:
        """The number of ids."""
        return len(self._all_ids())

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read candidates with band gap (eV), energy above hull (eV/atom), formula, space group, `theoretical`."""
        ids = self._all_ids()
        for first in range(start, len(ids), AT_ONCE):
            batch = ids[first : first + AT_ONCE]
            documents = {str(one.material_id): one for one in self._ask(material_ids=batch, fields=list(FIELDS))}
            for key in batch:
                document = documents.get(key)
                yield Found(key, partial(_structure, document), {} if document is None else _properties(document))

    def _all_ids(self) -> Sequence[str]:
        if self._ids is None and self._kept is not None and self._kept.is_file():
            self._ids = list(read_json(self._kept)["ids"])
        if self._ids is None:
            documents = self._ask(**_criteria(self._query), fields=["material_id"])
            self._ids = sorted({str(one.material_id) for one in documents})
            if self._kept is not None:
                write_json(self._kept, {"database": self._client.database, "ids": self._ids})
        return self._ids

    def _ask(self, **criteria: Any) -> list[Any]:
        """Return documents, in any order.

        Raises:
            ZooError: the key is refused, or there is no answer.
        """
        return self._client.ask(lambda client: client.materials.summary.search(**criteria))


def _criteria(query: MaterialsProject) -> dict[str, Any]:
    """Translate a query into the arguments of mp-api's `summary.search`, leaving out deprecated crystals."""
    criteria: dict[str, Any] = {"deprecated": False}
    if query.chemsys is not None:
        criteria["chemsys"] = list(query.chemsys)
    if query.elements:
        criteria["elements"] = list(query.elements)
    if query.without:
        criteria["exclude_elements"] = list(query.without)
    if query.max_atoms is not None:
        criteria["num_sites"] = (1, query.max_atoms)
    if query.max_energy_above_hull is not None:
        criteria["energy_above_hull"] = (0.0, query.max_energy_above_hull)
    if query.min_band_gap is not None:
        criteria["band_gap"] = (query.min_band_gap, 100.0)  # eV: no crystal has more
    if query.experimental:
        criteria["theoretical"] = False
    return criteria


def _structure(document: Any) -> Structure:
    structure = None if document is None else getattr(document, "structure", None)
    if not isinstance(structure, Structure):
        raise ZooError("the Materials Project has no such crystal any more")
    return structure


def _properties(document: Any) -> dict[str, Any]:
    symmetry = getattr(document, "symmetry", None)
    properties = {
        "band_gap": getattr(document, "band_gap", None),
        "energy_above_hull": getattr(document, "energy_above_hull", None),
        "formula": getattr(document, "formula_pretty", None),
        "space_group": getattr(symmetry, "number", None),
        "theoretical": getattr(document, "theoretical", None),
    }
    return {name: value for name, value in properties.items() if isinstance(value, str | int | float)}
