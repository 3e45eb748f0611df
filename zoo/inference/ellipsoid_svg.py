"""Draw symmetric tensors as ellipsoids, in SVG of some kilobytes.

The surface is r = T n over all unit vectors n, as on the page of `zoo ui`. Seen from afar it is an ellipse exactly: the
image of the unit sphere under the two rows of T that lie in the plane of the picture.
"""

from __future__ import annotations

import numpy as np

SIZE = 150
VIEW = np.array([[-0.5, 0.866, 0.0], [-0.296, -0.171, 0.94]])
"""Unit vectors to the right and up in the picture, (2, 3): z points up, x to the front left, y to the right."""

_COLOURS = ("#c0392b", "#1e8449", "#2471a3")
_STEPS = 48


def ellipsoid(tensor: np.ndarray, largest: float) -> str:
    """Draw a symmetric tensor, (3, 3), with its principal axes, and x, y and z beside it.

    Args:
        tensor: of an eigenvalue that is not positive the absolute value is drawn.
        largest: eigenvalue whose semi-axis is as long as there is room for; equal for tensors to compare.
    """
    values, columns = np.linalg.eigh(0.5 * (tensor + tensor.T))
    room = 0.42 * SIZE / max(largest, 1e-12)
    lengths = np.maximum(np.abs(values) * room, 0.4)
    axes = columns * lengths  # its columns are the semi-axes, in pixels
    toward = np.cross(VIEW[0], VIEW[1])
    shape = VIEW @ axes
    pieces = [_outline(shape)]
    turns = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        section = np.outer(axes[:, i], np.cos(turns)) + np.outer(axes[:, j], np.sin(turns))
        # Normals of the surface: those that point towards the eye are in front.
        normals = np.outer(columns[:, i] / lengths[i], np.cos(turns)) + np.outer(
            columns[:, j] / lengths[j], np.sin(turns)
        )
        pieces += _section(VIEW @ section, toward @ normals > 0)
    for axis, colour in zip(axes.T, _COLOURS, strict=True):
        x, y = _at(VIEW @ axis)
        u, v = _at(-VIEW @ axis)
        pieces.append(f'<line x1="{u}" y1="{v}" x2="{x}" y2="{y}" stroke="{colour}" stroke-width="1.6"/>')
    pieces += _triad()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}" '
        f'role="img" aria-label="ellipsoid of the tensor">{"".join(pieces)}</svg>'
    )


def _outline(shape: np.ndarray) -> str:
    """The ellipse that the unit sphere becomes under a (2, 3) map."""
    directions, radii, _ = np.linalg.svd(shape)
    turn = np.degrees(np.arctan2(-directions[1, 0], directions[0, 0]))
    centre = SIZE / 2
    return (
        f'<ellipse cx="{centre}" cy="{centre}" rx="{radii[0]:.1f}" ry="{radii[1]:.1f}" '
        f'transform="rotate({turn:.1f} {centre} {centre})" fill="#5b9bd5" fill-opacity="0.3" stroke="#5b9bd5"/>'
    )


def _section(points: np.ndarray, front: np.ndarray) -> list[str]:
    """The curve through (2, n) points, where it is in front as a line and else faint."""
    pieces = []
    for side, opacity in ((True, 0.9), (False, 0.25)):
        moves = []
        for k in range(len(front)):
            if front[k] == side:
                (x, y), (u, v) = _at(points[:, k]), _at(points[:, (k + 1) % len(front)])
                moves.append(f"M{x} {y}L{u} {v}")
        pieces.append(f'<path d="{"".join(moves)}" fill="none" stroke="#5b9bd5" stroke-opacity="{opacity}"/>')
    return pieces


def _triad() -> list[str]:
    """The Cartesian axes, small in the corner."""
    corner = np.array([-0.4, -0.4]) * SIZE
    pieces = []
    for name, axis in zip("xyz", VIEW.T, strict=True):
        (x, y), (u, v), (a, b) = _at(corner), _at(corner + 15 * axis), _at(corner + 22 * axis)
        pieces.append(f'<line x1="{x}" y1="{y}" x2="{u}" y2="{v}" stroke="currentColor"/>')
        pieces.append(
            f'<text x="{a}" y="{b}" font-size="9" text-anchor="middle" dominant-baseline="middle" '
            f'fill="currentColor">{name}</text>'
        )
    return pieces


def _at(point: np.ndarray) -> tuple[str, str]:
    """Coordinates of the picture, in which y points down."""
    return f"{SIZE / 2 + point[0]:.1f}", f"{SIZE / 2 - point[1]:.1f}"
