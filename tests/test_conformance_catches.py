"""The conformance suite must catch what it is there for: each cheat fails the check that is meant for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from e3nn import o3
from torch import Tensor, nn

from zoo import api, testing
from zoo.api import CrystalBatch, Embedding, Features
from zoo.testing import ConformanceTests, IonicTests, Pair
from zoo_dtnet import DTNet, DTNetSimple


class Toy(api.Encoder):
    """Sums over neighbours of radial function × element × (1, r, r⊗r): the smallest honest encoder."""

    class Hypers(api.Hypers):
        channels: int = 4
        """Channels of each irrep."""

    cutoff = 4.5

    def __init__(self, hypers: Any) -> None:
        super().__init__(hypers)
        self.species = nn.Embedding(100, hypers.channels)
        self.radial = nn.Linear(6, hypers.channels, bias=False)

    @classmethod
    def provides(cls, hypers: Any) -> api.Provides:
        c = hypers.channels
        return api.Provides(o3.Irreps(f"{c}x0e+{c}x1o+{c}x2e"), o3.Irreps("6x0e+6x1o"))

    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        radial, direction = self.edges(batch)
        weight = self.radial(radial) * self.species(batch.numbers[batch.src])
        square = direction.unsqueeze(2) * direction.unsqueeze(1) - torch.eye(3).to(direction) / 3
        s = self.species(batch.numbers) + batch.sum_to_atoms(weight)
        v = batch.sum_to_atoms(weight.unsqueeze(1) * direction.unsqueeze(2))
        return s, v, batch.sum_to_atoms(weight[:, None, None] * square.unsqueeze(3))

    def edges(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=1)
        envelope = api.polynomial_envelope(distance, self.cutoff).unsqueeze(1)
        return api.bessel_basis(distance, self.cutoff, 6) * envelope, vectors / distance.unsqueeze(1)

    def forward(self, batch: CrystalBatch) -> Embedding:
        radial, direction = self.edges(batch)
        bonds = Features.from_cartesian(radial, radial.unsqueeze(1) * direction.unsqueeze(2))
        return Embedding(Features.from_cartesian(*self.ranks(batch)), bonds)


class TestHonest(ConformanceTests):
    pair: ClassVar[Pair] = Pair(Toy, DTNet, readout_hypers={"width": 16})


class Elastic(api.Readout):
    """Rank 4: the mean over atoms of sums of products of tensors, C_ijkl = C_jikl = C_klij."""

    Hypers = api.Hypers
    needs = api.Needs(atoms=("0e", "2e"))

    def __init__(self, hypers: Any, provides: api.Provides, cutoff: float, target: api.TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        self.mix = nn.Linear(provides.atoms.count("2e"), 3, bias=False)
        self.scalar = nn.Linear(provides.atoms.count("0e"), 1)

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        matrices = self.mix(embedding.atoms.tensors())
        matrices = matrices + self.scalar(embedding.atoms.scalars())[:, None, None] * torch.eye(3)[..., None].to(
            matrices
        )
        return batch.mean_over_atoms(torch.einsum("nijc,nklc->nijkl", matrices, matrices))


class PerAtom(Elastic):
    """One symmetric tensor an atom."""

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        matrices = self.mix(embedding.atoms.tensors()).sum(dim=-1)
        return matrices + self.scalar(embedding.atoms.scalars())[:, None] * torch.eye(3).to(matrices)


class Extensive(PerAtom):
    """Its sum over the atoms."""

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        total = batch.mean_over_atoms(super().forward(embedding, batch))
        return total * batch.atoms_per_crystal()[:, None, None]


RANK_4 = api.TensorTarget("elastic", "ijkl=jikl=klij")


class TestElastic(ConformanceTests):
    pair: ClassVar[Pair] = Pair(Toy, Elastic, target=RANK_4)


class TestPerAtom(ConformanceTests):
    pair: ClassVar[Pair] = Pair(Toy, PerAtom, target=api.TensorTarget("shielding", per_atom=True, intensive=False))


class TestExtensive(ConformanceTests):
    pair: ClassVar[Pair] = Pair(Toy, Extensive, target=api.TensorTarget("polarisability", intensive=False))


class ParityBreaking(Toy):
    """Adds a pseudovector to the vectors: equivariant under SO(3), not O(3)."""

    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return s, v + torch.linalg.cross(v, v.roll(1, dims=2), dim=1), t


class NaiveNorm(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return s + v.square().sum(dim=1).sqrt(), v, t


class NeighbourMean(Toy):
    """Divides by the number of neighbours, which jumps."""

    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        count = torch.bincount(batch.dst, minlength=batch.n_atoms).clamp(min=1).to(s)
        return s / count.unsqueeze(1), v, t


class NoSelfImages(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        keep = batch.src != batch.dst
        return super().ranks(
            dataclasses.replace(batch, src=batch.src[keep], dst=batch.dst[keep], shift=batch.shift[keep])
        )


class Rounded(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return s, v, t.float().to(s)


class Cancelling(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return (s + 1e4) - 1e4, v, t


class BatchCentred(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return s - s.mean(dim=0), v, t


class OrderDependent(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        first = torch.searchsorted(batch.crystal, batch.crystal)
        place = torch.arange(batch.n_atoms) - first
        return s * (1 + place.to(s)).unsqueeze(1), v, t


class Mutating(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        batch.positions.sub_(batch.positions.mean(dim=0))
        return super().ranks(batch)


class Noisy(Toy):
    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return nn.functional.dropout(s, 0.2), v, t


class PromisesMore(Toy):
    @classmethod
    def provides(cls, hypers: Any) -> api.Provides:
        return api.Provides(super().provides(hypers).atoms + o3.Irreps("4x3o"), o3.Irreps("6x0e+6x1o"))


class Forgetful(Toy):
    """Has a random part that is neither parameter nor buffer."""

    def __init__(self, hypers: Any) -> None:
        super().__init__(hypers)
        self.mixing = torch.randn(hypers.channels)

    def ranks(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        s, v, t = super().ranks(batch)
        return s * self.mixing.to(s), v, t


class Uncitable(Toy):
    citation = "@article{toy, title = {A toy}"


class Undocumented(Toy):
    class Hypers(api.Hypers):
        channels: int = 4


class AbsolutePositions(DTNetSimple):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        outer = batch.positions.unsqueeze(2) * batch.positions.unsqueeze(1)
        return super().forward(embedding, batch) + 1e-6 * batch.mean_over_atoms(outer)


class SumPooling(DTNetSimple):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        return super().forward(embedding, batch) * batch.atoms_per_crystal()[:, None, None]


class Isotropic(DTNetSimple):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        mean = super().forward(embedding, batch).diagonal(dim1=1, dim2=2).mean(dim=1)
        return mean[:, None, None] * torch.eye(3).to(mean)


class Squeezing(DTNetSimple):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        return super().forward(embedding, batch).squeeze(0)


class FrameDependent(DTNetSimple):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        tensor = super().forward(embedding, batch)
        return tensor + 1e-8 * torch.diag(torch.tensor([0.0, 0.0, 1.0])).to(tensor)


class Asymmetric(DTNetSimple):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        tensor = super().forward(embedding, batch)
        return tensor + tensor @ torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).to(tensor)


class Eigenvalues(DTNetSimple):
    """Positive by way of eigh, whose gradient is NaN where eigenvalues coincide."""

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        values, axes = torch.linalg.eigh(super().forward(embedding, batch))
        return axes @ torch.diag_embed(values.exp()) @ axes.mT


class Ionic(api.Readout):
    """The smallest honest readout of force constants: a charge an atom, and a stiffness that is added."""

    Hypers = api.Hypers
    needs = api.Needs(atoms=("0e",), force_constants=True)
    normalise = False

    def __init__(self, hypers: Any, provides: api.Provides, cutoff: float, target: api.TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        self.charge = nn.Linear(provides.atoms.count("0e"), 1, bias=False)
        self.stiffness = nn.Parameter(torch.tensor(0.3))

    def charges(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        charges = self.charge(embedding.atoms.scalars())
        return charges - batch.mean_over_atoms(charges)[batch.crystal]

    def stiff(self, values: Tensor) -> Tensor:
        return values.relu() + self.stiffness.abs()

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        given = batch.force_constants
        assert given is not None
        z = given.pad(self.charges(embedding, batch), batch.crystal)  # (B, A, 1)
        rows = (z[..., None] * torch.eye(3).to(z)).flatten(1, 2)  # (B, 3A, 3)
        along = given.eigenvectors.mT @ rows
        out = along.mT @ (along / self.stiff(given.eigenvalues).unsqueeze(-1))
        out = out / torch.linalg.det(batch.cell).abs()[:, None, None]
        return 0.5 * (out + out.mT)


class NotNeutral(Ionic):
    def charges(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        return self.charge(embedding.atoms.scalars())


class Unstable(Ionic):
    def stiff(self, values: Tensor) -> Tensor:
        return values - self.stiffness.abs()


class EveryOther(Ionic):
    """Every other atom is charged more, be they alike or not."""

    def charges(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        charges = super().charges(embedding, batch) + torch.arange(batch.n_atoms).to(batch.positions)[:, None] % 2
        return charges - batch.mean_over_atoms(charges)[batch.crystal]


class Spoiling(Ionic):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        tensor = super().forward(embedding, batch)
        assert batch.force_constants is not None
        batch.force_constants.eigenvalues.abs_()
        return tensor


class Trace(Ionic):
    """Adds up stiffnesses of atoms, of which a supercell has twice as many."""

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        assert batch.force_constants is not None
        trace = batch.force_constants.matrix.diagonal(dim1=1, dim2=2).sum(1)
        return super().forward(embedding, batch) + trace[:, None, None] * torch.eye(3).to(trace)


class Skewed(Ionic):
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        tensor = super().forward(embedding, batch)
        return tensor + tensor @ torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).to(tensor)


class TestIonic(IonicTests):
    pair: ClassVar[Pair] = Pair(Toy, Ionic)


class IdleParameter(DTNetSimple):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.idle = nn.Linear(3, 3)


def pair(encoder: type = Toy, readout: type = DTNetSimple, **settings: Any) -> Pair:
    return Pair(encoder, readout, readout_hypers={"width": 16}, **settings)


@pytest.mark.parametrize(
    ("check", "cheat", "says"),
    [
        (testing.check_equivariance, pair(ParityBreaking), "improper"),
        (testing.check_embedding_equivariance, Pair(ParityBreaking, Elastic, target=RANK_4), "1o features"),
        (testing.check_point_groups, pair(ParityBreaking), "class (m|mm2|-4|-42m), .*determinant -1"),
        (testing.check_zero_pattern, pair(ParityBreaking), "its system"),
        (testing.check_equivariance, pair(readout=FrameDependent), "random proper rotation"),
        (testing.check_equivariance, pair(Rounded), "not equivariant"),
        (testing.check_permutation, pair(OrderDependent), "order of"),
        (testing.check_origin_shift, pair(readout=AbsolutePositions), "absolute positions"),
        (testing.check_lattice_shift, pair(readout=AbsolutePositions), "absolute positions"),
        (testing.check_supercell, pair(readout=SumPooling), "a mean"),
        (testing.check_self_images, pair(NoSelfImages), "own images"),
        (testing.check_zero_pattern, pair(readout=FrameDependent), "its system"),
        (testing.check_anisotropy, pair(readout=Isotropic), "is isotropic"),
        (testing.check_one_atom, pair(readout=Squeezing), "shape"),
        (testing.check_batching, pair(BatchCentred), "influence each other"),
        (testing.check_input_not_mutated, pair(Mutating), r"batch\.positions"),
        (testing.check_input_not_mutated, pair(Noisy), "two runs"),
        (testing.check_gradients_flow, pair(readout=IdleParameter), r"readout\.idle\.weight"),
        (testing.check_gradients_flow, pair(without_gradient=("readout.head.*",)), "they have one"),
        (testing.check_gradients_finite, pair(NaiveNorm), "not finite"),
        (testing.check_gradients_finite, pair(readout=Eigenvalues), "not finite"),
        (testing.check_save_and_load, pair(Forgetful), "neither parameter nor"),
        (testing.check_float32, pair(Cancelling), "differ from float64"),
        (testing.check_smooth_at_cutoff, pair(NeighbourMean), "jumps"),
        (testing.check_contract, pair(PromisesMore), "promised"),
        (testing.check_contract, pair(readout=Asymmetric), "index symmetry"),
        (testing.check_contract, pair(target=api.TensorTarget("elastic", "ijkl=jikl=klij")), "does not fit"),
        (testing.check_hypers, pair(Undocumented), "no docstring"),
        (testing.check_citation, pair(Uncitable), "cannot be read"),
    ],
)
def test_a_cheat_is_caught(check: Callable[[Pair], None], cheat: Pair, says: str) -> None:
    check(pair())  # what is honest passes
    with pytest.raises(AssertionError, match=says):
        check(cheat)


@pytest.mark.parametrize(
    ("check", "cheat", "says"),
    [
        (testing.check_no_optic_modes, NotNeutral, "not zero"),
        (testing.check_not_polar, NotNeutral, "without charges"),
        (testing.check_not_polar, EveryOther, "without charges"),
        (testing.check_positive, Unstable, "negative eigenvalue"),
        (testing.check_contract, Skewed, "index symmetry"),
        (testing.check_input_not_mutated, Spoiling, r"batch\.force_constants\.eigenvalues"),
        (testing.check_supercell, Trace, "a mean"),
    ],
)
def test_a_cheat_with_force_constants_is_caught(check: Callable[[Pair], None], cheat: type, says: str) -> None:
    check(Pair(Toy, Ionic))
    with pytest.raises(AssertionError, match=says):
        check(Pair(Toy, cheat))


def test_a_declared_idle_parameter_is_excused() -> None:
    testing.check_gradients_flow(pair(readout=IdleParameter, without_gradient=("readout.idle.*",)))
