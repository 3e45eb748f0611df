"""Quartz explained by the charges and force constants of DFT: its tensor, the modes that are measured, its spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.inference.explanation import explanation_of

pytestmark = pytest.mark.shared


def test_quartz_by_dft(phonondb) -> None:
    """DFT's own charges and force constants of mp-7000 make DFT's tensor and spectrum; of two cells as of one."""
    crystal = phonondb["mp-7000"]
    why = explanation_of(crystal.structure, crystal.born, crystal.force_constants, crystal.ionic, crystal.electronic)
    assert why.deviation < 1e-4 * np.linalg.norm(crystal.ionic)
    # TO modes of A2 and E (cm⁻¹) that are measured: Gervais and Piriou, Phys. Rev. B 11, 3944 (1975), within 5 %.
    polar = {label: [row for row in why.modes if row["irrep"] == label] for label in ("A2", "E")}
    assert [row["wavenumber"] for row in polar["A2"]] == pytest.approx([364, 496, 778, 1080], rel=0.12)
    strong = max(polar["E"], key=lambda row: row["share"])
    assert strong["wavenumber"] == pytest.approx(450, rel=0.07)
    direction = np.array([0, 0, 1])
    assert why.longitudinal(direction).modes.wavenumbers.max() == pytest.approx(1230, rel=0.05)
