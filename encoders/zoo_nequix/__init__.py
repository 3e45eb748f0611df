"""Nequix, a pretrained universal potential, as an O(3)-equivariant encoder."""

from zoo_nequix.encoder import Nequix

__all__ = ["Nequix"]
