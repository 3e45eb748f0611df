"""Encoders on more and more atoms: size_zoo.py nequip|sevennet SIZE...

The orders are "cell SIZE", one large cell, and "batch SIZE", as many small crystals. `nequip` is trained (forward and
the gradient of its parameters), the frozen `sevennet` embeds.
"""

from __future__ import annotations

import functools
import sys

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from serve import serve

from zoo.api import CrystalBatch, Encoder
from zoo.graphs.graph import collate, crystal_graph
from zoo_nequip import NequIP
from zoo_sevennet import SevenNet

name, *sizes = sys.argv[1:]
torch.manual_seed(0)
encoder: Encoder = NequIP(NequIP.Hypers()) if name == "nequip" else SevenNet(SevenNet.Hypers(layer=4)).eval()

# Rutile, 6 atoms, all of them a little off their places.
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3048, 0.3048, 0]]
)


def batch_of(kind: str, atoms: int) -> CrystalBatch:
    """About so many atoms."""
    if kind == "batch":
        crystals = [RUTILE.copy() for _ in range(round(atoms / len(RUTILE)))]
    else:
        edge = (atoms / len(RUTILE) * 2.959 / 4.594) ** (1 / 3)
        repeats = max(round(edge), 1), max(round(edge), 1), max(round(edge * 4.594 / 2.959), 1)
        crystals = [RUTILE * repeats]
    random = np.random.default_rng(0)
    moved = [
        Structure(c.lattice, c.species, c.cart_coords + random.normal(0, 0.03, (len(c), 3)), coords_are_cartesian=True)
        for c in crystals
    ]
    return collate([crystal_graph(c, encoder.cutoff) for c in moved])


batches = {f"{kind} {size}": batch_of(kind, int(size)) for kind in ("cell", "batch") for size in sizes}


def one_pass(order: str) -> None:
    if name == "nequip":
        encoder.zero_grad(set_to_none=True)
        encoder(batches[order]).atoms.values.square().mean().backward()
    else:
        with torch.no_grad():
            encoder(batches[order])


one_pass(next(iter(batches)))
about = {order: {"items": batch.n_atoms, "edges": len(batch.src)} for order, batch in batches.items()}
serve({order: functools.partial(one_pass, order) for order in batches}, about)
