"""Readouts `dtnet`, `dtnet-simple` and `dtnet-exp`: the equivariant decoder of DTNet.

Mao, Li, Tan, npj Comput. Mater. 10, 265 (2024), doi 10.1038/s41524-024-01450-z, eqs. (13)-(27).
"""

from zoo_dtnet.dtnet import DTNet, DTNetExp, DTNetHypers, DTNetSimple

__all__ = ["DTNet", "DTNetExp", "DTNetHypers", "DTNetSimple"]
