"""A small MACE with random weights, and its features: run in an environment with mace-torch (test-foreign).

    python make_mace.py FOLDER [SEED [VARIANT]]

FOLDER gets `mace.model`, pickled as mace's own training does it, and `features.safetensors`: crystals, the features h
after every layer (`node_feats`), the atomic basis A of every layer, and energy, forces and stress (eV, Å).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 reads its constants with torch.load
from crystals import crystals, edges  # noqa: E402
from e3nn import o3  # noqa: E402
from mace import modules  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)  # mace sets it on import

NUMBERS = [1, 6, 7, 8, 9, 11, 14, 16, 17, 20, 22, 29]
# The blocks of MACE-MP-0a, those of 0b3 and MPA-0, the public models' degree and order, and what differs in others.
VARIANTS: dict[str, dict[str, object]] = {
    "residual": {},
    "density": {
        "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
        "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
    },
    "third-order": {"correlation": 3},
    "public": {"max_ell": 3, "correlation": 3},
    "agnostic": {
        "interaction_cls_first": "RealAgnosticInteractionBlock",
        "hidden_irreps": "4x0e+4x1o",
        "num_interactions": 3,
        "correlation": 2,
        "max_ell": 3,
        "apply_cutoff": False,
    },
}


def make(folder: Path, seed: int = 0, variant: str = "residual") -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    chosen = VARIANTS[variant]
    settings = {
        "r_max": 4.0,
        "num_bessel": 5,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": "RealAgnosticResidualInteractionBlock",
        "interaction_cls_first": "RealAgnosticResidualInteractionBlock",
        "num_interactions": 2,
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "correlation": [2, 3],  # the couplings of order 3 and degree 2 alone would be larger than all the rest
        "radial_MLP": [8, 8],
        **chosen,
    }
    for key in ("interaction_cls", "interaction_cls_first"):
        settings[key] = modules.interaction_classes[settings[key]]
    settings["hidden_irreps"] = o3.Irreps(settings["hidden_irreps"])
    model = modules.ScaleShiftMACE(
        **settings,
        num_elements=len(NUMBERS),
        MLP_irreps=o3.Irreps("4x0e"),
        atomic_energies=np.random.default_rng(seed).normal(size=len(NUMBERS)),
        avg_num_neighbors=11.3,
        atomic_numbers=NUMBERS,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=0.8,
        atomic_inter_shift=0.3,
    )
    torch.save(model, folder / "mace.model")
    kept: dict[str, torch.Tensor] = {}
    for name, atoms in crystals().items():
        basis: list[torch.Tensor] = []
        hooks = [
            block.register_forward_hook(lambda _, __, out, basis=basis: basis.append(out[0].detach().clone()))
            for block in model.interactions
        ]
        out = model(_data(atoms, float(model.r_max)), compute_force=True, compute_stress=True)
        for hook in hooks:
            hook.remove()
        kept[f"{name}.h"] = out["node_feats"].detach()
        kept |= {f"{name}.{key}": out[key].detach().clone() for key in ("energy", "forces", "stress")}
        for layer, values in enumerate(basis, start=1):
            kept[f"{name}.A{layer}"] = values
        kept[f"{name}.positions"] = torch.tensor(atoms.positions)
        kept[f"{name}.cell"] = torch.tensor(atoms.cell.array)
        kept[f"{name}.numbers"] = torch.tensor(atoms.numbers)
    save_file(kept, folder / "features.safetensors")


def _data(atoms: object, cutoff: float) -> dict[str, torch.Tensor]:
    """mace's own input: messages go from edge_index[0] to edge_index[1]."""
    receiver, sender, offset = edges(atoms, cutoff)
    one_hot = torch.zeros(len(atoms), len(NUMBERS))
    one_hot[range(len(atoms)), [NUMBERS.index(z) for z in atoms.numbers]] = 1
    return {
        "positions": torch.tensor(atoms.positions),
        "node_attrs": one_hot,
        "edge_index": torch.tensor([sender.tolist(), receiver.tolist()]),
        # mace's vectors are positions[receiver] - positions[sender] + shifts
        "shifts": torch.tensor(-offset),
        "unit_shifts": torch.tensor(-offset @ np.linalg.inv(atoms.cell.array)),
        "cell": torch.tensor(atoms.cell.array),
        "batch": torch.zeros(len(atoms), dtype=torch.long),
        "ptr": torch.tensor([0, len(atoms)]),
        "head": torch.zeros(1, dtype=torch.long),
    }


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    make(Path(folder), int(rest[0]) if rest else 0, rest[1] if len(rest) > 1 else "residual")
