"""M3GNet, a trainable invariant encoder with three-body interactions."""

from zoo_m3gnet.encoder import M3GNet

__all__ = ["M3GNet"]
