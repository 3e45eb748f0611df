"""Level of theory that a label comes from, as an input of readouts."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.contract.batch import CrystalBatch

LEVELS = ("PBE", "PBE+U", "PBEsol", "unknown")
"""Levels of theory, each by its number in `CrystalBatch.level`; of any other functional the level is unknown."""


def level_of(functional: str) -> int:
    """Return the number of the level of theory that a record names."""
    return LEVELS.index(functional if functional in LEVELS else "unknown")


class LevelOfTheory(nn.Module):
    """Learned scales and shifts of hidden channels, a pair for each level of theory.

    They begin at one and zero, and those of PBE stay there: the other levels are told apart from it.

    Args:
        width: number of channels.
        shift: shift them, too; else they are scaled alone.
    """

    def __init__(self, width: int, shift: bool = True) -> None:
        super().__init__()
        self.scale = nn.Embedding(len(LEVELS), width, padding_idx=0)
        self.shift = nn.Embedding(len(LEVELS), width, padding_idx=0) if shift else None
        for embedding in (self.scale, self.shift):
            if embedding is not None:
                nn.init.zeros_(embedding.weight)

    def forward(self, hidden: Tensor, batch: CrystalBatch) -> Tensor:
        """(N, width) -> (N, width), by the level of each atom's crystal; without levels, PBE's, as it is."""
        if batch.level is None:
            return hidden
        level = batch.level[batch.crystal]
        out = hidden * (1 + self.scale(level))
        return out if self.shift is None else out + self.shift(level)
