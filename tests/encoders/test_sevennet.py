import dataclasses
import functools
import importlib.util
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from ase.calculators.calculator import Calculator
from e3nn import o3
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from small_crystals import check_slope, error, quartz, random_p1, within

from zoo.api import CrystalBatch, ZooError
from zoo.convolution.paths import coupling
from zoo.testing import EncoderWithEnergy, PotentialTests
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_sevennet import SevenNet, SevenNetScratch
from zoo_sevennet import checkpoint as checkpoints

LAYERS = (1, 2, 3, 4, 5)
INVERSION = -torch.eye(3, dtype=torch.float64)
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


def tellurium() -> Structure:
    return Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.458, 5.925), ["Te"], [[0.2633, 0, 1 / 3]])


def cinnabar() -> Structure:
    lattice = Lattice.hexagonal(4.149, 9.495)
    return Structure.from_spacegroup("P3_221", lattice, ["Hg", "S"], [[0.7198, 0, 2 / 3], [0.4889, 0, 1 / 6]])


CHIRAL = [quartz, tellurium, cinnabar, random_p1]


def batch_of(*structures: Structure, dtype: torch.dtype = torch.float32) -> CrystalBatch:
    return within(5.0, *structures, dtype=dtype)


@functools.cache
def encoder(layer: int | tuple[int, ...] = LAYERS, pseudotensors: bool = True, **which: str) -> SevenNet:
    return SevenNet(SevenNet.Hypers(layer=layer, pseudotensors=pseudotensors, **which))


# sevenn's own names of what the wheel ships, by ours.
SHIPPED = {
    "SevenNet-0": {"model": "7net-0"},
    "SevenNet-0_22May2024": {"model": "7net-0_22may2024"},
    "SevenNet-l3i5": {"model": "7net-l3i5"},
    "SevenNet-MF-0": {"model": "7net-mf-0", "modal": "PBE"},
    "SevenNet-MF-0 R2SCAN": {"model": "7net-mf-0", "modal": "R2SCAN"},
}


def in_double(module: torch.nn.Module, args: tuple[dict[str, object]]) -> None:
    """Before a forward pass of sevenn: its graphs and one-hot vectors are float32 whatever its model is."""
    for key, value in list(args[0].items()):
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
            args[0][key] = value.double()


@pytest.fixture(scope="module")
def calculator_of() -> Iterator[Callable[[str], Calculator]]:
    """sevenn's own models behind its own graph builder; its loader reads the files as ours does, without unpickling.

    In float64: in float32 the features of its l3i5 are off by up to 2e-5 themselves.
    """

    before = torch._C._jit_set_profiling_executor(False)  # its first passes take several times as long

    @functools.cache
    def build(name: str) -> Calculator:
        import sevenn.calculator
        import sevenn.checkpoint

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sevenn.checkpoint, "torch_load", lambda path, **_: checkpoints.read(path))
            calculator = sevenn.calculator.SevenNetCalculator(device="cpu", **SHIPPED[name])
        for module in calculator.model.double()._modules.values():
            module.register_forward_pre_hook(in_double)
        return calculator

    yield build
    torch._C._jit_set_profiling_executor(before)


@pytest.fixture
def sevenn_calculator(calculator_of):
    return calculator_of("SevenNet-0")


