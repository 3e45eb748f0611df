import dataclasses
import functools
import importlib.util
import pickle

import pytest
import torch
from e3nn import o3
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from zoo.api import CrystalBatch, ZooError
from zoo.graphs.graph import collate, crystal_graph
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_sevennet import SevenNet
from zoo_sevennet import checkpoint as checkpoints

LAYERS = (1, 2, 3, 4, 5)
INVERSION = -torch.eye(3, dtype=torch.float64)
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


def quartz() -> Structure:
    lattice = Lattice.hexagonal(4.913, 5.405)
    return Structure.from_spacegroup("P3_121", lattice, ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.4533]])


def tellurium() -> Structure:
    return Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.458, 5.925), ["Te"], [[0.2633, 0, 1 / 3]])


def cinnabar() -> Structure:
    lattice = Lattice.hexagonal(4.149, 9.495)
    return Structure.from_spacegroup("P3_221", lattice, ["Hg", "S"], [[0.7198, 0, 2 / 3], [0.4889, 0, 1 / 6]])


def random_p1() -> Structure:
    places = [[0.02, 0.05, 0.01], [0.45, 0.55, 0.38], [0.5, 0.1, 0.72], [0.13, 0.6, 0.6], [0.7, 0.8, 0.05]]
    return Structure(Lattice.from_parameters(4.3, 5.4, 6.1, 81, 97, 104), ["Ca", "Ti", "O", "O", "S"], places)


CHIRAL = [quartz, tellurium, cinnabar, random_p1]


def batch_of(*structures: Structure, dtype: torch.dtype = torch.float32) -> CrystalBatch:
    return collate([crystal_graph(structure, 5.0) for structure in structures], dtype)


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


@functools.cache
def encoder(layer: int | tuple[int, ...] = LAYERS, pseudotensors: bool = True) -> SevenNet:
    return SevenNet(SevenNet.Hypers(layer=layer, pseudotensors=pseudotensors))


@pytest.fixture(scope="module")
def sevenn_calculator():
    """sevenn's own model behind its own graph builder; its loader reads the file as ours does, without unpickling."""
    import sevenn.calculator
    import sevenn.checkpoint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sevenn.checkpoint, "torch_load", lambda path, **_: checkpoints.read(path))
        return sevenn.calculator.SevenNetCalculator("7net-0", device="cpu")


def sevenn_run(calculator, structure: Structure) -> tuple[list[torch.Tensor], float]:
    """sevenn's features after each layer and its energy."""
    features = []
    hooks = [
        calculator.model._modules[f"{t}_equivariant_gate"].register_forward_hook(
            lambda module, args, out: features.append(out["x"].detach().clone())
        )
        for t in range(5)
    ]
    atoms = AseAtomsAdaptor.get_atoms(structure)
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    for hook in hooks:
        hook.remove()
    return features, energy


def e3nn_layout(features: list[torch.Tensor], image: int) -> torch.Tensor:
    return torch.cat([x[:, :, image].transpose(1, 2).flatten(1) for x in features], dim=1)


