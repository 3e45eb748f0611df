"""The readout `born`."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Hypers,
    LatticeResponse,
    LevelOfTheory,
    Needs,
    Provides,
    Readout,
    TensorTarget,
    only_symmetric_rank_2,
    references,
)
from zoo_born.charges import Charges
from zoo_born.response import corrected_force_constants, exact, ionic_tensor
from zoo_born.soft_modes import RULES

Count = Annotated[int, Field(ge=1, le=4096)]


class BornHypers(Hypers):
    """Hyperparameters of `Born`."""

    width: Count = 128
    """Hidden channels of the perceptron on an atom's invariant features."""

    hidden_layers: Count = 2
    """Hidden layers of that perceptron."""

    channels: Count = 16
    """Channels of vectors and tensors that charges are made of."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of hidden channels dropped in training."""

    features: bool = True
    """Read the features of the atoms; false: one charge an element, one scale and one floor in all."""

    anisotropic: bool = True
    """Charges have a symmetric traceless part (2e)."""

    antisymmetric: bool = True
    """Charges have an antisymmetric part (1e)."""

    soft_modes: Literal["floor", "softplus", "expectation"] = "floor"
    """Rule that makes the eigenvalues of the potential's force constants positive (zoo_born.soft_modes)."""

    softest: PositiveFloat = 0.05
    """Stiffness in eV/Å² at which that rule begins before training."""

    scale: Literal["none", "one", "site"] = "site"
    """Learned factor of the force constants: none, one for all crystals, or one for each atom."""

    stiffness: Literal["none", "site"] = "site"
    """Learned stiffness that is added to the force constants: none, or on the site of each atom."""

    stiffness_start: PositiveFloat = 2.0
    """Added stiffness before training, eV/Å²."""

    level_of_theory: bool = False
    """Read the level of theory, for several sources: charges and the scale of force constants depend on it."""


class Born(Readout):
    """The ionic tensor from learned Born charges and the force constants of a potential.

    ε0 = (4π e²/(4πε0)/V) Z* Φ'⁻¹ Z*ᵀ at fixed cell (Gonze and Lee, Phys. Rev. B 55, 10355 (1997), eq. (54)). Charges
    come from the features of each atom; Φ' is the force-constant matrix at Γ, of which the eigenvalues are kept from
    zero, scaled and stiffened by what is read from the features, for potentials are too soft here and too stiff there
    (Deng et al., npj Comput. Mater. 11, 9 (2025)). ε0 is positive semi-definite, zero for one atom, and a
    supercell's is that of its primitive cell.
    """

    Hypers = BornHypers
    citation = references("gonze1997dynamical")
    needs: ClassVar[Needs] = Needs(atoms=("0e", "2e"), force_constants=True)
    normalise = False
    also_makes = ("born",)
    explains = True

    hypers: BornHypers

    def __init__(self, hypers: BornHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        scalars = provides.atoms.count("0e")
        layers: list[nn.Module] = [nn.LayerNorm(scalars)]
        size = scalars
        for _ in range(hypers.hidden_layers):
            layers += [nn.Linear(size, hypers.width), nn.SiLU(), nn.Dropout(hypers.dropout)]
            size = hypers.width
        read = hypers.features
        self.trunk = nn.Sequential(*layers) if read else None
        self.charges = Charges(
            provides.atoms,
            size if read else 1,
            hypers.channels,
            hypers.anisotropic and read,
            hypers.antisymmetric and read,
        )
        self.soft_modes = RULES[hypers.soft_modes](hypers.softest)
        self.log_scale = nn.Parameter(torch.zeros(())) if hypers.scale != "none" else None
        self.site_scale = nn.Linear(size, 1) if hypers.scale == "site" and read else None
        self.site_stiffness = nn.Linear(size, 1) if hypers.stiffness == "site" and read else None
        for linear in (self.site_scale, self.site_stiffness):
            if linear is not None:
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)
        if self.site_stiffness is not None:
            nn.init.constant_(self.site_stiffness.bias, math.log(math.expm1(hypers.stiffness_start)))
        told = hypers.level_of_theory
        # A shift would be the same for all atoms, and goes with the mean over the cell.
        self.level_of_charges = LevelOfTheory(size if read else 1, shift=False) if told else None
        self.level_of_scale = LevelOfTheory(1) if told and hypers.scale != "none" else None
        if not read:  # zeros stand for the features, of which nothing can be learned
            for unused in (self.charges.scalar, self.level_of_charges):
                if unused is not None:
                    unused.requires_grad_(False)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        return only_symmetric_rank_2(target)

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        return self.with_labels(embedding, batch)[0]

    def with_labels(self, embedding: Embedding, batch: CrystalBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, 3), and the Born charges of the atoms, (N, 3, 3), that it is made of."""
        charges, scale, stiffness = self.learned(embedding, batch)
        return ionic_tensor(charges, batch, self.soft_modes, scale, stiffness), {"born": charges}

    def explain(self, embedding: Embedding, batch: CrystalBatch) -> LatticeResponse:
        """Z* and Φ' of which `forward` makes the tensor, with its formula, float64."""
        learned, scale, stiffness = self.learned(embedding, batch)
        charges = exact(learned)
        place = batch.to(charges.device)
        charges = charges - place.mean_over_atoms(charges)[place.crystal]  # zero was that of float32
        return LatticeResponse(charges, corrected_force_constants(batch, self.soft_modes, scale, stiffness))

    def learned(self, embedding: Embedding, batch: CrystalBatch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Read from the features the charges (N, 3, 3), ln D (N,) and K (N, 3, 3), as `ionic_tensor` takes them."""
        hidden = self.hidden(embedding)
        scale = stiffness = None
        if self.log_scale is not None:
            scale = self.log_scale.expand(batch.n_atoms)
            if self.site_scale is not None:
                scale = scale + self.site_scale(hidden).squeeze(1)
            if self.level_of_scale is not None:
                scale = self.level_of_scale(scale.unsqueeze(1), batch).squeeze(1)
        if self.site_stiffness is not None:
            identity = torch.eye(3, dtype=hidden.dtype, device=hidden.device)
            stiffness = nn.functional.softplus(self.site_stiffness(hidden)).unsqueeze(-1) * identity
        given = batch.force_constants
        if given is not None and given.exact is not None:
            potential = ~given.exact[batch.crystal]
            scale = None if scale is None else scale * potential
            stiffness = None if stiffness is None else stiffness * potential[:, None, None]
        if self.level_of_charges is not None:
            hidden = self.level_of_charges(hidden, batch)
        return self.charges(hidden, embedding.atoms, batch), scale, stiffness

    def hidden(self, embedding: Embedding) -> Tensor:
        """(N, width) invariants of each atom that everything is read from; zeros where no features are read."""
        scalars = embedding.atoms.scalars()
        return scalars.new_zeros(len(scalars), 1) if self.trunk is None else self.trunk(scalars)
