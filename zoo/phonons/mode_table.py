"""Modes at Γ as rows of plain values: one a degenerate subspace, for tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.phonons.modes import GammaModes
from zoo.phonons.polar_modes import PolarModes
from zoo.phonons.units import TO_WAVENUMBER


def mode_rows(
    modes: GammaModes,
    labels: Sequence[str | None] | None = None,
    polar: PolarModes | None = None,
    before: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Tabulate the degenerate subspaces, softest first.

    Args:
        modes: optic modes at Γ.
        labels: irreducible representations, one a subspace (`zoo.phonons.irreps.irrep_labels`).
        polar: the same modes with their charges, where these are known.
        before: force constants that these modes are a correction of, (3N, 3N), eV/Å².

    Returns:
        Of each subspace `frequency`, THz, and `wavenumber`, cm⁻¹, both negative where it is `imaginary`; `irrep`, None
        where it is not known; `degeneracy`. With charges `ionic`, its part of ε0, 3×3, and `share`, that in the trace.
        With `before` also `uncorrected`, cm⁻¹: the wavenumber that those force constants give the same displacements.
    """
    rows: list[dict[str, Any]] = []
    for number, which in enumerate(modes.subspaces):
        rows.append(
            {
                "frequency": float(modes.frequencies[which].mean()),
                "wavenumber": float(modes.wavenumbers[which].mean()),
                "irrep": labels[number] if labels is not None else None,
                "degeneracy": which.stop - which.start,
                "imaginary": bool(modes.eigenvalues[which].mean() < 0),
            }
        )
    if polar is not None:
        for row, share, part in zip(rows, polar.shares.tolist(), polar.contributions.tolist(), strict=True):
            row |= {"share": share, "ionic": part}
    if before is not None:
        moved = modes.eigenvectors / np.sqrt(np.repeat(modes.masses, 3))[:, None]
        values = np.einsum("im,ij,jm->m", moved, before, moved)
        for row, which in zip(rows, modes.subspaces, strict=True):
            value = float(values[which].mean())
            row["uncorrected"] = float(TO_WAVENUMBER * np.sign(value) * abs(value) ** 0.5)
    return rows


def mode_lines(rows: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Write rows of `mode_rows` as text: the header and the cells; an imaginary frequency is negative and is marked.

    Irreducible representations have a column where one of them is known: phonopy, which tells them, may be missing.
    """
    charged = bool(rows) and "share" in rows[0]
    corrected = bool(rows) and "uncorrected" in rows[0]
    named = any(row["irrep"] for row in rows)
    header = (
        *("THz", "cm⁻¹"),
        *(("irrep",) if named else ()),
        "degeneracy",
        *(("share of ε0",) if charged else ()),
        *(("potential, cm⁻¹",) if corrected else ()),
        "",
    )
    lines = []
    for row in rows:
        cells = (f"{row['frequency']:.3f}", f"{row['wavenumber']:.1f}")
        irrep = (row["irrep"] or "–",) if named else ()
        share = (f"{100 * row['share'] + 0.0:.1f} %",) if charged else ()
        before = (f"{row['uncorrected']:.1f}",) if corrected else ()
        lines.append((*cells, *irrep, str(row["degeneracy"]), *share, *before, "imaginary" if row["imaginary"] else ""))
    return header, lines
