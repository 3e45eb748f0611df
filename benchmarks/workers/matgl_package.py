"""matgl's TensorNet: matgl_package.py BATCHES CHANNELS LAYERS CUTOFF; with the radial basis of its MatPES models.

Its embedding sums over neighbours as its interaction layers do: it counts as the first of LAYERS.
"""

from __future__ import annotations

import sys

import matgl
import torch
from ase.data import chemical_symbols
from matgl.models import TensorNet
from passes import matmul_flops, passes_of, read_batches
from serve import serve
from torch_geometric.data import Data

folder, channels, layers, cutoff = sys.argv[1:]
torch.manual_seed(0)
blocks = int(layers) - 1
basis = {"rbf_type": "SphericalBessel", "use_smooth": True}
model = TensorNet(
    units=int(channels), nblocks=blocks, cutoff=float(cutoff), is_intensive=False, use_warp=False, **basis
)

graphs = []
for arrays in read_batches(folder):
    elements = [model.element_types.index(chemical_symbols[z]) for z in arrays["numbers"].tolist()]
    shift = torch.einsum("ei,eij->ej", arrays["shift"].float(), arrays["cell"][arrays["crystal"][arrays["dst"]]])
    ends = torch.stack([arrays["dst"], arrays["src"]])
    graph = Data(node_type=torch.tensor(elements), pos=arrays["positions"], edge_index=ends, pbc_offshift=shift)
    graphs.append(graph)

passes = passes_of("model", model, lambda graph: model.forward_features(graph)[f"gc_{blocks}"], graphs)
used = [*model.tensor_embedding.parameters(), *model.layers.parameters()]
about = {"parameters": sum(p.numel() for p in used), "matgl": matgl.__version__}
serve(passes, {order: about | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
