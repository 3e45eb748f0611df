"""Labels of lattice dynamics, Born charges and force constants, and the limits within which they are used.

Nearly metallic crystals (an eigenvalue of ε∞ above 30) and unstable ones are no labels of a smooth function of the
structure: ε∞ goes as one over the gap squared, ε0 as one over the frequency squared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.data.formats import open_text
from zoo.data.tensors import DIELECTRIC
from zoo.errors import ZooError
from zoo.storage.cache import cache_root
from zoo.storage.user_path import user_path

BORN = TensorTarget("born", formula="ij", unit="e", per_atom=True, quantity="Born charge")
"""Z*_κ,αβ: polarisation along the field α by a displacement of atom κ along β. It is not symmetric in general."""

LABELS: Mapping[str, TensorTarget] = {**DIELECTRIC, BORN.name: BORN}
"""The targets of a dataset of lattice dynamics, ε∞, ε0, their sum and Z*."""

FORCE_CONSTANTS = "force_constants"
"""Name of the label in `Record.left_out`; it is no target, but a field of the record."""

MOST_ELECTRONIC = 30.0
MOST_IONIC = 100.0
MOST_CHARGE = 15.0
"""e; a larger component is a near-metal's or an error."""
MOST_SUM = 0.05
"""e an atom; the charges of a cell add up to zero, and a source whose charges do not has lost some of them."""


def usable(
    tensors: Mapping[str, np.ndarray], force_constants: np.ndarray | None = None, unstable: bool = False
) -> tuple[dict[str, np.ndarray], np.ndarray | None, dict[str, str]]:
    """Leave out the labels that are beyond the limits.

    The ionic tensor follows from Z* and Φ: it is left out where the charges are, and where a mode is unstable.

    Args:
        tensors: by name of `LABELS`, read already.
        force_constants: (3N, 3N), eV/Å².
        unstable: a mode at Γ is imaginary.

    Returns:
        The tensors and force constants that are used, and of each other label the reason.
    """
    reasons: dict[str, str] = {}

    def leave_out(reason: str, *labels: str) -> None:
        for label in labels:
            if label in tensors or (label == FORCE_CONSTANTS and force_constants is not None):
                reasons.setdefault(label, reason)

    if "electronic" in tensors and _largest(tensors["electronic"]) > MOST_ELECTRONIC:
        leave_out(f"an eigenvalue of ε∞ is above {MOST_ELECTRONIC:g}", *LABELS)
    if "born" in tensors:
        born = tensors["born"]
        if np.abs(born).max() > MOST_CHARGE:
            leave_out(f"a Born charge is above {MOST_CHARGE:g} e", "born", "ionic", "total")
        if np.abs(born.sum(axis=0)).max() > MOST_SUM * len(born):
            leave_out("the Born charges do not add up to zero", "born", "ionic", "total")
    if unstable:
        leave_out("a mode at Γ is unstable", FORCE_CONSTANTS, "ionic", "total")
    if "ionic" in tensors and _largest(tensors["ionic"]) > MOST_IONIC:
        leave_out(f"an eigenvalue of ε0 is above {MOST_IONIC:g}", "ionic", "total")
    kept = {name: tensor for name, tensor in tensors.items() if name not in reasons}
    return kept, None if FORCE_CONSTANTS in reasons else force_constants, reasons


def _largest(matrix: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(matrix)[-1])


def locate(path: str | None, dataset: str) -> Path:
    """Return the file of a dataset: `path` itself, in the folder `path`, or in the cache.

    Raises:
        ZooError: there is none; the line names the command that makes it.
    """
    folder = cache_root() / "datasets" / dataset if path is None else user_path(path, "dataset.path")
    file = folder if folder.suffix in (".gz", ".json") else folder / f"{dataset}.json.gz"
    if not file.is_file():
        raise ZooError(
            f"{file}: no such file; scripts/derive_open_labels.py {dataset} makes it of what was published "
            "(its first lines say from where), and the dataset's key `path` names another place"
        )
    return file


def rows_of(file: Path) -> list[Mapping[str, Any]]:
    """Read a JSON list with an object for each crystal.

    Raises:
        ZooError: it cannot be read, or is none.
    """
    try:
        with open_text(file) as text:
            rows = json.load(text)
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{file}: is no valid JSON ({error})") from None
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ZooError(f"{file}: must hold a list with an object for each crystal")
    return rows
