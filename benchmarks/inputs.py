"""The crystals that the benchmarks run on, written once so that every side reads the very same edges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from zoo.config import plugins
from zoo.graphs.graph import collate, crystal_graph, size_sorted


def crystals(count: int, seed: int = 0) -> list[Structure]:
    """Crystals of `petousis2017`, drawn at random."""
    dataset = plugins.load("dataset", "petousis2017")(plugins.hypers("dataset", "petousis2017", {}))
    structures = [record.structure for record in dataset.records()]
    chosen = np.random.default_rng(seed).permutation(len(structures))[:count]
    return [structures[i] for i in chosen]


def write_crystals(path: Path, structures: Sequence[Structure]) -> Path:
    """JSON: numbers, positions and cell (Å) of each."""
    parts = [(s.atomic_numbers, s.cart_coords.tolist(), s.lattice.matrix.tolist()) for s in structures]
    path.write_text(json.dumps([dict(zip(("numbers", "positions", "cell"), part, strict=True)) for part in parts]))
    return path


def write_batches(folder: Path, structures: Sequence[Structure], cutoff: float, edges: int) -> Path:
    """Batches of at most `edges` edges within `cutoff` (Å): a .npz each, with the fields of `CrystalBatch`."""
    graphs = [crystal_graph(structure, cutoff) for structure in structures]
    folder.mkdir(parents=True, exist_ok=True)
    for number, chosen in enumerate(size_sorted([len(graph.src) for graph in graphs], edges)):
        batch = collate([graphs[i] for i in chosen])
        arrays = {name: value.numpy() for name, value in vars(batch).items() if value is not None}
        np.savez(folder / f"{number:04d}.npz", **arrays)
    return folder
