"""The `sevenn` package's own SevenNet-0: sevenn_package.py BATCHES CRYSTALS OUT; the last takes its embeddings.

Its checkpoint is read as the zoo reads it, without unpickling; everything else is the package's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import sevenn
import sevenn._keys as KEY
import sevenn.checkpoint
import torch
from ase import Atoms
from e3nn import o3
from passes import matmul_flops, read_batches
from serve import serve
from sevenn.atom_graph_data import AtomGraphData
from sevenn.train.dataload import unlabeled_atoms_to_graph
from sevenn.util import model_from_checkpoint
from torch import Tensor
from torch_geometric.loader import DataLoader

from zoo_sevennet.checkpoint import read

LAYER = 4
BATCH = 4  # of `sevenn inference`, unless told otherwise
IRREPS = o3.Irreps("128x0e+64x1o+32x2e")
SIGNS = torch.cat([torch.full((mul * ir.dim,), ir.p) for mul, ir in IRREPS])

sevenn.checkpoint.torch_load = lambda path, **_: read(path)
model, _ = model_from_checkpoint("7net-0")
model.eval().requires_grad_(False)
model.set_is_batch_data(True)
names = list(model._modules)
layers = [model._modules[name] for name in names[: names.index(f"{LAYER - 1}_equivariant_gate") + 1]]


def as_package(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The zoo's batch in the package's terms: its edges name the atom that a message goes to first."""
    src, dst, cell = arrays["src"], arrays["dst"], arrays["cell"]
    shift = torch.einsum("ei,eij->ej", arrays["shift"].to(cell.dtype), cell[arrays["crystal"][dst]])
    count = torch.bincount(arrays["crystal"])
    return {
        KEY.ATOMIC_NUMBERS: arrays["numbers"],
        KEY.POS: arrays["positions"],
        KEY.EDGE_IDX: torch.stack([dst, src]),
        KEY.EDGE_VEC: arrays["positions"][src] - arrays["positions"][dst] + shift,
        KEY.CELL_VOLUME: torch.linalg.det(cell).abs(),
        KEY.BATCH: arrays["crystal"],
        KEY.NUM_ATOMS: count,
    }


def features(batch: dict[str, Tensor], sign: int = 1) -> Tensor:
    """After layer 4, of the crystal or (sign -1) of its mirror image; the later layers are not run."""
    data = {**batch, KEY.EDGE_VEC: sign * batch[KEY.EDGE_VEC]}
    data[model.key_node_feature] = model._atomic_numbers_to_onehot(batch[KEY.ATOMIC_NUMBERS])
    with torch.no_grad():
        for module in layers:
            data = module(data)
    return data[KEY.NODE_FEATURE]


def true_tensors(batch: dict[str, Tensor]) -> Tensor:
    """Return the features of the zoo's encoder: those parts of the package's features that are true tensors."""
    return (features(batch) + SIGNS * features(batch, -1)) / 2


def main(folder: str, crystals: str, out: str) -> None:
    batches = [as_package(arrays) for arrays in read_batches(folder)]
    found = json.loads(Path(crystals).read_text())
    atoms = [Atoms(c["numbers"], c["positions"], cell=c["cell"], pbc=True) for c in found]

    def one_image() -> None:
        for batch in batches:
            features(batch)

    def both_images() -> None:
        for batch in batches:
            true_tensors(batch)

    def whole() -> None:
        """Run the model as shipped: energies, forces, stresses."""
        for batch in batches:
            model(dict(batch))

    def pipeline() -> None:
        """From crystals on, as `sevenn inference`: its graphs, its batches, its whole model."""
        kept: list[Tensor] = []
        gate = model._modules[f"{LAYER - 1}_equivariant_gate"]
        hook = gate.register_forward_hook(lambda module, args, data: kept.append(data[KEY.NODE_FEATURE].detach()))
        graphs = [AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(a, model.cutoff)) for a in atoms]
        for batch in DataLoader(graphs, BATCH, shuffle=False):
            model(batch)
        hook.remove()

    for number, batch in enumerate(batches):
        np.save(Path(out) / f"sevenn_{number:04d}.npy", true_tensors(batch).numpy())
    passes = {"one image": one_image, "both images": both_images, "whole": whole, "pipeline": pipeline}
    about = {"items": len(atoms), "sevenn": sevenn.__version__}
    serve(passes, {order: about | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
