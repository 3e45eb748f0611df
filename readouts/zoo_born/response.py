"""The ionic dielectric tensor of force constants, corrected by what is learned, and Born charges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from zoo.api import CrystalBatch, PaddedForceConstants

COULOMB = 14.399645
"""e²/(4πε0) in eV Å."""

CLASSES = (4, 8, 16, 32, 64)
"""Atoms up to which crystals are padded together: one batched solve a class, with little that is padding."""

LEAST = 1e-3
"""eV/Å², below which no rule for soft modes goes: below the errors of any potential, above what rounding takes away."""


def size_classes(atoms_per_crystal: Tensor) -> Iterator[Tensor]:
    """Indices of the crystals of each class of size that occurs; a class ends at one of `CLASSES`, or is open."""
    bounds = torch.tensor(CLASSES, device=atoms_per_crystal.device)
    which = torch.bucketize(atoms_per_crystal, bounds)
    for number in which.unique().tolist():
        yield (which == number).nonzero().squeeze(1)


def ionic_tensor(
    charges: Tensor,
    batch: CrystalBatch,
    regularise: Callable[[Tensor], Tensor],
    scale: Tensor | None,
    stiffness: Tensor | None,
) -> Tensor:
    """(4π e²/(4πε0)/V) Z* Φ'⁻¹ Z*ᵀ, with Φ' = P [D f(Φ) D + K] P, in the space orthogonal to rigid translations.

    Gonze and Lee, Phys. Rev. B 55, 10355 (1997), eq. (54), as a linear system: no eigenvector is differentiated, so
    that degenerate modes have gradients. Symmetric and positive semi-definite by construction. In float64, whatever
    the charges are in: a soft mode beside stiff ones has no digits of float32 left. NaN where Φ' or Z* is not finite.
    f lifts rigid translations, too: where D differs from atom to atom P leaves f(0) P D T Tᵀ D P of it, with T the
    translations of length one, which makes ε0 smaller by a little.

    Args:
        charges: (N, 3, 3) e, polarisation and displacement, of which the mean over each cell is zero.
        batch: holds the force constants.
        regularise: f, which acts on eigenvalues in eV/Å² and makes them positive; identity for stable modes. Where the
            force constants are exact it has nothing to do: they are those of the labels' own calculation.
        scale: (N,) the logarithm of D for each atom; None for D = 1.
        stiffness: (N, 3, 3) eV/Å², positive semi-definite, K on the site of each atom; None for K = 0.

    Returns:
        (B, 3, 3).
    """
    given = batch.force_constants
    assert given is not None  # needs
    volume = torch.linalg.det(exact(batch.cell)).abs()
    z = exact(given.pad(charges, batch.crystal))
    counts = batch.atoms_per_crystal().to(z.device)
    out = z.new_zeros(batch.n_crystals, 3, 3)
    for chosen, most, matrix in _corrected(given, batch, counts, regularise, scale, stiffness):
        held = _in_the_space_of_optic_modes(matrix, counts[chosen], most)
        source = z[chosen, :most].permute(0, 1, 3, 2).reshape(len(chosen), 3 * most, 3)
        # Of what is not finite no error: the trainer and the predictor say in one line what they then do.
        factor, failed = torch.linalg.cholesky_ex(held)
        factor = torch.where((failed > 0)[:, None, None], torch.nan, factor)
        half = torch.linalg.solve_triangular(factor, source, upper=False)
        out = out.index_copy(0, chosen, half.transpose(1, 2) @ half)
    return (4 * torch.pi * COULOMB / volume[:, None, None] * out).to(charges)


def corrected_force_constants(
    batch: CrystalBatch,
    regularise: Callable[[Tensor], Tensor],
    scale: Tensor | None,
    stiffness: Tensor | None,
) -> tuple[Tensor, ...]:
    """Φ' of each crystal of n atoms, (3n, 3n), eV/Å², float64: arguments as those of `ionic_tensor`."""
    given = batch.force_constants
    assert given is not None  # needs
    counts = batch.atoms_per_crystal().to(exact(batch.cell).device)
    out: list[Tensor] = [counts] * batch.n_crystals
    for chosen, _, matrix in _corrected(given, batch, counts, regularise, scale, stiffness):
        for place, whole in zip(chosen.tolist(), matrix, strict=True):
            size = 3 * int(counts[place])
            blocks = whole[:size, :size].reshape(size // 3, 3, -1, 3)
            blocks = blocks - blocks.mean(dim=0, keepdim=True)
            blocks = blocks - blocks.mean(dim=2, keepdim=True)
            found = blocks.reshape(size, size)
            out[place] = 0.5 * (found + found.T)
    return tuple(out)


def _corrected(
    given: PaddedForceConstants,
    batch: CrystalBatch,
    counts: Tensor,
    regularise: Callable[[Tensor], Tensor],
    scale: Tensor | None,
    stiffness: Tensor | None,
) -> Iterator[tuple[Tensor, int, Tensor]]:
    """D f(Φ) D + K of each class of size: which b crystals, of at most so many atoms A, (b, 3A, 3A) float64."""
    d = None if scale is None else exact(given.pad(scale.exp(), batch.crystal))
    k = None if stiffness is None else exact(given.pad(stiffness, batch.crystal))
    stiff = exact(regularise(given.eigenvalues))
    if given.exact is not None:
        stiff = torch.where(given.exact.to(stiff.device).unsqueeze(1), exact(given.eigenvalues), stiff)
    stiff = stiff.clamp(min=LEAST)
    vectors = exact(given.eigenvectors)
    for chosen in size_classes(counts):
        most = int(counts[chosen].max())
        # A crystal of n atoms has 3n eigenvectors, in the first rows and columns.
        size = 3 * most
        part = vectors[chosen, :size, :size]
        matrix = (part * stiff[chosen, :size].unsqueeze(1)) @ part.transpose(1, 2)
        if d is not None:
            along = d[chosen, :most].repeat_interleave(3, dim=1)
            matrix = along.unsqueeze(2) * matrix * along.unsqueeze(1)
        if k is not None:
            matrix = matrix + _block_diagonal(k[chosen, :most])
        yield chosen, most, matrix


def exact(tensor: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none (mps)."""
    return tensor.to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)


def _block_diagonal(blocks: Tensor) -> Tensor:
    """(b, A, 3, 3) -> (b, 3A, 3A)."""
    b, a = blocks.shape[:2]
    eye = torch.eye(a, dtype=blocks.dtype, device=blocks.device)
    return torch.einsum("baij,ac->baicj", blocks, eye).reshape(b, 3 * a, 3 * a)


def _in_the_space_of_optic_modes(matrix: Tensor, counts: Tensor, most: int) -> Tensor:
    """P M P plus a stiffness of rigid translations, and of atoms that are not there: positive definite.

    The charges have no part along what is added, so that its size does not matter.
    """
    there = torch.arange(most, device=counts.device) < counts.unsqueeze(1)  # (b, A)
    amplitude = there.to(matrix.dtype) / counts.to(matrix.dtype).sqrt().unsqueeze(1)
    translations = torch.einsum("ba,ij->baij", amplitude, torch.eye(3, dtype=matrix.dtype, device=matrix.device))
    t = translations.reshape(len(counts), 3 * most, 3)
    mt = matrix @ t
    tmt = t.transpose(1, 2) @ mt
    projected = matrix - mt @ t.transpose(1, 2) - t @ mt.transpose(1, 2)
    stiff = torch.diagonal(matrix, dim1=1, dim2=2).mean(1).detach().clamp(min=1.0)
    held = tmt + stiff[:, None, None] * torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    absent = (~there).to(matrix.dtype).repeat_interleave(3, dim=1) * stiff.unsqueeze(1)
    return projected + t @ held @ t.transpose(1, 2) + torch.diag_embed(absent)
