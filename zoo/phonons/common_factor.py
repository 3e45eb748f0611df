"""The factor of charges and force constants that no dielectric tensor tells."""

from __future__ import annotations

import numpy as np


def common_factor(force_constants: np.ndarray, reference: np.ndarray) -> float:
    """Return c > 0 that makes force constants Φ, as c²Φ, as stiff as others: ⟨Φ_ref, c²Φ⟩ = ⟨Φ_ref, Φ_ref⟩.

    ε0 does not change where Z* becomes cZ* and Φ becomes c²Φ. Of a model that has learned from dielectric tensors
    alone, c is anything, and its frequencies and charges mean something only once it is chosen.

    Args:
        force_constants: Φ, (3N, 3N), eV/Å².
        reference: Φ_ref, (3N, 3N), eV/Å².

    Returns:
        1 where the two have nothing in common, as those of one atom.
    """
    own, known = float((reference * force_constants).sum()), float((reference**2).sum())
    return (known / own) ** 0.5 if own > 0 and known > 0 else 1.0
