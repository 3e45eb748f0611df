"""Triangulated shapes for plotly's Mesh3d. Numpy, Å."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull


@dataclass(frozen=True)
class Shape:
    """Triangles.

    Attributes:
        points: (n, 3) corners.
        faces: (m, 3) indices of three corners, counter-clockwise seen from outside.
    """

    points: np.ndarray
    faces: np.ndarray


@lru_cache(maxsize=8)
def sphere(count: int) -> Shape:
    """The unit sphere with `count` corners, spread evenly (Fibonacci's spiral)."""
    step = np.arange(count)
    z = 1 - (2 * step + 1) / count
    turn = np.pi * (1 + np.sqrt(5)) * step
    across = np.sqrt(1 - z**2)
    points = np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
    faces = ConvexHull(points).simplices
    a, b, c = points[faces].swapaxes(0, 1)
    inward = np.einsum("mi,mi->m", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    return Shape(points, faces)


def rod(start: np.ndarray, end: np.ndarray, radius: float, sides: int = 10) -> Shape:
    """A cylinder without lids between two points (3,)."""
    along = (end - start) / np.linalg.norm(end - start)
    first = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    first /= np.linalg.norm(first)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    ring = radius * (np.cos(angle) * first + np.sin(angle) * np.cross(along, first))
    k = np.arange(sides)
    after = (k + 1) % sides
    faces = np.concatenate([np.stack([k, after, after + sides], 1), np.stack([k, after + sides, k + sides], 1)])
    return Shape(np.concatenate([start + ring, end + ring]), faces)


def joined(shapes: Sequence[Shape]) -> Shape:
    """Several as one."""
    starts = np.cumsum([0, *(len(shape.points) for shape in shapes[:-1])])
    return Shape(
        np.concatenate([shape.points for shape in shapes]),
        np.concatenate([shape.faces + start for shape, start in zip(shapes, starts, strict=True)]),
    )
