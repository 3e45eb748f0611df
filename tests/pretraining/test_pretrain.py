"""`zoo pretrain`: labels are learned, a stopped training goes on, the file of weights is an encoder and a potential."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
import torch
import yaml
from cli import refused, zoo
from mlflow import MlflowClient
from pretraining.labels import SMALL, config_of, displaced, trained, write_salts
from pymatgen.io.ase import AseAtomsAdaptor

import zoo as package
from zoo.config.recipe import Plugin
from zoo.errors import ZooError
from zoo.graphs.graph import collate, crystal_graph
from zoo.model.potential_weights import Pretrained
from zoo.phonons import potentials
from zoo.pretraining.held_out import HeldOutCrystals
from zoo.pretraining.labelled_data import _split, _usable
from zoo.pretraining.labelled_store import LabelledCrystals, LabelledStore
from zoo.pretraining.pretraining_config import Source
from zoo.pretraining.reference_energies import composition_energies, mean_atomic_energies
from zoo.storage.run_folder import read_json
from zoo.storage.weights import load_weights, read_metadata, sha256_of
from zoo.sweep import sweep_config
from zoo.sweep.cells import expand
from zoo.sweep.sweep_config import Plan

LABELS = {
    "energy": "meV_per_atom",
    "atomic_energies": "meV",
    "forces": "meV_per_A",
    "stress": "meV_per_A3",
    "force_constants": "eV_per_A2",
}
SPRINGS = {"name": "phonondb2018"}


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("label", LABELS)
def test_each_label_is_learned(label: str, labelled: Path, tmp_path: Path) -> None:
    changed: dict = {"loss": {label: 1.0}, "training": SMALL["training"] | {"max_epochs": 15, "warm_up": 1}}
    if label == "force_constants":
        changed |= {"sources": [SPRINGS | {"path": str(labelled)}], "dtype": "float64"}
    content = trained(config_of(labelled, **changed), tmp_path)
    rows, name = history(tmp_path), f"{label}_{LABELS[label]}"
    assert rows[-1][f"train_{name}"] < 0.9 * rows[0][f"train_{name}"]
    assert [row["lr"] for row in rows][:2] == pytest.approx([0.005, 0.01]), "it rises before it falls"
    best = min(rows, key=lambda row: row["val_loss"])
    assert content["val"] == {name: pytest.approx(best[f"val_{name}"], rel=1e-3)}, "the file is the best epoch"


def test_what_is_in_the_folder(potential: Path) -> None:
    content = read_json(potential / "metrics.json")
    assert content["kind"] == "head" and content["n_train"] + content["n_val"] == 24
    assert content["weights"]["sha256"] == sha256_of(potential / "potential.safetensors")
    about = read_metadata("nequip", potential / "potential.safetensors")["pretraining"]
    assert about["val"] == content["val"] and about["sources"][0]["licence"]
    split = read_json(potential / "split.json")
    assert not {int(key) // 3 for key in split["train"]} & {int(key) // 3 for key in split["val"]}, "a formula parted"
    card = (potential / "card.html").read_text()
    assert content["weights"]["sha256"] in card and "data:image/png" in card
    assert (potential / "figures/parity.png").stat().st_size > 5000


class Killed(BaseException):
    """Stands for a kill of the process: a BaseException, which no handler of the trained code catches."""


def test_resumed_it_is_the_same_bit_for_bit(labelled: Path, tmp_path: Path) -> None:
    config = config_of(labelled, training=SMALL["training"] | {"weight_average": 0.3})

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Killed

    whole = trained(config, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(config, tmp_path / "stopped", kill)
    resumed = trained(config, tmp_path / "stopped")
    # The header of a safetensors file is in no fixed order.
    assert {**resumed, "weights": None} == {**whole, "weights": None}
    files = [load_weights("nequip", tmp_path / name / "potential.safetensors") for name in ("whole", "stopped")]
    assert files[0].content() == files[1].content()
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    with pytest.raises(ZooError, match="begun with another recipe"):
        trained(config.model_copy(update={"seed": 5}), tmp_path / "stopped")


def test_the_file_is_a_potential(potential: Path) -> None:
    atoms = displaced(1)[0]
    atoms.calc = package.calculator("nequip", device="cpu", dtype="float64", weights=str(potential))
    atoms.get_stress()
    forces = atoms.get_forces()
    slope = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[0, 0] += sign * 1e-4
        slope.append(moved.get_potential_energy())
    assert forces[0, 0] == pytest.approx((slope[1] - slope[0]) / 2e-4, abs=1e-6)
    with pytest.raises(ZooError, match="does not know Si"):
        atoms.calc.get_potential_energy(ase.build.bulk("Si"))


def test_the_file_is_an_encoder(potential: Path) -> None:
    built = potentials.build(Plugin(name="nequip", weights=str(potential / "potential.safetensors"), layer=1))
    assert isinstance(built, Pretrained) and built.encoder.hypers.layer == 1
    other = potentials.build(Plugin(name="nequip", weights=str(potential)))
    assert built.fingerprint() != other.fingerprint() and built.energy_fingerprint() == other.energy_fingerprint()

    batch = collate([crystal_graph(AseAtomsAdaptor.get_structure(displaced(1)[0]), built.cutoff)], torch.float64)
    assert built(batch).atoms.values.shape == (2, built.provides(built.hypers).atoms.dim)
    torch.testing.assert_close(built.energy(batch), other.energy(batch))


def test_a_sweep_goes_through_its_layers(potential: Path, small: dict, tmp_path: Path) -> None:
    """A cell sets `encoder.layer` where the recipe was read before: it is the inner encoder's."""
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(
            small
            | {"encoder": {"name": "nequip", "weights": str(potential)}, "sweep": {"grid": {"encoder.layer": [1, 2]}}}
        )
    )
    plan = sweep_config.read(str(tmp_path / "mine.yaml"))
    assert isinstance(plan, Plan)
    assert [cell.recipe.encoder.settings["encoder"] for cell in expand(plan)] == [
        {"name": "nequip", "layer": layer} for layer in (1, 2)
    ]


