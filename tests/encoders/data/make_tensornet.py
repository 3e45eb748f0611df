"""A small TensorNet of matgl with random weights, and its features: run in an environment with matgl (test-foreign).

    python make_tensornet.py FOLDER [SEED [VARIANT]]

FOLDER gets matgl's own `state.pt` and `model.json`, and `features.safetensors`: crystals, and X after every layer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from crystals import crystals, edges
from matgl.models import TensorNet
from safetensors.torch import save_file
from torch_geometric.data import Data

VARIANTS: dict[str, dict[str, object]] = {
    "bessel": {"rbf_type": "SphericalBessel", "use_smooth": True},  # as the MatPES models
    "gaussian": {"rbf_type": "Gaussian", "num_rbf": 6, "activation_type": "tanh"},
}


def make(folder: Path, seed: int = 0, variant: str = "bessel") -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = TensorNet(units=8, nblocks=2, is_intensive=False, cutoff=4.0, use_warp=False, **VARIANTS[variant])
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at zero
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save(folder)
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
        kept[f"{name}.positions"] = torch.tensor(atoms.positions)
        kept[f"{name}.cell"] = torch.tensor(atoms.cell.array)
        kept[f"{name}.numbers"] = torch.tensor(atoms.numbers)
    save_file(kept, folder / "features.safetensors")


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    make(Path(folder), int(rest[0]) if rest else 0, rest[1] if len(rest) > 1 else "bessel")
