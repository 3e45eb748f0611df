"""Explained answers: the charges and modes make the tensor that was answered, in any cell and frame."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graphs
from zoo.inference.explanation import explanation_of
from zoo.inference.prediction import Prediction
from zoo.inference.predictor import Predictor
from zoo.inference.raw_answers import ionic_part
from zoo.phonons.force_constants import force_constants
from zoo.phonons.force_constants_store import padded
from zoo.phonons.polar_modes import ionic_tensor

pytestmark = pytest.mark.sevennet

SALT = Structure(2.82 * (np.ones((3, 3)) - np.eye(3)), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
QUARTZ = Structure.from_spacegroup(
    "P3_121", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
)
COPPER = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]])


def test_a_readout_tells_what_it_makes_the_tensor_of(predictor: Predictor) -> None:
    """Crystals of three sizes in one batch, one of a single atom among them."""
    structures = [WURTZITE, SALT, COPPER]
    crystals = [Crystal.of(structure) for structure in structures]
    member = copy.deepcopy(predictor.members[0]).double()
    batch = collate(list(crystal_graphs(crystals, member.encoder.cutoff)), dtype=torch.float64)
    found = force_constants(predictor.potentials[0], crystals)
    batch = dataclasses.replace(batch, force_constants=padded(found))
    made = member.explain(batch)
    assert made is not None
    assert made.born.dtype == torch.float64
    with torch.no_grad():
        answers = member.target.split(member(batch))["ionic"][1].numpy()
    charges = torch.split(made.born, [len(s) for s in structures])
    for structure, answer, born, matrix, known in zip(
        structures, answers, charges, made.force_constants, found, strict=True
    ):
        own = ionic_tensor(matrix.numpy(), born.numpy(), structure.volume) if len(structure) > 1 else np.zeros((3, 3))
        assert own == pytest.approx(answer, rel=1e-7, abs=1e-12)
        assert born.sum(0).abs().max() < 1e-12
        # The common factor is that of the potential's stiffness.
        assert (matrix.numpy() * known.matrix).sum() == pytest.approx((known.matrix**2).sum(), rel=1e-9, abs=1e-9)


@pytest.fixture(scope="module")
def quartz(single: Predictor) -> Prediction:
    return single.predict(QUARTZ, explain=True)


def test_one_member_is_explained_to_rounding(quartz: Prediction) -> None:
    why = quartz.explanation
    assert why is not None
    assert why.deviation < 1e-4 * np.linalg.norm(why.answered)
    assert why.answered == pytest.approx(quartz.parts["ionic"].tensor)
    assert why.electronic == pytest.approx(quartz.parts["electronic"].tensor)
    assert sum(row["share"] for row in why.modes) == pytest.approx(1)
    assert sum(row["degeneracy"] for row in why.modes) == 24
    assert np.sum([row["ionic"] for row in why.modes], axis=0) == pytest.approx(why.ionic, abs=1e-9)


def test_modes_have_their_irreps(quartz: Prediction) -> None:
    pytest.importorskip("phonopy")
    assert quartz.explanation is not None
    found = quartz.explanation.irreps
    assert {label: found.count(label) for label in ("A1", "A2", "E")} == {"A1": 4, "A2": 4, "E": 8}


def test_an_ensemble_says_how_far_its_explanation_is_from_its_answer(predictor: Predictor) -> None:
    why = predictor.predict(WURTZITE, explain=True).explanation
    assert why is not None
    assert 1e-6 < why.deviation < 0.2 * np.linalg.norm(why.answered)
    assert why.as_dict()["deviation"] == why.deviation
    assert why.born.shape == (4, 3, 3)
    assert np.abs(why.born.sum(0)).max() < 1e-10


def test_modes_are_those_of_the_primitive_cell(single: Predictor) -> None:
    """A supercell's other modes are at other points of the Brillouin zone; charges are those of all its atoms."""
    one, two = (single.predict(cell, explain=True).explanation for cell in (WURTZITE, WURTZITE * (1, 1, 2)))
    assert one is not None and two is not None
    assert len(two.cell) == 4 and two.born.shape == (8, 3, 3)
    assert two.polar.modes.wavenumbers == pytest.approx(one.polar.modes.wavenumbers, abs=1.0)
    assert two.ionic == pytest.approx(one.ionic, rel=2e-3, abs=1e-3)
    assert two.deviation < 1e-4 * np.linalg.norm(two.answered)
    assert two.irreps == one.irreps


def test_the_frame_turns_with_the_crystal(single: Predictor) -> None:
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0], [0.48, 0.64, 0.6]])
    turned = Structure(Lattice(WURTZITE.lattice.matrix @ turn.T), WURTZITE.species, WURTZITE.frac_coords)
    one, other = (single.predict(cell, explain=True).explanation for cell in (WURTZITE, turned))
    assert one is not None and other is not None
    assert other.ionic == pytest.approx(turn @ one.ionic @ turn.T, rel=1e-3, abs=1e-3)
    assert other.born == pytest.approx(turn @ one.born @ turn.T, abs=1e-3)


def test_one_atom_has_no_modes(single: Predictor) -> None:
    why = single.predict(COPPER, explain=True).explanation
    assert why is not None
    assert why.modes == [] and not why.ionic.any() and why.deviation == pytest.approx(0, abs=1e-9)
    assert why.spectrum().along(np.array([1, 0, 0])) == pytest.approx(np.full(2001, why.electronic[0, 0]))


def test_as_dict_is_json_and_an_answer_without_has_none(single: Predictor) -> None:
    answer = single.predict(SALT, explain=True)
    content = json.loads(json.dumps(answer.as_dict(), allow_nan=False))["explanation"]
    assert content["strain"] == "clamped"
    assert content["elements"] == ["Na", "Cl"]
    assert np.array(content["born_charges"]).shape == (2, 3, 3)
    (mode,) = content["modes"]
    assert mode["degeneracy"] == 3 and mode["share"] == pytest.approx(1)
    assert answer.explanation is not None
    found = answer.explanation.as_dict(np.array([0, 0, 2]))["longitudinal"]
    assert found["direction"] == [0, 0, 1]
    assert max(found["wavenumbers"]) > mode["wavenumber"] + 10
    assert "explanation" not in single.predict(SALT).as_dict()
    assert pickle.loads(pickle.dumps(answer)).explanation.ionic == pytest.approx(answer.explanation.ionic)


def test_what_cannot_be_explained_is_one_line(single: Predictor) -> None:
    with pytest.raises(ZooError, match="true or false"):
        single.predict(SALT, explain="yes")
    other = Predictor(single.card, single.members, single.device)
    with pytest.raises(ZooError, match="recipes dielectric and born_ionic"):
        other.predict_each([SALT], explain=True)
    raw = single.ask([SALT])[0]
    assert not isinstance(raw, ZooError) and raw.response is not None
    alone = explanation_of(SALT, *raw.response, raw.tensors[ionic_part(single.card.target).name][0], None)
    with pytest.raises(ZooError, match="--electronic"):
        alone.spectrum()
    assert alone.spectrum(electronic=2.3).dielectric.shape == (2001, 3, 3)
