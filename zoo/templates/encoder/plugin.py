"""Atoms that know their number and the directions and distances to their neighbours."""

from __future__ import annotations

from typing import Annotated

import torch
from e3nn import o3
from pydantic import Field
from torch import nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Encoder,
    Features,
    Hypers,
    Provides,
    bessel_basis,
    bond_features,
    polynomial_envelope,
)


class MyPluginHypers(Hypers):
    """Keys that a recipe may give beside the name; anything else is refused with the nearest key."""

    cutoff: Annotated[float, Field(gt=0)] = 5.0
    """Å; the graph holds all edges up to it."""

    radial: Annotated[int, Field(ge=1)] = 8
    """Channels of each degree."""


class MyPlugin(Encoder):
    """Sum over neighbours of radial basis × spherical harmonics, up to l = 2."""

    Hypers = MyPluginHypers
    citation = ""  # BibTeX of its paper, once there is one: zoo cite prints it
    hypers: MyPluginHypers

    def __init__(self, hypers: MyPluginHypers) -> None:
        super().__init__(hypers)
        self.cutoff = hypers.cutoff
        self.element = nn.Embedding(119, hypers.radial)  # by atomic number

    @classmethod
    def provides(cls, hypers: MyPluginHypers) -> Provides:
        """Irreps of what `forward` gives, known without any weight."""
        n = hypers.radial
        return Provides(atoms=o3.Irreps(f"{n}x0e+{n}x1o+{n}x2e"), bonds=o3.Irreps(f"{n}x0e+{n}x1o"))

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the N atoms and E edges."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        # The envelope takes an edge to zero at the cutoff; without it the tensor jumps there.
        radial = bessel_basis(distance, self.cutoff, self.hypers.radial)
        radial = radial * polynomial_envelope(distance, self.cutoff).unsqueeze(-1)
        weight = radial * self.element(batch.numbers)[batch.src]
        harmonics = [o3.spherical_harmonics([degree], vectors, normalize=True) for degree in (0, 1, 2)]
        messages = [(weight.unsqueeze(-1) * y.unsqueeze(1)).flatten(1) for y in harmonics]
        atoms = batch.sum_to_atoms(torch.cat(messages, dim=1))
        return Embedding(Features(self.provides(self.hypers).atoms, atoms), bond_features(radial, vectors))
