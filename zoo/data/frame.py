"""Frame check: whether a tensor is given in the Cartesian frame of its own structure.

By Neumann's principle a tensor property is invariant under the point group of its crystal. Where the structure was
re-oriented after the calculation, and the tensor was not, it is not invariant any more (nor is it where the
calculation was not converged, which this check finds as well). A tensor of an atom is invariant under its site
symmetry, and an operation of the space group turns it into that of the atom to which it brings the atom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from zoo.config.dataset_settings import FrameCheck
from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.symmetry import CRYSTAL_SYSTEMS, crystal_system, rotated, symmetry
from zoo.graphs.crystal import Crystal
from zoo.graphs.space_group import SpaceGroup

NEGLIGIBLE = 0.01
"""A tensor smaller than this share of the record's largest one of the same unit is noise: no residual is defined."""


@dataclass(frozen=True)
class SymmetryViolation:
    """Relative violation of the point-group symmetry of a crystal by its tensor.

    Attributes:
        residual: max over the point group of ‖R·T - T‖_F / ‖T‖_F; None where it is not defined: the tensor is zero or
            negligible, or spglib finds no symmetry.
    """

    key: str
    formula: str
    crystal_system: str
    residual: float | None


def residual(tensor: np.ndarray, rotations: np.ndarray) -> float:
    """Return the residual, max over R of ‖R·T - T‖_F / ‖T‖_F.

    Args:
        tensor: a tensor of any rank that is not zero; R acts on each index.
        rotations: (n, 3, 3) orthogonal matrices, Cartesian.
    """
    change = (rotated(tensor, rotations) - tensor).reshape(len(rotations), -1)
    return float(np.linalg.norm(change, axis=1).max() / np.linalg.norm(tensor))


def residual_of_atoms(tensors: np.ndarray, group: SpaceGroup) -> float:
    """Return the residual of N tensors of atoms, max over the operations of ‖R·T_κ - T_κ'‖ / ‖T‖, κ brought to κ'.

    Args:
        tensors: (N, 3, ...) of any rank; atoms without a label have NaN.
        group: the operations of the cell of these atoms.
    """
    turned = np.stack([rotated(tensor, group.rotations) for tensor in tensors], axis=1)
    change = np.nan_to_num(turned - tensors[group.moves]).reshape(len(group.rotations), -1)
    return float(np.linalg.norm(change, axis=1).max() / np.linalg.norm(np.nan_to_num(tensors)))


def violation(record: Record, target: TensorTarget, symprec: float) -> SymmetryViolation:
    """Return the symmetry violation of a record that holds the target."""
    tensor = np.asarray(record.targets[target.name], dtype=np.float64)
    return measure(record.key, record.structure, tensor, symprec, is_negligible(record, target), target.per_atom)


def measure(
    key: str, structure: Structure, tensor: np.ndarray, symprec: float, negligible: bool, per_atom: bool = False
) -> SymmetryViolation:
    """Return the symmetry violation of a tensor, or of one an atom; a negligible tensor has no residual."""
    group = symmetry(structure, symprec)
    if group is None or negligible:
        value = None
    elif per_atom:
        value = residual_of_atoms(tensor, SpaceGroup.of(Crystal.of(structure), symprec))
    else:
        value = residual(tensor, group.rotations)
    formula = structure.composition.reduced_formula
    return SymmetryViolation(key, formula, crystal_system(group.number if group else 1), value)


def offender(
    key: str, structure: Callable[[], Structure], tensor: np.ndarray, negligible: bool, check: FrameCheck
) -> SymmetryViolation | None:
    """Return the violation of a crystal if it is above the tolerance or has no defined residual, else None.

    `structure` returns the crystal; it is not called where the tensor alone shows that the residual is small enough.
    """
    if not negligible and _largest_residual(tensor) <= check.tolerance:
        return None
    measured = measure(key, structure(), tensor, check.symprec, negligible)
    return measured if measured.residual is None or measured.residual > check.tolerance else None


