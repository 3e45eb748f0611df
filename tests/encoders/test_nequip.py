import dataclasses
import functools
import math

import pytest
import torch
from e3nn import o3
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from small_crystals import check_slope, error, quartz, random_p1, within

from zoo.api import ConvolutionEdges, CrystalBatch
from zoo.testing import EncoderWithEnergy, PotentialTests
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo.testing.pair import default_dtype
from zoo_nequip import NequIP
from zoo_nequip.convolution import Convolution
from zoo_nequip.paths import after_each_layer

CUTOFF = 4.0
SMALL = {"cutoff": CUTOFF, "channels": 8, "element_channels": 4, "radial_width": 8}
VARIANTS = [
    {},
    {"parity": False},
    {"l_max": 1},
    {"l_max": 3, "layers": 2},
    {"layers": 1},
    {"layers": 2},
    {"layers": 5},
    {"layers": 3, "layer": 2},
    {"radial_layers": 1, "num_bessel": 5, "envelope_power": 4},
]


class TestPotential(PotentialTests):
    model = EncoderWithEnergy("nequip", SMALL)


batch_of = functools.partial(within, CUTOFF)


def build(**hypers) -> NequIP:
    torch.manual_seed(0)
    return NequIP(NequIP.Hypers(**{**SMALL, **hypers}))


@functools.cache
def double(**hypers) -> NequIP:
    """Built in float32 and then changed: constants must not stay rounded."""
    return build(**hypers).double()


@pytest.mark.parametrize("hypers", VARIANTS, ids=str)
class TestVariants:
    def test_provides_what_it_promised(self, hypers):
        model = double(**hypers)
        with torch.no_grad():
            made = model(batch_of(quartz()))
        promised = NequIP.provides(model.hypers)
        assert made.atoms.irreps == promised.atoms
        assert made.bonds.irreps == promised.bonds
        assert all(irrep.p == (-1) ** irrep.l for _, irrep in promised.atoms)
        assert torch.equal(made.bonds.values, model.bonds(batch_of(quartz())).values)

    def test_every_parameter_gets_a_gradient(self, hypers):
        model = double(**hypers)
        features = model(batch_of(random_p1(), quartz())).atoms.values
        weights = torch.randn(features.shape, dtype=features.dtype, generator=torch.Generator().manual_seed(1))
        names, parameters = zip(*model.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad((features * weights).sum(), parameters), strict=True):
            assert gradient.norm() > 0, name
            if name.endswith("convolution.weights.layer0.weight"):
                assert (gradient.abs().sum(1) > 0).all(), name  # every radial basis function
            if ".convolution.weights." in name:
                assert (gradient.abs().sum(0) > 0).all(), name  # every path and channel

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


