"""The zoo's `nequip`: nequip_zoo.py BATCHES HYPERS; a layer, and the whole encoder."""

from __future__ import annotations

import json
import sys

import torch
from passes import as_inside, matmul_flops, passes_of, read_batches
from serve import serve

from zoo.api import CrystalBatch
from zoo_nequip import NequIP

folder, hypers = sys.argv[1:]
torch.manual_seed(0)
model = NequIP(NequIP.Hypers(**json.loads(hypers)))
batches = [CrystalBatch(**arrays) for arrays in read_batches(folder)]

layer = model.interactions[1]
inputs: list[tuple[torch.Tensor, ...]] = []
hook = layer.register_forward_pre_hook(lambda module, args: inputs.append(args))
with torch.no_grad():
    for batch in batches:
        model(batch)
hook.remove()
# As in the middle of a model: gradients go to the features and to the weights, none to the geometry.
calls = [(as_inside(features), rest) for features, *rest in inputs]

passes = {
    **passes_of("layer", layer, lambda call: layer(call[0](), *call[1]), calls),
    **passes_of("model", model, lambda batch: model(batch).atoms.values, batches),
}
size = {"edges": sum(len(b.src) for b in batches), "atoms": sum(b.n_atoms for b in batches)}
size["parameters"] = sum(p.numel() for p in model.parameters())
serve(passes, {order: {**size, "flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
