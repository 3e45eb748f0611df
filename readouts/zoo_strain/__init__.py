"""A tensor as the derivative of an invariant with respect to strain."""

from zoo_strain.strain import Strain, StrainHypers

__all__ = ["Strain", "StrainHypers"]
