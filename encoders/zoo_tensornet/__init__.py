"""TensorNet as matgl trains it, a pretrained potential of Cartesian tensors, as a frozen encoder."""

from zoo_tensornet.encoder import TensorNet

__all__ = ["TensorNet"]