class TestCrystals:
    def test_cells(self):
        """Permutation, an atom moved by a lattice vector, a supercell, a batch of several."""
        structure = random_p1()
        order = [3, 0, 4, 2, 1]
        moved = structure.copy()
        moved.translate_sites([2], [1, -2, 0], to_unit_cell=False)
        supercell = structure.make_supercell([2, 1, 1], in_place=False)
        with torch.no_grad():
            wanted = double()(batch_of(structure)).atoms.values
            mixed = batch_of(quartz(), Structure.from_sites([structure[i] for i in order]), moved)
            got = double()(mixed).atoms.values
            doubled = double()(batch_of(supercell)).atoms.values
        assert error(got[9:14], wanted[order]) < 1e-10
        assert error(got[14:], wanted) < 1e-10
        assert error(doubled, wanted.repeat_interleave(2, dim=0)) < 1e-10

    def test_self_images_alone(self):
        """One atom: all its neighbours are its own images. Without them the features would be the lone atom's."""
        low = Structure(Lattice.from_parameters(2.7, 3.1, 3.3, 81, 97, 104), ["Cu"], [[0.2, 0.3, 0.4]])
        cubic = Structure(Lattice.cubic(3.6), ["Cu"], [[0.2, 0.3, 0.4]])
        lone = Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]])
        with torch.no_grad():
            features = double()(batch_of(low, cubic, lone)).atoms
            alone = double()(batch_of(lone))
        tensors, scalars = features.tensors(), features.scalars()
        assert tensors[0].norm() > 1e-3 * scalars[0].norm()
        assert tensors[1:].norm() < 1e-12 * scalars.norm()  # cubic, and without neighbours
        assert features.vectors().norm() < 1e-12 * scalars.norm()  # each atom is an inversion centre
        assert error(scalars[0], scalars[2]) > 1e-2
        assert error(alone.atoms.values[0], features.values[2]) < 1e-12
        assert alone.bonds.values.shape == (0, 32)

    def test_training_step_without_any_edge(self):
        model = double()
        model(batch_of(Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]]))).atoms.values.sum().backward()
        assert model.elements_embedding.weight.grad.isfinite().all()
        model.zero_grad(set_to_none=True)

    def test_smooth_at_the_cutoff(self):
        def at(length: float) -> CrystalBatch:
            lattice = Lattice([[length, 0, 0], [0.6, 3.3, 0], [0.3, 0.7, 3.5]])
            return batch_of(Structure(lattice, ["Ti", "O"], [[0, 0, 0], [0.41, 0.53, 0.37]]))

        def features(length: float) -> torch.Tensor:
            with torch.no_grad():
                return double()(at(length)).atoms.values

        assert len(at(CUTOFF - 1e-6).src) > len(at(CUTOFF + 1e-6).src)
        jump = (features(CUTOFF + 1e-6) - features(CUTOFF - 1e-6)).norm()
        change = (features(CUTOFF + 1e-3) - features(CUTOFF - 1e-3)).norm()
        assert jump < 2e-3 * change  # as far as the crystal moved

    def test_bonds_turn_with_the_crystal(self, rotate_block):
        """With the edges kept as they are: rounding may sort a new graph's otherwise."""
        matrix = orthogonal_matrices(2)[1]
        batch = batch_of(quartz())
        turned = dataclasses.replace(batch, positions=batch.positions @ matrix.T, cell=batch.cell @ matrix.T)
        before, after = double().bonds(batch), double().bonds(turned)
        for irrep in (o3.Irrep("0e"), o3.Irrep("1o")):
            assert error(after.block(irrep), rotate_block(before.block(irrep), irrep, matrix)) < 1e-12

    def test_bonds_vanish_at_the_cutoff_and_beyond(self):
        one = {"src": torch.tensor([1]), "dst": torch.tensor([0]), "shift": torch.zeros(1, 3, dtype=torch.int64)}
        pair = dataclasses.replace(batch_of(random_p1()), **one)
        values = []
        for length in (0.98 * CUTOFF, 0.9998 * CUTOFF, CUTOFF, 1.1 * CUTOFF):
            positions = torch.tensor([[0.0, 0, 0], [0.6, 0, 0.8]], dtype=torch.float64) * length
            values.append(double().bonds(dataclasses.replace(pair, positions=positions)).values.norm())
        assert values[0] > 1e4 * values[1] > 0
        assert values[2:] == [0, 0]

    def test_derivatives_against_differences(self):
        """With respect to strain and positions, as strain readouts and forces want them."""
        batch = batch_of(random_p1())
        generator = torch.Generator().manual_seed(2)
        strain, shift = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((1, 3, 3), (5, 3)))

        def total(size: torch.Tensor) -> torch.Tensor:
            moved = dataclasses.replace(batch, positions=batch.positions + size * shift, strain=size * strain)
            return double()(moved).atoms.values.square().sum()

        check_slope(total)


