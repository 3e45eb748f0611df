"""Elastic stiffness against closed forms and a plain reference implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo.data.elasticity import from_voigt, moduli, smallest_eigenvalue, to_voigt

ORDER = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    """(1, 3, 3, 3, 3)."""
    matrix = np.diag([c11] * 3 + [c44] * 3).astype(float)
    matrix[:3, :3] += c12 * (1 - np.eye(3))
    return from_voigt(matrix)[None]


def stable(n: int, seed: int = 0) -> np.ndarray:
    """(n, 6, 6) positive definite Voigt matrices without any symmetry."""
    factor = np.random.default_rng(seed).normal(size=(n, 6, 6))
    return 100 * np.eye(6) + 20 * factor @ factor.swapaxes(1, 2)


def rotated(tensors: np.ndarray, seed: int = 0) -> np.ndarray:
    R = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return np.einsum("ia,jb,kc,ld,nabcd->nijkl", R, R, R, R, tensors, optimize=True)


def test_voigt_is_the_plain_index_map() -> None:
    matrix = np.arange(36.0).reshape(6, 6)
    tensor = from_voigt(matrix)
    for i, j, k, m in itertools.product(range(3), repeat=4):
        row, column = (ORDER.index(tuple(sorted(pair))) for pair in ((i, j), (k, m)))
        assert tensor[i, j, k, m] == matrix[row, column]
    assert (to_voigt(tensor) == matrix).all()
    many = stable(3)
    assert from_voigt(many).shape == (3, 3, 3, 3, 3)
    assert (to_voigt(from_voigt(many)) == many).all()


def test_an_isotropic_crystal_has_its_own_moduli() -> None:
    """C_ijkl = λ δ_ij δ_kl + μ (δ_ik δ_jl + δ_il δ_jk): K = λ + 2μ/3, G = μ."""
    lam, mu = 61.0, 27.0
    got = moduli(cubic(lam + 2 * mu, lam, mu))
    assert got["bulk_modulus"] == pytest.approx([lam + 2 * mu / 3], rel=1e-12)
    assert got["shear_modulus"] == pytest.approx([mu], rel=1e-12)


def test_a_cubic_crystal_in_closed_form() -> None:
    """Diamond; Hill (1952): K = (C11 + 2 C12)/3 by Voigt's average and by Reuss's, G by both as below."""
    c11, c12, c44 = 1079.0, 124.0, 578.0
    got = moduli(cubic(c11, c12, c44))
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    assert got["bulk_modulus"] == pytest.approx([(c11 + 2 * c12) / 3], rel=1e-12)
    assert got["shear_modulus"] == pytest.approx([(voigt + reuss) / 2], rel=1e-12)


def test_any_crystal_by_the_formulas_in_voigts_notation() -> None:
    matrices = stable(20)
    got = moduli(from_voigt(matrices))
    for c, bulk, shear in zip(matrices, got["bulk_modulus"], got["shear_modulus"], strict=True):
        s = np.linalg.inv(c)  # in Voigt's notation, factors 2 and 4 included
        diagonal, off = c[0, 0] + c[1, 1] + c[2, 2], c[0, 1] + c[1, 2] + c[0, 2]
        s_diagonal, s_off = s[0, 0] + s[1, 1] + s[2, 2], s[0, 1] + s[1, 2] + s[0, 2]
        k = ((diagonal + 2 * off) / 9, 1 / (s_diagonal + 2 * s_off))
        g = (
            (diagonal - off + 3 * (c[3, 3] + c[4, 4] + c[5, 5])) / 15,
            15 / (4 * s_diagonal - 4 * s_off + 3 * (s[3, 3] + s[4, 4] + s[5, 5])),
        )
        assert bulk == pytest.approx(np.mean(k), rel=1e-12)
        assert shear == pytest.approx(np.mean(g), rel=1e-12)
        assert g[0] > g[1] and k[0] > k[1]


def test_moduli_and_eigenvalues_do_not_depend_on_the_frame() -> None:
    tensors = from_voigt(stable(5))
    turned = rotated(tensors)
    assert np.abs(turned - tensors).max() > 1
    for name, values in moduli(tensors).items():
        np.testing.assert_allclose(moduli(turned)[name], values, rtol=1e-10)
    np.testing.assert_allclose(smallest_eigenvalue(turned), smallest_eigenvalue(tensors), rtol=1e-10)


def test_an_unstable_crystal_has_none() -> None:
    """Born's criteria of a cubic crystal: C11 > C12, C11 + 2 C12 > 0, C44 > 0, each broken in turn."""
    good = cubic(100, 50, 30)
    bad = [cubic(50, 60, 30), cubic(100, -60, 30), cubic(100, 50, -1)]
    tensors = np.concatenate([good, *bad, good])
    for values in moduli(tensors).values():
        assert np.isnan(values).tolist() == [False, True, True, True, False]
    assert (smallest_eigenvalue(tensors) > 0).tolist() == [True, False, False, False, True]
    assert all(len(values) == 0 for values in moduli(np.zeros((0, 3, 3, 3, 3))).values())
