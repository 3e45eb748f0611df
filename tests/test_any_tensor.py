"""Tensors other than dielectric ones, from the file to the answer: one an atom with a mask, and elastic stiffnesses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cli import refused, zoo
from mlflow import pyfunc

from zoo.contract.target import TensorTarget
from zoo.data.petousis2017 import Petousis2017
from zoo.data.structure_files import structure_from_file
from zoo.graphs.graph import crystal_graph
from zoo.registry.connect import using
from zoo.registry.fetch import model_folder_of
from zoo.storage.run_folder import RunFolder, read_json, read_rows
from zoo.training.mean_error import mae_of_components

SMALL = {
    "encoder": {"name": "nequip", "cutoff": 3.5, "layers": 1, "channels": 8},
    "readout": {"name": "matten", "scalars": 8, "tensors": 4},
    "training": {"max_epochs": 3, "batch_size": 8, "learning_rate": 0.01},
    "device": "cpu",
}
SALT = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na 0 0 0
Cl 0.5 0.5 0.5
"""


def test_components_of_a_symmetric_matrix_are_in_the_order_of_e3nn() -> None:
    from e3nn.io import CartesianTensor

    general = CartesianTensor("ij=ji")
    target = TensorTarget("total")
    matrices = torch.randn(4, 3, 3, dtype=torch.float64)
    symmetric = matrices + matrices.mT
    assert target.irreps == general.simplify()
    torch.testing.assert_close(target.to_irreps(symmetric), general.from_cartesian(symmetric), atol=1e-6, rtol=0)
    torch.testing.assert_close(target.from_irreps(target.to_irreps(symmetric)), symmetric)


def surroundings(structure) -> np.ndarray:
    """(n_atoms, 3, 3): 0.1 Z_i Σ_j exp(-r²/4) r⊗r, a tensor an atom that one can work out."""
    graph = crystal_graph(structure, 3.5)
    vectors = graph.positions[graph.src] - graph.positions[graph.dst] + graph.shift @ graph.cell
    weights = np.exp(-(vectors**2).sum(axis=1) / 4)
    out = np.zeros((len(graph.numbers), 3, 3))
    np.add.at(out, graph.dst, weights[:, None, None] * vectors[:, :, None] * vectors[:, None, :])
    return 0.1 * graph.numbers[:, None, None] * out