def offenders(records: Iterable[Record], target: TensorTarget, check: FrameCheck) -> list[SymmetryViolation]:
    """Return the violations above the tolerance or without a defined residual, in the order of the records."""
    if target.per_atom:
        measured = (violation(record, target, check.symprec) for record in records)
        return [m for m in measured if m.residual is None or m.residual > check.tolerance]
    found = (
        offender(r.key, lambda r=r: r.structure, r.targets[target.name], is_negligible(r, target), check)  # type: ignore[misc]
        for r in records
    )
    return [m for m in found if m is not None]


def is_negligible(record: Record, target: TensorTarget) -> bool:
    """Return whether a tensor is zero, or noise beside the largest one of its record of the same shape."""
    norm = float(np.linalg.norm(np.nan_to_num(record.targets[target.name])))
    if target.per_atom:
        return norm <= NEGLIGIBLE  # no other tensor of its unit; of charges, a few units in the last decimals
    shape = record.targets[target.name].shape
    largest = max(float(np.linalg.norm(t)) for t in record.targets.values() if t.shape == shape)
    return norm == 0 or norm < NEGLIGIBLE * largest


def _largest_residual(tensor: np.ndarray) -> float:
    """Return an upper bound of the residual that no orientation exceeds.

    For rank 2, no rotation changes a tensor by more than twice its anisotropic part.

    It saves the symmetry search for nearly isotropic tensors: the cubic crystals, where that takes longest.
    """
    if tensor.ndim != 2:
        return np.inf
    anisotropic = tensor - np.trace(tensor) / 3 * np.eye(3)
    return 2 * float(np.linalg.norm(anisotropic) / np.linalg.norm(tensor))


_ZERO_PROVES_SYMMETRIC = {
    "triclinic": "nothing: the point group allows every tensor",
    "monoclinic": "that b is a principal axis; unseen: rotation about b, swap of b and another axis",
    "orthorhombic": "that a, b, c are the principal axes; unseen: axis swaps",
    "tetragonal": "the orientation: c is the optical axis, and rotation about it changes nothing",
    "trigonal": "the orientation: c is the optical axis, and rotation about it changes nothing",
    "hexagonal": "the orientation: c is the optical axis, and rotation about it changes nothing",
    "cubic": "that the tensor is isotropic; such a tensor has no orientation to be wrong",
}


def zero_proves(target: TensorTarget, system: str) -> str:
    """Explain, for a crystal system, what a residual of zero proves about the orientation of a tensor.

    A rotation Q is not detected where Q·T is invariant under the point group G too, as for each Q that maps G onto
    itself.
    """
    if target.formula == "ij=ji" and not target.per_atom:
        return _ZERO_PROVES_SYMMETRIC[system]
    if system == "triclinic":
        return "nothing: every rotation maps the point group onto itself"
    return "the orientation but for rotations that map the point group onto itself, at least"


@dataclass(frozen=True)
class Summary:
    """Statistics of the violations in one crystal system, or in all ("all").

    Attributes:
        count, undefined, over: numbers of crystals, those without a defined residual, those above the tolerance.
        median, high, largest: of the defined residuals; high is the 95 % quantile; None where there are none.
    """

    crystal_system: str
    count: int
    undefined: int
    over: int
    median: float | None
    high: float | None
    largest: float | None


def summarise(violations: Sequence[SymmetryViolation], tolerance: float) -> list[Summary]:
    """Return a summary of each crystal system that occurs, in order of symmetry, and one of all crystals."""
    present = [system for system in CRYSTAL_SYSTEMS if any(m.crystal_system == system for m in violations)]
    return [_summary(system, violations, tolerance) for system in [*present, "all"]]


def _summary(system: str, violations: Sequence[SymmetryViolation], tolerance: float) -> Summary:
    chosen = [m.residual for m in violations if system in ("all", m.crystal_system)]
    defined = np.array([value for value in chosen if value is not None])
    over = int((defined > tolerance).sum())
    if not len(defined):
        return Summary(system, len(chosen), len(chosen), over, None, None, None)
    median, high = (float(q) for q in np.quantile(defined, (0.5, 0.95)))
    return Summary(system, len(chosen), len(chosen) - len(defined), over, median, high, float(defined.max()))
