"""Download of the Materials Project's dielectric tensors, each with the structure of the calculation that gave it.

The tensors of a dielectric document (`materials.dielectric`) are in the IEEE frame: emmet symmetrises them and turns
them, by pymatgen's `Tensor.convert_to_ieee` with the input structure of the calculation, and leaves the turned
structure out. They belong to no structure that can be asked for: neither to the summary's, which is standardised, nor
to the calculation's. The calculation itself (`materials.tasks`, the one that the document names in `origins`) has both
as VASP had them: `output.epsilon_static` and `output.epsilon_ionic` in the Cartesian frame of `input.structure`. These
are taken. The document's tensors are kept beside them: by their eigenvalues it names the right calculation, or not.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from tqdm import tqdm

from zoo.data.mp_client import MaterialsProjectClient
from zoo.data.structures import structure_from_dict
from zoo.errors import ZooError
from zoo.storage.cache import building

logger = logging.getLogger(__name__)

FORMAT = 1  # of the file: count up when it changes
NAME = "materials_project.jsonl.gz"
AT_ONCE = 100  # calculations in one request, the most that the server takes
MOVED = 0.01
"""Å; a calculation of a response keeps its cell. Where a lattice vector has changed by more, it was none."""
ALL = (1.0, 1e6)
"""Range of the mean electronic constant: that of every insulator. Without a criterion mp-api, from 0.46 on, copies the
whole collection into a folder of its own, all fields of it."""
DOCUMENT_FIELDS = ("material_id", "origins", "symmetry", "deprecated", "electronic", "ionic")
TASK_FIELDS = ("task_id", "run_type", "input", "output")
LAST_NUMBER = 3347529
"""The last id that is written with a number."""
_PAGES = "pages.jsonl"


def fetch_dielectric(entry: Path) -> Path:
    """Return the file in the folder `entry`, downloaded if necessary; a download that was stopped goes on.

    Its first line says which version of the database it is of, and the number of crystals; one follows a line, by id.

    Raises:
        ZooError: mp-api or the key is missing, there is no answer, an answer makes no sense, or the disk is full.
    """
    with building(entry, resume=True) as partial:
        if partial is not None:
            client = MaterialsProjectClient(
                "the dataset materials-project", "what has come is kept, zoo data fetch materials-project goes on"
            )
            _download(client, partial / _PAGES)
            _pack(partial / _PAGES, partial / NAME)
            (partial / _PAGES).unlink()
    return entry / NAME


def _download(client: MaterialsProjectClient, pages: Path) -> None:
    """Fill a file with a line that says what was asked for, and a line for each crystal that has come."""
    lines = _whole_lines(pages)
    of = {"format": FORMAT, "database": client.database}
    head = lines[0] if lines else {}
    if not of.items() <= head.items():
        if head:
            logger.warning("the Materials Project has another database now: the download begins anew")
        wanted = {"e_electronic": ALL, "fields": list(DOCUMENT_FIELDS)}
        documents = client.ask(lambda rester: rester.materials.dielectric.search(**wanted))
        head, lines = {**of, "asked": _asked(documents)}, []
        pages.write_text(json.dumps(head) + "\n", encoding="utf-8")
    there = {row["mp_id"] for row in lines[1:]}
    missing = [one for one in head["asked"] if one["mp_id"] not in there]
    with (
        pages.open("a", encoding="utf-8") as file,
        tqdm(desc="Materials Project", total=len(head["asked"]), initial=len(there), disable=None) as bar,
    ):
        for start in range(0, len(missing), AT_ONCE):
            page = missing[start : start + AT_ONCE]
            file.writelines(json.dumps(row) + "\n" for row in _page(client, page))
            file.flush()
            os.fsync(file.fileno())
            bar.update(len(page))


def _whole_lines(pages: Path) -> list[dict[str, Any]]:
    """Read what a stopped download has left, and cut off a line that it had only begun."""
    if not pages.is_file():
        return []
    content = pages.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError:  # a disk that has lost what was flushed
        lines, whole = [], b""
    if len(whole) < len(content):
        os.truncate(pages, len(whole))
    return lines


def _asked(documents: Sequence[Any]) -> list[dict[str, Any]]:
    """Return which calculation is to be asked for of each crystal, by id.

    Raises:
        ZooError: there is nothing to ask for.
    """
    asked = {}
    for document in documents:
        name, origins = part(document, "material_id"), part(document, "origins")
        if name is None or part(document, "deprecated"):
            continue
        tasks = [part(one, "task_id") for one in origins or () if part(one, "name") == "dielectric"]
        asked[usual_id(name)] = {
            "mp_id": usual_id(name),
            "task_id": None if not tasks or tasks[0] is None else usual_id(tasks[0]),
            "space_group": _plain(part(document, "symmetry", "number")),
            "published": {label: _plain(part(document, label)) for label in ("electronic", "ionic")},
        }
    if not asked:
        raise ZooError(
            f"the Materials Project names no crystal with a dielectric tensor ({len(documents):,} documents came): "
            "try again later, or with a newer mp-api"
        )
    return [asked[name] for name in sorted(asked)]


def _page(client: MaterialsProjectClient, page: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some crystals, in their order."""
    names = [one["task_id"] for one in page if one["task_id"] is not None]
    criteria = {"task_ids": names, "fields": list(TASK_FIELDS), "chunk_size": AT_ONCE}
    tasks = client.ask(lambda rester: rester.materials.tasks.search(**criteria)) if names else []
    found = {usual_id(part(task, "task_id")): task for task in tasks}
    for one in page:
        try:
            if one["task_id"] is None:
                raise ZooError("its document names no calculation")
            task = found.get(one["task_id"])
            if task is None:
                raise ZooError(f"the Materials Project does not give its calculation {one['task_id']}")
            yield {**one, **_row(task)}
        except ZooError as error:
            yield {"mp_id": one["mp_id"], "task_id": one["task_id"], "refused": str(error)}


