"""View of a scene: camera and scale of a plotly figure in 3D."""

from __future__ import annotations

from typing import Any

import numpy as np

EYE = np.array([1.15, -1.45, 0.55])  # direction to the viewer at first; z is up
FILLED = 1.95  # plotly's units across the picture; a little more than so many can be seen


def view(points: np.ndarray, centre: np.ndarray) -> dict[str, Any]:
    """Layout of a scene, without axes, that shows all of `points` (n, 3) at first and turns about `centre` (3,), in Å.

    The ranges of the axes are fixed, so that nothing moves when a part is switched off.
    """
    from_centre = points[~np.isnan(points).any(axis=1)] - centre
    radius = 1.02 * float(np.linalg.norm(from_centre, axis=1).max())
    ahead = EYE / np.linalg.norm(EYE)
    right = np.cross([0, 0, 1], ahead)
    right /= np.linalg.norm(right)
    across = max(float(np.abs(from_centre @ right).max()), float(np.abs(from_centre @ np.cross(ahead, right)).max()))
    edge = FILLED * radius / across
    axes = {
        f"{name}axis": {"visible": False, "range": [float(middle) - radius, float(middle) + radius]}
        for name, middle in zip("xyz", centre, strict=True)
    }
    return {
        **axes,
        "aspectmode": "manual",
        "aspectratio": dict.fromkeys("xyz", edge),
        "dragmode": "orbit",
        "camera": {
            "projection": {"type": "orthographic"},
            "eye": dict(zip("xyz", EYE.tolist(), strict=True)),
            "center": dict.fromkeys("xyz", 0),
        },
    }
