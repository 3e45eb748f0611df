"""MACE, pretrained universal potentials of many-body messages, as a frozen encoder."""

from zoo_mace.encoder import MACE

__all__ = ["MACE"]