class TestConvolution:
    @pytest.mark.parametrize(
        ("irreps_in", "wanted"),
        [
            ("8x0e", "0e+1o+2e"),
            ("8x0e+4x1o+4x1e+2x2e+2x2o", "0e+1o+2e"),
            ("8x0e+8x0o+4x1o+4x1e+2x2e+2x2o", "0e+0o+1o+1e+2e+2o"),
            ("8x0e+4x1o+2x2e", "0e"),
        ],
    )
    def test_is_the_tensor_product_of_e3nn(self, irreps_in, wanted):
        """In output and gradient."""
        torch.manual_seed(3)
        irreps_in, wanted = o3.Irreps(irreps_in), {ir for _, ir in o3.Irreps(wanted)}
        ours = Convolution(irreps_in, wanted, l_max=2, radial=[8, 8]).double()
        filters = o3.Irreps.spherical_harmonics(2)
        found, instructions = [], []
        for i, (mul, ir) in enumerate(irreps_in):
            for j, (_, ir_filter) in enumerate(filters):
                for out in ir * ir_filter:
                    if out in wanted:
                        instructions.append((i, j, len(found), "uvu", True))
                        found.append((mul, out))
        irreps_mid, place, _ = o3.Irreps(found).sort()
        instructions = [(i, j, place[k], mode, train) for i, j, k, mode, train in instructions]
        with default_dtype(torch.float64):
            theirs = o3.TensorProduct(
                irreps_in, filters, irreps_mid, instructions, shared_weights=False, internal_weights=False
            )
        assert ours.irreps_out == irreps_mid.simplify()

        batch = batch_of(random_p1())
        x = torch.randn(5, irreps_in.dim, dtype=torch.float64, requires_grad=True)
        radial = torch.randn(len(batch.src), 8, dtype=torch.float64)
        vectors = batch.edge_vectors()
        harmonics = o3.spherical_harmonics([0, 1, 2], vectors, normalize=True, normalization="component")
        got = ours(x, ConvolutionEdges(batch.src, batch.dst, harmonics, radial, batch.n_atoms))
        expected = batch.sum_to_atoms(theirs(x[batch.src], harmonics, ours.weights(radial)))
        assert error(got, expected) < 1e-12
        gradients = [torch.autograd.grad(value.square().sum(), x)[0] for value in (got, expected)]
        assert error(*gradients) < 1e-12


class TestPaths:
    def test_pseudotensors_are_made_where_they_are_of_use(self):
        layers = after_each_layer(5, l_max=2, parity=True)
        assert [[str(irrep) for irrep in irreps] for irreps in layers] == [
            ["0e", "1o", "2e"],
            ["0e", "1o", "1e", "2e", "2o"],
            ["0e", "0o", "1o", "1e", "2e", "2o"],
            ["0e", "1o", "1e", "2e", "2o"],
            ["0e", "1o", "2e"],
        ]

    def test_none_without_parity(self):
        for irreps in after_each_layer(4, l_max=3, parity=False):
            assert [str(irrep) for irrep in irreps] == ["0e", "1o", "2e", "3o"]


class TestHypers:
    def test_defaults(self):
        provides = NequIP.provides(NequIP.Hypers())
        assert provides.atoms == o3.Irreps("64x0e+32x1o+16x2e")
        assert provides.bonds == o3.Irreps("8x0e+8x1o")

    def test_later_layers_are_not_built(self):
        model = build(layers=4, layer=2)
        assert len(model.interactions) == 2
        assert NequIP.layers(model.hypers) == 4

    @pytest.mark.parametrize("wrong", [{"layers": 2, "layer": 3}, {"layer": 0}, {"cutoff": 0.0}, {"chanels": 8}])
    def test_wrong_ones(self, wrong):
        with pytest.raises(ValidationError):
            NequIP.Hypers(**wrong)

    def test_average_neighbours_normalises(self):
        """Half the scale of the sums where four times as many neighbours are expected."""
        batch = batch_of(quartz())
        few, many = (build(layers=1, average_neighbours=n).double() for n in (8.0, 32.0))
        scales = [model.interactions[0].scale for model in (few, many)]
        assert scales[0] / scales[1] == pytest.approx(math.sqrt(4.0))
        with torch.no_grad():
            assert error(few(batch).atoms.values, many(batch).atoms.values) > 1e-3

    def test_not_pretrained(self):
        model = build()
        assert not NequIP.pretrained
        assert all(parameter.requires_grad for parameter in model.parameters())
        with pytest.raises(TypeError, match="not pretrained"):
            model.fingerprint()