def ours(name: str) -> SevenNet:
    checkpoint, _, modality = name.partition(" ")
    return encoder(checkpoint=checkpoint, **({"modality": modality} if modality else {}))


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

    @pytest.mark.parametrize("name", SHIPPED)
    @pytest.mark.parametrize("crystal", CHIRAL)
    def test_features_are_those_of_its_own_model(self, calculator_of, crystal, name):
        wanted, _ = sevenn_run(calculator_of(name), crystal())
        with torch.no_grad():
            got = ours(name).raw_features(batch_of(crystal()))
        for mine, theirs in zip(got, wanted, strict=True):
            assert error(e3nn_layout(mine, 0), theirs) < 1e-5

    @pytest.mark.parametrize("name", SHIPPED)
    @pytest.mark.parametrize("crystal", [quartz, random_p1])
    def test_mirror_features_are_those_of_the_inverted_crystal(self, calculator_of, crystal, name):
        wanted, _ = sevenn_run(calculator_of(name), rotate_crystal(crystal(), INVERSION))
        with torch.no_grad():
            got = ours(name).raw_features(batch_of(crystal()))
        for mine, theirs in zip(got, wanted, strict=True):
            undone = [(-1) ** degree * x for degree, x in enumerate(mine)]
            assert error(e3nn_layout(undone, -1), theirs) < 1e-5

    @pytest.mark.parametrize("name", SHIPPED)
    def test_the_sign_of_the_edges_shows(self, calculator_of, name):
        """The two tests above would pass with flipped edges if the crystals could not tell."""
        flipped, _ = sevenn_run(calculator_of(name), rotate_crystal(quartz(), INVERSION))
        with torch.no_grad():
            got = ours(name).raw_features(batch_of(quartz()))
        for mine, theirs in zip(got, flipped, strict=True):
            assert error(e3nn_layout(mine, 0), theirs) > 3e-3

    def test_the_levels_of_theory_differ(self):
        with torch.no_grad():
            pbe, r2scan = (ours(n)(batch_of(quartz())).atoms.values for n in ("SevenNet-MF-0", "SevenNet-MF-0 R2SCAN"))
        assert error(pbe, r2scan) > 1e-2

    def test_energy_from_layer_5(self, sevenn_calculator):
        _, energy = sevenn_run(sevenn_calculator, quartz())
        batch = batch_of(quartz())
        content = checkpoints.read(encoder().checkpoint.path())
        state, order = content["model_state_dict"], content["config"]["_type_map"]
        species = torch.tensor([order[number] for number in batch.numbers.tolist()])
        with torch.no_grad():
            scalars = encoder().raw_features(batch)[4][0][:, 0, 0]
        hidden = scalars @ state["reduce_input_to_hidden.linear.weight"].view(128, 64) / 128**0.5
        atomic = hidden @ state["reduce_hidden_to_energy.linear.weight"] / 64**0.5
        atomic = atomic * state["rescale_atomic_energy.scale"][species] + state["rescale_atomic_energy.shift"][species]
        assert float(atomic.sum()) == pytest.approx(energy, rel=1e-5)

    @pytest.mark.parametrize("name", ["SevenNet-0", "SevenNet-l3i5"])
    def test_bond_scalars_are_its_edge_embedding(self, calculator_of, name):
        batch = batch_of(random_p1())
        with torch.no_grad():
            theirs = calculator_of(name).model._modules["edge_embedding"]({"edge_vec": batch.edge_vectors()})
            bonds = ours(name).bonds(batch)
            theirs = {key: value.float() for key, value in theirs.items()}
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
            with torch.no_grad():
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

        check_slope(total)


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

    @pytest.mark.parametrize("layer", [1, 2, 4, 5, (3, 5)])
    def test_degree_3(self, layer):
        model = encoder(layer, checkpoint="SevenNet-l3i5")
        with torch.no_grad():
            made = model(batch_of(random_p1())).atoms
        assert made.irreps == SevenNet.provides(model.hypers).atoms
        channels = 64 if layer == (3, 5) else 32
        assert (made.block("3o").norm(dim=(0, 2)) > 0).sum() == channels
        assert (made.block("3e").norm(dim=(0, 2)) > 0).sum() == (0 if layer == 1 else channels)

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
        assert len({ours(name).fingerprint() for name in SHIPPED}) == len(SHIPPED)
        named, default = (encoder(checkpoint="SevenNet-MF-0", **m) for m in ({"modality": "PBE"}, {}))
        assert named.fingerprint() == default.fingerprint()
        assert encoder((4, 3), False).fingerprint() == encoder((3, 4), False).fingerprint()

    def test_fingerprint_of_the_first_release(self):
        """Caches that were made with it stay good."""
        assert encoder(4, False).fingerprint().startswith("c52cac4d4bec4020")

    def test_table_is_that_of_the_file(self):
        for name, known in checkpoints.CHECKPOINTS.items():
            content = checkpoints.read(known.path())
            config, state = content["config"], content["model_state_dict"]
            channels = tuple(tuple(mul for mul, _ in o3.Irreps(irreps)) for irreps in config["irreps_manual"][1:])
            architecture = known.architecture
            assert architecture.channels == channels, name
            assert architecture.cutoff == config["cutoff"]
            assert architecture.radial == (
                config["radial_basis"]["bessel_basis_num"],
                *config["weight_nn_hidden_neurons"],
            )
            envelope = config["cutoff_function"]
            if architecture.switch_on is None:
                assert envelope == {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6}
            else:
                assert envelope["cutoff_function_name"] == "XPLOR"
                assert envelope["cutoff_on"] == architecture.switch_on
            denominators = [value for key, value in state.items() if "denominator" in key or "denumerator" in key]
            assert len(denominators) == 5
            assert all(float(value) == architecture.neighbours for value in denominators)
            assert architecture.solid != config.get("_normalize_sph", False)
            modalities = config.get("_modal_map", {})
            assert set(known.modalities) == set(modalities)
            assert next(iter(known.modalities), None) == config.get("default_modal")
            assert architecture.biased == config.get("use_modality", False)
            assert set(config["_type_map"]) == set(checkpoints.ELEMENTS), name

    def test_elements(self):
        elements = encoder().elements()
        assert len(elements) == 89
        assert {1, 8, 14, 83, 94} <= elements
        assert 84 not in elements

    def test_unknown_element(self):
        polonium = Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]])
        with pytest.raises(ZooError, match="SevenNet-0 does not know Po"):
            encoder()(batch_of(quartz(), polonium))


