"""Readout of the electronic dielectric tensor as one plus a positive definite susceptibility."""

from zoo_susceptibility.readout import Susceptibility

__all__ = ["Susceptibility"]
