"""SevenNet-0, a pretrained universal potential, as a frozen encoder with O(3)-exact features."""

from zoo_sevennet.encoder import SevenNet

__all__ = ["SevenNet"]
