import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from e3nn import o3
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from small_crystals import error, quartz, random_p1, within

from zoo.api import CrystalBatch, matrix_to_spherical, spherical_to_matrix
from zoo.data.petousis2017 import Petousis2017
from zoo.testing import EncoderWithEnergy, PotentialTests
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_teanet import TeaNet
from zoo_teanet.bonds import Bonds
from zoo_teanet.elements import half_charges
from zoo_teanet.geometry import Geometry
from zoo_teanet.layer import Layer

SMALL = {"channels": 6, "cutoffs": (3.0, 4.0, 4.5)}
VARIANTS = [
    {},
    {"layer": 1},
    {"layer": 2},
    {"cutoffs": (4.5,)},
    {"cutoffs": (4.5, 3.0)},
    {"cutoffs": (4.0, 3.0, 4.5, 3.0)},
    {"channels": 59, "element_channels": 59, "cutoffs": (3.0, 4.0)},
    {"num_bessel": 5, "envelope_power": 4, "density": 0.1},
]


class TestPotential(PotentialTests):
    model = EncoderWithEnergy("teanet", SMALL)


def batch_of(*structures: Structure, cutoff: float = 4.5, dtype: torch.dtype = torch.float64) -> CrystalBatch:
    return within(cutoff, *structures, dtype=dtype)


def build(**hypers) -> TeaNet:
    torch.manual_seed(0)
    return TeaNet(TeaNet.Hypers(**{**SMALL, **hypers}))


@functools.cache
def double(**hypers) -> TeaNet:
    """Built in float32 and then changed: constants must not stay rounded."""
    return build(**hypers).double()


@pytest.mark.parametrize("hypers", VARIANTS, ids=str)
class TestVariants:
    def test_provides_what_it_promised(self, hypers):
        model = double(**hypers)
        with torch.no_grad():
            made = model(batch_of(quartz()))
        promised, n = TeaNet.provides(model.hypers), model.hypers.channels
        assert made.atoms.irreps == promised.atoms == o3.Irreps(f"{n}x0e+{n}x1o+{n}x2e")
        assert made.bonds.irreps == promised.bonds == o3.Irreps(f"{n}x0e+{n}x1o")
        assert model.cutoff == max(model.hypers.cutoffs)

    def test_every_parameter_gets_a_gradient(self, hypers):
        model = double(**hypers)
        made = model(batch_of(random_p1(), quartz()))
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(made.atoms.values.shape, dtype=torch.float64, generator=generator)
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad((made.atoms.values * weights).sum(), parameters)
        for name, gradient in zip(names, gradients, strict=True):
            assert gradient.norm() > 0, name
            if name.endswith("gates.weight"):
                assert (gradient.abs().sum(1) > 0).all(), name  # each gate

    @pytest.mark.parametrize("matrix", orthogonal_matrices(2), ids=["proper", "improper"])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
    def test_equivariance(self, rotate_block, hypers, matrix, dtype, tolerance):
        model = build(**hypers).to(dtype)
        with torch.no_grad():
            before = model(batch_of(quartz(), random_p1(), dtype=dtype)).atoms
            after = model(batch_of(*(rotate_crystal(c(), matrix) for c in (quartz, random_p1)), dtype=dtype)).atoms
        for _, irrep in before.irreps:
            assert before.block(irrep).norm() > 0
            assert error(after.block(irrep), rotate_block(before.block(irrep), irrep, matrix)) < tolerance

    def test_bonds_turn_with_the_crystal(self, rotate_block, hypers):
        """With the edges kept as they are: rounding may sort a new graph's otherwise."""
        matrix = orthogonal_matrices(2)[1]
        batch = batch_of(quartz(), random_p1())
        turned = dataclasses.replace(batch, positions=batch.positions @ matrix.T, cell=batch.cell @ matrix.T)
        with torch.no_grad():
            before, after = double(**hypers)(batch).bonds, double(**hypers)(turned).bonds
        for irrep in (o3.Irrep("0e"), o3.Irrep("1o")):
            assert before.block(irrep).norm() > 0
            assert error(after.block(irrep), rotate_block(before.block(irrep), irrep, matrix)) < 1e-12


