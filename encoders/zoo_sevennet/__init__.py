"""SevenNet, a pretrained universal potential, as an encoder with O(3)-exact features; and the same from scratch."""

from zoo_sevennet.encoder import SevenNet
from zoo_sevennet.scratch import SevenNetScratch

__all__ = ["SevenNet", "SevenNetScratch"]
