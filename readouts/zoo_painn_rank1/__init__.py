"""Readouts `painn-rank1` and `painn-rank1-paper`: tensors out of scalars and vectors, as PaiNN makes polarisabilities.

Mao, Li, Tan, npj Comput. Mater. 10, 265 (2024), doi 10.1038/s41524-024-01450-z, eq. (7), after Schütt, Unke,
Gastegger, ICML 2021 (arXiv 2102.03150).
"""

from zoo_painn_rank1.readout import PaiNNRank1, PaiNNRank1Paper

__all__ = ["PaiNNRank1", "PaiNNRank1Paper"]