@pytest.mark.parametrize("trainable", [False, True])
def test_a_recipe_names_it(potential: Path, small: dict, trainable: bool, tmp_path: Path) -> None:
    """Frozen and cached, or fine-tuned."""
    write_salts(tmp_path, frozenset(read_json(potential / "metrics.json")["elements"]))
    small["dataset"] = {"name": "file", "path": "salts.json", "targets": {"total": {}}}
    small["encoder"] = {"name": "nequip", "weights": str(potential), "trainable": trainable}
    small["training"]["max_epochs"] = 1
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(small))
    result = zoo("run", "mine.yaml", "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert ("fine-tuned" if trainable else "frozen") in result.stdout


def test_registered_and_fetched_again(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe = SMALL | {"sources": [{"name": "file", "path": str(labelled / "labelled.extxyz")}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe | {"tracking": {}}))
    result = zoo("pretrain", "mine.yaml", "training.max_epochs=1", "--out", "run", cwd=tmp_path)
    assert result.returncode == 0 and "models:/small-potential/1 (champion)" in result.stdout, result.stderr
    refused(zoo("pretrain", "--resume", "run", cwd=tmp_path), "is finished")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    version = client.get_model_version("small-potential", "1")
    run, content = client.get_run(version.run_id), read_json(tmp_path / "run" / "metrics.json")
    for label, error in content["val"].items():
        assert run.data.metrics[f"best_val_{label}"] == error and f"| {error:.4g} |" in version.description
    (source,) = run.inputs.dataset_inputs
    assert source.dataset.name == "labelled.extxyz" and json.loads(source.dataset.profile)["num_rows"] == 24
    assert run.data.tags["zoo.encoder"] == version.tags["zoo.encoder"] == "nequip"
    assert "artifacts/potential/card.html" in version.description
    atoms = displaced(1)[0]
    energies = []
    for weights in ("models:/small-potential@champion", str(tmp_path / "run")):
        atoms.calc = package.calculator("nequip", device="cpu", weights=weights)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]


def test_reference_energies_are_those_of_least_squares(labelled: Path) -> None:
    store = LabelledStore.of(Source(name="file", path=str(labelled / "labelled.extxyz")))
    crystals = LabelledCrystals.of([store], [np.arange(len(store))])
    found = composition_energies(crystals, range(len(store)))
    energies = np.array([atoms.get_potential_energy() for atoms in displaced()])
    of_sum = np.array([sum(found[z] for z in atoms.numbers) for atoms in displaced()])
    for z in found:  # the residual is orthogonal to each column
        counts = np.array([(atoms.numbers == z).sum() for atoms in displaced()])
        assert counts @ (energies - of_sum) == pytest.approx(0, abs=1e-9)


def test_energies_of_atoms_begin_at_their_means(labelled: Path) -> None:
    store = LabelledStore.of(Source(name="file", path=str(labelled / "labelled.extxyz")))
    crystals = LabelledCrystals.of([store], [np.arange(len(store))])
    found = mean_atomic_energies(crystals, range(len(store)))
    parts = [atoms.get_potential_energies()[atoms.numbers == 8] for atoms in displaced()]
    assert found[8] == pytest.approx(np.concatenate(parts).mean(), abs=1e-9)
    assert set(found) == {8, 9, 11, 12, 16, 17, 19, 20}


def without_parts(atoms: list) -> None:
    for one in atoms:
        del one.calc.results["energies"]


def written(folder: Path, change) -> str:
    atoms = displaced(1)
    change(atoms)
    ase.io.write(folder / "changed.extxyz", atoms)
    return json.dumps([{"name": "file", "path": "changed.extxyz"}])


def without_forces(atoms: list) -> None:
    for one in atoms:
        del one.calc.results["forces"]


def with_nan(atoms: list) -> None:
    atoms[1].calc.results["energy"] = np.nan


def without_one_energy(atoms: list) -> None:
    for one in atoms:
        if "K" in one.get_chemical_symbols():
            del one.calc.results["energy"]


@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        (without_forces, [], "no crystal of the sources has forces"),
        (without_parts, ["loss.atomic_energies=1"], "no crystal of the sources has atomic_energies"),
        (with_nan, [], "'energy' holds NaN"),
        (without_one_energy, [], "no crystal with an energy holds K"),
        (lambda atoms: None, ["loss.energy=0", "loss.forces=0", "loss.stress=0"], "all weights are 0"),
        (lambda atoms: None, ["largest=1"], "too few to train"),
        (lambda atoms: atoms.extend(displaced(3)), ["validation=0.05"], "smallest has 4; write validation=0.13"),
        (lambda atoms: None, ["encoder={name: painn}", "sources=[{name: file, path: no.xyz}]"], "no such file"),
        (lambda atoms: None, ["dtype=float64", "training.precision=bfloat16"], "training.precision"),
        (lambda atoms: None, ["loss.force=1"], "Did you mean 'forces'"),
        (lambda atoms: None, ["sources=[{name: petousis2017}]"], "has a label"),
    ],
    ids=[
        "forces",
        "parts",
        "nan",
        "reference",
        "weights",
        "largest",
        "validation",
        "file",
        "precision",
        "key",
        "dataset",
    ],
)
def test_bad_input_is_one_line(change, overrides: list[str], message: str, tmp_path: Path) -> None:
    sources = written(tmp_path, change)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SMALL | {"sources": json.loads(sources)}))
    for _ in range(2):  # nor does the first attempt leave anything in the way of the second
        refused(zoo("pretrain", "mine.yaml", *overrides, "--out", "run", cwd=tmp_path), message)