def mlp(layers: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    hidden = layers[0].weight @ x + layers[0].bias
    return layers[2].weight @ (hidden * torch.sigmoid(hidden)) + layers[2].bias


def bound(x: torch.Tensor) -> torch.Tensor:
    """(C,), (3, C) or (3, 3, C): 1, 3 and, symmetric and traceless, 5 components."""
    return x / torch.sqrt(1 + x.square().sum() / (2 * x.dim() - 1) / x.shape[-1])


def traceless(matrix: torch.Tensor) -> torch.Tensor:
    """(3, 3, C): symmetric traceless part."""
    trace = matrix.diagonal().sum(-1) / 3
    return 0.5 * (matrix + matrix.transpose(0, 1)) - trace * torch.eye(3, dtype=matrix.dtype).unsqueeze(-1)


class Reference:
    """A middle layer, edge by edge, with tensors as 3×3 matrices: the equations of the docstrings, and no more."""

    def __init__(self, layer: Layer, cutoff: float, power: int) -> None:
        self.bond, self.atom, self.scale = layer.bond_update, layer.atom_update, layer.scale
        self.cutoff, self.power = cutoff, power

    def envelope(self, r: torch.Tensor) -> torch.Tensor:
        x, p = r / self.cutoff, self.power
        return 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)

    def edge(self, i, j, b_s, b_v, vector):
        """Δb_s (C,), Δb_v (3, C) and the messages; i and j are (s (C,), v (3, C), T (3, 3, C))."""
        r = vector.norm()
        u, f = vector / r, self.envelope(r)
        x = r / (self.cutoff / 2)
        bessel = torch.stack([torch.sin(k * math.pi * x / 2) / x for k in range(1, self.bond.radial.in_features + 1)])
        here, there = (
            [bound(part) @ linear.weight.T for part, linear in zip(atom, ranks.maps, strict=True)]
            for atom, ranks in ((i, self.bond.target), (j, self.bond.source))
        )
        s, v, t = (a + b for a, b in zip(here, there, strict=True))
        # The harmonics are of norm 1: the traceless part of u ⊗ u has norm sqrt(2/3).
        along = s + torch.einsum("ic,i->c", v, u) + 1.5**0.5 * torch.einsum("ijc,i,j->c", t, u, u)
        radial = self.bond.radial.weight @ bessel + self.bond.radial.bias
        hidden = along / 3**0.5 * radial + self.bond.bonds.weight @ torch.cat([b_s, torch.einsum("ic,i->c", b_v, u)])
        z = hidden * torch.sigmoid(hidden)
        gates = (self.bond.gates.weight @ z + self.bond.gates.bias).reshape(5, -1)
        step_s = f * gates[0]
        lowered = torch.einsum("ijc,j->ic", t, u)
        step_v = f * (gates[1] * (3**0.5 * u).unsqueeze(1) + gates[2] * v + gates[3] * 1.8**0.5 * lowered) / 3**0.5
        m_s, m_v = step_s + f * b_s, step_v + f * b_v
        m_t = (3**0.5 * traceless(torch.einsum("ic,j->ijc", m_v, u)) + f * gates[4] * t) / 2**0.5
        return step_s, step_v, (m_s, m_v, m_t)

    def update(self, atom, sums):
        s, v, t = atom
        m_s, m_v, m_t = (bound(m * self.scale) for m in sums)
        v_new, t_new = v + m_v, t + m_t
        norms = [torch.sqrt(1 + x.flatten(0, -2).square().sum(0)) - 1 for x in (v_new, t_new)]
        step, gate_v, gate_t = mlp(self.atom.mix, torch.cat([bound(s), m_s, *norms])).chunk(3)
        linear_v, linear_t = (linear.weight.T for linear in self.atom.linear.maps)
        return s + step, v + torch.sigmoid(gate_v) * (v_new @ linear_v), t + torch.sigmoid(gate_t) * (t_new @ linear_t)


class TestLayer:
    def test_is_the_equations(self):
        """Against loops over atoms and edges."""
        torch.manual_seed(2)
        cutoff, channels, power = 3.7, 4, 6
        batch = batch_of(random_p1())
        layer = Layer(channels, 5, full_in=True, full_out=True, neighbours=3.0).double()
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        edges = Geometry(batch, 5, power).within(cutoff)
        atoms = torch.randn(batch.n_atoms, 9, channels, dtype=torch.float64)
        scalars = torch.randn(len(edges.index), channels, dtype=torch.float64)
        vectors = torch.randn(len(edges.index), 3, channels, dtype=torch.float64)
        assert 0 < len(edges.index) < len(batch.src)
        with torch.no_grad():
            got, bonds = layer(atoms, Bonds(edges.index, scalars, vectors), edges)
            reference = Reference(layer, cutoff, power)
            matrices = spherical_to_matrix(atoms[:, 4:].transpose(1, 2), 2).permute(0, 2, 3, 1)
            ranks = [(atoms[n, 0], atoms[n, 1:4], matrices[n]) for n in range(batch.n_atoms)]
            sums = [[torch.zeros_like(x) for x in ranks[0]] for _ in ranks]
            for e, place in enumerate(edges.index):
                i, j = int(batch.dst[place]), int(batch.src[place])
                vector = batch.edge_vectors()[place]
                step_s, step_v, messages = reference.edge(ranks[i], ranks[j], scalars[e], vectors[e], vector)
                assert torch.allclose(bonds.scalars[e], scalars[e] + step_s, rtol=1e-11, atol=1e-12)
                assert torch.allclose(bonds.vectors[e], vectors[e] + step_v, rtol=1e-11, atol=1e-12)
                sums[i] = [total + message for total, message in zip(sums[i], messages, strict=True)]
            for n, atom in enumerate(ranks):
                s, v, t = reference.update(atom, sums[n])
                spherical = matrix_to_spherical(t.permute(2, 0, 1), 2).T
                assert error(got[n], torch.cat([s.unsqueeze(0), v, spherical])) < 1e-12


