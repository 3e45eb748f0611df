"""Born effective charges of atoms from their features."""

from __future__ import annotations

import warnings

import torch
from e3nn import o3
from pymatgen.core import Element
from torch import Tensor, nn

from zoo.api import CrystalBatch, Features, spherical_to_matrix

MIDDLE = 2.2
"""Pauling's electronegativity of the element that starts without a charge, that of hydrogen."""


def electronegativity_charges() -> Tensor:
    """(119, 1): by atomic number the difference of electronegativities (Pauling) that a charge starts from, in e."""
    out = torch.zeros(119, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen's, for each element that has none
        for element in Element:
            x = element.X if element.Z <= 118 else float("nan")
            if x == x:  # noble gases have none
                out[element.Z] = MIDDLE - x
    return out


class Charges(nn.Module):
    """Z*_κ = q I + symmetric traceless + antisymmetric part, minus the mean over the cell (acoustic sum rule).

    q is a number for the element plus one from the invariant features. The symmetric traceless part is a gated sum of
    channels of 2e; the antisymmetric one, three numbers that form a pseudovector (1e), of the encoder's own 1e
    channels, of cross products of two channels of 1o and of commutators of two channels of 2e, which are 1e as well.

    Args:
        irreps: of the atom features.
        width: invariants that gate, per atom.
        channels: channels of each of 1o, 2e and 1e that are made of the encoder's.
        anisotropic: use 2e.
        antisymmetric: use 1e.
    """

    def __init__(self, irreps: o3.Irreps, width: int, channels: int, anisotropic: bool, antisymmetric: bool) -> None:
        super().__init__()
        counts = {irrep: irreps.count(irrep) for irrep in ("1o", "2e", "1e")}
        self.channels = channels
        self.element = nn.Embedding.from_pretrained(electronegativity_charges(), freeze=False)
        self.scalar = nn.Linear(width, 1)
        self.tensor = nn.Linear(counts["2e"], channels, bias=False) if anisotropic else None
        self.sources: list[str] = []
        if antisymmetric:
            self.sources += ["2e"] if counts["2e"] > 1 else []
            self.sources += ["1o"] if counts["1o"] > 1 else []
            self.sources += ["1e"] if counts["1e"] else []
        self.maps = nn.ModuleDict(
            {name: nn.Linear(counts[name], channels * (1 if name == "1e" else 2), bias=False) for name in self.sources}
        )
        gates = channels * (anisotropic + len(self.sources))
        self.gates = nn.Linear(width, gates) if gates else None
        nn.init.zeros_(self.scalar.weight)
        nn.init.zeros_(self.scalar.bias)
        self.scalar.bias.requires_grad_(False)  # the same for all atoms: it goes with the mean over the cell

    def forward(self, hidden: Tensor, atoms: Features, batch: CrystalBatch) -> Tensor:
        """(N, 3, 3) e, indices polarisation and displacement, from (N, width) invariants and the features."""
        identity = torch.eye(3, dtype=hidden.dtype, device=hidden.device)
        total = (self.element(batch.numbers) + self.scalar(hidden)).unsqueeze(-1) * identity
        gates = iter(self.gates(hidden).split(self.channels, dim=1)) if self.gates is not None else iter(())
        if self.tensor is not None:
            tensors = self.tensor(atoms.block("2e").transpose(1, 2))  # (N, 5, k)
            total = total + spherical_to_matrix((tensors * next(gates).unsqueeze(1)).sum(-1), 2)
        for name in self.sources:
            axial = self._axial(name, atoms)  # (N, 3, k)
            w = (axial * next(gates).unsqueeze(1)).sum(-1)
            total = total + _cross_matrix(w)
        return total - batch.mean_over_atoms(total)[batch.crystal]

    def _axial(self, name: str, atoms: Features) -> Tensor:
        """(N, 3, k) pseudovectors, Cartesian."""
        mapped = self.maps[name](atoms.block(name).transpose(1, 2))
        if name == "1e":
            return mapped
        one, two = mapped.chunk(2, dim=-1)
        if name == "1o":
            return torch.linalg.cross(one, two, dim=1)
        a = spherical_to_matrix(one.transpose(1, 2), 2)
        b = spherical_to_matrix(two.transpose(1, 2), 2)
        commutator = a @ b - b @ a  # (N, k, 3, 3) antisymmetric
        return torch.stack([commutator[..., 2, 1], commutator[..., 0, 2], commutator[..., 1, 0]], dim=1)


def _cross_matrix(w: Tensor) -> Tensor:
    """(N, 3) -> (N, 3, 3), the matrix A with A x = w × x."""
    zero = torch.zeros_like(w[:, 0])
    x, y, z = w.unbind(1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
