"""The crystals that the benchmarks run on, written once so that every side reads the very same edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from zoo import plugins
from zoo.graphs.graph import collate, crystal_graph
from zoo.predictor import size_sorted


def crystals(count: int, seed: int = 0) -> list[Structure]:
    """Crystals of `petousis2017`, drawn at random."""
    dataset = plugins.load("dataset", "petousis2017")(plugins.hypers("dataset", "petousis2017", {}))
    structures = [record.structure for record in dataset.records()]
    chosen = np.random.default_rng(seed).permutation(len(structures))[:count]
    return [structures[i] for i in chosen]


def write_batches(folder: Path, structures: Sequence[Structure], cutoff: float, edges: int) -> Path:
    """Batches of at most `edges` edges within `cutoff` (Å): a .npz each, with the fields of `CrystalBatch`."""
    graphs = [crystal_graph(structure, cutoff) for structure in structures]
    folder.mkdir(parents=True, exist_ok=True)
    for number, chosen in enumerate(size_sorted(graphs, edges)):
        batch = collate([graphs[i] for i in chosen])
        arrays = {name: value.numpy() for name, value in vars(batch).items() if value is not None}
        np.savez(folder / f"{number:04d}.npz", **arrays)
    return folder
