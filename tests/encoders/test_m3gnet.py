import functools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from scipy.special import spherical_jn
from small_crystals import error, random_p1, within

from zoo.api import CrystalBatch, Potential
from zoo.graphs.graph import collate, crystal_graph
from zoo.testing import EncoderWithEnergy, PotentialTests
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_m3gnet import M3GNet
from zoo_m3gnet.many_body import SCALE, ShortBonds
from zoo_m3gnet.radial import bessel_functions, bessel_roots, cutoff_function, smooth_basis

CUTOFF, SHORT = 4.5, 3.5
SMALL = {"cutoff": CUTOFF, "threebody_cutoff": SHORT, "channels": 8}


class TestPotential(PotentialTests):
    model = EncoderWithEnergy("m3gnet", SMALL)


def rock_salt() -> Structure:
    """Collinear bonds everywhere."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.7), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def lone() -> Structure:
    return Structure(Lattice.cubic(12.0), ["Cu"], [[0.1, 0.2, 0.3]])


batch_of = functools.partial(within, CUTOFF)


def build(**hypers) -> M3GNet:
    torch.manual_seed(0)
    return M3GNet(M3GNet.Hypers(**{**SMALL, **hypers}))


@functools.cache
def double(**hypers) -> M3GNet:
    """Built in float32 and then changed: constants must not stay rounded."""
    return build(**hypers).double()


class TestRadial:
    """The functions of the distance, against scipy, closed forms and what defines them."""

    X = torch.linspace(1e-4, 1.0, 20001, dtype=torch.float64)

    def test_roots_are_scipys(self):
        roots = bessel_roots(6, 5)
        assert roots[0] == pytest.approx([math.pi * k for k in range(1, 6)], abs=1e-13)
        for degree, found in enumerate(roots):
            assert np.abs(spherical_jn(degree, found)).max() < 1e-13
            assert list(found) == sorted(found)
            signs = np.sign(spherical_jn(degree, np.linspace(0.5, found[-1] - 1e-6, 5000)))
            assert np.count_nonzero(np.diff(signs)) == len(found) - 1  # none is left out

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
    def test_bessel_functions_are_scipys(self, dtype, tolerance):
        distance = torch.linspace(1.2, 4.0, 100, dtype=dtype)
        got = bessel_functions(distance, 4.0, 6, 4)
        for degree, roots in enumerate(bessel_roots(6, 4)):
            for n, z in enumerate(roots):
                norm = 0.5 / abs(spherical_jn(degree + 1, z))
                expected = norm * spherical_jn(degree, z * distance.double().numpy() / 4.0)
                np.testing.assert_allclose(got[:, degree, n].double().numpy(), expected, atol=tolerance)

    def test_bases_are_orthonormal(self):
        """In units of half the cutoff, over the sphere, but for its 4π."""
        cutoff = 3.7
        r = cutoff * self.X
        x = r / (cutoff / 2)
        bases = [smooth_basis(r, cutoff, 6), *bessel_functions(r, cutoff, 3, 4).unbind(1)]
        for basis in bases:
            products = torch.trapezoid(basis[:, :, None] * basis[:, None] * x[:, None, None] ** 2, x, dim=0)
            torch.testing.assert_close(products, torch.eye(basis.shape[1], dtype=torch.float64), rtol=0, atol=1e-5)

    def test_first_function_of_the_smooth_basis(self):
        """f_0 = √2 π/r_c^1.5 · 2/√5 · (sinc(πr/r_c) + sinc(2πr/r_c)), with r_c = 2 units."""
        x = math.pi * self.X
        expected = 2**0.5 * math.pi / 2**1.5 * 2 / 5**0.5 * (torch.sin(x) / x + torch.sin(2 * x) / (2 * x))
        torch.testing.assert_close(smooth_basis(4.0 * self.X, 4.0, 3)[:-1, 0], expected[:-1], rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize(
        "function", [lambda r: smooth_basis(r, 5.0, 4), lambda r: cutoff_function(r, 5.0)[:, None]]
    )
    def test_vanish_with_two_derivatives_at_the_cutoff(self, function):
        for column in range(function(torch.ones(1)).shape[1]):
            r = torch.tensor([5.0 - 1e-7, 5.0, 5.5, 7.0], dtype=torch.float64, requires_grad=True)
            value = function(r)[:, column]
            (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
            (curvature,) = torch.autograd.grad(slope.sum(), r)
            assert value.abs().max() < 1e-12 and slope.abs().max() < 1e-9 and curvature.abs().max() < 1e-4
            assert not value[1:].any() and not slope[1:].any()
        assert cutoff_function(torch.tensor([0.0, 2.5], dtype=torch.float64), 5.0).tolist() == [1.0, 0.5]


def expansion_by_triplets(model: M3GNet, atoms: torch.Tensor, batch: CrystalBatch) -> torch.Tensor:
    """The sum over other bonds as the paper writes it, triplet by triplet, with angles and Legendre polynomials."""
    step, hypers = model.many_body[0], model.hypers
    vectors = batch.edge_vectors().detach().numpy()
    lengths = np.linalg.norm(vectors, axis=1)
    weight, bias = step.neighbour.weight.detach().numpy(), step.neighbour.bias.detach().numpy()
    gates = 1 / (1 + np.exp(-(atoms.detach().numpy() @ weight.T + bias)))
    r_c = hypers.threebody_cutoff
    f_c = np.where(
        lengths < r_c, 1 - 6 * (lengths / r_c) ** 5 + 15 * (lengths / r_c) ** 4 - 10 * (lengths / r_c) ** 3, 0
    )
    out = np.zeros((len(lengths), hypers.l_max, hypers.n_max))
    for ij, i in enumerate(batch.dst.tolist()):
        for ik in np.flatnonzero(batch.dst.numpy() == i):
            if ik == ij:
                continue
            cosine = vectors[ij] @ vectors[ik] / lengths[ij] / lengths[ik]
            gate = gates[batch.src[ik]].reshape(hypers.l_max, hypers.n_max)
            for degree, roots in enumerate(bessel_roots(hypers.l_max, hypers.n_max)):
                # The addition theorem's Y_l0, without 1/sqrt(4π).
                angular = np.sqrt(2 * degree + 1) * np.polynomial.legendre.Legendre.basis(degree)(cosine)
                for n, z in enumerate(roots):
                    radial = 0.5 / abs(spherical_jn(degree + 1, z)) * spherical_jn(degree, z * lengths[ik] / r_c)
                    out[ij, degree, n] += radial * angular * gate[degree, n] * f_c[ij] * f_c[ik]
    return torch.from_numpy(SCALE * out.reshape(len(lengths), -1))


class TestManyBody:
    @pytest.mark.parametrize("hypers", [{}, {"l_max": 5, "n_max": 2}, {"l_max": 1, "n_max": 1}], ids=str)
    def test_is_the_sum_over_triplets(self, hypers):
        model, batch = double(layers=1, **hypers), batch_of(random_p1(), lone())
        atoms = model.elements_embedding(batch.numbers)
        vectors = batch.edge_vectors()
        l_max, n_max = model.hypers.l_max, model.hypers.n_max
        short = ShortBonds.of(vectors, vectors.norm(dim=-1), batch.src, batch.dst, SHORT, l_max, n_max)
        assert 0 < len(short.index) < len(batch.src)
        expected = expansion_by_triplets(model, atoms, batch)
        assert error(model.many_body[0].expansion(atoms, short), expected[short.index]) < 1e-12
        assert expected[short.index].square().mean().sqrt() > 0.01
        rest = torch.ones(len(batch.src), dtype=torch.bool)
        rest[short.index] = False
        assert not expected[rest].any()

    def test_a_pair_has_no_triplet(self):
        """One bond at each atom: the bond itself is not among its neighbours, and the step changes nothing."""
        box = Structure(Lattice.cubic(12.0), ["Ti", "O"], [[0, 0, 0], [0.15, 0, 0]])
        batch, model = batch_of(box), double(layers=1)
        vectors = batch.edge_vectors()
        short = ShortBonds.of(vectors, vectors.norm(dim=-1), batch.src, batch.dst, SHORT, 3, 3)
        assert len(short.index) == len(batch.src) == 2
        edges = torch.randn(2, 8, dtype=torch.float64)
        changed = model.many_body[0](model.elements_embedding(batch.numbers), edges, short)
        torch.testing.assert_close(changed, edges, rtol=0, atol=1e-14)

    def test_images_are_bonds_of_their_own(self):
        """Along a chain of one atom, each image sees the other at 180°: expansion in closed form."""
        chain = Structure(Lattice.orthorhombic(2.6, 12.0, 12.0), ["Cu"], [[0, 0, 0]])
        batch, model = batch_of(chain), double(layers=1)
        vectors = batch.edge_vectors()
        atoms = model.elements_embedding(batch.numbers)
        short = ShortBonds.of(vectors, vectors.norm(dim=-1), batch.src, batch.dst, SHORT, 3, 3)
        assert len(short.index) == 2
        gate = torch.sigmoid(model.many_body[0].neighbour(atoms)).reshape(3, 3)
        r = torch.tensor([2.6], dtype=torch.float64)
        legendre = torch.tensor([1.0, -(3**0.5), 5**0.5], dtype=torch.float64)[:, None]
        one = bessel_functions(r, SHORT, 3, 3)[0] * gate * legendre * cutoff_function(r, SHORT) ** 2
        expected = SCALE * one.flatten().expand(2, -1)
        torch.testing.assert_close(model.many_body[0].expansion(atoms, short), expected, rtol=1e-12, atol=1e-14)

    def test_angles_matter(self):
        """Two neighbours at the same distances, the angle at the atom between changes."""

        def bent(angle: float) -> torch.Tensor:
            a, r = math.radians(angle), 1.9
            places = [[9, 9, 9], [9 + r, 9, 9], [9 + r * math.cos(a), 9 + r * math.sin(a), 9]]
            box = Structure(Lattice.cubic(20.0), ["O", "Ti", "Ti"], places, coords_are_cartesian=True)
            batch = batch_of(box)
            assert len(batch.src) == 6
            return double(layers=1)(batch).atoms.values[0]  # of the atom between, whose distances stay

        assert (bent(125) - bent(175)).norm() > 1e-4 * bent(125).norm()


class TestFeatures:
    @pytest.mark.parametrize("hypers", [{}, {"layers": 1}, {"layers": 3, "layer": 2}, {"num_radial": 5, "l_max": 2}])
    def test_every_parameter_gets_a_gradient(self, hypers):
        model = double(**hypers)
        made = model(batch_of(random_p1(), rock_salt()))
        promised = M3GNet.provides(model.hypers)
        assert made.atoms.irreps == promised.atoms and made.bonds.irreps == promised.bonds
        names, parameters = zip(*model.named_parameters(), strict=True)
        weights = torch.randn(made.atoms.values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad((made.atoms.values * weights).sum(), parameters)
        for name, gradient in zip(names, gradients, strict=True):
            assert gradient.norm() > 0 and gradient.isfinite().all(), name

    def test_invariant_under_rotations_and_reflections(self):
        before = double()(batch_of(random_p1())).atoms.values
        for matrix in orthogonal_matrices(2):
            assert error(double()(batch_of(rotate_crystal(random_p1(), matrix))).atoms.values, before) < 1e-10

    def test_bonds_differ_by_direction_and_vanish_at_the_cutoff(self):
        """The bond features too have no jump there, nor in their slope."""

        def at(length: float) -> tuple[torch.Tensor, torch.Tensor]:
            places = [[9, 9, 9], [9 + length, 9, 9], [9, 9 + 2.2, 9], [9 - 1.9, 9, 9 + 0.4]]
            box = Structure(Lattice.cubic(20.0), ["O", "Ti", "S", "O"], places, coords_are_cartesian=True)
            batch = batch_of(box)
            bonds = double()(batch).bonds.scalars()
            both = [(batch.dst == a) & (batch.src == b) for a, b in ((0, 1), (1, 0))]
            return tuple(bonds[edge].squeeze(0) for edge in both)

        there, back = at(2.5)
        assert (there - back).norm() > 1e-3 * there.norm()
        far, near = at(CUTOFF - 0.2)[0].norm(), at(CUTOFF - 0.02)[0].norm()
        assert far > 0 and near < 2e-3 * far  # the third power of the distance to the cutoff

    def test_edges_beyond_the_cutoff_do_not_count(self):
        """A graph that holds longer edges gives the same."""
        longer = collate([crystal_graph(random_p1(), CUTOFF + 1)], torch.float64)
        assert len(longer.src) > len(batch_of(random_p1()).src)
        assert error(double()(longer).atoms.values, double()(batch_of(random_p1())).atoms.values) < 1e-12

    def test_order_one_on_real_crystals(self):
        model = build(channels=64)
        made = model(batch_of(random_p1(), rock_salt(), dtype=torch.float32))
        assert 0.3 < made.atoms.values.square().mean().sqrt() < 3
        assert 0.1 < made.bonds.values.square().mean().sqrt() < 3

    def test_without_any_edge(self):
        model = double()
        batch = batch_of(lone())
        made = model(batch)
        assert made.bonds.values.shape == (0, 8)
        assert torch.equal(made.atoms.values, model.elements_embedding(batch.numbers))
        made.atoms.values.sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        model.zero_grad(set_to_none=True)


def test_smooth_at_the_threebody_cutoff():
    """Forces and their slope do not jump where a bond crosses it: energy C2 (the pair is inside the outer cutoff)."""
    torch.manual_seed(0)
    potential = Potential(build(), width=16).double().eval()

    def forces(length: float) -> torch.Tensor:
        places = [[9, 9, 9], [9 + length, 9, 9], [9, 9 + 2.2, 9], [9 - 1.9, 9, 9 + 0.4]]
        box = Structure(Lattice.cubic(20.0), ["O", "Ti", "S", "O"], places, coords_are_cartesian=True)
        return potential(batch_of(box)).forces

    def short_bonds(length: float) -> int:
        vectors = torch.tensor([[length, 0, 0]], dtype=torch.float64)
        none = torch.zeros(1, dtype=torch.int64)
        return len(ShortBonds.of(vectors, vectors.norm(dim=-1), none, none, SHORT, 1, 1).index)

    assert [short_bonds(SHORT - 1e-6), short_bonds(SHORT + 1e-6)] == [1, 0]
    h = 1e-3
    inside, here, outside = (forces(SHORT + d) for d in (-h, 0.0, h))
    assert (forces(SHORT + 1e-7) - forces(SHORT - 1e-7)).norm() < 1e-3 * (outside - inside).norm()
    left, right = (here - inside) / h, (outside - here) / h
    assert (right - left).norm() < 2e-2 * left.norm()


def test_finite_second_derivatives_where_bonds_are_collinear():
    """Loss on forces and stress, on rock salt, a chain and a lone atom, one after another."""
    chain = Structure(Lattice.orthorhombic(2.6, 12.0, 12.0), ["Cu"], [[0, 0, 0]])
    torch.manual_seed(0)
    potential = Potential(build(), width=16).double().train()
    for structure in (rock_salt(), chain, lone()):
        out = potential(batch_of(structure))
        loss = out.energy.square().sum() + out.forces.square().sum() + out.stress.square().sum()
        gradients = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)
        assert all(g.isfinite().all() for g in gradients if g is not None)


class TestHypers:
    def test_the_papers(self):
        hypers = M3GNet.Hypers()
        assert M3GNet.provides(hypers).atoms.dim == 64
        assert (hypers.cutoff, hypers.threebody_cutoff, hypers.layers) == (5.0, 4.0, 3)

    def test_later_layers_are_not_built(self):
        model = build(layers=4, layer=2)
        assert len(model.convolutions) == len(model.many_body) == 2
        assert M3GNet.layers(model.hypers) == 4

    @pytest.mark.parametrize(
        "wrong",
        [{"layers": 2, "layer": 3}, {"layer": 0}, {"threebody_cutoff": 6.0}, {"l_max": 9}, {"chanels": 8}],
    )
    def test_wrong_ones(self, wrong):
        with pytest.raises(ValidationError):
            M3GNet.Hypers(**wrong)
