"""The zoo's `sevennet`: sevennet_zoo.py BATCHES CRYSTALS OUT; the last takes its embeddings."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from passes import matmul_flops, read_batches
from pymatgen.core import Structure
from serve import serve

from zoo.api import CrystalBatch
from zoo.graphs.store import GraphStore
from zoo.model.embedding_store import EmbeddingStore
from zoo_sevennet import SevenNet

folder, crystals, out = sys.argv[1:]
encoder = SevenNet(SevenNet.Hypers(layer=4)).eval().requires_grad_(False)
batches = [CrystalBatch(**arrays) for arrays in read_batches(folder)]
structures = [
    Structure(c["cell"], c["numbers"], c["positions"], coords_are_cartesian=True)
    for c in json.loads(Path(crystals).read_text())
]


def model() -> None:
    with torch.no_grad():
        for batch in batches:
            encoder(batch)


def pipeline() -> None:
    """From crystals to a cache of embeddings on the disk, as `zoo run` makes it."""
    with tempfile.TemporaryDirectory() as cache:
        graphs = GraphStore.build(structures, encoder.cutoff, cache=Path(cache))
        EmbeddingStore.build(encoder, graphs, cache=Path(cache))


for number, batch in enumerate(batches):
    np.save(Path(out) / f"zoo_{number:04d}.npy", encoder(batch).atoms.values.numpy())
passes = {"model": model, "pipeline": pipeline}
about = {"items": len(structures), "edges": sum(len(b.src) for b in batches), "atoms": sum(b.n_atoms for b in batches)}
serve(passes, {order: about | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
