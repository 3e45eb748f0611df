"""A tensor property: its index symmetry, unit and irreps."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

MOST_INDICES = 6
_FORMULA = re.compile(r"[a-z]+(=-?[a-z]+)*")


def check_formula(formula: str) -> None:
    """Refuse what is no index symmetry; e3nn makes Python code of its letters, so there must be nothing else in it.

    Raises:
        ValueError: with what is wrong, and an example.
    """
    if not isinstance(formula, str) or not _FORMULA.fullmatch(formula):
        raise ValueError("an index symmetry has small letters joined by = or =-, as in ij=ji or ijkl=jikl=klij")
    first, *others = (term.removeprefix("-") for term in formula.split("="))
    if len(set(first)) < len(first) or any(sorted(term) != sorted(first) for term in others):
        raise ValueError("every term must hold the letters of the first, each once, as in ijkl=jikl=klij")
    if len(first) > MOST_INDICES:
        raise ValueError(f"a tensor may have {MOST_INDICES} indices, not {len(first)}")


@functools.lru_cache(maxsize=32)
def _basis(formula: str) -> tuple[o3.Irreps, Tensor]:
    """Irreps of a tensor and its (dim, 3, 3, ...) orthonormal change of basis, float64."""
    if formula == "ij=ji":  # by far the most common; the general way makes and compiles tensor products
        with torch.inference_mode(False):  # it is kept, see features._coupling
            parts = [o3.wigner_3j(k, 1, 1, dtype=torch.float64) * (2 * k + 1) ** 0.5 for k in (0, 2)]
            return o3.Irreps("1x0e+1x2e"), torch.cat(parts)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn makes the basis in the default dtype
    try:
        with torch.inference_mode(False):  # it is kept, see features._coupling
            # As e3nn.io.CartesianTensor, whose import takes a second (scipy.signal).
            products = o3.ReducedTensorProducts(formula, **dict.fromkeys(formula.split("=")[0].strip("-"), "1o"))
    finally:
        torch.set_default_dtype(previous)
    return products.irreps_out, products.change_of_basis.to(torch.float64)


@functools.lru_cache(maxsize=32)
def _independent(formula: str) -> tuple[int, ...]:
    columns = _basis(formula)[1].flatten(1).T
    kept: list[int] = []
    for index, column in enumerate(columns):
        repeats = any(torch.allclose(column, sign * columns[other], atol=1e-9) for other in kept for sign in (1, -1))
        if column.abs().max() > 1e-9 and not repeats:
            kept.append(index)
    return tuple(kept)


@dataclass(frozen=True)
class TensorTarget:
    """A tensor property to be predicted: its name, index symmetry and unit.

    Attributes:
        name: e.g. `total`.
        formula: index symmetry as e3nn writes it: `ij=ji`, `ijkl=jikl=klij`, ...
        unit: of the values; `1` where they are dimensionless.
        intensive: a supercell has the same value.
        per_atom: one tensor an atom, (N, *shape), rather than one a crystal, (B, *shape).
        quantity: what the numbers are physically, where generic code wants to know: `dielectric`,
            `electronic dielectric` (a refractive index follows), ...
        parts: of a joint target the tensors that are predicted together, stacked in this order, all of this formula
            and unit; the last is the main one, by which models are compared. Where a crystal lacks the label of a part,
            that part is NaN. Empty for a single tensor.
    """

    name: str
    formula: str = "ij=ji"
    unit: str = "1"
    intensive: bool = True
    per_atom: bool = False
    quantity: str = ""
    parts: tuple[TensorTarget, ...] = ()

    def __post_init__(self) -> None:
        """Check the formula, and make the parts tensors where they come as mappings, from a file.

        Raises:
            ValueError: it is no index symmetry.
        """
        check_formula(self.formula)
        parts = (TensorTarget(**part) if isinstance(part, dict) else part for part in self.parts)
        object.__setattr__(self, "parts", tuple(parts))

    @property
    def main(self) -> TensorTarget:
        """The last part of a joint target, else itself."""
        return self.parts[-1] if self.parts else self

    def split(self, tensors: Any) -> dict[str, tuple[TensorTarget, Any]]:
        """By name, each part and its tensors, (n, *part.shape), of (n, *shape); a single target is its own part."""
        if not self.parts:
            return {self.name: (self, tensors)}
        return {part.name: (part, tensors[:, k]) for k, part in enumerate(self.parts)}

    @property
    def rank(self) -> int:
        """Number of indices."""
        return len(self.formula.split("=")[0].strip("-"))

    @property
    def shape(self) -> tuple[int, ...]:
        """(3,) * rank, after the number of parts of a joint target."""
        return (len(self.parts),) * bool(self.parts) + (3,) * self.rank

    @property
    def irreps(self) -> o3.Irreps:
        """The irreps of the independent components, e.g. `1x0e+1x2e` for `ij=ji`."""
        return _basis(self.formula)[0]

    @property
    def independent(self) -> tuple[int, ...]:
        """Flat indices of the independent components: for `ij=ji` the six with i ≤ j: xx xy xz yy yz zz."""
        one = _independent(self.formula)
        return tuple(k * 3**self.rank + i for k in range(max(len(self.parts), 1)) for i in one)

    def to_irreps(self, tensor: Tensor) -> Tensor:
        """(n, *shape) -> (n, irreps.dim), an isometry on tensors of this symmetry."""
        basis = _basis(self.formula)[1].to(tensor)
        return tensor.flatten(1) @ basis.flatten(1).T

    def from_irreps(self, values: Tensor) -> Tensor:
        """(n, irreps.dim) -> (n, *shape)."""
        basis = _basis(self.formula)[1].to(values)
        return (values @ basis.flatten(1)).reshape(-1, *self.shape)

    def from_independent(self, values: Tensor) -> Tensor:
        """(n, len(independent)) -> (n, *shape): the full tensors from their independent components."""
        basis, one = _basis(self.formula)[1].to(values).flatten(1), _independent(self.formula)
        # The components are linear in the irreps; among the independent ones of a part this is a square system.
        return self.from_irreps(torch.linalg.solve(basis[:, list(one)].T, values.reshape(-1, len(one)).T).T)


def only_symmetric_rank_2(target: TensorTarget) -> str | None:
    """For `Readout.cannot_make`: why a target is not one symmetric intensive 3×3 tensor a crystal; None if it is."""
    if target.parts:
        return f"makes one tensor, '{target.name}' is {len(target.parts)} together: name a readout of each by readouts"
    if target.rank != 2 or {str(ir) for _, ir in target.irreps} != {"0e", "2e"}:
        return f"makes symmetric 3×3 tensors (ij=ji) alone, '{target.name}' is {target.formula}"
    if target.per_atom:
        return f"makes one tensor a crystal, '{target.name}' has one an atom"
    if not target.intensive:
        return f"makes intensive tensors alone, '{target.name}' is extensive"
    return None
