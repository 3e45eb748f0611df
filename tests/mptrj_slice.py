"""A made-up frame in the form of MPtrj."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import springs


def mptrj_frame(pressure: float = 0.0, **changes: Any) -> dict[str, Any]:
    """One of MPtrj's frames with the fields that these have; the pressure is in kbar, positive as VASP prints it."""
    random = np.random.default_rng(0)
    structure = springs.quartz()
    structure.add_site_property("magmom", [0.0] * 9)
    content = {
        "structure": json.loads(structure.to_json()),
        "uncorrected_total_energy": -71.5,
        "corrected_total_energy": -75.6,
        "energy_per_atom": -8.4,
        "ef_per_atom": -3.1,
        "e_per_atom_relaxed": -8.41,
        "ef_per_atom_relaxed": -3.11,
        "force": random.normal(size=(9, 3)).tolist(),
        "stress": (pressure * np.eye(3)).tolist(),
        "magmom": [0.0] * 9,
        "bandgap": 5.7,
        "mp_id": "mp-7000",
    }
    return content | changes