class TestAgainstSevenn:
    pytestmark = pytest.mark.sevennet

    @pytest.mark.parametrize("crystal", CHIRAL)
    def test_features_are_those_of_its_own_model(self, sevenn_calculator, crystal):
        wanted, _ = sevenn_run(sevenn_calculator, crystal())
        with torch.no_grad():
            got = encoder().raw_features(batch_of(crystal()))
        for ours, theirs in zip(got, wanted, strict=True):
            assert error(e3nn_layout(ours, 0), theirs) < 1e-5

    @pytest.mark.parametrize("crystal", CHIRAL)
    def test_mirror_features_are_those_of_the_inverted_crystal(self, sevenn_calculator, crystal):
        wanted, _ = sevenn_run(sevenn_calculator, rotate_crystal(crystal(), INVERSION))
        with torch.no_grad():
            got = encoder().raw_features(batch_of(crystal()))
        for ours, theirs in zip(got, wanted, strict=True):
            undone = [(-1) ** degree * x for degree, x in enumerate(ours)]
            assert error(e3nn_layout(undone, -1), theirs) < 1e-5

    def test_the_sign_of_the_edges_shows(self, sevenn_calculator):
        """The two tests above would pass with flipped edges if the crystals could not tell."""
        flipped, _ = sevenn_run(sevenn_calculator, rotate_crystal(quartz(), INVERSION))
        with torch.no_grad():
            got = encoder().raw_features(batch_of(quartz()))
        for ours, theirs in zip(got, flipped, strict=True):
            assert error(e3nn_layout(ours, 0), theirs) > 5e-3

    def test_energy_from_layer_5(self, sevenn_calculator):
        _, energy = sevenn_run(sevenn_calculator, quartz())
        batch = batch_of(quartz())
        state = checkpoints.read(encoder().checkpoint.path())["model_state_dict"]
        species = encoder().species[batch.numbers]
        with torch.no_grad():
            scalars = encoder().raw_features(batch)[4][0][:, 0, 0]
        hidden = scalars @ state["reduce_input_to_hidden.linear.weight"].view(128, 64) / 128**0.5
        atomic = hidden @ state["reduce_hidden_to_energy.linear.weight"] / 64**0.5
        atomic = atomic * state["rescale_atomic_energy.scale"][species] + state["rescale_atomic_energy.shift"][species]
        assert float(atomic.sum()) == pytest.approx(energy, rel=1e-5)

    def test_bond_scalars_are_its_edge_embedding(self, sevenn_calculator):
        batch = batch_of(random_p1())
        with torch.no_grad():
            theirs = sevenn_calculator.model._modules["edge_embedding"]({"edge_vec": batch.edge_vectors()})
            bonds = encoder().bonds(batch)
        assert torch.allclose(bonds.scalars(), theirs["edge_embedding"], rtol=1e-5, atol=1e-6)
        vectors = theirs["edge_embedding"].unsqueeze(1) * theirs["edge_attr"][:, 1:4].unsqueeze(2)
        assert torch.allclose(bonds.vectors(), vectors, rtol=1e-5, atol=1e-6)


