"""`zoo run` with auxiliary sources: the crystals and labels trained on, the levels of theory answered at."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import springs
import torch
import yaml
from cli import refused, zoo
from quick import no_pictures
from test_joint_run import CONTENT
from tiny_labels import CESIUM_CHLORIDE, petretto_row, phonondb_row, write_petretto, write_phonondb

from zoo.config import recipe
from zoo.config.recipe import Training
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.data.labels import Labels
from zoo.data.phonondb2018 import PhononDB2018
from zoo.data.reading import read
from zoo.data.tensors import JOINT
from zoo.errors import ZooError
from zoo.inference.predictor import Predictor
from zoo.model import checkpoint
from zoo.storage.run_folder import RunFolder, read_json
from zoo.training.batch_loss import BatchLoss
from zoo.training.batches import Batches
from zoo.training.mean_error import component_errors
from zoo.workflows import seed_results, train

TOLD = ("readouts.electronic.level_of_theory=true", "readouts.ionic.level_of_theory=true")


@pytest.fixture(scope="module", autouse=True)
def _pair_potential():
    with springs.pair_potential():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with two auxiliary sources; of phonondb2018 each third crystal is one of petousis2017, by its id."""
    place = tmp_path_factory.mktemp("auxiliary")
    known = [f"mp-{number}" for number in (10086, 10161, 10163, 10165, 567290, 560902)]
    names = [name for i, twin in enumerate(known) for name in (twin, f"mp-9{i}00001", f"mp-9{i}00002")]
    rows = [phonondb_row(name, spring=1.0 + 0.1 * i, scale=1 + 0.01 * i) for i, name in enumerate(names)]
    rows[1] = phonondb_row(names[1], scale=1.2, unstable=True)
    write_phonondb(place, rows)
    write_petretto(
        place, [petretto_row("mp-9900001", total=6.0), petretto_row("mp-9900002", electronic=40 * np.eye(3))]
    )
    electronic = {"name": "susceptibility", "width": 8, "heads": 1, "band_gap": True}
    sources = [{"name": name, "path": str(place)} for name in ("phonondb2018", "petretto2018")]
    content = copy.deepcopy(CONTENT) | {"auxiliary": sources}
    content["readouts"]["electronic"] = electronic
    (place / "tiny.yaml").write_text(yaml.safe_dump(content))
    return place


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    with no_pictures():
        result = zoo(
            "run",
            "tiny.yaml",
            *TOLD,
            "training.max_epochs=6",
            "training.auxiliary_share=0.5",
            "--out",
            "run",
            cwd=folder,
        )
    assert result.returncode == 0, result.stderr
    assert "auxiliary phonondb2018: 18 crystals with a label" in result.stdout
    assert "auxiliary petretto2018: 1 crystals with a label" in result.stdout
    assert "levels    30 PBE, 19 PBEsol\n" in result.stdout
    assert "labels beside the tensor" in result.stdout and " eV " in result.stdout
    return folder / "run"


def prepared(folder: Path, *changes: str, name: str = "tiny.yaml") -> train.Prepared:
    config = recipe.read(str(folder / name), changes)
    target = train.target_of(config)
    model = train.models.build(config.encoder, config.readout, target, config.force_constants.potential)
    place = RunFolder(folder / "scratch")
    place.path.mkdir(exist_ok=True)
    return train.prepare(config, target, model, torch.device("cpu"), place, lambda line: None)


