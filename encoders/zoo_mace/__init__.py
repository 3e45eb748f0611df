"""MACE, pretrained universal potentials of many-body messages, as an encoder."""

from zoo_mace.encoder import MACE

__all__ = ["MACE"]
