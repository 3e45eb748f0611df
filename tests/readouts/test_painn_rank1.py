"""Eq. (7) of DTNet's paper as it is written and as a crystal needs it: term by term, and on real crystals."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from cli import zoo
from e3nn import o3
from pymatgen.core import Lattice, Structure
from torch import Tensor, nn

from zoo.api import CrystalBatch, Embedding, Features, Provides, TensorTarget, polynomial_envelope
from zoo.data.petousis2017 import Petousis2017
from zoo.graphs.graph import collate, crystal_graph
from zoo.model import compat
from zoo.testing.symmetry_checks import repeated
from zoo_painn import PaiNN
from zoo_painn_rank1 import PaiNNRank1, PaiNNRank1Paper

CUTOFF = 4.0
TOTAL = TensorTarget("total")
PROVIDES = Provides(o3.Irreps("7x0e+5x1o"))
BOTH = [PaiNNRank1, PaiNNRank1Paper]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make(kind: type, provides: Provides = PROVIDES, cutoff: float = CUTOFF, **hypers) -> nn.Module:
    """Double, with biases that are not zero."""
    made = kind(kind.Hypers(**hypers), provides, cutoff, TOTAL).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made


def crystals() -> CrystalBatch:
    lattice = Lattice([[3.1, 0.2, 0.0], [0.4, 3.5, 0.1], [-0.3, 0.6, 4.2]])
    places = np.random.default_rng(0).random((3, 3))
    triclinic = Structure(lattice, ["Si", "O", "O"], places)
    one_atom = Structure(2.8 * np.eye(3), ["Po"], [[0.1, 0.2, 0.3]])
    return collate([crystal_graph(s, CUTOFF) for s in (triclinic, one_atom)], torch.float64)


def random_embedding(batch: CrystalBatch) -> Embedding:
    return Embedding(Features(PROVIDES.atoms, torch.randn(batch.n_atoms, PROVIDES.atoms.dim, dtype=torch.float64)))


def gated(block: nn.Module, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """PaiNN's block of one atom, s (C,), v (3, C'), as it is drawn."""
    norm = (block.norm.weight @ v.T).norm(dim=1)
    scalars, gate = block.mlp(torch.cat([s, norm])).chunk(2)
    return scalars, torch.sigmoid(gate) * (v @ block.vector.weight.T)


class TestFormulas:
    @torch.no_grad()
    def test_the_papers(self) -> None:
        """ε = Σ_i s(s_i) 1 + ν(v_i)⊗r_i + r_i⊗ν(v_i), atom by atom."""
        readout, batch = make(PaiNNRank1Paper), crystals()
        embedding = random_embedding(batch)
        expected = torch.zeros(2, 3, 3, dtype=torch.float64)
        for i, crystal in enumerate(batch.crystal.tolist()):
            s, v = gated(readout.hidden, embedding.atoms.scalars()[i], embedding.atoms.vectors()[i])
            s, v = gated(readout.out, nn.functional.silu(s), v)
            dyad = torch.outer(v[:, 0], batch.positions[i])
            expected[crystal] += s * torch.eye(3) + dyad + dyad.T
        torch.testing.assert_close(readout(embedding, batch), expected, rtol=1e-7, atol=1e-7)

    @torch.no_grad()
    def test_relative(self) -> None:
        """Mean of s_i 1 + Σ_j f_c (ν_ij⊗r_ij + r_ij⊗ν_ij), edge by edge; w from both atoms and the distance."""
        readout, batch = make(PaiNNRank1, width=6), crystals()
        embedding = random_embedding(batch)
        features = zip(embedding.atoms.scalars(), embedding.atoms.vectors(), strict=True)
        hidden = [gated(readout.hidden, s, v) for s, v in features]
        counts = batch.atoms_per_crystal()
        expected = torch.zeros(2, 3, 3, dtype=torch.float64)
        for i, crystal in enumerate(batch.crystal.tolist()):
            own = nn.functional.silu(hidden[i][0]) @ readout.scalar.weight[0] + readout.scalar.bias
            expected[crystal] += own * torch.eye(3) / counts[crystal]
        W = readout.vectors.weight
        A, B = readout.weight_of_atoms.weight.chunk(2)
        bias = readout.weight_of_atoms.bias.view(2, -1).sum(0)
        for e in range(len(batch.src)):
            i, j = int(batch.dst[e]), int(batch.src[e])
            crystal = int(batch.crystal[i])
            r = batch.positions[j] + batch.shift[e].double() @ batch.cell[crystal] - batch.positions[i]
            x = r / (CUTOFF / 2)
            basis = torch.stack([torch.sin(n * math.pi * x.norm() / 2) / x.norm() for n in range(1, 9)])
            s_i, s_j = (nn.functional.silu(hidden[k][0]) for k in (i, j))
            w = readout.weight(nn.functional.silu(A @ s_i + B @ s_j + bias + readout.weight_of_distance(basis)))
            nu = hidden[i][1] @ W[0] + hidden[j][1] @ W[1] + w * x
            dyad = polynomial_envelope(r.norm(), CUTOFF) * torch.outer(nu, x) / math.sqrt(32)
            expected[crystal] += (dyad + dyad.T) / counts[crystal]
        got = readout(embedding, batch)
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
        assert torch.equal(got, got.mT)

    @pytest.mark.parametrize("kind", BOTH)
    def test_gradients_are_finite_where_all_vectors_vanish(self, kind: type) -> None:
        batch = crystals()
        values = random_embedding(batch).atoms.values
        values[:, 7:] = 0
        values.requires_grad_()
        readout = make(kind)
        readout(Embedding(Features(PROVIDES.atoms, values)), batch).square().sum().backward()
        assert values.grad is not None and values.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in readout.parameters())


@functools.cache
def records() -> dict[str, Structure]:
    return {record.key: record.structure for record in Petousis2017(Petousis2017.Hypers()).records()}


def elsewhere(structure: Structure, atom: int | slice, step: np.ndarray) -> Structure:
    """The same crystal with one atom, or with all, moved by a vector (Å), and left outside of the cell if it is."""
    places = structure.cart_coords.copy()
    places[atom] += step
    return Structure(structure.lattice, structure.species, places, coords_are_cartesian=True, to_unit_cell=False)


class TestRealCrystals:
    """PaiNN as it starts, on ferroelectric BaTiO3 (P4mm): every site is polar, and so is their sum."""

    STRUCTURE = "mp-5986"

    @pytest.fixture
    def encoder(self) -> PaiNN:
        return PaiNN(PaiNN.Hypers(channels=16)).double()

    @staticmethod
    def batch(structure: Structure) -> CrystalBatch:
        return collate([crystal_graph(structure, 5.0)], torch.float64)

    @torch.no_grad()
    def tensor(self, encoder: PaiNN, readout: nn.Module, structure: Structure) -> Tensor:
        batch = self.batch(structure)
        return readout(encoder(batch), batch)[0]

    def readout(self, kind: type, encoder: PaiNN) -> nn.Module:
        return make(kind, PaiNN.provides(encoder.hypers), 5.0)

    @torch.no_grad()
    def nu(self, encoder: PaiNN, readout: PaiNNRank1Paper, structure: Structure) -> Tensor:
        """(N, 3), ν(v_i) of the paper's form."""
        atoms = encoder(self.batch(structure)).atoms
        s, v = readout.hidden(atoms.scalars(), atoms.vectors())
        return readout.out(nn.functional.silu(s), v)[1].squeeze(-1)

    def test_the_papers_form_depends_on_the_choice_of_cell(self, encoder: PaiNN) -> None:
        """By what its formula says: ν_k⊗L + L⊗ν_k for an atom moved by L, the sum of them for the origin."""
        structure = records()[self.STRUCTURE]
        readout = self.readout(PaiNNRank1Paper, encoder)
        before, nu = self.tensor(encoder, readout, structure), self.nu(encoder, readout, structure)
        size = before.norm()

        step = torch.from_numpy(structure.lattice.matrix[2].copy())
        for atom in range(len(structure)):
            change = self.tensor(encoder, readout, elsewhere(structure, atom, step.numpy())) - before
            dyad = torch.outer(nu[atom], step)
            torch.testing.assert_close(change, dyad + dyad.T, rtol=1e-8, atol=1e-10)
            assert change.norm() > 1e-2 * size

        shift = torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64)
        change = self.tensor(encoder, readout, elsewhere(structure, slice(None), shift.numpy())) - before
        dyad = torch.outer(nu.sum(0), shift)
        torch.testing.assert_close(change, dyad + dyad.T, rtol=1e-8, atol=1e-10)
        assert change.norm() > 1e-2 * size

        doubled = self.tensor(encoder, readout, repeated(structure, (2, 1, 1)))
        assert (doubled - before).norm() > 0.5 * size

    def test_ours_does_not(self, encoder: PaiNN) -> None:
        structure = records()[self.STRUCTURE]
        readout = self.readout(PaiNNRank1, encoder)
        before = self.tensor(encoder, readout, structure)
        same = [elsewhere(structure, atom, structure.lattice.matrix[2]) for atom in range(len(structure))]
        same += [elsewhere(structure, slice(None), np.array([0.3, -0.2, 1.1])), repeated(structure, (2, 1, 1))]
        for other in same:
            torch.testing.assert_close(self.tensor(encoder, readout, other), before, rtol=1e-11, atol=1e-11)
        assert (before[2, 2] - before[0, 0]).abs() > 1e-3 * before.norm()

    def test_layered_boron_nitride_is_anisotropic_by_ours_alone(self, encoder: PaiNN) -> None:
        """No site has a polar direction (6 m 2): all vectors are zero, and the paper's form has nothing else."""
        structure = records()["mp-984"]
        assert structure.composition.reduced_formula == "BN" and len(structure) == 4
        paper, ours = (
            self.tensor(encoder, self.readout(kind, encoder), structure) for kind in (PaiNNRank1Paper, PaiNNRank1)
        )
        isotropic = paper.diagonal().mean() * torch.eye(3)
        # The symmetry is that of a relaxed structure, not exact.
        assert (paper - isotropic).norm() < 2e-3 * paper.norm()
        assert (ours[2, 2] - ours[0, 0]).abs() > 1e-2 * ours.norm()
        assert (ours[1, 1] - ours[0, 0]).abs() < 1e-4 * ours.norm()

    @pytest.mark.parametrize("kind", BOTH)
    @torch.no_grad()
    def test_untrained_tensors_are_of_order_one(self, kind: type, encoder: PaiNN) -> None:
        structures = list(itertools.islice(records().values(), 0, 300, 10))
        batch = collate([crystal_graph(s, 5.0) for s in structures], torch.float64)
        readout = kind(kind.Hypers(), PaiNN.provides(encoder.hypers), 5.0, TOTAL).double()
        values = TOTAL.to_irreps(readout(encoder(batch), batch))
        assert 0.1 < values[:, 0].square().mean().sqrt() < 10
        assert 0.02 < values[:, 1:].square().mean().sqrt() < 10


