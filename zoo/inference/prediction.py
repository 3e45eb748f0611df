"""Prediction of a model for one crystal, and for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.inference.explanation import Explanation

if TYPE_CHECKING:
    import pandas

NUMBERS = ("polycrystalline", "anisotropy", "refractive_index", "bulk_modulus", "shear_modulus")
"""Scalars derived from a tensor, of those kinds that have them (`zoo.evaluation.derived.describe`)."""


@dataclass(frozen=True)
class Prediction:
    """Prediction for one crystal. Properties that a tensor of its kind does not have are None.

    Attributes:
        formula: reduced.
        crystal_system: crystal system of the structure, by spglib.
        target: the tensor that is predicted, and its unit.
        tensor: (*target.shape), or per atom (n_atoms, *target.shape), in the Cartesian frame of the given
            structure.
        warnings: reasons not to trust the prediction.
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

    formula: str
    crystal_system: str
    target: TensorTarget
    tensor: np.ndarray
    warnings: tuple[str, ...] = ()
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
        """Refractive index sqrt(tr/3) of an electronic dielectric tensor; None where the trace is not positive."""
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

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the output of `zoo predict --format json` and of a server."""
        content: dict[str, Any] = {
            "formula": self.formula,
            "crystal_system": self.crystal_system,
            **self._tensor_as_dict(),
            "novelty": None if self.novelty is None else dict(self.novelty),
        }
        if self.nearest is not None:
            content["nearest"] = [dict(near) for near in self.nearest]
        for name, part in self.parts.items():
            content[name] = part._tensor_as_dict()
        if self.explanation is not None:
            content["explanation"] = self.explanation.as_dict()
        return {**content, "warnings": list(self.warnings)}

    def _tensor_as_dict(self) -> dict[str, Any]:
        return {
            "tensor": self.tensor.tolist(),
            **self.derived,
            "spread": None if self.spread is None else self.spread.tolist(),
            "polycrystalline_spread": self.polycrystalline_spread,
            "coverage": self.coverage,
            "intervals": dict(self.intervals),
            "tensor_radius": self.tensor_radius,
        }

    def row(self) -> dict[str, Any]:
        """Return one row of a table: the scalars, and the tensor as a whole; those of other parts after its name."""
        numbers = self._scalars()
        if self.coverage is not None:
            numbers["coverage"] = self.coverage
        if self.novelty is not None:
            numbers["novelty"] = self.novelty["distance"]
        others: dict[str, Any] = {}
        for name, part in self.parts.items():
            others |= {f"{name}_{key}": value for key, value in part._scalars().items()}
            others[f"{name}_tensor"] = part.tensor
        return {
            "formula": self.formula,
            "crystal_system": self.crystal_system,
            **numbers,
            "tensor": self.tensor,
            **others,
            "warnings": "; ".join(self.warnings),
        }

    def _scalars(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        for name in NUMBERS:
            if name in self.derived:
                numbers[name] = self.derived[name]
            if name in self.intervals:
                numbers[f"{name}_low"], numbers[f"{name}_high"] = self.intervals[name]
        return numbers | {f"eigenvalue_{k}": value for k, value in enumerate(self.derived.get("eigenvalues", ()), 1)}

    def __str__(self) -> str:
        lines = [f"{self.formula} ({self.crystal_system}): {self.title}", *self._lines()]
        for part in self.parts.values():
            lines += [part.title, *part._lines()]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def _lines(self) -> list[str]:
        tensor = np.array2string(self.tensor, precision=3, suppress_small=True)
        return [tensor, *(f"{name}: {value}" for name, value in self._numbers().items())]

    def _repr_html_(self) -> str:
        """Render for notebooks: the tensor as a matrix, the scalars below it; then the other parts."""
        pieces = [f"<b>{escape(self.formula)}</b> ({self.crystal_system}): {escape(self.title)}", self._html()]
        for part in self.parts.values():
            pieces += [f"<div>{escape(part.title)}</div>", part._html()]
        return "".join([*pieces, *(f"<div>warning: {escape(warning)}</div>" for warning in self.warnings)])

    def _html(self) -> str:
        parts = []
        if self.tensor.ndim == 2:
            rows = "".join(
                "<tr>" + "".join(f"<td style='text-align:right'>{value:.3f}</td>" for value in row) + "</tr>"
                for row in np.round(self.tensor, 3) + 0.0
            )
            parts.append(f"<table>{rows}</table>")
        else:
            parts.append(f"<pre>{escape(np.array2string(self.tensor, precision=3, suppress_small=True))}</pre>")
        numbers = "".join(
            f"<tr><td>{escape(name)}</td><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._numbers().items()
        )
        if numbers:
            parts.append(f"<table>{numbers}</table>")
        return "".join(parts)

    @property
    def title(self) -> str:
        """Name of the tensor, such as `total dielectric tensor`, with the unit where there is one."""
        kind = "dielectric tensor" if "dielectric" in self.target.quantity else "tensor"
        unit = "" if self.target.unit == "1" else f", {self.target.unit}"
        return f"{self.target.name} {kind}{unit}"

    def _numbers(self) -> dict[str, str]:
        """Format the scalars with their intervals: `8.24 (90 %: 6.90 to 9.58)`."""
        share = "" if self.coverage is None else f"{100 * self.coverage:.0f} %: "
        shown = {}
        if "eigenvalues" in self.derived:
            shown["eigenvalues"] = ", ".join(f"{value:.3f}" for value in self.derived["eigenvalues"])
        for name in NUMBERS:
            if name in self.derived:
                value = self.derived[name]
                words = "undefined" if value is None else f"{value:.3f}"
                if name in self.intervals:
                    low, high = self.intervals[name]
                    words += f" ({share}{low:.3f} to {high:.3f})"
                shown[name.replace("_", " ")] = words
        return shown


class Predictions(list[Prediction]):
    """Predictions for several crystals: a list that a notebook shows as a table.

    Attributes:
        names: paths of those that came from files, None for the others.
    """

    names: Sequence[str | None] = ()

    def dataframe(self) -> pandas.DataFrame:
        """Return a frame with one row per crystal, and the column `file` where some came from files."""
        import pandas

        rows = [answer.row() for answer in self]
        if any(self.names) and len(self.names) == len(rows):
            rows = [{"file": name, **row} for name, row in zip(self.names, rows, strict=True)]
        return pandas.DataFrame(rows)

    def _repr_html_(self) -> str:
        table = self.dataframe()
        html: str = table.drop(columns="tensor", errors="ignore").to_html(float_format="{:.3f}".format)
        return html


def by_file(names: Sequence[str], answers: Sequence[Prediction | ZooError]) -> list[dict[str, Any]]:
    """Return the output of `zoo predict --format json`: for each file the prediction or the error."""
    return [
        {"file": name, "error": str(answer).removeprefix(f"{name}: ")}
        if isinstance(answer, ZooError)
        else {"file": name, **answer.as_dict()}
        for name, answer in zip(names, answers, strict=True)
    ]
