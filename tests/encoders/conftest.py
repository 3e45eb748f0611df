from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from e3nn import o3

from zoo.testing.pair import default_dtype


@pytest.fixture(scope="session")
def rotate_block() -> Callable[[torch.Tensor, o3.Irrep, torch.Tensor], torch.Tensor]:
    """(n, C, 2l+1) features of an irrep and a matrix of O(3) -> those of the rotated crystal, float64."""

    def rotate(block: torch.Tensor, irrep: o3.Irrep, matrix: torch.Tensor) -> torch.Tensor:
        with default_dtype(torch.float64):  # else e3nn's Wigner D is exact to 1e-7 alone
            return block.double() @ irrep.D_from_matrix(matrix).T

    return rotate
