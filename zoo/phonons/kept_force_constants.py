"""Force constants of single crystals in the cache, whichever set of crystals they are asked for in."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from zoo.contract.plugin import Encoder
from zoo.errors import clear_disk_errors
from zoo.graphs.crystal import Crystal
from zoo.graphs.space_group import SYMPREC
from zoo.phonons.force_constants import STEP, ForceConstants
from zoo.storage.cache import cache_root, content_key

FORMAT = 1  # of the files: count up when they, or what is computed, change


class KeptForceConstants:
    """Files of one crystal each, so that a set which has grown, or lost some, need not be computed anew."""

    def __init__(self, potential: Encoder, cache: Path | None = None) -> None:
        self._potential = potential.energy_fingerprint()
        self._folder = (cache_root() if cache is None else cache) / "force_constants" / "crystals"

    def read(self, crystal: Crystal) -> ForceConstants | None:
        """Read a crystal's force constants; None where there is no file, or a damaged one."""
        try:
            with np.load(self._path(crystal), allow_pickle=False) as file:  # which checks sums of what it reads
                arrays = dict(file)
                numbers = {name: float(array) for name, array in arrays.items() if not array.ndim}
                return ForceConstants(**{**arrays, **numbers})
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None

    def write(self, crystal: Crystal, found: ForceConstants) -> None:
        """Keep the force constants of a crystal.

        Raises:
            ZooError: the disk is full.
        """
        path = self._path(crystal)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with clear_disk_errors(path.parent, fix="set ZOO_CACHE to another folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez(file, **vars(found))
            partial.replace(path)

    def __contains__(self, crystal: Crystal) -> bool:
        return self._path(crystal).is_file()

    def _path(self, crystal: Crystal) -> Path:
        numbers = np.asarray(crystal.numbers, dtype=np.int64)
        geometry = [np.asarray(crystal.cell), np.asarray(crystal.positions), numbers]
        key = content_key("force constants of a crystal", FORMAT, STEP, SYMPREC, self._potential, geometry)
        return self._folder / key[:2] / f"{key}.npz"