class TestModality:
    @pytest.mark.parametrize("name", [name for name, known in checkpoints.CHECKPOINTS.items() if not known.modalities])
    def test_where_there_is_none(self, name):
        with pytest.raises(ValidationError, match=f"{name} has one level of theory alone: leave modality out"):
            SevenNet.Hypers(checkpoint=name, modality="PBE")

    def test_unknown(self):
        with pytest.raises(ValidationError, match="modality is one of PBE, R2SCAN"):
            SevenNet.Hypers(checkpoint="SevenNet-MF-0", modality="r2scan")

    def test_default(self):
        assert SevenNet.Hypers(checkpoint="SevenNet-MF-0").level_of_theory == "PBE"
        assert SevenNet.Hypers().level_of_theory is None


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

    @pytest.mark.parametrize("layer", [True, 1.0, [True]])
    def test_a_layer_is_a_whole_number(self, layer):
        with pytest.raises(ValidationError, match="valid integer"):
            SevenNet.Hypers(layer=layer)

    @pytest.mark.parametrize("layer", [0, 6, [], [1, 7], [2, 2]])
    def test_layers_that_do_not_exist(self, layer):
        with pytest.raises(ValidationError, match="layer is a number from 1 to 5, or a list of different ones"):
            SevenNet.Hypers(layer=layer)


SCRATCH = ["SevenNet-0", "SevenNet-l3i5", "SevenNet-MF-0"]


def scratch(layer: int | tuple[int, ...] = 3, seed: int = 0, **hypers) -> SevenNetScratch:
    torch.manual_seed(seed)
    return SevenNetScratch(SevenNetScratch.Hypers(layer=layer, **hypers))


class TestScratchPotential(PotentialTests):
    model = EncoderWithEnergy("sevennet-scratch", {"layer": 2})


