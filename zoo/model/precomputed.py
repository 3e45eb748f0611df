"""Quantities that a readout computes from embeddings before its first parameter: once a run, in mapped files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Rows
from zoo.contract.plugin import Readout
from zoo.errors import clear_disk_errors
from zoo.graphs.store import offsets
from zoo.storage.cache import ArrayWriter, MappedArray, cache_root, give_back, open_array, told_if_deleted

Embed = Callable[[np.ndarray], tuple[Embedding, CrystalBatch]]


class Precomputed:
    """Rows of n crystals, by name, as `Readout.precompute` gave them.

    The files are this process's own and gone when it ends: the key of an entry in the cache would have to hold the code
    of the readout, and making them anew takes no longer than a few steps of training.
    """

    def __init__(self, arrays: Mapping[str, MappedArray], counts: Mapping[str, np.ndarray]) -> None:
        """`arrays`: all rows, crystal after crystal; `counts`: (n,) rows of each crystal."""
        self._arrays = arrays
        self._counts = counts
        self._starts = {name: offsets(count) for name, count in counts.items()}

    @classmethod
    def build(cls, readout: Readout, embed: Embed, pieces: Sequence[np.ndarray]) -> Precomputed | None:
        """Ask `readout` about all crystals; None where it precomputes nothing.

        Args:
            readout: its parameters do not count.
            embed: gives the embedding and the batch of some crystals.
            pieces: the crystals 0 to n - 1, in this order, as many at a time as shall be in memory.

        Raises:
            ZooError: the disk is full.
        """
        root = cache_root()
        with clear_disk_errors(root, fix="set ZOO_CACHE to another folder"):
            root.mkdir(parents=True, exist_ok=True)
            # Mapped files stay readable when their names are gone: nothing is left behind.
            with tempfile.TemporaryDirectory(dir=root, prefix="run-", ignore_cleanup_errors=True) as folder:
                with told_if_deleted(Path(folder)):
                    counts = _write(Path(folder), readout, embed, pieces)
                if counts is None:
                    return None
                return cls({name: open_array(Path(folder) / f"{name}.npy") for name in counts}, counts)

    def rows(self, indices: Sequence[int]) -> dict[str, Rows]:
        """Return the rows of the crystals `indices`, in this order, on the CPU."""
        chosen = np.asarray(indices, dtype=np.int64)
        out = {}
        for name, array in self._arrays.items():
            counts, starts = self._counts[name], self._starts[name]
            values = torch.from_numpy(np.concatenate([array[starts[i] : starts[i + 1]] for i in chosen]))
            out[name] = Rows(values, torch.from_numpy(np.repeat(np.arange(len(chosen)), counts[chosen])))
        return out


def _write(folder: Path, readout: Readout, embed: Embed, pieces: Sequence[np.ndarray]) -> dict[str, np.ndarray] | None:
    """Fill a file NAME.npy for each name; returns the rows of each crystal."""
    files: dict[str, ArrayWriter] = {}
    counts: dict[str, list[np.ndarray]] = {}
    with ExitStack() as stack:
        total = sum(map(len, pieces))
        bar = stack.enter_context(tqdm(total=total, desc=type(readout).__name__, unit=" crystals", disable=None))
        for piece in pieces:
            embedding, batch = embed(piece)
            with torch.no_grad():
                computed = readout.precompute(embedding, batch)
            if computed is None:
                return None
            for name, rows in computed.items():
                values = rows.values.cpu().numpy()
                if name not in files:
                    files[name] = ArrayWriter(folder / f"{name}.npy", values.dtype.str, values.shape[1:])
                    stack.callback(files[name].close)
                files[name].append(values)
                counts.setdefault(name, []).append(torch.bincount(rows.crystal, minlength=len(piece)).cpu().numpy())
            bar.update(len(piece))
            give_back()
    return {name: np.concatenate(parts) for name, parts in counts.items()}
