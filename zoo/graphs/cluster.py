"""Neighbours by torch-cluster, on the GPU where there is one: explicit images of many crystals in one search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.graphs.atoms import Atoms, Pairs
from zoo.graphs.images import extent, periodic_images

FIRST_LIMIT = 256  # neighbours of an atom that are asked for at first


def load() -> Callable[[Atoms, float], Pairs]:
    """The search.

    Raises:
        ZooError: the package is not installed, or was compiled for another torch.
    """
    try:
        import torch_cluster  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else "does not fit this torch"
        raise ZooError(
            f"torch-cluster {reason}: with torch in place, "
            'pip install --no-build-isolation "crystal-tensor-zoo[cluster]" compiles it (docs/neighbours.md)'
        ) from error
    return search


def search(atoms: Atoms, reach: float) -> Pairs:
    """In float64, among the images of `zoo.graphs.images` less those that lie outside the box of all neighbours."""
    from torch_cluster import radius

    on_gpu = torch.cuda.is_available() and torch.ops.torch_cluster.cuda_version() > 0
    device = torch.device("cuda" if on_gpu else "cpu")

    def sent(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    around = periodic_images(atoms, reach)
    positions, n, t = sent(atoms.positions), sent(atoms.counts), sent(np.diff(around.first))
    owner = torch.repeat_interleave(n)  # (N,) the crystal of each atom
    crystal = torch.repeat_interleave(n * t)  # (n t, summed) that of each image of an atom
    number = torch.arange(len(crystal), device=device) - (torch.cumsum(n * t, 0) - n * t)[crystal]
    image = sent(around.first)[crystal] + number // n[crystal]
    atom = sent(atoms.first)[crystal] + number % n[crystal]
    points = positions[atom] + sent(around.vector)[image]
    low, size = (sent(values) for values in extent(atoms.positions, atoms.first))
    above = points - low[crystal]
    near = ((above > -reach) & (above < size[crystal] + reach)).all(dim=1)
    points, crystal, image, atom = points[near], crystal[near], image[near], atom[near]

    limit = FIRST_LIMIT
    while True:  # radius drops what is beyond its limit without a word
        dst, found = radius(points, positions, reach, crystal, owner, max_num_neighbors=limit, batch_size=len(n))
        if not len(dst) or torch.bincount(dst).max() < limit:
            break
        limit *= 2
    squared = (points[found] - positions[dst]).square().sum(dim=1)
    shift = around.shift.take(image[found].cpu().numpy(), axis=0)
    return Pairs.in_order(atom[found].cpu().numpy(), dst.cpu().numpy(), shift, squared.cpu().numpy())
