"""Times of force constants at Γ: `python benchmarks/force_constants.py`, a CSV on standard output.

All crystals of petousis2017 by SevenNet-0 in an empty cache, as `zoo run` does it; a random part of them by other
potentials (`--encoder`, `--set`); one cell of 200 atoms; and displacements against exact second derivatives, one
Hessian-vector product a row, on quartz.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from inputs import crystals
from pymatgen.core import Lattice, Structure

from zoo.config.recipe import Plugin, parse_override
from zoo.contract.potential import forces_of
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph
from zoo.graphs.store import GraphStore
from zoo.phonons import potentials
from zoo.phonons.force_constants import ForceConstants, force_constants
from zoo.phonons.force_constants_store import ForceConstantsStore

QUARTZ = Structure.from_spacegroup(
    "P3_121",
    Lattice.hexagonal(4.916, 5.405),
    ["Si", "O"],
    [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]],
)


def now() -> tuple[float, float]:
    """Seconds by the clock and of all threads together: the second hardly depends on what else the machine does."""
    return time.perf_counter(), time.process_time()


def exact(potential: object, structure: Structure) -> ForceConstants:
    """All 3N rows by differentiating the forces once more, one after another."""
    batch = collate([crystal_graph(structure, potential.cutoff)], torch.float64)  # type: ignore[attr-defined]
    positions = batch.positions.clone().requires_grad_()
    energy = potential.even_energy(dataclasses.replace(batch, positions=positions))  # type: ignore[attr-defined]
    (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
    rows = [torch.autograd.grad(one, positions, retain_graph=True)[0].flatten() for one in slope.flatten()]
    return ForceConstants.of(torch.stack(rows).numpy())


def main() -> None:
    """Measure, and write a row for each measurement as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="sevennet")
    parser.add_argument("--set", nargs="*", default=[], help="settings: checkpoint=SevenNet-l3i5")
    parser.add_argument("--count", type=int, default=10_000, help="crystals, drawn at random")
    parser.add_argument("--quick", action="store_true", help="leave out the large cell and exact derivatives")
    chosen = parser.parse_args()
    potential = potentials.build(Plugin(name=chosen.encoder, **dict(map(parse_override, chosen.set))))
    out = csv.writer(sys.stdout)
    out.writerow(["encoder", "settings", "what", "crystals", "atoms", "seconds", "cpu_seconds"])

    def tell(what: str, count: int, atoms: int, begin: tuple[float, float], times: int = 1) -> None:
        spent = [f"{times * (end - start):.2f}" for start, end in zip(begin, now(), strict=True)]
        out.writerow([chosen.encoder, " ".join(chosen.set), what, count, atoms, *spent])
        sys.stdout.flush()

    force_constants(potential, [Crystal.of(QUARTZ)])  # what is made once
    structures = crystals(chosen.count)
    with tempfile.TemporaryDirectory() as cache:
        graphs = GraphStore.build(structures, potential.cutoff, cache=Path(cache))
        begin = now()
        ForceConstantsStore.build(potential, graphs, cache=Path(cache))
        tell("petousis2017, cold", len(structures), int(graphs.n_atoms.sum()), begin)
    if chosen.quick:
        return
    begin = now()
    by_displacements = force_constants(potential, [Crystal.of(QUARTZ)])[0]
    tell("quartz, displacements", 1, len(QUARTZ), begin)
    begin = now()
    by_derivatives = exact(potential, QUARTZ)
    tell("quartz, exact second derivatives", 1, len(QUARTZ), begin)
    gap = np.abs(by_displacements.matrix - by_derivatives.matrix).max() / np.abs(by_derivatives.matrix).max()
    print(f"# largest difference of the two: {gap:.1e} of the largest element", flush=True)
    large = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    large.make_supercell([5, 5, 1])
    begin = now()
    force_constants(potential, [Crystal.of(large)])
    tell("MgO, 200 atoms", 1, len(large), begin)
    large.perturb(0.02)
    batch = collate([crystal_graph(large, potential.cutoff)], torch.float64)
    begin = now()
    forces_of(potential.even_energy, batch)
    # Each atom along three directions and back; one core after the other takes so long.
    tell("MgO, 200 atoms displaced at random: forces once, times 1,200", 1, len(large), begin, times=1200)


if __name__ == "__main__":
    main()