class TestSymmetry:
    pytestmark = pytest.mark.sevennet

    @pytest.mark.parametrize("matrix", orthogonal_matrices(2), ids=["proper", "improper"])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
    def test_features_are_true_tensors(self, rotate_block, matrix, dtype, tolerance):
        model = SevenNet(SevenNet.Hypers(layer=LAYERS, pseudotensors=True)).to(dtype)
        with torch.no_grad():
            before = model(batch_of(quartz(), random_p1(), dtype=dtype)).atoms
            after = model(batch_of(*(rotate_crystal(c(), matrix) for c in (quartz, random_p1)), dtype=dtype)).atoms
        for _, irrep in before.irreps:
            # pseudotensors are small differences of large numbers: their error is measured by these
            scale = before.block(o3.Irrep(irrep.l, (-1) ** irrep.l)).norm()
            wanted = rotate_block(before.block(irrep), irrep, matrix)
            assert (after.block(irrep) - wanted).norm() < tolerance * scale, irrep

    def test_raw_features_are_not(self, rotate_block):
        """Why they are not used as they are: under a mirror they mix true tensors with pseudotensors."""
        with torch.no_grad():
            before = encoder().raw_features(batch_of(quartz()))[3]
            after = encoder().raw_features(batch_of(rotate_crystal(quartz(), MIRROR)))[3]
        for degree, (x, y) in enumerate(zip(before, after, strict=True)):
            got, was = (z[:, :, 0].transpose(1, 2) for z in (y, x))
            assert error(got, rotate_block(was, o3.Irrep(degree, (-1) ** degree), MIRROR)) > 1e-3

    def test_pseudotensors_vanish_on_achiral_crystals_alone(self):
        rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        with torch.no_grad():
            features = encoder()(batch_of(quartz(), rocksalt)).atoms
        pseudoscalars = features.block("0o").squeeze(-1)
        assert pseudoscalars[:9].norm() > 1e-3 * features.scalars()[:9].norm()
        assert pseudoscalars[9:].norm() < 1e-6 * features.scalars()[9:].norm()

    def test_every_pseudotensor_promised_is_alive(self):
        with torch.no_grad():
            values = encoder()(batch_of(random_p1())).atoms
        for irrep in ("0o", "1e", "2o"):
            assert (values.block(irrep).norm(dim=(0, 2)) > 0).all()

    def test_cells(self):
        """Permutation, an atom moved by a lattice vector, a supercell, a batch of several."""
        structure = random_p1()
        order = [3, 0, 4, 2, 1]
        moved = structure.copy()
        moved.translate_sites([2], [1, -2, 0], to_unit_cell=False)
        double = structure.make_supercell([2, 1, 1], in_place=False)
        model = SevenNet(SevenNet.Hypers()).double()
        with torch.no_grad():
            wanted = model(batch_of(structure, dtype=torch.float64)).atoms.values
            mixed = batch_of(quartz(), Structure.from_sites([structure[i] for i in order]), moved, dtype=torch.float64)
            got = model(mixed).atoms.values
            doubled = model(batch_of(double, dtype=torch.float64)).atoms.values
        assert error(got[9:14], wanted[order]) < 1e-10
        assert error(got[14:], wanted) < 1e-10
        assert error(doubled, wanted.repeat_interleave(2, dim=0)) < 1e-10

    def test_one_atom_cell_and_atom_without_neighbours(self):
        copper = Structure(Lattice.from_parameters(2.55, 2.55, 2.55, 60, 60, 60), ["Cu"], [[0, 0, 0]])
        lone = Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]])
        batch = batch_of(copper, lone)
        assert (batch.dst == 1).sum() == 0
        with torch.no_grad():
            features = encoder()(batch).atoms
        assert torch.isfinite(features.values).all()
        assert features.scalars()[1].norm() > 0  # the element itself
        assert features.vectors().norm() < 1e-5 * features.scalars().norm()
        assert encoder()(batch_of(lone)).bonds.values.shape == (0, 32)

    def test_bonds_vanish_at_the_cutoff_and_beyond(self):
        batch = batch_of(random_p1())
        direction = torch.tensor([0.6, 0.0, 0.8])
        values = []
        for length in (4.9, 4.999, 5.0, 5.3):
            pair = CrystalBatch(
                positions=torch.stack([torch.zeros(3), direction * length]),
                numbers=batch.numbers[:2],
                cell=100 * torch.eye(3)[None],
                crystal=torch.zeros(2, dtype=torch.int64),
                src=torch.tensor([1]),
                dst=torch.tensor([0]),
                shift=torch.zeros(1, 3, dtype=torch.int64),
            )
            values.append(float(encoder().bonds(pair).values.norm()))
        assert values[0] > 100 * values[1] > 0
        assert values[2:] == [0, 0]

    def test_strain_derivative(self):
        """The graph of strain readouts goes through the encoder: against central differences, float64."""
        model = SevenNet(SevenNet.Hypers(layer=3)).double()
        batch = batch_of(random_p1(), dtype=torch.float64)
        direction = torch.tensor([[[0.3, 0.2, -0.5], [0.2, -0.4, 0.1], [-0.5, 0.1, 0.6]]], dtype=torch.float64)

        def total(size: torch.Tensor) -> torch.Tensor:
            return model(dataclasses.replace(batch, strain=size * direction)).atoms.scalars().sum()

        size = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (derivative,) = torch.autograd.grad(total(size), size)
        step = torch.tensor(1e-5, dtype=torch.float64)
        with torch.no_grad():
            difference = (total(step) - total(-step)) / (2 * step)
        assert float(derivative) == pytest.approx(float(difference), rel=1e-6)