def test_some_must_be_left_to_train_on(labelled: Path) -> None:
    config = config_of(labelled, validation=0.99)
    crystals, _ = _usable(config, lambda line: None)
    with pytest.raises(ZooError, match=r"0\.99 of 24 crystals leaves none to train on"):
        _split(config, crystals, has_head=False)


def test_weights_that_do_not_fit_are_refused(potential: Path, tmp_path: Path) -> None:
    for choice, message in {
        ("teanet", str(potential)): "it holds weights of the encoder nequip",
        ("nequip", str(tmp_path)): "holds no potential.safetensors",
        ("nequip", "nowhere.safetensors"): "there is no file",
    }.items():
        with pytest.raises(ZooError, match=message):
            potentials.build(Plugin(name=choice[0], weights=choice[1]))
    with pytest.raises(ZooError, match="was trained with channels: 4, not 8"):
        potentials.build(Plugin(name="nequip", weights=str(potential), channels=8))


def test_twins_of_held_out_crystals_are_left_out(labelled: Path, tmp_path: Path) -> None:
    """Twins are left out of a dataset; of a file of displaced crystals, all those of held-out formulas are."""
    held = {"dataset": {"name": "petousis2017"}, "seeds": [0, 1, 2, 3, 4]}
    sources = [{"name": "file", "path": str(labelled / "labelled.extxyz")}, SPRINGS | {"path": str(labelled)}]
    loss = {"force_constants": 1.0, "energy": 1.0}
    config = config_of(labelled, sources=sources, without_twins_of=held, loss=loss, training={"max_epochs": 1})
    said: list[str] = []
    crystals, report = _usable(config, said.append)
    formulas = HeldOutCrystals.of(config.without_twins_of).formulas
    assert formulas & {"NaCl", "KF", "CaO", "MgO", "NaF", "KCl", "CaS", "MgS"}
    assert not formulas & set(crystals.formulas[: report["sources"][0]["used"]])
    assert all(f"{one['twins_left_out']:,} twins" in line for one, line in zip(report["sources"], said, strict=True))
    assert report["sources"][0]["twins_left_out"] > 0 and report["sources"][1]["twins_left_out"] > 0


