"""The crystal that the oracle `vasp` is asked for, and the potentials that it finds or does not find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pymatgen.core
import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture
def no_potentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No potentials are found, whatever this machine's pymatgen is configured to."""
    monkeypatch.delitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", raising=False)


@pytest.fixture
def oxide() -> Structure:
    """Sr and V between oxygens, in a skew cell of no standard setting, oxygens first and last."""
    cell = np.array([[3.9, 0.1, 0.0], [0.05, 3.8, 0.2], [-0.1, 0.3, 4.1]])
    sites = [[0.5, 0, 0.5], [0.01, 0, 0], [0.5, 0.52, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0]]
    return Structure(Lattice(cell), ["O", "Sr", "V", "O", "O"], sites)


@pytest.fixture
def potentials(no_potentials: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pymatgen's of VASP's potentials; what is in it is none."""
    root = tmp_path / "potentials"
    for symbol in ("Sr_sv", "V_pv", "O"):
        place = root / "POT_GGA_PAW_PBE" / symbol / "POTCAR"
        place.parent.mkdir(parents=True)
        title = f"PAW_PBE {symbol} 01Jan2000"
        place.write_text(
            f" {title}\n 1.0\n parameters from PSCTR are:\n   VRHFIN ={symbol.split('_')[0]}: s\n   LEXCH  = PE\n"
            "   ENMAX  =  200.000; ENMIN  =  150.000 eV\n"
            f"   TITEL  = {title}\n END of PSCTR-controll parameters\n local part\n  1.0 2.0 3.0\n End of Dataset\n"
        )
    monkeypatch.setitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", str(root))
    return root
