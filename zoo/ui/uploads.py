"""Files that the browser sends: as crystals."""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from pymatgen.core import Structure

from zoo.data.structure_files import structure_from_file
from zoo.data.structures import structure_from_cif
from zoo.errors import ZooError

MAX_BYTES = 5_000_000  # of one file, as it is sent and unpacked
MAX_FILES = 50  # at a time
MAX_ATOMS = 1_000  # of one crystal
MAX_EDGES = 200_000  # of its graph
KEPT = 64  # crystals, so that the numbers, the picture and the list of files read each once


@dataclass(frozen=True)
class Crystal:
    """A file of the user's.

    Attributes:
        name: of the file.
        structure: or the error that says why there is none.
    """

    name: str
    structure: Structure | ZooError


def crystals_of(sent: Sequence[Mapping[str, Any]] | None) -> list[Crystal]:
    """Read the files that `take` in assets/page.js has sent: each a name with its content, or with an error."""
    return [_crystal(str(file.get("name")), file) for file in (sent or ())[: MAX_FILES + 1]]


def _crystal(name: str, file: Mapping[str, Any]) -> Crystal:
    try:
        if file.get("error"):
            raise ZooError(str(file["error"]))
        return Crystal(name, _kept(name, str(file.get("content"))))
    except ZooError as error:
        return Crystal(name, error)


_crystals: OrderedDict[tuple[str, bytes], Structure] = OrderedDict()
_lock = Lock()


def _kept(name: str, content: str) -> Structure:
    """The same as `structure_of`, at once for what was read a short while ago."""
    key = (name, sha256(content.encode()).digest())
    with _lock:
        if key in _crystals:
            return _crystals[key]
    structure = structure_of(name, content)
    with _lock:
        _crystals[key] = structure
        while len(_crystals) > KEPT:
            _crystals.popitem(last=False)
    return structure


def structure_of(name: str, content: str) -> Structure:
    """The crystal in a file, given as a data URL (`data:...;base64,...`).

    Raises:
        ZooError: as `structure_from_file`; the file is too large, or the cell of a CIF holds too many atoms.
    """
    try:
        raw = base64.b64decode(content.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise ZooError(f"{name}: did not arrive whole; drop it once more") from None
    if len(raw) > MAX_BYTES:
        raise ZooError(f"{name}: has {len(raw) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are read")
    try:
        if name.lower().endswith(".cif"):
            return structure_from_cif(raw.decode("utf-8", "replace"), MAX_ATOMS)
        # Other formats are known by the name; what stands before it, and what could lead out of the folder, goes.
        with tempfile.TemporaryDirectory() as folder:
            plain = re.sub(r"[^\w.+ ()-]", "_", re.split(r"[/\\]", name)[-1])[:120]
            path = Path(folder) / (plain.strip(". ") or "unnamed")
            path.write_bytes(raw)
            return structure_from_file(path, MAX_BYTES)
    except ZooError as error:
        # Both name their source first.
        raise ZooError(f"{name}: {str(error).partition(': ')[2]}") from None
