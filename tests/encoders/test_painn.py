"""PaiNN against the paper's equations, term by term, and what must hold of it on crystals."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from e3nn import o3
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from small_crystals import error, quartz, random_p1, within

from zoo.api import CrystalBatch, polynomial_envelope
from zoo.data.petousis2017 import Petousis2017
from zoo.graphs.graph import collate, crystal_graph
from zoo.testing import EncoderWithEnergy, PotentialTests
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_painn import PaiNN

CUTOFF = 4.0
SMALL = {"cutoff": CUTOFF, "channels": 8, "num_bessel": 5}
VARIANTS = [{}, {"layers": 1}, {"layers": 2, "layer": 1}, {"layers": 5}, {"num_bessel": 20, "envelope_power": 4}]


class TestPotential(PotentialTests):
    model = EncoderWithEnergy("painn", SMALL)


batch_of = functools.partial(within, CUTOFF)


def build(**hypers) -> PaiNN:
    torch.manual_seed(0)
    return PaiNN(PaiNN.Hypers(**{**SMALL, **hypers}))


@functools.cache
def double(**hypers) -> PaiNN:
    """Biases and norms moved away from where they start."""
    model = build(**hypers).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


class TestEquations:
    @torch.no_grad()
    def test_layer_by_layer_and_edge_by_edge(self):
        """Eqs. (7)-(10), with every vector component, channel and edge as the paper writes them."""
        model, batch = double(), batch_of(random_p1())
        C, R, scale = 8, 5, 32**-0.5
        s = model.elements_embedding(batch.numbers)
        v = torch.zeros(batch.n_atoms, C, 3, dtype=torch.float64)
        for layer, (message, update) in enumerate(zip(model.messages, model.updates, strict=True)):
            phi, W = message.phi(s), message.filters.weight
            s_m, v_m = s.clone(), v.clone()
            for e in range(len(batch.src)):
                i, j = int(batch.dst[e]), int(batch.src[e])
                r_ij = batch.positions[j] + batch.shift[e].double() @ batch.cell[0] - batch.positions[i]
                r = r_ij.norm()
                x = r / (CUTOFF / 2)
                rbf = torch.stack([torch.sin(n * torch.pi * r / CUTOFF) / x for n in range(1, R + 1)])
                w = W @ rbf * polynomial_envelope(r, CUTOFF)
                s_m[i] += scale * phi[j, :C] * w[:C]
                v_m[i] += scale * torch.outer(phi[j, C : 2 * C] * w[C : 2 * C], r_ij / r)
                if layer > 0:
                    v_m[i] += scale * (phi[j, 2 * C :] * w[2 * C :])[:, None] * v[j]
            s, v = s_m, v_m
            Uv, Vv = update.U.weight @ v, update.V.weight @ v
            a = update.a(torch.cat([s, (Vv.square().sum(dim=2) + 0.01**2).sqrt()], dim=1))
            a_ss, a_sv, a_vv = a[:, :C], a[:, C : 2 * C], a[:, 2 * C :]
            s = s + a_ss + a_sv * torch.einsum("ncx,ncx->nc", Uv, Vv)
            v = v + a_vv[:, :, None] * Uv
        made = model(batch).atoms
        assert v.norm() > 0.1 * s.norm()
        assert error(made.scalars(), s) < 1e-12
        assert error(made.vectors(), v.transpose(1, 2)) < 1e-12

    def test_the_networks_are_the_papers_behind_a_norm(self):
        model = build()
        for network, sizes in ((model.messages[1].phi, (8, 8, 24)), (model.updates[0].a, (16, 8, 24))):
            norm, first, activation, last = network
            assert isinstance(norm, torch.nn.LayerNorm) and isinstance(activation, torch.nn.SiLU)
            assert (first.in_features, first.out_features, last.out_features) == sizes
        assert model.messages[0].phi[-1].out_features == 16  # there are no vectors yet
        assert model.updates[0].U.bias is None and model.messages[0].filters.bias is None


@pytest.mark.parametrize("hypers", VARIANTS, ids=str)
class TestVariants:
    @torch.no_grad()
    def test_provides_what_it_promised(self, hypers):
        model = double(**hypers)
        made = model(batch_of(quartz()))
        promised = PaiNN.provides(model.hypers)
        assert made.atoms.irreps == promised.atoms
        assert made.bonds.irreps == promised.bonds
        assert torch.equal(made.bonds.values, model.bonds(batch_of(quartz())).values)

    def test_every_parameter_gets_a_gradient(self, hypers):
        """Every row of every matrix, but those of elements that are not there."""
        model = double(**hypers)
        features = model(batch_of(random_p1(), quartz())).atoms.values
        weights = torch.randn(features.shape, dtype=features.dtype, generator=torch.Generator().manual_seed(1))
        names, parameters = zip(*model.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad((features * weights).sum(), parameters), strict=True):
            assert gradient.norm() > 0, name
            if name != "elements_embedding.weight":
                assert (gradient.flatten(1).abs().sum(1) > 0).all() if gradient.dim() > 1 else (gradient != 0).all()

    @pytest.mark.parametrize("matrix", orthogonal_matrices(2), ids=["proper", "improper"])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
    @torch.no_grad()
    def test_equivariance(self, hypers, matrix, dtype, tolerance):
        model = build(**hypers).to(dtype)
        before = model(batch_of(quartz(), random_p1(), dtype=dtype)).atoms
        after = model(batch_of(*(rotate_crystal(c(), matrix) for c in (quartz, random_p1)), dtype=dtype)).atoms
        turned = torch.einsum("ij,njc->nic", matrix.to(dtype), before.vectors())
        assert before.vectors().norm() > 0
        assert error(after.scalars(), before.scalars()) < tolerance
        assert error(after.vectors(), turned) < tolerance


class TestCrystals:
    @torch.no_grad()
    def test_vectors_vanish_where_every_site_is_an_inversion_centre(self):
        cubic = Structure(Lattice.cubic(3.6), ["Cu"], [[0.2, 0.3, 0.4]])
        low = Structure(Lattice.from_parameters(2.7, 3.1, 3.3, 81, 97, 104), ["Cu"], [[0.2, 0.3, 0.4]])
        salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        features = double()(batch_of(cubic, low, salt)).atoms
        assert features.vectors().norm() < 1e-12 * features.scalars().norm()
        assert double()(batch_of(random_p1())).atoms.vectors().norm() > 1e-2

    def test_one_atom_alone(self):
        """No neighbour, no edge: finite features, finite gradients; bonds of no row."""
        model = build().double()
        made = model(batch_of(Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]])))
        assert made.bonds.values.shape == (0, 20)
        assert made.atoms.vectors().norm() == 0
        made.atoms.values.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    @torch.no_grad()
    def test_bonds_turn_with_the_crystal_and_vanish_at_the_cutoff(self):
        def bonds(length: float) -> tuple[CrystalBatch, torch.Tensor, torch.Tensor]:
            graph = crystal_graph(Structure(Lattice.tetragonal(9.0, length), ["Po"], [[0, 0, 0]]), CUTOFF)
            batch = collate([graph], torch.float64)
            made = double().bonds(batch)
            return batch, made.scalars(), made.vectors()

        batch, scalars, vectors = bonds(3.1)
        directions = batch.edge_vectors() / 3.1
        assert len(directions) == 2
        torch.testing.assert_close(vectors, scalars[:, None] * directions[:, :, None])
        norms = [bonds(length)[1].norm() for length in (0.98 * CUTOFF, 0.9998 * CUTOFF)]
        assert norms[0] > 1e4 * norms[1] > 0
        assert len(bonds(1.0001 * CUTOFF)[0].src) == 0

    @torch.no_grad()
    @pytest.mark.parametrize("layers", [1, 3, 8])
    def test_untrained_features_are_of_order_one_on_real_crystals(self, layers):
        """What the neighbours tell is neither lost beside what an atom knows of itself, nor does depth let it grow."""
        records = itertools.islice(Petousis2017(Petousis2017.Hypers()).records(), 0, 300, 10)
        torch.manual_seed(0)
        model = PaiNN(PaiNN.Hypers(layers=layers))
        batch = collate([crystal_graph(record.structure, 5.0) for record in records], torch.float32)
        atoms = model(batch).atoms
        own = model.elements_embedding(batch.numbers)
        assert 0.3 < (atoms.scalars() - own).square().mean().sqrt() < 3
        assert 0.05 < atoms.vectors().square().mean().sqrt() < 3
        assert atoms.values.abs().max() < 100

    def test_average_neighbours_normalises(self):
        """Half the vectors of the first message where four times as many neighbours are expected."""
        few, many = (build(average_neighbours=n).messages[0] for n in (8.0, 32.0))
        assert few.scale == pytest.approx(2 * many.scale)


class TestHypers:
    def test_defaults(self):
        provides = PaiNN.provides(PaiNN.Hypers())
        assert provides.atoms == o3.Irreps("64x0e+64x1o")
        assert provides.bonds == o3.Irreps("8x0e+8x1o")

    def test_later_layers_are_not_built(self):
        model = build(layers=4, layer=2)
        assert len(model.messages) == len(model.updates) == 2
        assert PaiNN.layers(model.hypers) == 4

    @pytest.mark.parametrize("wrong", [{"layers": 2, "layer": 3}, {"layer": 0}, {"cutoff": 0.0}, {"chanels": 8}])
    def test_wrong_ones(self, wrong):
        with pytest.raises(ValidationError):
            PaiNN.Hypers(**wrong)