class TestChoices:
    pytestmark = pytest.mark.sevennet

    @pytest.mark.parametrize("pseudotensors", [False, True])
    @pytest.mark.parametrize("layer", [1, 2, 3, 4, 5, (1, 4), (3, 5), (5, 4, 2)])
    def test_provides_what_it_promised(self, layer, pseudotensors):
        model = encoder(layer, pseudotensors)
        with torch.no_grad():
            made = model(batch_of(quartz()))
        promised = SevenNet.provides(model.hypers)
        assert made.atoms.irreps == promised.atoms
        assert made.bonds.irreps == promised.bonds == o3.Irreps("8x0e+8x1o")
        assert torch.equal(made.bonds.values, model.bonds(batch_of(quartz())).values)

    def test_default_is_layer_4_true_tensors(self):
        assert SevenNet.provides(SevenNet.Hypers()).atoms == o3.Irreps("128x0e+64x1o+32x2e")

    def test_several_layers_are_concatenated(self):
        batch = batch_of(quartz())
        with torch.no_grad():
            both = encoder((4, 1), False)(batch).atoms
            parts = [encoder(n, False)(batch).atoms for n in (1, 4)]
        assert both.irreps == o3.Irreps("256x0e+128x1o+64x2e")
        for irrep in ("0e", "1o", "2e"):
            assert torch.allclose(both.block(irrep), torch.cat([part.block(irrep) for part in parts], dim=1))

    def test_layer_5_has_the_vectors_and_tensors_of_layer_4(self):
        batch = batch_of(quartz())
        with torch.no_grad():
            fourth, fifth = (encoder(n, False)(batch).atoms for n in (4, 5))
        assert fifth.irreps == fourth.irreps
        assert torch.equal(fifth.vectors(), fourth.vectors())
        assert torch.equal(fifth.tensors(), fourth.tensors())
        assert error(fifth.scalars(), fourth.scalars()) > 0.1
        assert SevenNet.provides(SevenNet.Hypers(layer=[4, 5])).atoms == o3.Irreps("256x0e+64x1o+32x2e")

    def test_later_layers_are_not_built(self):
        assert len(encoder(2, False).network.layers) == 2

    def test_fingerprint_tells_what_is_computed(self):
        prints = {encoder(layer, p).fingerprint() for layer in (3, 4, (3, 4)) for p in (False, True)}
        assert len(prints) == 6
        assert encoder((4, 3), False).fingerprint() == encoder((3, 4), False).fingerprint()

    def test_table_is_that_of_the_file(self):
        for name, known in checkpoints.CHECKPOINTS.items():
            config = checkpoints.read(known.path())["config"]
            channels = tuple(tuple(mul for mul, _ in o3.Irreps(irreps)) for irreps in config["irreps_manual"][1:])
            assert known.channels == channels, name
            assert known.cutoff == config["cutoff"]
            assert known.radial == config["radial_basis"]["bessel_basis_num"]

    def test_elements(self):
        elements = encoder().elements()
        assert len(elements) == 89
        assert {1, 8, 14, 83, 94} <= elements
        assert 84 not in elements

    def test_unknown_element(self):
        polonium = Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]])
        with pytest.raises(ZooError, match="SevenNet-0 does not know Po"):
            encoder()(batch_of(quartz(), polonium))


class TestSafety:
    def test_a_file_that_would_run_code_is_refused(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

        torch.save({"model_state_dict": Harmful()}, tmp_path / "harmful.pth")
        with pytest.raises(pickle.UnpicklingError):
            checkpoints.read(tmp_path / "harmful.pth")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.sevennet
    def test_the_allowed_globals_stay_allowed_here_alone(self):
        before = torch.serialization.get_safe_globals()
        checkpoints.read(checkpoints.CHECKPOINTS["SevenNet-0"].path())
        assert set(torch.serialization.get_safe_globals()) == set(before)

    def test_missing_extra(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ZooError, match=r'pip install "crystal-tensor-zoo\[sevennet\]"'):
            SevenNet(SevenNet.Hypers())
        assert SevenNet.provides(SevenNet.Hypers(layer=3)).atoms == o3.Irreps("128x0e+64x1o+32x2e")

    @pytest.mark.parametrize("layer", [0, 6, [], [1, 7], [2, 2]])
    def test_layers_that_do_not_exist(self, layer):
        with pytest.raises(ValidationError, match="layer is a number from 1 to 5, or a list of different ones"):
            SevenNet.Hypers(layer=layer)
