"""What a user may ask about, and what the answer says."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from cli import refused, zoo
from pymatgen.core import IStructure, Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import zoo as package
from zoo.data.petousis2017 import Petousis2017
from zoo.data.symmetry import rotated, symmetry
from zoo.errors import ZooError
from zoo.graphs.graph import crystal_graph
from zoo.inference.prediction import Prediction
from zoo.inference.predictor import Predictor

MODEL = Path(__file__).parent / "checkpoints" / "format_3"
QUARTZ = Structure.from_spacegroup(
    "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
)
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return package.load(MODEL, device="cpu")


def test_structures_atoms_and_paths_are_the_same_crystal(predictor: Predictor, tmp_path: Path) -> None:
    QUARTZ.to(str(tmp_path / "quartz.cif"))
    QUARTZ.to(str(tmp_path / "POSCAR"), fmt="poscar")
    atoms = AseAtomsAdaptor.get_atoms(QUARTZ)
    answers = predictor.predict([QUARTZ, atoms, tmp_path / "POSCAR", str(tmp_path / "POSCAR")])
    for answer in answers:
        np.testing.assert_allclose(answer.tensor, answers[0].tensor, atol=1e-5)
    # A CIF has a frame of its own: the eigenvalues are the same.
    by_cif = predictor.predict(tmp_path / "quartz.cif")
    np.testing.assert_allclose(by_cif.eigenvalues, answers[0].eigenvalues, atol=1e-5)


def test_one_crystal_gives_one_answer(predictor: Predictor) -> None:
    one = predictor.predict(QUARTZ)
    assert isinstance(one, Prediction)
    (same,) = predictor.predict([QUARTZ])
    np.testing.assert_allclose(same.tensor, one.tensor, atol=1e-6)
    assert predictor.predict([]) == []


def test_oxidation_states_and_moved_atoms_do_not_matter(predictor: Predictor) -> None:
    charged = QUARTZ.copy().add_oxidation_state_by_guess()
    charged.translate_sites([0], [3, -2, 1], to_unit_cell=False)
    np.testing.assert_allclose(predictor.predict(charged).tensor, predictor.predict(QUARTZ).tensor, atol=1e-5)


def bad_crystals(folder: Path) -> dict[str, tuple[object, str]]:
    (folder / "broken.cif").write_text("data_x\n_cell_length_a nonsense\n")
    half = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    slab = Structure(Lattice.cubic(4, pbc=(True, True, False)), ["Na"], [[0, 0, 0]])
    return {
        "a broken file": (folder / "broken.cif", "broken.cif"),
        "no file": ("nowhere.cif", "no such file"),
        "partly occupied": (half, "partially occupied"),
        "a molecule": (Atoms("H2O", positions=np.eye(3)), "without a cell"),
        "a layer": (Atoms("Na", cell=[4, 4, 9], pbc=(True, True, False)), "pbc=True"),
        "a slab": (slab, "not periodic"),
        "a flat cell": (Atoms("Na", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "no volume"),
        "overlapping atoms": (Structure(Lattice.cubic(4), ["Cu"] * 2, [[0, 0, 0], [0.05, 0, 0]]), "0.5 Å apart"),
        "a cell that is too small": (Structure(Lattice.cubic(0.01), ["Cu"], [[0, 0, 0]]), "0.5 Å apart"),
        "a cell that is too thin": (Structure(Lattice.orthorhombic(1e-3, 90, 90), ["Cu"], [[0, 0, 0]]), "0.5 Å apart"),
        "a short vector that no lattice vector is": (
            Structure(Lattice([[5, 0, 0], [5000, 0.1, 0], [0, 0, 100]]), ["Cu"], [[0, 0, 0]]),
            "0.5 Å apart",
        ),
        "a cell that is too full": (Structure(Lattice.cubic(0.9), ["Cu"], [[0, 0, 0]]), "denser than matter"),
        "too many atoms": (SALT * (12, 12, 12), "at most 10,000"),
        "something else": (42, "not int"),
        "a molecule of pymatgen": (Molecule(["H"], [[0, 0, 0]]), "without a cell"),
        "a dict of something": ({"a": 1}, "Structure.as_dict"),
        "no atoms": (Structure(Lattice.cubic(4), [], []), "no atoms"),
        "a cell that is too large": (Structure(Lattice.cubic(1e6), ["Cu"], [[0, 0, 0]]), "longer than 10,000 Å"),
        "an atom out of this world": (Structure(Lattice.cubic(4), ["Cu"], [[1e9, 0, 0]]), "lattice vectors away"),
        "no name": ("", "is empty"),
        "a name that is too long": ("x" * 5000, "so long a name"),
    }


def test_a_bad_crystal_fails_alone(predictor: Predictor, tmp_path: Path) -> None:
    bad = bad_crystals(tmp_path)
    asked = [item for crystal, _ in bad.values() for item in (crystal, QUARTZ)]
    answers = predictor.predict_each(asked)  # type: ignore[arg-type]
    expected = predictor.predict(QUARTZ).tensor
    for (name, (crystal, words)), error, good in zip(bad.items(), answers[::2], answers[1::2], strict=True):
        assert isinstance(error, ZooError) and words in str(error) and "\n" not in str(error), (name, error)
        assert isinstance(good, Prediction)
        np.testing.assert_allclose(good.tensor, expected, atol=1e-5)
        with pytest.raises(ZooError, match=re.escape(words)):
            predictor.predict(crystal)  # type: ignore[call-overload]


def test_a_graph_that_would_be_too_large_is_refused(predictor: Predictor) -> None:
    """A thousand atoms on a narrow grid that fills the cell, and in a corner of a large one."""
    grid = np.stack(np.meshgrid(*[np.arange(10)] * 3), axis=-1).reshape(-1, 3)
    full = Structure(Lattice.cubic(10), ["Cu"] * 1000, grid / 10)
    corner = Structure(Lattice.cubic(60), ["Cu"] * 1000, grid / 60)
    careful = package.load(MODEL, device="cpu")
    careful.max_edges = 20_000
    answers = careful.predict_each([full, QUARTZ, corner])
    for answer in (answers[0], answers[2]):
        assert isinstance(answer, ZooError) and "1,000 atoms" in str(answer) and "20,000" in str(answer)
    assert isinstance(answers[1], Prediction)
    assert isinstance(predictor.predict_each([full])[0], Prediction), "the default lets more through"
    with pytest.raises(ZooError, match="1,000,000"):
        crystal_graph(Structure(Lattice.cubic(20), ["Cu"] * 8000, np.random.default_rng(0).random((8000, 3))), 6.0)


def test_many_are_answered_in_order(predictor: Predictor) -> None:
    """More than are in memory at once, of sizes that are sorted for speed."""
    records = [r.structure for r in Petousis2017(Petousis2017.Hypers()).records()][:300]
    answers = predictor.predict(records)
    assert [a.formula for a in answers] == [s.composition.reduced_formula for s in records]
    for index in (0, 17, 255, 256, 299):
        np.testing.assert_allclose(
            answers[index].tensor, predictor.predict(records[index]).tensor, rtol=1e-4, atol=1e-4
        )


def test_projection_makes_the_tensor_invariant_under_the_point_group(predictor: Predictor) -> None:
    broken = QUARTZ.copy()
    broken.translate_sites([0], [0.001, 0.002, -0.001])
    group = symmetry(broken, 0.1)
    assert group is not None and len(group.rotations) == 6
    plain, projected = predictor.predict(broken), predictor.predict(broken, symprec=0.1)
    off = np.abs(rotated(plain.tensor, group.rotations) - plain.tensor).max()
    assert off > 1e-7  # else the next line shows nothing
    np.testing.assert_allclose(
        rotated(projected.tensor, group.rotations), np.broadcast_to(projected.tensor, (6, 3, 3)), atol=1e-12
    )
    assert np.trace(projected.tensor) == pytest.approx(np.trace(plain.tensor))
    # Within a tolerance that the atoms' displacements exceed there is nothing to project on.
    np.testing.assert_allclose(predictor.predict(broken, symprec=1e-5).tensor, plain.tensor, atol=1e-6)


@pytest.mark.parametrize("away", [3, 1_000, 900_000])
def test_atoms_far_outside_the_cell_are_where_they_are(predictor: Predictor, away: int) -> None:
    """In float32 their positions would be off by the size of an atom."""
    moved = QUARTZ.copy()
    moved.translate_sites([0, 4], [away, 0, -away], to_unit_cell=False)
    answer = predictor.predict(moved)
    np.testing.assert_allclose(answer.tensor, predictor.predict(QUARTZ).tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 3)])
def test_a_supercell_is_projected_on_the_point_group_of_its_crystal(
    predictor: Predictor, repeat: tuple[int, int, int]
) -> None:
    """Not on the operations that keep the lattice of the supercell, of which there are fewer."""
    arsenide = Structure.from_spacegroup("F-43m", Lattice.cubic(5.65), ["Ga", "As"], [[0, 0, 0], [0.25] * 3])
    large = arsenide * repeat
    large.translate_sites([0], [0.001, 0.002, 0.0005])
    group = symmetry(large, 0.1)
    assert group is not None and len(group.rotations) == 24
    tensor = predictor.predict(large, symprec=0.1).tensor
    np.testing.assert_allclose(tensor, np.eye(3) * np.trace(tensor) / 3, atol=1e-10)


def test_an_ensemble_without_an_interval_of_that_level_says_so(predictor: Predictor) -> None:
    """Sixteen validation crystals cannot tell what 95 % are within."""
    answer = predictor.predict(QUARTZ, coverage=0.95)
    assert answer.coverage is None and answer.intervals == {} and answer.tensor_radius is None
    assert any("too few" in warning and warning.kind == "no intervals" for warning in answer.warnings)


def test_an_answer_beyond_all_training_tensors_is_warned_of(predictor: Predictor) -> None:
    small = dataclasses.replace(predictor.reference, tensors=predictor.reference.tensors / 100)
    cautious = Predictor(predictor.card, predictor.members, predictor.device, small)
    assert "range" in [warning.kind for warning in cautious.predict(QUARTZ).warnings]
    assert "range" not in [warning.kind for warning in predictor.predict(QUARTZ).warnings]


def test_a_frozen_structure_is_a_structure(predictor: Predictor) -> None:
    frozen = IStructure.from_sites(QUARTZ.sites)
    np.testing.assert_array_equal(predictor.predict(frozen).tensor, predictor.predict(QUARTZ).tensor)


def test_a_training_crystal_is_near_itself_and_another_world_is_far(predictor: Predictor) -> None:
    by_key = {r.key: r for r in Petousis2017(Petousis2017.Hypers()).records()}
    assert predictor.reference is not None
    known = by_key[predictor.reference.names[0]["key"]]
    answer = predictor.predict(known.structure, neighbours=3)
    assert answer.nearest is not None and len(answer.nearest) == 3
    assert answer.nearest[0]["key"] == known.key
    assert answer.nearest[0]["distance"] < 1e-4 < answer.nearest[1]["distance"]
    np.testing.assert_allclose(answer.nearest[0]["tensor"], known.targets["total"], atol=1e-4)
    assert not any("unlike" in warning for warning in answer.warnings)
    dense = predictor.predict(Structure(Lattice.cubic(1.5), ["He"], [[0, 0, 0]]))
    assert dense.novelty is not None and dense.novelty["distance"] > dense.novelty["threshold"]
    kinds = {warning.kind: warning for warning in dense.warnings}
    assert "novel" in kinds and "He" in kinds["unseen element"]
    assert dense.as_dict()["warning_kinds"] == [warning.kind for warning in dense.warnings]


def test_intervals_follow_the_coverage(predictor: Predictor) -> None:
    half, most = (predictor.predict(QUARTZ, coverage=level) for level in (0.5, 0.9))
    assert half.coverage == 0.5 and most.coverage == 0.9
    assert half.tensor_radius is not None and most.tensor_radius is not None
    assert half.tensor_radius < most.tensor_radius
    for name in ("polycrystalline", "anisotropy"):
        (low, high), (lower, higher) = half.intervals[name], most.intervals[name]
        assert lower <= low <= getattr(half, name) <= high <= higher
    assert most.eigenvalues is not None
    for (low, high), value in zip(most.intervals["eigenvalues"], most.eigenvalues, strict=True):
        assert low <= value <= high


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coverage": 0.91}, "0.5, 0.68, 0.8, 0.9, 0.95"),
        ({"symprec": 0}, "symprec .* 1 Å"),
        ({"symprec": float("nan")}, "symprec .* 1 Å"),
        ({"symprec": "a"}, "symprec .* 1 Å"),
        ({"symprec": True}, "symprec .* 1 Å"),
        ({"neighbours": -1}, "0 to 100"),
        ({"neighbours": 1.5}, "0 to 100"),
        ({"neighbours": 10**30}, "0 to 100"),
    ],
)
def test_options_that_make_no_sense_are_refused(predictor: Predictor, options: dict, words: str) -> None:
    with pytest.raises(ZooError, match=words):
        predictor.predict(QUARTZ, **options)


def test_a_notebook_shows_it(predictor: Predictor) -> None:
    answers = predictor.predict([QUARTZ, bulk("GaAs", "zincblende", a=5.65)])
    frame = answers.dataframe()
    assert list(frame["formula"]) == ["SiO2", "GaAs"]
    assert frame["polycrystalline"][1] == pytest.approx(answers[1].polycrystalline)
    shown = answers[0]._repr_html_()
    assert "SiO<sub>2</sub>" in shown and f"{answers[0].tensor[0, 0]:.3f}" in shown and "90 %" in shown
    assert "<svg" in shown and len(shown) < 20_000
    assert "GaAs" in answers._repr_html_()
    assert "SiO2, trigonal" in str(answers[0]) and f"{answers[0].tensor[0, 0]:.3f}" in str(answers[0])
    assert "SiO2" in repr(answers[0]) and "\n" not in repr(answers[0]) and len(repr(answers[0])) < 150
    assert all(word in repr(predictor) for word in ("nequip", "dtnet", "total", "ensemble of 2"))


def test_the_crystal_system_is_found_when_it_is_asked_for(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spglib takes longer than the rest of a small answer. A structure that is changed afterwards changes nothing."""
    calls = []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return found(*args, **options)

    found = spglib.get_symmetry_dataset
    monkeypatch.setattr(spglib, "get_symmetry_dataset", counted)
    mine = QUARTZ.copy()
    answer = predictor.predict(mine)
    assert not calls
    mine.apply_strain([0.1, 0.0, 0.0])
    assert answer.crystal_system == "trigonal" == answer.crystal_system and len(calls) == 1