class TestWhatItMakes:
    @pytest.mark.parametrize("kind", BOTH)
    @pytest.mark.parametrize(
        ("target", "why"),
        [
            (TensorTarget("elastic", "ijkl=jikl=klij"), "symmetric 3×3"),
            (TensorTarget("any", "ij"), "symmetric 3×3"),
            (TensorTarget("spin", "ij=-ji"), "symmetric 3×3"),
            (TensorTarget("born", per_atom=True), "one an atom"),
            (TensorTarget("polarisability", intensive=False), "extensive"),
        ],
    )
    def test_refuses_all_else(self, kind: type, target: TensorTarget, why: str) -> None:
        reason = kind.cannot_make(target)
        assert reason is not None and why in reason
        assert kind.cannot_make(TensorTarget("electronic", "ab=ba")) is None

    @pytest.mark.parametrize("kind", BOTH)
    def test_needs_scalars_and_vectors(self, kind: type) -> None:
        assert kind.needs.unmet_by(PROVIDES) is None
        assert "1o" in str(kind.needs.unmet_by(Provides(o3.Irreps("8x0e+8x1e"))))

    def test_compat_says_what_the_papers_form_gets_wrong(self, tmp_path) -> None:
        caveats = {p["readout"]: p["caveat"] for p in compat.pairs() if p["encoder"] == "painn" and p["works"]}
        assert caveats["painn-rank1"] is None
        assert "absolute positions" in caveats["painn-rank1-paper"] and "extensive" in caveats["painn-rank1-paper"]
        assert all(pair["caveat"] is None for pair in compat.pairs() if not pair["works"])
        result = zoo("compat", cwd=tmp_path)
        assert result.returncode == 0 and "works, but" in result.stdout