class TestLayers:
    def test_the_first_ones_of_a_deeper_model_are_those_of_a_shallower(self):
        five = double(cutoffs=(3.0, 3.0, 4.0, 4.5, 4.5))
        for layer in range(1, 5):
            fewer = double(cutoffs=(3.0, 3.0, 4.0, 4.5, 4.5), layer=layer)
            assert len(fewer.interactions) == layer
            assert fewer.cutoff == 4.5
            assert TeaNet.layers(fewer.hypers) == 5
            for name, parameter in fewer.named_parameters():
                assert torch.equal(parameter, five.get_parameter(name)), name

    def test_the_last_one_gives_the_vectors_and_tensors_of_the_one_before(self):
        """(a_s5, a_v4, a_t4, b_s5, b_v4)."""
        batch = batch_of(random_p1())
        cutoffs = (3.0, 3.0, 4.0, 4.5, 4.5)
        five, four = double(cutoffs=cutoffs), double(cutoffs=cutoffs, layer=4)
        with torch.no_grad():
            last, before = five(batch), four(batch)
        for irrep in ("1o", "2e"):
            assert torch.equal(last.atoms.block(irrep), before.atoms.block(irrep))
        assert torch.equal(last.bonds.block("1o"), before.bonds.block("1o"))
        assert error(last.atoms.scalars(), before.atoms.scalars()) > 0.05
        assert error(last.bonds.scalars(), before.bonds.scalars()) > 0.05

    def test_an_only_layer_gives_its_own(self):
        with torch.no_grad():
            made = double(cutoffs=(4.5,))(batch_of(random_p1()))
        for features in (made.atoms.vectors(), made.atoms.tensors(), made.bonds.vectors()):
            assert features.norm() > 1e-2


class TestCutoffs:
    def test_longer_edges_pass_a_layer_unchanged(self):
        batch = batch_of(random_p1(), quartz())
        beyond = batch.edge_vectors().norm(dim=-1) > 3.0
        with torch.no_grad():
            zero = double(cutoffs=(3.0, 4.5), layer=1)(batch).bonds.values
            first = double(cutoffs=(4.5, 3.0, 4.5), layer=1)(batch).bonds.values
            second = double(cutoffs=(4.5, 3.0, 4.5), layer=2)(batch).bonds.values
        assert (zero[beyond] == 0).all()
        assert (zero[~beyond].abs().sum(1) > 0).all()
        assert torch.equal(first[beyond], second[beyond]) and first[beyond].norm() > 0
        assert ((first - second)[~beyond].abs().sum(1) > 0).all()

    @pytest.mark.parametrize("cutoff", [3.0, 4.0, 6.0])
    def test_energy_and_forces_are_smooth_at_each(self, cutoff):
        potential = EncoderWithEnergy("teanet", {"channels": 4}).potential

        def at(length: float) -> CrystalBatch:
            lattice = Lattice([[length, 0, 0], [0.61, 4.313, 0], [0.32, 0.71, 5.127]])
            structure = Structure(lattice, ["Ti", "O"], np.array([[0, 0, 0], [0.41, 0.53, 0.37]]))
            return batch_of(structure, cutoff=6.0)

        counts = [int((at(cutoff + d).edge_vectors().norm(dim=-1) <= cutoff).sum()) for d in (-1e-6, 1e-6)]
        assert counts[0] > counts[1]

        def change(half: float) -> tuple[float, float]:
            before, after = potential(at(cutoff - half)), potential(at(cutoff + half))
            energy, forces = after.energy - before.energy, after.forces - before.forces
            return energy.detach().abs().item(), forces.detach().norm().item()

        for jump, slope in zip(change(1e-6), change(1e-3), strict=True):
            assert 0 < jump < 2e-3 * slope  # as far as the crystal moved

    def test_bonds_vanish_at_the_cutoff(self):
        """Smoothly: nearer by a factor of fifty, smaller by nearly its cube."""
        one = {"src": torch.tensor([1]), "dst": torch.tensor([0]), "shift": torch.zeros(1, 3, dtype=torch.int64)}
        pair = dataclasses.replace(batch_of(random_p1()), **one)
        values = []
        for length in (0.99 * 4.5, 0.9998 * 4.5, 4.5):
            positions = torch.zeros(5, 3, dtype=torch.float64)
            positions[1] = torch.tensor([0.6, 0, 0.8]) * length
            with torch.no_grad():
                values.append(double()(dataclasses.replace(pair, positions=positions)).bonds.values.norm())
        assert values[0] > 5e4 * values[1] > 0
        assert values[2] < 1e-12 * values[0]


