"""TensorNet as matgl trains it, a pretrained potential of Cartesian tensors, as an encoder."""

from zoo_tensornet.encoder import TensorNet

__all__ = ["TensorNet"]