def test_no_twin_of_a_held_out_crystal_is_trained_on(folder: Path) -> None:
    state = prepared(folder)
    phonondb, petretto = state.auxiliary
    keys = state.crystals.keys
    twins = {key: next(iter(one)) for key, one in zip(phonondb.crystals.keys, phonondb.twins, strict=True) if one}
    assert all(key == f"phonondb-{twin}" for key, twin in twins.items())
    held = [twin for twin in twins.values() if twin in keys]
    assert held, "the first crystals of petousis2017 are others now: choose other ids in `known`"
    rest = sorted(set(keys) - {held[0]})
    for part in ("val", "test"):
        split = train.pipeline.Split(rest[:-2], [held[0]], rest[-2:])
        split = split if part == "val" else dataclasses.replace(split, val=split.test, test=split.val)
        parts = train.parts_of(state, split)
        chosen = {state.samples.graphs.keys[i] for i in parts["all"]}
        assert set(split.train) <= chosen and not {*split.val, *split.test} & chosen
        assert f"phonondb-{held[0]}" not in chosen
        assert len(chosen) == len(split.train) + len(phonondb.crystals) + len(petretto.crystals) - 1
    assert [state.samples.graphs.keys[i] for i in parts["train"]] == split.train


def test_the_labels_that_each_source_has(folder: Path) -> None:
    state = prepared(folder, "training.labels.means=0.1")
    labels, tensors = state.samples.labels, state.samples.tensors
    n = len(state.crystals)
    names = [*state.crystals.keys, *(key for source in state.auxiliary for key in source.crystals.keys)]
    assert labels is not None and labels.born is not None
    assert labels.level.tolist() == [0] * n + [2] * 19
    assert labels.born[state.samples.graphs.atom_offsets[n] :].isfinite().all()
    assert labels.born[: state.samples.graphs.atom_offsets[n]].isnan().all()
    assert labels.band_gap[:n].isfinite().all() and labels.band_gap[n:].isnan().all()
    unstable = names.index("phonondb-mp-9000001")
    assert tensors[unstable, 0].isfinite().all() and tensors[unstable, 1:].isnan().all()
    last = names.index("petretto-mp-9900001")
    for change in ("force_constants.largest_auxiliary=0", "training.labels.means=0"):
        none = prepared(folder, "training.labels.means=0.1", change).samples.labels
        assert none is not None and none.means.isnan().all(), "a mean of ε was compared with that of no force constants"
    assert labels.means[last].tolist()[2] == 6.0 and labels.means[last, :2].isnan().all()
    assert labels.means[:last].isnan().all()


@pytest.mark.parametrize(
    ("changes", "exact", "known"),
    [
        ((), 0, 0),
        (("force_constants.of_records=records",), 17, 17),
        (("force_constants.of_records=potential",), 0, 17),
        (("force_constants.of_records=potential", "force_constants.largest_auxiliary=0"), 0, 0),
    ],
    ids=["none", "records", "potential", "too large"],
)
def test_whose_force_constants_auxiliary_crystals_have(
    folder: Path, changes: tuple[str, ...], exact: int, known: int
) -> None:
    state = prepared(folder, *changes)
    samples, n = state.samples, len(state.crystals)
    constants = samples.force_constants
    assert constants is not None
    batch = samples.load(range(len(samples.graphs)), np.arange(0), {}).crystals.force_constants
    assert batch is not None and batch.exact is not None
    assert int(batch.exact.sum()) == exact and not batch.exact[:n].any()
    assert int((~samples.tensors[n:, 1].isnan()).flatten(1).all(dim=1).sum()) == known
    if exact:
        source = state.auxiliary[0].crystals
        wanted = source.force_constants(0)
        assert wanted is not None
        np.testing.assert_allclose(constants[n].matrix, wanted, atol=1e-6)


def test_the_run_tells_of_them(done: Path) -> None:
    content = read_json(done / "metrics.json")
    report = read_json(done / "data_report.json")
    assert [one["dataset"] for one in report["auxiliary"]] == ["phonondb2018", "petretto2018"]
    assert report["auxiliary"][1]["counts"]["target"] == 1
    card, (model,) = checkpoint.load(done / "model")
    assert card.levels == content["levels"] and set(card.levels) == {"PBE", "PBEsol"}
    assert content["n_auxiliary"] == card.levels["PBEsol"] and card.levels["PBE"] == content["n_train"]
    assert card.labels == {"band_gap": content["n_train"], "born": 9 * 2 * content["n_auxiliary"]}
    assert model.knows_charges and model.reads_level
    assert content["test_labels"]["band_gap"]["n"]["mean"] == content["n_test"]
    assert 0 < content["test_labels"]["band_gap"]["mae"]["mean"] < 10
    page = (done / "model" / "card.html").read_text()
    assert "band gap" in page and f"{card.levels['PBEsol']} crystals PBEsol" in page


