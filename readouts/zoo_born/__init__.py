"""Readout of the ionic dielectric tensor from Born charges and the force constants of a potential."""

from zoo_born.readout import Born

__all__ = ["Born"]