@pytest.fixture(scope="module")
def per_atom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model of a tensor an atom; in each crystal the first atom has no label."""
    folder = tmp_path_factory.mktemp("per_atom")
    content = {}
    for record in sorted(Petousis2017(Petousis2017.Hypers()).records(), key=lambda r: r.key)[:40]:
        tensors = surroundings(record.structure).tolist()
        content[record.key] = {"structure": record.structure.as_dict(), "site": [None, *tensors[1:]]}
    (folder / "sites.json").write_text(json.dumps(content))
    recipe = SMALL | {
        "name": "sites",
        "dataset": {"name": "file", "path": "sites.json", "targets": {"site": {"formula": "ij", "per_atom": True}}},
        "target": "site",
        "data": {"cleaning": None, "on_bad_record": "skip"},
    }
    (folder / "sites.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "salt.cif").write_text(SALT)
    result = zoo("run", "sites.yaml", "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


class TestOneTensorAnAtom:
    def test_unlabelled_atoms_are_not_counted(self, per_atom: Path) -> None:
        folder = RunFolder(per_atom / "run")
        content, split = read_json(folder.result), read_json(folder.seed(0).split)
        atoms = {r.key: len(r.structure) for r in Petousis2017(Petousis2017.Hypers()).records()}
        assert content["test"]["n"]["mean"] == sum(atoms[key] - 1 for key in split["test"])
        rows = read_rows(folder.seed(0).predictions)
        assert not [row for row in rows if row["key"].endswith("#0")]
        assert {row["key"].split("#")[0] for row in rows if row["part"] == "test"} == set(split["test"])
        assert len([name for name in rows[0] if name.startswith("true_")]) == 9
        error = [
            abs(float(row[f"true_{c}"]) - float(row[f"predicted_{c}"]))
            for row in rows
            if row["part"] == "test"
            for c in (a + b for a in "xyz" for b in "xyz")
        ]
        assert content["test"]["mae_ten"]["mean"] == pytest.approx(np.mean(error), rel=1e-4)
        assert {"frobenius_0e", "frobenius_1e", "frobenius_2e"} <= set(content["test"])

    def test_labels_are_those_of_their_atoms(self, per_atom: Path) -> None:
        rows = {row["key"]: row for row in read_rows(RunFolder(per_atom / "run").seed(0).predictions)}
        structures = {r.key: r.structure for r in Petousis2017(Petousis2017.Hypers()).records()}
        for key in list(rows)[:30]:
            crystal, _, atom = key.partition("#")
            expected = surroundings(structures[crystal])[int(atom)]
            assert float(rows[key]["true_xx"]) == pytest.approx(expected[0, 0], abs=1e-4)
            assert float(rows[key]["true_yz"]) == pytest.approx(expected[1, 2], abs=1e-4)

    def test_the_answer_has_a_tensor_for_each_atom(self, per_atom: Path) -> None:
        answer = json.loads(zoo("predict", "run", "salt.cif", "--format", "json", cwd=per_atom).stdout)[0]
        tensor = np.array(answer["tensor"])
        assert tensor.shape == (8, 3, 3)
        # A site of NaCl is cubic: the tensor of each atom is a multiple of 1.
        for matrix in tensor:
            np.testing.assert_allclose(matrix, matrix[0, 0] * np.eye(3), atol=1e-4)
        assert "polycrystalline" not in answer or answer["polycrystalline"] is None
        rows = zoo("predict", "run", "salt.cif", "--format", "csv", cwd=per_atom).stdout.splitlines()
        assert len(rows) == 9 and rows[0].startswith("file,formula,crystal_system,atom,xx,xy,xz,yx")
        shown = zoo("predict", "run", "salt.cif", cwd=per_atom)
        assert shown.returncode == 0 and "site tensor" in shown.stdout

    def test_evaluation(self, per_atom: Path) -> None:
        content = json.loads((per_atom / "sites.json").read_text())
        # Half as large again, they are other crystals.
        for entry in content.values():
            lattice = entry["structure"]["lattice"]
            lattice["matrix"] = (np.array(lattice["matrix"]) * 1.1).tolist()
        (per_atom / "larger.json").write_text(json.dumps(dict(list(content.items())[:6])))
        result = zoo("evaluate", "run", "larger.json", "--format", "json", "--out", "rows.csv", cwd=per_atom)
        assert result.returncode == 0, result.stderr
        errors = json.loads(result.stdout)["errors"]["all"]
        assert errors["n"] == len(read_rows(per_atom / "rows.csv")) > 6
        refused(zoo("evaluate", "run", "larger.json", "--below", "3", cwd=per_atom), "no eigenvalues", "--below")

    def test_what_is_refused(self, per_atom: Path, tmp_path: Path) -> None:
        content = json.loads((per_atom / "sites.json").read_text())
        key = next(key for key, entry in content.items() if len(entry["site"]) > 2)
        entry = content[key]
        cases = {
            "one tensor, or null, for each of": entry | {"site": entry["site"][:-1]},
            "labels no atom": entry | {"site": [None] * len(entry["site"])},
            "no 3×3 array": entry | {"site": [["a"], *entry["site"][1:]]},
        }
        recipe = yaml.safe_load((per_atom / "sites.yaml").read_text())
        recipe["data"]["on_bad_record"] = "stop"
        (tmp_path / "sites.yaml").write_text(yaml.safe_dump(recipe))
        for out, (words, broken) in enumerate(cases.items()):
            (tmp_path / "sites.json").write_text(json.dumps({key: broken}))
            refused(zoo("run", "sites.yaml", "--out", str(out), cwd=tmp_path), key, words)


def test_the_loss_is_over_labelled_atoms_alone() -> None:
    target = TensorTarget("site", "ij", per_atom=True)
    predicted = torch.ones(3, 3, 3, requires_grad=True)
    true = torch.zeros(3, 3, 3)
    true[1] = torch.nan
    loss = mae_of_components(predicted, true, target)
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    assert predicted.grad[1].abs().max() == 0 and predicted.grad[0].abs().min() > 0
    none = mae_of_components(predicted, torch.full((3, 3, 3), torch.nan), target)
    assert none.item() == 0 and torch.autograd.grad(none, predicted)[0].isfinite().all()


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elastic")
    recipe = SMALL | {
        "name": "stiff",
        "dataset": {"name": "elastic2015"},
        "target": "elasticity",
        "data": {"cleaning": None, "limit": 60, "frame": None},
    }
    (folder / "stiff.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "salt.cif").write_text(SALT)
    result = zoo("run", "stiff.yaml", "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder


class TestElasticity:
    def test_metrics_and_figures_are_those_of_stiffnesses(self, elastic: Path) -> None:
        folder = RunFolder(elastic / "run")
        content = read_json(folder.result)
        assert content["unit"] == "GPa"
        names = {"mae_bulk_modulus", "mae_shear_modulus", "frobenius_0e", "frobenius_2e", "frobenius_4e"}
        assert names <= set(content["test"]) and names <= set(content["test_mean_baseline"])
        assert content["test"]["n_bulk_modulus_undefined"]["mean"] is not None
        assert (folder.figures / "parity_moduli.png").is_file()
        said = (elastic / "stdout").read_text()
        assert "bulk modulus" in said and "errors in GPa" in said and "off-diag" not in said

    def test_the_answer_is_a_stiffness(self, elastic: Path) -> None:
        answer = json.loads(zoo("predict", "run", "salt.cif", "--format", "json", cwd=elastic).stdout)[0]
        tensor, voigt = np.array(answer["tensor"]), np.array(answer["voigt"])
        assert tensor.shape == (3, 3, 3, 3) and voigt.shape == (6, 6)
        np.testing.assert_allclose(tensor, tensor.transpose(2, 3, 0, 1), atol=1e-3)
        assert voigt[0, 0] == pytest.approx(voigt[1, 1], rel=1e-4) and voigt[0, 3] == pytest.approx(0, abs=1e-2)
        assert answer["bulk_modulus"] == pytest.approx((voigt[0, 0] + 2 * voigt[0, 1]) / 3, rel=1e-4)
        assert "bulk_modulus" in zoo("predict", "run", "salt.cif", "--format", "csv", cwd=elastic).stdout
        assert "6×6, Voigt" in zoo("predict", "run", "salt.cif", cwd=elastic).stdout

    def test_it_is_registered_and_served(self, elastic: Path) -> None:
        uri = f"sqlite:///{elastic / 'mlflow.db'}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            assert (model_folder_of("stiff") / "model.json").is_file()
        with using(uri):
            (answer,) = pyfunc.load_model("models:/stiff@champion").predict([{"cif": SALT}])
        asked = json.loads(zoo("predict", "run", "salt.cif", "--format", "json", cwd=elastic).stdout)[0]
        got = answer if isinstance(answer, dict) else answer.model_dump()
        np.testing.assert_allclose(got["tensor"], asked["tensor"], rtol=1e-5, atol=1e-4)
        assert got["bulk_modulus"] == pytest.approx(asked["bulk_modulus"], rel=1e-5)
        assert got["formula"] == structure_from_file(elastic / "salt.cif").composition.reduced_formula
