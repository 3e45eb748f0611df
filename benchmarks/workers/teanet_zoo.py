"""The zoo's `teanet`: teanet_zoo.py BATCHES CHANNELS LAYERS CUTOFF."""

from __future__ import annotations

import sys

import torch
from passes import matmul_flops, passes_of, read_batches
from serve import serve

from zoo.api import CrystalBatch
from zoo_teanet import TeaNet

folder, channels, layers, cutoff = sys.argv[1:]
torch.manual_seed(0)
hypers = TeaNet.Hypers(channels=int(channels), cutoffs=(float(cutoff),) * int(layers))
model = TeaNet(hypers)
batches = [CrystalBatch(**arrays) for arrays in read_batches(folder)]
passes = passes_of("model", model, lambda batch: model(batch).atoms.values, batches)
about = {
    "parameters": sum(p.numel() for p in model.parameters()),
    "edges": sum(len(b.src) for b in batches),
    "atoms": sum(b.n_atoms for b in batches),
}
serve(passes, {order: about | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
