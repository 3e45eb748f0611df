"""Readout `matten`: a crystal or atomic tensor of any index symmetry, through its irreducible parts.

Wen, Horton, Munro, Huck, Persson, Digital Discovery 3, 869 (2024), doi 10.1039/D3DD00233K.
"""

from zoo_matten.matten import MatTen, MatTenHypers

__all__ = ["MatTen", "MatTenHypers"]