def test_evaluation_leaves_out_what_came_from_auxiliary_sources(folder: Path, done: Path) -> None:
    card, _ = checkpoint.load(done / "model")
    phonondb, petretto = card.seen_auxiliary
    assert len(phonondb) + len(petretto) == read_json(done / "metrics.json")["n_auxiliary"]
    result = zoo("evaluate", "run", f"{{name: phonondb2018, path: {folder}}}", "--format", "json", cwd=folder)
    if result.returncode == 0:  # twins of the two held-out parts are none of them
        left_out = json.loads(result.stdout)["left_out"]
        assert set(phonondb) <= {item["key"] for item in left_out if item["stage"] == "seen"}
    else:
        refused(result, "no crystal is left")


def test_changed_charges_are_other_data(folder: Path, tmp_path: Path) -> None:
    state, place = prepared(folder), RunFolder(tmp_path)
    train.remember(state, place)
    train.remember(state, place)
    assert state.samples.labels is not None and state.samples.labels.born is not None
    state.samples.labels.born[-1] += 0.1
    with pytest.raises(ZooError, match="the data have changed"):
        train.remember(state, place)


def test_levels_of_the_own_dataset_come_first_by_their_number(folder: Path) -> None:
    samples = prepared(folder).samples
    assert samples.labels is not None
    samples.labels.level[:5] = torch.tensor([3, 1, 1, 3, 1])
    assert list(seed_results.seen_levels(samples, [0, 1, 2, 3, 4], [len(samples.graphs) - 1])) == [
        "PBE+U",
        "unknown",
        "PBEsol",
    ]


def test_a_label_without_weight_is_not_learned(folder: Path) -> None:
    samples = prepared(folder).samples
    everything = list(range(len(samples.graphs)))
    made = ("born", "band_gap")
    assert set(seed_results.seen_labels(samples, everything, made, Training())) == set(made)
    assert set(seed_results.seen_labels(samples, everything, made, Training(labels={"born": 0}))) == {"band_gap"}


def test_a_single_tensor_without_force_constants_is_not_trained_on(folder: Path) -> None:
    content = yaml.safe_load((folder / "tiny.yaml").read_text())
    content |= {"target": "ionic", "readout": content.pop("readouts")["ionic"], "auxiliary": content["auxiliary"][:1]}
    (folder / "ionic.yaml").write_text(yaml.safe_dump(content))
    (folder / "scratch").mkdir(exist_ok=True)
    small = prepared(folder, "force_constants.largest_auxiliary=0", name="ionic.yaml")
    split = train.pipeline.split(small.crystals.keys, small.crystals.formulas, small.recipe.split, 0)
    parts = train.parts_of(small, split)
    assert parts["all"] == parts["train"]
    with pytest.raises(ZooError, match="target: dielectric"):
        prepared(folder, "force_constants.of_records=records", name="ionic.yaml")


