"""A small TensorNet of matgl with random weights, and its features: run in an environment with matgl (test-foreign).

    python make_tensornet.py FOLDER [SEED [VARIANT]]

FOLDER gets matgl's own `state.pt` and `model.json`, and `features.safetensors`: crystals, and X after every layer; of
the variant `potential`, scale and reference energies too, and energy, forces and stress (eV, Å).

    python make_tensornet.py published FILE FOLDER...

FILE gets the same of published potentials, by the name of each folder. It wants matgl 2.0.6, by which they were trained
(its `Potential` is matgl.apps._pes_pyg's, its `TensorNet` matgl.models._tensornet_pyg's).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matgl
import numpy as np
import torch
from ase import Atoms
from ase.units import GPa
from crystals import crystals, edges
from matgl.apps.pes import Potential
from matgl.models import TensorNet
from safetensors.torch import save_file
from torch_geometric.data import Data

VARIANTS: dict[str, dict[str, object]] = {
    "bessel": {"rbf_type": "SphericalBessel", "use_smooth": True},  # as the MatPES models
    "gaussian": {"rbf_type": "Gaussian", "num_rbf": 6, "activation_type": "tanh"},
    "potential": {"rbf_type": "SphericalBessel", "use_smooth": True},
}


def make(folder: Path, seed: int = 0, variant: str = "bessel") -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = TensorNet(units=8, nblocks=2, is_intensive=False, cutoff=4.0, use_warp=False, **VARIANTS[variant])
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at zero
            parameter.add_(0.2 * torch.randn_like(parameter))
    references = np.random.default_rng(seed).normal(size=len(model.element_types))
    potential = Potential(model, data_std=2.5, element_refs=references) if variant == "potential" else None
    (model if potential is None else potential).save(folder)
    (folder / "model.pt").unlink()
    model = model.double()
    kept: dict[str, torch.Tensor] = {}
    for name, atoms in crystals().items():
        i, j, offset = edges(atoms, model.cutoff)
        graph = Data(
            node_type=torch.tensor([model.element_types.index(symbol) for symbol in atoms.symbols]),
            pos=torch.tensor(atoms.positions),
            edge_index=torch.tensor([i.tolist(), j.tolist()]),
            pbc_offshift=torch.tensor(offset),
        )
        with torch.no_grad():
            features = model.forward_features(graph)
        for layer in range(1, model.num_layers + 1):
            kept[f"{name}.{layer}"] = features[f"gc_{layer}"].contiguous()
        kept[f"{name}.basis"] = features["edge_attr"].mean(0)
        if potential is not None:
            kept |= {f"{name}.{key}": value for key, value in answer(potential.double(), atoms).items()}
        kept |= place(name, atoms)
    save_file(kept, folder / "features.safetensors")


def place(name: str, atoms: Atoms) -> dict[str, torch.Tensor]:
    """Where the atoms are, by names with that of the crystal."""
    known = {"positions": atoms.positions, "cell": atoms.cell.array, "numbers": atoms.numbers}
    return {f"{name}.{key}": torch.tensor(value) for key, value in known.items()}


def answer(potential: Potential, atoms: Atoms) -> dict[str, torch.Tensor]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å³), float64."""
    i, j, offset = edges(atoms, potential.model.cutoff)
    graph = Data(
        node_type=torch.tensor([potential.model.element_types.index(symbol) for symbol in atoms.symbols]),
        frac_coords=torch.tensor(atoms.get_scaled_positions(wrap=False)),
        edge_index=torch.tensor([i.tolist(), j.tolist()]),
        pbc_offset=torch.tensor((offset @ np.linalg.inv(atoms.cell.array)).round()),
        num_nodes=len(atoms),
    )
    energy, forces, stress, *_ = potential(graph, torch.tensor(atoms.cell.array)[None])
    found = {"energy": energy, "forces": forces, "stress": stress * GPa}
    return {key: value.detach().contiguous().clone() for key, value in found.items()}


def published(file: Path, *folders: str) -> None:
    """Write what published potentials say of the crystals at rest and, which has forces, rattled."""
    kept: dict[str, torch.Tensor] = {}
    for folder in map(Path, folders):
        potential = matgl.load_model(folder).double()
        for name, atoms in crystals().items():
            atoms.rattle(0.08, seed=0)
            crystal = f"{folder.name}:{name}"
            kept |= {f"{crystal}.{key}": value for key, value in answer(potential, atoms).items()}
            kept |= place(crystal, atoms)
    save_file(kept, file)


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    if first == "published":
        published(Path(rest[0]), *rest[1:])
    else:
        make(Path(first), int(rest[0]) if rest else 0, rest[1] if len(rest) > 1 else "bessel")
