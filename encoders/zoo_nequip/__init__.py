"""NequIP, a trainable E(3)-equivariant encoder of irreps."""

from zoo_nequip.encoder import NequIP

__all__ = ["NequIP"]
