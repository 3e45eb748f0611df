"""Tensors and crystals under rotation, and how near two tensors must be."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
import torch
from e3nn import o3
from pymatgen.core import Lattice, Structure
from torch import Tensor

from zoo.contract.target import TensorTarget
from zoo.testing.pair import Pair

FLOAT64 = 1e-10
FLOAT32 = 1e-5


def orthogonal_matrices(count: int, seed: int = 0) -> Tensor:
    """(count, 3, 3) random elements of O(3), float64: proper, improper, proper, ..."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # QR alone prefers some directions
    wanted = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(count)[:count]
    return q * (torch.linalg.det(q).sign() * wanted).reshape(-1, 1, 1)


def rotate_tensor(tensor: Tensor, rotation: Tensor) -> Tensor:
    """(n, 3, 3, ...) with every index turned: R ε Rᵀ where there are two; by one (3, 3) matrix, or by (n, 3, 3)."""
    rank = tensor.dim() - 1
    rotation = rotation.to(tensor)
    each = "z" if rotation.dim() == 3 else ""
    for axis in range(rank):
        old = string.ascii_lowercase[:rank]
        new = old.replace(old[axis], "Q")
        tensor = torch.einsum(f"z{old},{each}Q{old[axis]}->z{new}", tensor, rotation)
    return tensor


def irrep_matrix(irrep: o3.Irrep, rotation: Tensor) -> Tensor:
    """(2l+1, 2l+1) representation of an element of O(3), exact to rounding in float64.

    It is solved for from spherical harmonics at random points: e3nn's way over angles loses half of the digits.
    """
    points = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    here, there = (o3.spherical_harmonics(irrep.l, x, normalize=True) for x in (points, points @ rotation.T))
    matrix = torch.linalg.lstsq(here, there).solution.T
    return matrix if irrep.p == (-1) ** irrep.l else matrix * torch.linalg.det(rotation).sign()


def rotate_crystal(structure: Structure, rotation: Tensor) -> Structure:
    """The same crystal in another orientation or, where the matrix is improper, its turned mirror image."""
    return moved(structure, Lattice(structure.lattice.matrix @ rotation.numpy().T), structure.frac_coords)


def moved(structure: Structure, lattice: Lattice, frac_coords: np.ndarray) -> Structure:
    """The same atoms elsewhere, left outside the cell where they are."""
    return Structure(lattice, structure.species, frac_coords, to_unit_cell=False)


def anisotropic(tensor: Tensor, target: TensorTarget) -> Tensor:
    """(n, *shape): what is left without the invariant parts (for ε the trace)."""
    values = target.to_irreps(tensor)
    for (_, irrep), where in zip(target.irreps, target.irreps.slices(), strict=True):
        if irrep.l == 0:
            values[:, where] = 0
    return target.from_irreps(values)


def norms(tensor: Tensor) -> Tensor:
    """(n, ...) -> (n,) Frobenius norms."""
    return tensor.flatten(1).norm(dim=1)


def scales(pair: Pair, tensor: Tensor) -> Tensor:
    """(n,) what an error of each tensor is measured by: its anisotropic part, so that no large trace hides a violation.

    At least a hundredth of the whole tensor or of that of a triclinic crystal, where the anisotropy vanishes.
    """
    floor = 0.01 * torch.maximum(norms(tensor), norms(pair.triclinic).max())
    return torch.maximum(norms(anisotropic(tensor, pair.target)), floor)


def assert_same(
    pair: Pair, got: Tensor, expected: Tensor, names: Sequence[str], claim: str, rtol: float = FLOAT64
) -> None:
    """Every tensor of `got` is that of `expected`, up to `rtol` of its scale.

    Args:
        pair: whose tensors these are.
        got, expected: (n, *target.shape).
        names: what to call each of the n, or each of the crystals in turn.
        claim: what the error message says is not so.
        rtol: relative to `scales`.
    """
    assert got.shape == expected.shape, f"{claim}: shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
    assert got.isfinite().all() and expected.isfinite().all(), f"{claim}: the tensor is not finite"
    errors = norms(got - expected) / scales(pair, expected)
    worst = int(errors.argmax())
    name = names[worst] if len(names) == len(errors) else f"tensor {worst}"
    assert errors[worst] <= rtol, (
        f"{claim}: off by {errors[worst]:.1e} of its anisotropy, {rtol:.0e} is allowed ({name}).\n"
        f"got\n{got[worst].numpy()}\nexpected\n{expected[worst].numpy()}"
    )