@pytest.mark.sevennet
def test_sevennet_is_tuned(labelled: Path, tmp_path: Path) -> None:
    changed = {
        "encoder": {"name": "sevennet"},
        "sources": [SPRINGS | {"path": str(labelled)}],
        "loss": {"force_constants": 1.0},
        "dtype": "float64",
        "limit": 6,
        "training": {"max_epochs": 1, "learning_rate": 1e-4},
    }
    content = trained(config_of(labelled, **changed), tmp_path)
    assert content["kind"] == "own" and content["val"] != content["val_before"]
    assert content["weights"]["bytes"] < 4e6
    built = [potentials.build(Plugin(name="sevennet", layer=2, **more)) for more in ({}, {"weights": str(tmp_path)})]
    assert built[0].fingerprint() != built[1].fingerprint()
    assert built[0].energy_fingerprint() != built[1].energy_fingerprint()
    (atoms,) = displaced(1)[:1]
    energies = []
    for more in ({}, {"weights": str(tmp_path)}):
        atoms.calc = package.calculator("sevennet", device="cpu", **more)
        energies.append(atoms.get_potential_energy())
    assert energies[0] != energies[1] == pytest.approx(energies[0], abs=0.5)
    with pytest.raises(ZooError, match="was tuned from SevenNet-0"):
        potentials.build(Plugin(name="sevennet", checkpoint="SevenNet-l3i5", weights=str(tmp_path)))


@pytest.mark.extended
def test_two_processes_train_what_one_trains(labelled: Path, tmp_path: Path) -> None:
    sources = [{"name": "file", "path": str(labelled / "labelled.extxyz")}, SPRINGS | {"path": str(labelled)}]
    loss = {"forces": 1.0, "stress": 1.0, "force_constants": 1.0}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SMALL | {"sources": sources, "loss": loss, "dtype": "float64"}))
    for count in ("1", "2"):
        command = [sys.executable, "-m", "zoo", "pretrain", "mine.yaml", "--processes", count, "--out", f"run{count}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    for one, two in zip(history(tmp_path / "run1"), history(tmp_path / "run2"), strict=True):
        assert two == pytest.approx(one, rel=1e-5)
