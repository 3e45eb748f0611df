"""Irreps of the features between the layers: no more than can be made, and no more than is of use."""

from __future__ import annotations

from collections.abc import Iterable

from e3nn import o3


def natural(l_max: int) -> list[o3.Irrep]:
    """0e, 1o, 2e, ...: the irreps of spherical harmonics, true tensors made of vectors."""
    return [o3.Irrep(degree, (-1) ** degree) for degree in range(l_max + 1)]


def pseudo(l_max: int) -> list[o3.Irrep]:
    """0o, 1e, 2o, ...: pseudotensors."""
    return [o3.Irrep(degree, -((-1) ** degree)) for degree in range(l_max + 1)]


def after_each_layer(layers: int, l_max: int, parity: bool) -> list[list[o3.Irrep]]:
    """The irreps of the features after layers 1 .. n, ascending in degree, true tensors first.

    Pseudotensors appear inside alone, since the last layer gives true tensors, and only where a later layer can make
    true tensors of them again: the first has none yet, and the last but one need make no 0o.
    """
    filters = natural(l_max)
    allowed = filters + (pseudo(l_max) if parity else [])
    reached: list[set[o3.Irrep]] = [{o3.Irrep("0e")}]
    for _ in range(layers):
        reached.append(_products(reached[-1], filters) & set(allowed))
    useful = [set(filters)]
    for have in reversed(reached[1:-1]):
        useful.append({irrep for irrep in have if _products([irrep], filters) & useful[-1]})
    order = sorted(allowed, key=lambda irrep: (irrep.l, irrep not in filters))
    return [[irrep for irrep in order if irrep in irreps] for irreps in reversed(useful)]


def _products(left: Iterable[o3.Irrep], right: Iterable[o3.Irrep]) -> set[o3.Irrep]:
    right = list(right)
    return {product for a in left for b in right for product in a * b}
