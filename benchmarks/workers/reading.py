"""From files to batches of 64 crystals: reading.py JSON CIF_FOLDER CUTOFF SIDE; passes `json` and `cif`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from serve import serve

BATCH = 64
file, folder, cutoff, side = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
cifs = sorted(folder.glob("*.cif"))


def zoo() -> tuple[Callable, Callable, Callable]:
    """The readers, graphs and batches of a run of the zoo."""
    from zoo.data.structure_files import structure_from_file
    from zoo.data.structures import structure_from_dict
    from zoo.graphs.graph import collate, crystal_graphs

    def batches(structures: Iterable[Any]) -> int:
        graphs = list(crystal_graphs(structures, cutoff))
        collated = [collate(graphs[i : i + BATCH]) for i in range(0, len(graphs), BATCH)]
        return sum(len(batch.src) for batch in collated)

    return structure_from_dict, structure_from_file, batches


def pymatgen() -> tuple[Callable, Callable, Callable]:
    """pymatgen's readers and neighbour lists, PyTorch Geometric's batches."""
    import torch
    from pymatgen.core import Structure
    from torch_geometric.data import Batch, Data

    def graph(structure: Structure) -> Data:
        dst, src, shift, _ = structure.get_neighbor_list(cutoff)
        return Data(
            pos=torch.tensor(structure.cart_coords, dtype=torch.float32),
            numbers=torch.tensor(structure.atomic_numbers),
            cell=torch.tensor(structure.lattice.matrix, dtype=torch.float32)[None],
            edge_index=torch.from_numpy(np.stack([src, dst])),
            shift=torch.from_numpy(shift).long(),
        )

    def batches(structures: Iterable[Structure]) -> int:
        graphs = [graph(structure) for structure in structures]
        collated = [Batch.from_data_list(graphs[i : i + BATCH]) for i in range(0, len(graphs), BATCH)]
        return sum(batch.edge_index.shape[1] for batch in collated)

    return Structure.from_dict, Structure.from_file, batches


def sevenn() -> tuple[Callable, Callable, Callable]:
    """The `sevenn` package's graphs and batches, of ASE's atoms."""
    import ase.io
    import sevenn._keys as KEY
    from pymatgen.core import Structure
    from pymatgen.io.ase import AseAtomsAdaptor
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph
    from torch_geometric.loader.dataloader import Collater

    def batches(atoms: Iterable[Any]) -> int:
        graphs = [AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(a, cutoff)) for a in atoms]
        collate = Collater(graphs)
        collated = [collate(graphs[i : i + BATCH]) for i in range(0, len(graphs), BATCH)]
        return sum(batch[KEY.EDGE_IDX].shape[1] for batch in collated)

    return lambda entry: AseAtomsAdaptor.get_atoms(Structure.from_dict(entry)), ase.io.read, batches


from_dict, from_file, batches = {"zoo": zoo, "pymatgen": pymatgen, "sevenn": sevenn}[side]()


def from_json() -> int:
    return batches(from_dict(entry["structure"]) for entry in json.loads(file.read_text()).values())


def from_cif() -> int:
    return batches(from_file(path) for path in cifs)


edges = {"json": from_json(), "cif": from_cif()}
items = {"json": len(json.loads(file.read_text())), "cif": len(cifs)}
serve(
    {"json": lambda: {"edges": from_json()}, "cif": lambda: {"edges": from_cif()}},
    {order: {"items": items[order], "edges": edges[order]} for order in items},
)