def test_a_refit_learns_nothing_of_auxiliary_crystals_without_its_only_label(folder: Path) -> None:
    """They have no force constants here, so no ionic label to compare with: neither weights nor norms become NaN."""
    content = yaml.safe_load((folder / "tiny.yaml").read_text())
    content |= {"target": "ionic", "readout": content.pop("readouts")["ionic"], "auxiliary": content["auxiliary"][:1]}
    (folder / "single.yaml").write_text(yaml.safe_dump(content))
    with no_pictures():
        for split in (0, 1):
            changes = (f"split.seed={split}", "seeds=[0,1]", "force_constants.largest_auxiliary=0")
            result = zoo("run", "single.yaml", *changes, "--out", f"single_{split}", cwd=folder)
            assert result.returncode == 0, result.stderr
        result = zoo("refit", "single_0", "single_1", "--out", "single", cwd=folder)
    assert result.returncode == 0, result.stderr
    found = read_json(folder / "single" / "metrics.json")
    assert found["n_auxiliary"] == 0 and found["levels"] == {"PBE": found["n_train"]}
    predictor = Predictor.load(folder / "single" / "model")
    assert all(value.isfinite().all() for one in predictor.members for value in one.state_dict().values())
    assert predictor.reference is not None and 0 < (predictor.reference.usual or np.nan) < 1e3
    assert np.isfinite(predictor.predict(CESIUM_CHLORIDE).tensor).all()


def test_an_auxiliary_dataset_that_is_not_there_is_said_at_once(folder: Path) -> None:
    for change, word in (("[{name: phonodb2018}]", "phonondb2018"), ("[{name: elastic2015}]", "elastic2015")):
        refused(zoo("run", "tiny.yaml", f"auxiliary={change}", "--out", "none", cwd=folder), word)
    packed = zoo("run", "tiny.yaml", "training.batch_edges=500", "--out", "none", cwd=folder)
    refused(packed, "training.auxiliary_share: null")


