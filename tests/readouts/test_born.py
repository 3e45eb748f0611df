"""The readout `born`: its charges, and the whole of it in every variant."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from e3nn import o3
from pymatgen.core import Element, Lattice, Structure

from zoo.api import CrystalBatch, Embedding, Features, Provides, TensorTarget
from zoo.config.recipe import EncoderChoice, Plugin
from zoo.errors import ZooError
from zoo.graphs.graph import collate, crystal_graph
from zoo.model.tensor_model import build
from zoo.testing import (
    Pair,
    check_batching,
    check_equivariance,
    check_float32,
    check_gradients_finite,
    check_gradients_flow,
    check_no_optic_modes,
    check_not_polar,
    check_positive,
    check_supercell,
    prototypes,
)
from zoo.testing.compare import irrep_matrix, orthogonal_matrices
from zoo_born.charges import MIDDLE, Charges, electronegativity_charges
from zoo_born.readout import Born, BornHypers

IONIC = TensorTarget("ionic")
IRREPS = o3.Irreps("6x0e+5x1o+4x2e+3x1e")
WIDTH = 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def crystals(*names: str) -> CrystalBatch:
    return collate([crystal_graph(prototypes()[name].structure, 3.0) for name in names], torch.float64)


def charges(irreps: o3.Irreps = IRREPS, anisotropic: bool = True, antisymmetric: bool = True) -> Charges:
    made = Charges(irreps, WIDTH, 3, anisotropic, antisymmetric).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def random_of(batch: CrystalBatch, irreps: o3.Irreps = IRREPS) -> tuple[torch.Tensor, Features]:
    hidden = torch.randn(batch.n_atoms, WIDTH, dtype=torch.float64)
    return hidden, Features(irreps, torch.randn(batch.n_atoms, irreps.dim, dtype=torch.float64))


def antisymmetric_part(tensors: torch.Tensor) -> torch.Tensor:
    return (tensors - tensors.mT) / 2


def test_they_add_up_to_nothing_in_each_cell() -> None:
    batch = crystals("1", "m-3m", "32")
    found = charges()(*random_of(batch), batch)
    assert found.norm() > 1
    sums = torch.zeros(3, 3, 3, dtype=torch.float64).index_add(0, batch.crystal, found)
    torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-12)


def test_they_start_at_differences_of_electronegativity() -> None:
    """And at nothing else, as long as nothing has been learned."""
    batch = crystals("1", "m-3m")
    made = Charges(IRREPS, WIDTH, 3, False, False).double()
    found = made(*random_of(batch), batch)
    # 1: Ti, O, Si, O; m-3m: Ba, Ti, O, O, O
    table = {Element(s).Z: MIDDLE - Element(s).X for s in ("Ti", "O", "Si", "Ba")}
    expected = torch.tensor([table[z] for z in batch.numbers.tolist()], dtype=torch.float64)
    expected = expected - batch.mean_over_atoms(expected)[batch.crystal]
    torch.testing.assert_close(found, expected[:, None, None] * torch.eye(3).double(), rtol=0, atol=1e-6)
    assert found[0, 0, 0] > 0.5 and found[1, 0, 0] < -0.5, "titanium is positive, oxygen negative"


def test_nothing_is_learned_that_the_mean_takes_away() -> None:
    """A charge that all atoms have: its gradient is rounding, and Adam would make steps of it."""
    made, batch = charges(), crystals("1")
    hidden, atoms = random_of(batch)
    before = made(hidden, atoms, batch)
    with torch.no_grad():
        made.scalar.bias.add_(3.0)
    torch.testing.assert_close(made(hidden, atoms, batch), before, rtol=0, atol=1e-12)
    assert not made.scalar.bias.requires_grad


def test_every_element_has_a_start() -> None:
    with warnings.catch_warnings(action="error"):  # pymatgen warns of elements without an electronegativity
        table = electronegativity_charges()
    assert table.shape == (119, 1) and table.isfinite().all()
    assert table[11] == pytest.approx(MIDDLE - 0.93) and table[9] == pytest.approx(MIDDLE - 3.98)
    assert not table[[0, 1, 2, 10, 18, 118]].any(), "hydrogen is the middle; what has none starts without a charge"


@pytest.mark.parametrize(
    ("irreps", "expected"),
    [(IRREPS, ["2e", "1o", "1e"]), ("6x0e+5x1o+4x2e", ["2e", "1o"]), ("6x0e+1x1o+4x2e", ["2e"]), ("6x0e+1x2e", [])],
)
def test_what_the_antisymmetric_part_is_made_of(irreps: str, expected: list[str]) -> None:
    """A cross product, or a commutator, wants two channels."""
    made = charges(o3.Irreps(irreps))
    assert made.sources == expected
    batch = crystals("1")
    found = made(*random_of(batch, o3.Irreps(irreps)), batch)
    assert bool(antisymmetric_part(found).norm() > 0.1) == bool(expected)


@pytest.mark.parametrize("source", ["1o", "2e", "1e"])
def test_each_source_of_the_antisymmetric_part_counts(source: str) -> None:
    made, batch = charges(), crystals("1")
    hidden, atoms = random_of(batch)
    for name in made.sources:
        if name != source:
            torch.nn.init.zeros_(made.maps[name].weight)
    assert antisymmetric_part(made(hidden, atoms, batch)).norm() > 0.1


@pytest.mark.parametrize("irreps", ["6x0e+5x1o+4x2e+3x1e", "6x0e+5x1o+4x2e", "6x0e+4x2e+3x1e", "6x0e+4x2e"])
def test_they_turn_with_the_features_under_all_of_o3(irreps: str) -> None:
    """Z*(R x) = R Z*(x) Rᵀ, the antisymmetric part too: a pseudovector, which an inversion leaves as it is."""
    batch, made = crystals("1", "32"), charges(o3.Irreps(irreps))
    hidden, atoms = random_of(batch, o3.Irreps(irreps))
    before = made(hidden, atoms, batch)
    for R in (*orthogonal_matrices(4, seed=3), -torch.eye(3).double()):
        turned = torch.cat(
            [
                (atoms.block(ir) @ irrep_matrix(ir, R).T).flatten(1)
                for _, ir in atoms.irreps  # every irrep occurs once
            ],
            dim=1,
        )
        after = made(hidden, Features(atoms.irreps, turned), batch)
        torch.testing.assert_close(after, R @ before @ R.T, rtol=0, atol=1e-10)


def test_symmetric_alone_where_that_is_asked_for() -> None:
    batch = crystals("1")
    found = charges(antisymmetric=False)(*random_of(batch), batch)
    assert not antisymmetric_part(found).abs().max() > 1e-14
    assert (found - found.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(3).double()).norm() > 0.1
    found = charges(anisotropic=False, antisymmetric=False)(*random_of(batch), batch)
    torch.testing.assert_close(found, found[:, :1, :1] * torch.eye(3).double(), rtol=0, atol=1e-14)


def test_cross_products_are_those_of_vectors() -> None:
    """A x = w × x, with w the cross product of two mixtures of vectors."""
    made, batch = charges(o3.Irreps("6x0e+2x1o+1x2e"), anisotropic=False), crystals("1")
    hidden, atoms = random_of(batch, o3.Irreps("6x0e+2x1o+1x2e"))
    found = made(hidden, atoms, batch)
    vectors = atoms.vectors() @ made.maps["1o"].weight.T
    one, two = vectors[..., :3], vectors[..., 3:]
    w = (torch.linalg.cross(one, two, dim=1) * made.gates(hidden).unsqueeze(1)).sum(-1)
    w = w - w.mean(0)
    x = torch.randn(3, dtype=torch.float64)
    expected = torch.linalg.cross(w, x.expand_as(w), dim=1)
    torch.testing.assert_close(antisymmetric_part(found) @ x, expected, rtol=0, atol=1e-11)


VARIANTS = {
    "charges alone": {"features": False, "scale": "none", "stiffness": "none"},
    "one scale": {"features": False, "scale": "one"},
    "no correction": {"scale": "none", "stiffness": "none"},
    "softplus": {"soft_modes": "softplus", "stiffness": "none"},
    "expectation": {"soft_modes": "expectation", "scale": "one"},
    "a low floor": {"softest": 0.005, "stiffness": "none"},
    "isotropic": {"anisotropic": False, "antisymmetric": False},
}


def pair(**hypers: object) -> Pair:
    return Pair(
        "nequip",
        "born",
        {"channels": 4, "layers": 2, "cutoff": 4.0},
        {"width": 8, "channels": 2, **hypers},
        potential_hypers={"depth": 0.3},
    )


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_is_what_physics_demands(name: str) -> None:
    """The default has the whole suite (tests/test_conformance.py)."""
    each = pair(**VARIANTS[name])
    for check in (check_equivariance, check_supercell, check_batching, check_gradients_finite, check_float32):
        check(each)
    for check in (check_no_optic_modes, check_not_polar, check_positive):
        check(each)


def test_nothing_is_built_in_vain() -> None:
    for name in ("no correction", "expectation", "isotropic"):
        check_gradients_flow(pair(**VARIANTS[name]))


@pytest.mark.parametrize("name", ["charges alone", "one scale"])
def test_without_features_every_number_of_the_readout_is_learned(name: str) -> None:
    """Distributed training refuses a parameter that has no gradient."""
    check_gradients_flow(replace(pair(**VARIANTS[name]), without_gradient=("encoder.*", "positions")))


def test_65_numbers() -> None:
    """One charge an element, a scale, a floor: what is left without features."""
    hypers = BornHypers(features=False, scale="one", stiffness="none")
    made = Born(hypers, Provides(IRREPS, energy=True), 4.0, IONIC)
    names = {name: p.numel() for name, p in made.named_parameters() if p.requires_grad}
    assert names.pop("charges.element.weight") == 119
    assert sum(names.values()) == 2


def test_dropout_in_training_alone() -> None:
    made = Born(BornHypers(width=16, dropout=0.5), Provides(IRREPS, energy=True), 4.0, IONIC).double()
    batch = pair().batch([prototypes()["1"].structure])
    embedding = Embedding(random_of(batch)[1])
    made.train()
    assert not torch.equal(made(embedding, batch), made(embedding, batch))
    made.eval()
    assert torch.equal(made(embedding, batch), made(embedding, batch))


def test_what_it_cannot_make() -> None:
    for target, why in (
        (TensorTarget("elastic", "ijkl=jikl=klij"), "symmetric 3×3"),
        (TensorTarget("born", "ij", per_atom=True), "symmetric 3×3"),
        (TensorTarget("shielding", per_atom=True), "one an atom"),
        (TensorTarget("polarisability", intensive=False), "extensive"),
        (TensorTarget("both", parts=(IONIC, TensorTarget("total"))), "name a readout of each by readouts"),
    ):
        assert why in str(Born.cannot_make(target))
    assert Born.cannot_make(IONIC) is None


def test_what_it_needs() -> None:
    assert Born.unmet(Provides(IRREPS, energy=True), IONIC) is None
    assert "force_constants.potential names one" in str(Born.unmet(Provides(IRREPS), IONIC))
    assert "2e" in str(Born.unmet(Provides(o3.Irreps("4x0e+2x1o"), energy=True), IONIC))
    choice = EncoderChoice(name="nequip", channels=4)
    with pytest.raises(ZooError, match=r"the encoder has no energy: force_constants\.potential") as caught:
        build(choice, Plugin(name="born"), IONIC)
    assert "\n" not in str(caught.value)
    made = build(choice, Plugin(name="born", width=8), IONIC, potential=Plugin(name="sevennet"))
    assert not made.readout.needs_grad and made.readout.needs.force_constants
    with pytest.raises(ZooError, match=r"'painn' has no energy; those that have: .*sevennet"):
        build(choice, Plugin(name="born"), IONIC, potential=(Plugin(name="sevennet"), Plugin(name="painn")))


def test_charges_of_a_crystal_without_charges_are_zero() -> None:
    """Silicon's two atoms are alike; those of a mirror image have the charges of its mirror image."""
    each = pair()
    silicon = Structure(Lattice(2.715 * (np.ones((3, 3)) - np.eye(3))), ["Si", "Si"], [[0, 0, 0], [0.25] * 3])
    batch = each.batch([silicon, prototypes()["32"].structure])
    model = each.model
    with torch.no_grad():
        embedding = model.encoder(batch)
        found = model.readout.charges(model.readout.hidden(embedding), embedding.atoms, batch)
    assert found[:2].abs().max() < 1e-12 and found[2:].abs().max() > 0.1
