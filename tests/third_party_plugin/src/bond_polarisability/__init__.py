"""Dielectric tensors as sums of bond polarisabilities: an encoder, a readout and a dataset for the zoo."""

from bond_polarisability.dataset import InducedDipoles, InducedDipolesHypers
from bond_polarisability.encoder import Moments, MomentsHypers
from bond_polarisability.readout import BondPolarisability, BondPolarisabilityHypers

__all__ = [
    "BondPolarisability",
    "BondPolarisabilityHypers",
    "InducedDipoles",
    "InducedDipolesHypers",
    "Moments",
    "MomentsHypers",
]
