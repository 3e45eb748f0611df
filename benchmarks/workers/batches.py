"""Batches that inputs.py wrote, for any side: nothing of the zoo is needed to read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_batches(folder: str) -> list[dict[str, Tensor]]:
    """Tensors named as the fields of the zoo's `CrystalBatch`: positions, numbers, cell, crystal, src, dst, shift."""
    paths = sorted(Path(folder).glob("*.npz"))
    return [{name: torch.from_numpy(value) for name, value in np.load(path).items()} for path in paths]