class TestScratch:
    @pytest.mark.sevennet
    @pytest.mark.parametrize("name", SCRATCH)
    def test_is_the_network_of_the_checkpoint(self, name):
        """With the pretrained weights put in, it is the pretrained encoder."""
        pretrained = encoder(4, False, checkpoint=name)
        made = scratch(4, checkpoint=name)
        assert SevenNetScratch.provides(made.hypers) == SevenNet.provides(pretrained.hypers)
        assert made.elements() == pretrained.elements()
        made.load_state_dict(pretrained.state_dict(), strict=True)
        with torch.no_grad():
            assert torch.equal(made(batch_of(quartz())).atoms.values, pretrained(batch_of(quartz())).atoms.values)

    def test_needs_no_package(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert SevenNetScratch.missing(SevenNetScratch.Hypers()) is None
        with torch.no_grad():
            assert scratch()(batch_of(quartz())).atoms.values.isfinite().all()

    def test_starts_at_random(self):
        with torch.no_grad():
            first, second = (scratch(1, seed=seed)(batch_of(quartz())).atoms.values for seed in (0, 1))
        assert error(first, second) > 0.5

    @pytest.mark.parametrize("name", SCRATCH)
    @pytest.mark.parametrize("seed", [0, 1])
    def test_features_start_neither_small_nor_large(self, name, seed):
        """In all layers; those of the checkpoints grow from 0.05 (vectors, first layer) to 1.2 (fourth)."""
        dense = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        with torch.no_grad():
            layers = scratch(5, seed=seed, checkpoint=name).raw_features(batch_of(*(crystal() for crystal in CHIRAL)))
            dense_layers = scratch(5, seed=seed, checkpoint=name).raw_features(batch_of(dense))
        sizes = [[float(x.square().mean().sqrt()) for x in features] for features in layers]
        assert all(0.5 < scalars < 3 for scalars, *_ in sizes), sizes
        assert all(0.02 < size < 3 for _, *others in sizes for size in others), sizes
        assert all(x.square().mean().sqrt() < 10 for features in dense_layers for x in features)

    @pytest.mark.parametrize("name", SCRATCH)
    def test_every_weight_gets_a_gradient(self, name):
        """Path by path and channel by channel, the frequencies of the radial basis included."""
        model = scratch(3, checkpoint=name).double()
        features = model(batch_of(quartz(), random_p1(), dtype=torch.float64)).atoms.values
        weights = torch.randn(features.shape, dtype=features.dtype, generator=torch.Generator().manual_seed(1))
        names, parameters = zip(*model.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad((features * weights).sum(), parameters), strict=True):
            rows = gradient if name == "network.embedding" else gradient.flatten()
            known = model.species[batch_of(quartz(), random_p1()).numbers].unique()
            alive = rows[known] if name == "network.embedding" else rows
            assert (alive != 0).all(), name

    @pytest.mark.parametrize("name", SCRATCH)
    def test_features_are_true_tensors(self, rotate_block, name):
        matrix = orthogonal_matrices(2)[1]
        model = scratch(3, checkpoint=name, pseudotensors=True).double()
        with torch.no_grad():
            before = model(batch_of(quartz(), random_p1(), dtype=torch.float64)).atoms
            turned = [rotate_crystal(c(), matrix) for c in (quartz, random_p1)]
            after = model(batch_of(*turned, dtype=torch.float64)).atoms
        for _, irrep in before.irreps:
            assert before.block(irrep).norm() > 0
            assert error(after.block(irrep), rotate_block(before.block(irrep), irrep, matrix)) < 1e-10, irrep

    def test_is_not_pretrained(self):
        assert not SevenNetScratch.pretrained
        assert all(parameter.requires_grad for parameter in scratch(1).parameters())
        with pytest.raises(TypeError, match="not pretrained"):
            scratch(1).fingerprint()

    def test_has_no_modality(self):
        with pytest.raises(ValidationError, match="modality"):
            SevenNetScratch.Hypers(checkpoint="SevenNet-MF-0", modality="PBE")

    def test_can_be_trained_after_an_inference(self):
        """What is kept from pass to pass must not have been made under inference_mode."""
        coupling.cache_clear()
        model, batch = scratch(2), batch_of(quartz())
        with torch.inference_mode():
            model(batch)
        model(batch).atoms.values.sum().backward()
