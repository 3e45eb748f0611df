"""M3GNet's functions of the distance, all made from trigonometric functions.

In units of half the cutoff, so that the bases, orthonormal over the sphere of the cutoff, are of order one.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


def smooth_basis(distance: Tensor, cutoff: float, count: int) -> Tensor:
    """h_m(r), m = 0 .. count-1: (E,) Å -> (E, count); zero, with two derivatives, at the cutoff and beyond.

    Kocer, Mason, Erturk, J. Chem. Phys. 150, 154102 (2019), which M3GNet takes for its bonds: sums f_m
    of two neighbouring functions sin(kπ r/r_c) / r whose slopes at the cutoff cancel, made orthonormal.
    """
    x = distance / (cutoff / 2)
    sinc = [torch.sin(k * math.pi / 2 * x) / (k * math.pi / 2 * x) for k in range(1, count + 2)]
    made: list[Tensor] = []
    d = 1.0
    for m in range(count):
        a, b = m + 1, m + 2
        size = (-1) ** m * math.pi * 2**0.5 / 2**1.5 * a * b / math.hypot(a, b)
        f = size * (sinc[m] + sinc[m + 1])
        if m > 0:
            e = m**2 * b**2 / (4 * a**4 + 1)
            ratio, d = e / d, 1 - e / d
            f = (f + ratio**0.5 * made[-1]) / d**0.5
        made.append(f)
    values = torch.stack(made, dim=-1)
    return torch.where((distance < cutoff).unsqueeze(-1), values, torch.zeros_like(values))


def cutoff_function(distance: Tensor, cutoff: float) -> Tensor:
    """f_c(r) = 1 - 6 x^5 + 15 x^4 - 10 x^3 with x = r/r_c, zero beyond: M3GNet's cutoff function; shape unchanged."""
    x = distance / cutoff
    return torch.where(x < 1, 1 - x**3 * (10 - 15 * x + 6 * x**2), torch.zeros_like(x))


def spherical_bessel(x: Tensor, degree: int) -> Tensor:
    """j_l(x), x > 0, by recursion upwards; shape unchanged. In float32 good to 1e-5 for l up to 5 where x > l / 2."""
    before, now = torch.cos(x) / x, torch.sin(x) / x
    for step in range(degree):
        before, now = now, (2 * step + 1) / x * now - before
    return now


@functools.lru_cache(maxsize=16)
def bessel_roots(degrees: int, count: int) -> tuple[tuple[float, ...], ...]:
    """The first `count` positive roots of j_l, for l = 0 .. degrees-1, to 1e-14.

    Those of j_0 are kπ, and between two of j_l lies one of j_(l+1): found there by bisection.
    """
    roots = math.pi * torch.arange(1, count + degrees, dtype=torch.float64)
    found = [tuple(roots[:count].tolist())]
    for degree in range(1, degrees):
        low, high = roots[:-1], roots[1:]
        sign = spherical_bessel(low, degree).sign()
        for _ in range(60):
            middle = (low + high) / 2
            left = spherical_bessel(middle, degree).sign() == sign
            low, high = torch.where(left, middle, low), torch.where(left, high, middle)
        roots = (low + high) / 2
        found.append(tuple(roots[:count].tolist()))
    return tuple(found)


def bessel_functions(distance: Tensor, cutoff: float, degrees: int, count: int) -> Tensor:
    """j_l(z_ln r/r_c), z_ln the n-th root of j_l: (E,) Å -> (E, degrees, count); orthonormal in n over the sphere."""
    x = (distance / cutoff).unsqueeze(-1)
    values = []
    for degree, roots in enumerate(bessel_roots(degrees, count)):
        z = torch.tensor(roots, dtype=torch.float64)
        norm = 0.5 / spherical_bessel(z, degree + 1).abs()
        values.append(spherical_bessel(x * z.to(x), degree) * norm.to(x))
    return torch.stack(values, dim=1)
