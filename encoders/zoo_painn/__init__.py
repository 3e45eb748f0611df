"""PaiNN, a trainable encoder of scalars and vectors."""

from zoo_painn.encoder import PaiNN

__all__ = ["PaiNN"]
