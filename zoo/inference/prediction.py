"""Prediction of a model for one crystal, and for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from zoo.contract.target import TensorTarget
from zoo.data.symmetry import crystal_system
from zoo.errors import ZooError
from zoo.inference.doubt import Doubt
from zoo.inference.explanation import Explanation
from zoo.inference.plain_numbers import NOISE, noise_of, plain
from zoo.inference.prediction_html import card_of, table_of
from zoo.inference.prediction_text import block, in_one_line

if TYPE_CHECKING:
    import pandas

NUMBERS = ("polycrystalline", "anisotropy", "refractive_index", "bulk_modulus", "shear_modulus")
"""Scalars derived from a tensor, of those kinds that have them (`zoo.evaluation.derived.describe`)."""

_PURE = ("axes", "anisotropy", "refractive_index")
"""Derived quantities that are not in the tensor's unit."""


@dataclass(frozen=True)
class Prediction:
    """Prediction for one crystal. Properties that a tensor of its kind does not have are None.

    Attributes:
        structure: the crystal.
        target: the tensor that is predicted, and its unit.
        tensor: (*target.shape), or per atom (n_atoms, *target.shape), in the Cartesian frame of the given
            structure.
        warnings: reasons not to trust the prediction, sentences with a `kind` (`zoo.inference.doubt.KINDS`).
        derived: scalars and axes of one tensor per crystal (see `zoo.evaluation.derived.describe`).
        spread: shape of `tensor`, standard deviation over the members of an ensemble; None for a single model.
        polycrystalline_spread: standard deviation of tr/3 over the members, likewise.
        coverage: share of crystals like those of the validation part whose true value shall be within an interval, of
            each number for itself; what share of the test part was, is in `card.metrics["calibration"]`. None where the
            model has no calibrated uncertainty.
        intervals: name of a number -> [low, high]; `eigenvalues` -> one such a (sorted) eigenvalue, all three together.
        tensor_radius: ‖true - tensor‖_F is no larger, at the same coverage.
        novelty: `distance` to the nearest training crystals and the `threshold` that 99 % of the validation part are
            within (see `zoo.inference.novelty`); None where the model does not know its training crystals.
        nearest: the nearest training crystals, as many as requested.
        parts: of a joint target the other parts, by name: `electronic` and `ionic` beside the total.
        explanation: Born charges and modes of which the ionic tensor is made, where they were asked for.
    """

    structure: Structure
    target: TensorTarget
    tensor: np.ndarray
    warnings: tuple[Doubt, ...] = ()
    derived: Mapping[str, Any] = field(default_factory=dict)
    spread: np.ndarray | None = None
    polycrystalline_spread: float | None = None
    coverage: float | None = None
    intervals: Mapping[str, list[Any]] = field(default_factory=dict)
    tensor_radius: float | None = None
    novelty: Mapping[str, float] | None = None
    nearest: tuple[Mapping[str, Any], ...] | None = None
    parts: Mapping[str, Prediction] = field(default_factory=dict)
    explanation: Explanation | None = None

    @cached_property
    def formula(self) -> str:
        """Reduced formula."""
        return str(self.structure.composition.reduced_formula)

    @cached_property
    def crystal_system(self) -> str:
        """Crystal system of the structure, by spglib: that takes longer than all else of a small crystal's answer."""
        return crystal_system(self.structure)

    @property
    def eigenvalues(self) -> np.ndarray | None:
        """Eigenvalues, ascending, (3,)."""
        return self._array("eigenvalues")

    @property
    def axes(self) -> np.ndarray | None:
        """Principal axes in the tensor's frame, (3, 3): rows are unit eigenvectors in the order of `eigenvalues`."""
        return self._array("axes")

    @property
    def voigt(self) -> np.ndarray | None:
        """Voigt matrix of an elastic stiffness, (6, 6)."""
        return self._array("voigt")

    @property
    def polycrystalline(self) -> float | None:
        """Constant of a polycrystal without texture: tr/3."""
        return self.derived.get("polycrystalline")

    @property
    def anisotropy(self) -> float | None:
        """Ratio of eigenvalues λ_max/λ_min; None where λ_min is near zero or negative."""
        return self.derived.get("anisotropy")

    @property
    def refractive_index(self) -> float | None:
        """Refractive index sqrt(tr/3) of an electronic dielectric tensor; of a joint target that of its ε∞.

        None where the trace is not positive.
        """
        if "electronic" in self.parts:
            return self.parts["electronic"].refractive_index
        return self.derived.get("refractive_index")

    @property
    def bulk_modulus(self) -> float | None:
        """Bulk modulus (Voigt-Reuss-Hill) of an elastic stiffness; None where it is not positive definite."""
        return self.derived.get("bulk_modulus")

    @property
    def shear_modulus(self) -> float | None:
        """Shear modulus (Voigt-Reuss-Hill) of an elastic stiffness; None where it is not positive definite."""
        return self.derived.get("shear_modulus")

    def _array(self, name: str) -> np.ndarray | None:
        return np.array(self.derived[name]) if name in self.derived else None

    @property
    def title(self) -> str:
        """Name of the tensor, such as `total dielectric tensor`, with the unit where there is one."""
        kind = "dielectric tensor" if "dielectric" in self.target.quantity else "tensor"
        unit = "" if self.target.unit == "1" else f", {self.target.unit}"
        return f"{self.target.name} {kind}{unit}"

    @property
    def tensors(self) -> tuple[Prediction, ...]:
        """Predictions of all tensors: ε∞, ε0 and ε of a joint target, else this one."""
        return (*self.parts.values(), self)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the output of `zoo predict --format json` and of a server.

        Numbers have six significant digits; components smaller than 1e-5 of a tensor's largest, less than float32 can
        tell, are zero, as those are that symmetry forbids.
        """
        content = self._content()
        if self.nearest is not None:
            content["nearest"] = [plain(near) for near in self.nearest]
        if self.explanation is not None:
            content["explanation"] = {
                name: plain(value, noise_of(np.array(value)) if name in ("born_charges", "ionic") else 0.0)
                for name, value in self.explanation.as_dict().items()
            }
        return content

    def _content(self) -> dict[str, Any]:
        """All of `as_dict` that is shown: no explanation, which takes its time."""
        return {
            "formula": self.formula,
            "crystal_system": self.crystal_system,
            **self._tensor_as_dict(),
            "novelty": None if self.novelty is None else plain(self.novelty),
            **{name: part._tensor_as_dict() for name, part in self.parts.items()},
            "warnings": [str(warning) for warning in self.warnings],
            "warning_kinds": [warning.kind for warning in self.warnings],
        }

    def _tensor_as_dict(self) -> dict[str, Any]:
        noise = noise_of(self.tensor)

        def tidy(numbers: Mapping[str, Any]) -> dict[str, Any]:
            return {name: plain(value, NOISE if name in _PURE else noise) for name, value in numbers.items()}

        return {
            "tensor": plain(self.tensor, noise),
            **tidy(self.derived),
            "spread": plain(self.spread, noise),
            "polycrystalline_spread": plain(self.polycrystalline_spread),
            "coverage": self.coverage,
            "intervals": tidy(self.intervals),
            "tensor_radius": plain(self.tensor_radius),
        }

    def row(self) -> dict[str, Any]:
        """Return one row of a table: scalars and tensor; of a joint target those of each part after its name."""
        numbers: dict[str, Any] = {}
        for one in self.tensors:
            start = f"{one.target.name}_" if self.parts else ""
            numbers |= {f"{start}{key}": value for key, value in one._scalars().items()}
            numbers[f"{start}tensor"] = one.tensor
        if self.coverage is not None:
            numbers["coverage"] = self.coverage
        if self.novelty is not None:
            numbers["novelty"] = self.novelty["distance"]
        return {
            "formula": self.formula,
            "crystal_system": self.crystal_system,
            **numbers,
            "warnings": "; ".join(self.warnings),
            "warning_kinds": ", ".join(dict.fromkeys(warning.kind for warning in self.warnings)),
        }

    def _scalars(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        for name in NUMBERS:
            if name in self.derived:
                numbers[name] = self.derived[name]
            if name in self.intervals:
                numbers[f"{name}_low"], numbers[f"{name}_high"] = self.intervals[name]
        return numbers | {f"eigenvalue_{k}": value for k, value in enumerate(self.derived.get("eigenvalues", ()), 1)}

    @property
    def targets(self) -> tuple[TensorTarget, ...]:
        """The targets of `tensors`."""
        return tuple(one.target for one in self.tensors)

    def __repr__(self) -> str:
        return f"<Prediction {in_one_line(self._content(), self.targets)}>"

    def __str__(self) -> str:
        lines = [block(self._content(), self.targets)]
        if self.coverage is not None:
            lines.append(f"in brackets: {100 * self.coverage:.0f} % intervals")
        return "\n".join([*lines, *(f"warning ({warning.kind}): {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        """Render for notebooks: warnings, then each tensor as an ellipsoid, a matrix and its numbers."""
        return card_of(self._content(), self.targets)


class Predictions(list[Prediction]):
    """Predictions for several crystals: a list that a notebook shows as a table.

    Attributes:
        names: paths of those that came from files, None for the others.
    """

    names: Sequence[str | None] = ()

    def dataframe(self) -> pandas.DataFrame:
        """Return a frame with one row per crystal, and the column `file` where some came from files.

        Columns of a joint target start with the name of the tensor: `electronic_polycrystalline`, `ionic_tensor`,
        `total_polycrystalline_low`; those of another do not.
        """
        import pandas

        rows = [answer.row() for answer in self]
        if any(self.names) and len(self.names) == len(rows):
            rows = [{"file": name, **row} for name, row in zip(self.names, rows, strict=True)]
        return pandas.DataFrame(rows)

    def _repr_html_(self) -> str:
        if not self:
            return "<div>no crystals</div>"
        names = self.names if any(self.names) and len(self.names) == len(self) else ()
        return table_of([answer._content() for answer in self], self[0].targets, names)


def by_file(names: Sequence[str], answers: Sequence[Prediction | ZooError]) -> list[dict[str, Any]]:
    """Return the output of `zoo predict --format json`: for each file the prediction or the error."""
    return [
        {"file": name, "error": str(answer).removeprefix(f"{name}: ")}
        if isinstance(answer, ZooError)
        else {"file": name, **answer.as_dict()}
        for name, answer in zip(names, answers, strict=True)
    ]
