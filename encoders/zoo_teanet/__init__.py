"""TeaNet, a trainable encoder of Cartesian atom and bond features."""

from zoo_teanet.encoder import TeaNet, TeaNetHypers

__all__ = ["TeaNet", "TeaNetHypers"]
