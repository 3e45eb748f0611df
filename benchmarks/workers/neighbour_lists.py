"""Neighbour lists as a library gives them: neighbour_lists.py FOLDER CUTOFF LIBRARY; a pass for each file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from serve import serve

Search = Callable[[], int]
"""Once through all crystals; the number of pairs found."""

Crystals = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Positions, cell, atomic numbers."""

folder, cutoff, library = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]


def read(path: Path) -> Crystals:
    crystals = json.loads(path.read_text())
    return [(np.array(c["positions"]), np.array(c["cell"]), np.array(c["numbers"])) for c in crystals]


def zoo(crystals: Crystals, backend: str = "auto") -> Search:
    """Finished graphs, many in a call."""
    from zoo.graphs.crystal import Crystal
    from zoo.graphs.graph import crystal_graphs

    ready = [Crystal(positions, numbers, cell) for positions, cell, numbers in crystals]
    return lambda: sum(len(graph.src) for graph in crystal_graphs(ready, cutoff, backend))


def zoo_one(crystals: Crystals) -> Search:
    """Likewise, one crystal a call."""
    from zoo.graphs.crystal import Crystal
    from zoo.graphs.graph import crystal_graph

    ready = [Crystal(positions, numbers, cell) for positions, cell, numbers in crystals]
    return lambda: sum(len(crystal_graph(crystal, cutoff).src) for crystal in ready)


def pymatgen(crystals: Crystals) -> Search:
    """The C kernel as it is: with each atom itself, what lies at the cutoff, shifts as floats."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    periodic = np.ones(3, dtype=np.int64)
    return lambda: sum(len(find_points_in_spheres(x, x, cutoff, periodic, cell)[0]) for x, cell, _ in crystals)


def pymatgen_edges(crystals: Crystals) -> Search:
    """The C kernel, and what makes edges of its pairs."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    periodic = np.ones(3, dtype=np.int64)

    def edges(x: np.ndarray, cell: np.ndarray) -> int:
        dst, src, shift, distance = find_points_in_spheres(x, x, cutoff, periodic, cell)
        keep = (distance < cutoff) & (distance > 1e-8)
        dst, src, shift = dst[keep], src[keep], shift[keep].astype(np.int64)
        return len(src)

    return lambda: sum(edges(x, cell) for x, cell, _ in crystals)


def vesin(crystals: Crystals) -> Search:
    from vesin import NeighborList

    finder = NeighborList(cutoff=cutoff, full_list=True)
    return lambda: sum(
        len(finder.compute(points=x, box=cell, periodic=True, quantities="ijS")[0]) for x, cell, _ in crystals
    )


def matscipy(crystals: Crystals) -> Search:
    from matscipy.neighbours import neighbour_list

    return lambda: sum(
        len(neighbour_list("ijS", cutoff=cutoff, positions=x, cell=cell, pbc=np.ones(3, dtype=bool))[0])
        for x, cell, _ in crystals
    )


def ase(crystals: Crystals) -> Search:
    from ase.neighborlist import primitive_neighbor_list

    return lambda: sum(
        len(primitive_neighbor_list("ijS", (True, True, True), cell, x, cutoff)[0]) for x, cell, _ in crystals
    )


searches: dict[str, Callable[[Crystals], Search]] = {
    "zoo": zoo,
    "zoo one": zoo_one,
    "zoo pymatgen": partial(zoo, backend="pymatgen"),
    "zoo torch-cluster": partial(zoo, backend="torch-cluster"),
    "pymatgen": pymatgen,
    "pymatgen edges": pymatgen_edges,
    "vesin": vesin,
    "matscipy": matscipy,
    "ase": ase,
}


def one_pass(search: Search, rounds: int) -> dict[str, float]:
    """Several rounds, so that a pass takes a tenth of a second and more; what is compared is the time of one."""
    start = time.perf_counter()
    for _ in range(rounds):
        search()
    return {"seconds": (time.perf_counter() - start) / rounds}


passes, about = {}, {}
for path in sorted(folder.glob("*.json")):
    search = searches[library](read(path))
    pairs = search()
    start = time.perf_counter()
    search()
    passes[path.stem] = partial(one_pass, search, max(1, round(0.15 / (time.perf_counter() - start))))
    about[path.stem] = {"items": len(read(path)), "pairs": pairs}
serve(passes, about)