def _row(task: Any) -> dict[str, Any]:
    """Return structure and tensors of a calculation, in its own frame.

    Raises:
        ZooError: it has not both, or the cell did not stay.
    """
    first, last = (part(task, stage, "structure") for stage in ("input", "output"))
    structure = _structure(first if first is not None else last)
    if first is not None and last is not None:
        moved = np.abs(structure.lattice.matrix - _structure(last).lattice.matrix).max()
        if moved > MOVED:
            raise ZooError(f"the cell changed by {moved:.2g} Å in its calculation")
    electronic, ionic = (_plain(part(task, "output", name)) for name in ("epsilon_static", "epsilon_ionic"))
    if not electronic:
        raise ZooError("its calculation holds no electronic tensor")
    return {
        "run_type": _plain(part(task, "run_type")),
        "band_gap": _plain(part(task, "output", "bandgap")),
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac": structure.frac_coords.tolist(),
        "electronic": electronic,
        "ionic": ionic or None,
    }


def _structure(given: Any) -> Structure:
    if given is None:
        raise ZooError("its calculation holds no structure")
    return structure_from_dict(given.as_dict() if isinstance(given, Structure) else given)


def part(document: Any, *path: str) -> Any:
    """Return a field of a document or of what is in it; None where there is none.

    mp-api gives models or, with settings of its user, plain dicts.
    """
    for name in path:
        if document is None:
            return None
        document = document.get(name) if isinstance(document, Mapping) else getattr(document, name, None)
    return document


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value: a number, a text (an enumeration's value), nested lists; else None."""
    value = getattr(value, "value", value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float) else None


def usual_id(name: Any) -> str:
    """Return an id as the Materials Project's pages have it: mp-149, which newer clients write mp-aaaaaaft.

    Only numbers above `LAST_NUMBER` are letters in both.
    """
    prefix, _, letters = str(name).rpartition("-")
    if not (letters.isascii() and letters.isalpha() and letters.islower()):
        return str(name)
    number = sum((ord(letter) - ord("a")) * 26**place for place, letter in enumerate(reversed(letters)))
    return str(name) if number > LAST_NUMBER else f"{prefix or 'mp'}-{number}"


def _pack(pages: Path, file: Path) -> None:
    """Write the file, by id, from what has come.

    Raises:
        ZooError: not one crystal has a tensor.
    """
    head, *rows = _whole_lines(pages)
    if all("refused" in row for row in rows):
        raise ZooError(
            f"of {len(rows):,} calculations none has a tensor and a structure ({rows[0]['mp_id']}: "
            f"{rows[0]['refused']}): try again with a newer mp-api"
        )
    first = {"format": FORMAT, "database": head["database"], "crystals": len(rows)}
    with file.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
        for line in (first, *sorted(rows, key=lambda row: str(row["mp_id"]))):
            packed.write(json.dumps(line).encode() + b"\n")