def test_an_answer_is_pbe_unless_another_level_is_asked_for(done: Path, tmp_path: Path) -> None:
    CESIUM_CHLORIDE.to(str(tmp_path / "cscl.cif"))
    answers = []
    for options in ((), ("--functional", "PBE"), ("--functional", "PBEsol")):
        result = zoo("predict", str(done), "cscl.cif", "--format", "json", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        answers.append(json.loads(result.stdout)[0]["tensor"])
    assert answers[0] == answers[1] != answers[2]
    refused(zoo("predict", str(done), "cscl.cif", "--functional", "PBE0", cwd=tmp_path), "PBE, PBEsol", "PBE0")


def test_an_evaluation_is_at_the_level_of_each_label(done: Path, tmp_path: Path) -> None:
    write_phonondb(tmp_path, [phonondb_row("mp-7000001", scale=1.3), phonondb_row("mp-7000002", scale=1.4)])
    source = f"{{name: phonondb2018, path: {tmp_path}}}"
    result = zoo("evaluate", str(done), source, "--out", "crystals.csv", "--format", "json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    predictor = Predictor.load(done / "model")
    structures = [CESIUM_CHLORIDE.copy() for _ in range(2)]
    for structure, scale in zip(structures, (1.3, 1.4), strict=True):
        structure.scale_lattice(CESIUM_CHLORIDE.volume * scale**3)
    for level, same in (("PBEsol", True), ("PBE", False)):
        rows = csv.DictReader((tmp_path / "crystals.csv").open())
        answers = [predictor.predict(structure, functional=level).tensor[0, 0] for structure in structures]
        found = [float(row["predicted_xx"]) for row in rows]
        assert (found == pytest.approx(answers, rel=1e-4)) == same


def test_the_control_is_not_told(folder: Path, tmp_path: Path) -> None:
    with no_pictures():
        result = zoo("run", "tiny.yaml", "training.max_epochs=1", "--out", str(tmp_path / "run"), cwd=folder)
    assert "levels    30 PBE, 19 PBEsol; the readout is not told which (level_of_theory: true)" in result.stdout
    CESIUM_CHLORIDE.to(str(tmp_path / "cscl.cif"))
    asked = zoo("predict", "run", "cscl.cif", "--functional", "PBEsol", cwd=tmp_path)
    refused(asked, "does not tell levels of theory apart", "level_of_theory: true")


def test_each_label_enters_the_loss_by_its_scale(folder: Path) -> None:
    state = prepared(folder, "force_constants.of_records=records", "training.labels.means=0.1", *TOLD)
    config = state.recipe
    model = train.models.build(config.encoder, config.readout, state.target, config.force_constants.potential).eval()
    everything = Batches(state.samples, range(len(state.samples.graphs)), config.training, torch.device("cpu"))
    batch = state.samples.batch(
        state.samples.load(list(range(len(everything.indices))), np.arange(0), dict.fromkeys(LABELS, 1.0)),
        torch.device("cpu"),
    )

    def errors_of(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        return component_errors(predicted, true, JOINT)

    with torch.no_grad():
        predicted, made = model.with_labels(batch.crystals, batch.embedding)
        losses = {name: BatchLoss(model, errors_of, {**NONE, name: 2.0})(batch).item() for name in LABELS}
    for name, (part, values) in JOINT.split(predicted).items():
        true = JOINT.split(batch.tensors)[name][1]
        chosen = list(part.independent)
        error = (values - true).abs().flatten(1)[:, chosen].nanmean().item()
        assert losses[name] == pytest.approx(2 * error / 3, rel=1e-5)
    assert losses["born"] == pytest.approx(2 * (made["born"] - batch.labels["born"]).abs().nanmean().item(), rel=1e-5)
    gap = (made["band_gap"] - batch.labels["band_gap"]).abs().nanmean().item()
    assert losses["band_gap"] == pytest.approx(2 * gap, rel=1e-5)
    mean = predicted[-1, 2].trace().item() / 3
    assert losses["means"] == pytest.approx(2 * abs(mean - 6.0), rel=1e-5)


LABELS = ("electronic", "ionic", "total", "means", "born", "band_gap")
NONE = dict.fromkeys(LABELS, 0.0)


def test_a_store_gives_back_charges_and_force_constants(folder: Path) -> None:
    dataset = PhononDB2018(PhononDB2018.Hypers(path=str(folder)))
    store, left_out = read(dataset, JOINT, "stop")
    assert not left_out
    for i, record in enumerate(dataset.records()):
        np.testing.assert_allclose(store.born(i), record.targets["born"], rtol=1e-6)
        found = store.force_constants(i)
        assert (found is None) == (record.force_constants is None)
        if found is not None:
            np.testing.assert_allclose(found, record.force_constants, rtol=1e-6)
    chosen = store.select([5, 0])
    np.testing.assert_array_equal(chosen.born(0), store.born(5))
    np.testing.assert_array_equal(chosen.force_constants(1), store.force_constants(0))
    alone: CrystalStore = read(dataset, TensorTarget("electronic", quantity="electronic dielectric"), "stop")[0]
    assert Labels.of([alone]).born is None and "born" not in alone.files


def test_an_epoch_draws_its_share_of_auxiliary_crystals(folder: Path) -> None:
    state = prepared(folder)
    n, cpu = len(state.crystals), torch.device("cpu")
    own, more = list(range(n)), list(range(n, len(state.samples.graphs)))

    def drawn(share: float | None, epoch: int) -> list[int]:
        settings = Training(batch_size=8, auxiliary_share=share)
        batches = Batches(state.samples, own, settings, cpu, seed=3, auxiliary=more)
        batches.epoch = epoch
        plan = np.concatenate(batches.plan())
        assert len(batches) == len(batches.plan()) == -(-len(plan) // 8) and len(set(plan)) == len(plan)
        assert {*plan[plan < n]} == {*own}
        return sorted(batches.indices[plan[plan >= n]].tolist())

    assert drawn(None, 1) == drawn(9.0, 1) == more
    few = [drawn(0.2, epoch) for epoch in (1, 2, 1)]
    assert [len(one) for one in few] == [round(0.2 * n)] * 3
    assert few[0] == few[2] != few[1]
    with pytest.raises(ZooError, match="auxiliary_share: null"):
        Batches(state.samples, own, Training(batch_edges=500, auxiliary_share=0.2), cpu, seed=3, auxiliary=more)