class TestBonds:
    def test_on_more_and_fewer_edges(self):
        index = torch.tensor([1, 4, 5])
        bonds = Bonds(index, torch.tensor([[1.0], [2.0], [3.0]]), torch.ones(3, 3, 1))
        more = bonds.on(torch.tensor([0, 1, 3, 4, 5]))
        assert more.scalars.flatten().tolist() == [0, 1, 0, 2, 3]
        assert more.vectors[:, 0, 0].tolist() == [0, 1, 0, 1, 1]
        fewer = bonds.on(torch.tensor([1, 5]))
        assert fewer.scalars.flatten().tolist() == [1, 3]
        new = Bonds(fewer.index, -fewer.scalars, 2 * fewer.vectors)
        assert bonds.replaced_by(new).scalars.flatten().tolist() == [-1, 2, -3]
        assert bonds.replaced_by(new).vectors[:, 0, 0].tolist() == [2, 1, 2]
        assert bonds.replaced_by(more) is more


class TestElements:
    def test_encodings_sum_to_half_the_charge(self):
        table = half_charges(59)
        assert table.shape == (119, 59)
        assert table.sum(1).tolist() == [z / 2 for z in range(119)]
        assert table[7].tolist() == [1, 1, 1, 0.5] + [0] * 55
        assert table[118].tolist() == [1] * 59

    def test_too_few_channels(self):
        with pytest.raises(ValueError, match="needs 59 channels"):
            half_charges(58)

    def test_atoms_start_from_it(self):
        """A lone atom has its encoding, if nothing else is added to it."""
        model = build(channels=64, cutoffs=(3.0,))
        assert not list(model.input.parameters())
        assert "elements_table" in dict(model.named_buffers())
        torch.nn.init.zeros_(model.interactions[0].atom_update.mix[2].weight)
        lone = batch_of(Structure(Lattice.cubic(9.0), ["N"], [[0, 0, 0]]), dtype=torch.float32)
        with torch.no_grad():
            assert model(lone).atoms.scalars()[0].tolist() == half_charges(64)[7].tolist()

    def test_another_encoding(self):
        class OneHot(TeaNet):
            @staticmethod
            def element_table(channels: int) -> torch.Tensor:
                return torch.eye(119, channels)

        model = OneHot(OneHot.Hypers(**SMALL, element_channels=119))
        assert model.elements_table[26].nonzero().flatten().tolist() == [26]


def test_magnitudes_of_real_crystals():
    """At the start all features are of order one, layer by layer, in the sparsest and the densest crystals."""
    structures = [record.structure for record in Petousis2017(Petousis2017.Hypers()).records()]
    structures.sort(key=lambda s: len(s) / s.volume)
    for some, least in ((structures[:12], 0.02), (structures[-12:], 0.1)):
        batch = batch_of(*some, cutoff=6.0, dtype=torch.float32)
        before = None
        for layer in range(1, 6):
            with torch.no_grad():
                made = build(channels=32, cutoffs=TeaNet.Hypers().cutoffs, layer=layer)(batch).atoms
            sizes = [float(made.block(irrep).square().mean().sqrt()) for irrep in ("0e", "1o", "2e")]
            assert least < min(sizes) and max(sizes) < 3, (layer, sizes)
            assert before is None or max(b / a for a, b in zip(before, sizes, strict=True)) < 2.5, (layer, sizes)
            before = sizes


def test_training_step_without_any_edge():
    model = double()
    model(batch_of(Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]]))).atoms.values.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad(set_to_none=True)


class TestHypers:
    def test_defaults(self):
        provides = TeaNet.provides(TeaNet.Hypers())
        assert provides.atoms == o3.Irreps("64x0e+64x1o+64x2e")
        assert provides.bonds == o3.Irreps("64x0e+64x1o")
        assert TeaNet.Hypers().cutoffs == (3.0, 3.0, 4.0, 6.0, 6.0)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"layer": 6},
            {"layer": 0},
            {"cutoffs": []},
            {"cutoffs": [3.0, 0.0]},
            {"element_channels": 58},
            {"chanels": 8},
        ],
        ids=str,
    )
    def test_wrong_ones(self, wrong):
        with pytest.raises(ValidationError):
            TeaNet.Hypers(**wrong)

    def test_trained_from_scratch(self):
        assert not TeaNet.pretrained
        assert all(parameter.requires_grad for parameter in build().parameters())