def test_a_table_says_which_file_is_which(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("one.cif", "two.cif"):
        QUARTZ.to(str(tmp_path / name))
    frame = predictor.predict([tmp_path / "one.cif", tmp_path / "two.cif", QUARTZ]).dataframe()
    assert [Path(name).name for name in frame["file"][:2]] == ["one.cif", "two.cif"] and frame["file"].isna()[2]
    assert {"coverage", "polycrystalline_low", "eigenvalue_3", "novelty"} <= set(frame.columns)


def test_an_older_model_answers_without_what_it_does_not_know() -> None:
    old = package.load(MODEL.with_name("format_2"), device="cpu")
    answer = old.predict(QUARTZ)
    assert answer.novelty is None and answer.intervals == {} and answer.coverage is None
    assert answer.spread is not None
    with pytest.raises(ZooError, match="train it again"):
        old.predict(QUARTZ, neighbours=1)


def test_the_command_line_says_the_same(predictor: Predictor, tmp_path: Path) -> None:
    QUARTZ.to(str(tmp_path / "quartz.cif"))
    (tmp_path / "broken.cif").write_text("nonsense")
    options = ("--symprec", "0.01", "--coverage", "0.8", "--neighbours", "2")
    result = zoo("predict", str(MODEL), "quartz.cif", "broken.cif", "--format", "json", *options, cwd=tmp_path)
    refused(result, "1 of 2")
    answer, broken = json.loads(result.stdout)
    expected = predictor.predict(tmp_path / "quartz.cif", symprec=0.01, coverage=0.8, neighbours=2).as_dict()
    assert answer.keys() == {"file", *expected}
    np.testing.assert_allclose(answer["tensor"], expected["tensor"], atol=1e-5)
    assert [near["key"] for near in answer["nearest"]] == [near["key"] for near in expected["nearest"]]
    assert broken["file"] == "broken.cif" and "cannot be read" in broken["error"]
    table = zoo("predict", str(MODEL), "quartz.cif", "--neighbours", "1", cwd=tmp_path)
    assert "near quartz.cif: " in table.stdout and " to " in table.stdout
    assert "90 %" in table.stdout and "the members' epochs" in table.stdout
