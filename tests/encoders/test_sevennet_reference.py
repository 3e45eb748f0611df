"""The encoder `sevennet` against sevenn's own models, number by number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
import torch
from ase.calculators.calculator import Calculator
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from sevennets import CHIRAL, INVERSION, SHIPPED, batch_of, encoder, ours
from small_crystals import error, quartz, random_p1

from zoo.testing.compare import rotate_crystal
from zoo_sevennet import checkpoint as checkpoints


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
