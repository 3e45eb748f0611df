"""`zoo label`: labels as the calculator gives them, read back by ASE, gone on with where they were stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import springs
import torch
from cli import refused, zoo
from potential_of_sums import PotentialOfSums
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import zoo as package
from zoo.contract.batch import CrystalBatch
from zoo.contract.potential import forces_and_stress
from zoo.data.crystal_files import NamedCrystal
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph
from zoo.pretraining import label
from zoo.pretraining.label import NOT_FINITE, TOO_CLOSE, TOO_LARGE_FORCE, Labelling, labels
from zoo.pretraining.label_file import LabelFile, Progress
from zoo.testing import PairPotential

POTENTIAL = ("label", "pair-potential")


@pytest.fixture(scope="module", autouse=True)
def _pair_potential():
    with springs.pair_potential():
        yield


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "ATOMS_PER_PIECE", {"cpu": 1})  # each crystal is a piece


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    """A folder of CIFs, one of them in a folder of its own."""
    (tmp_path / "cifs" / "deep").mkdir(parents=True)
    springs.quartz().to(filename=str(tmp_path / "cifs" / "quartz.cif"))
    springs.rutile().to(filename=str(tmp_path / "cifs" / "deep" / "0012.cif"))
    for number, element in enumerate(("Na", "K", "Rb")):
        salt = Structure(Lattice.cubic(5.6 + 0.4 * number), [element, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        salt.to(filename=str(tmp_path / "cifs" / f"salt{number}.cif"))
    return tmp_path


def labelled(folder: Path, *options: str, source: str = "cifs", out: str = "x.extxyz", code: int = 0):
    done = zoo(*POTENTIAL, source, "--out", out, "--device", "cpu", *options, cwd=folder)
    assert done.returncode == code, done.stderr
    return done


def test_ase_reads_what_the_potential_gives(crystals: Path) -> None:
    done = labelled(crystals)
    frames = ase.io.read(crystals / "x.extxyz", index=":")
    left_out = json.loads((crystals / "x.extxyz.json").read_text())["progress"]["left_out"]
    assert len(frames) + sum(left_out.values()) == 5 * 10
    assert f"{len(frames)} structures of {sum(map(len, frames))} atoms in x.extxyz" in done.stdout
    assert Counter(frame.info["crystal"] for frame in frames).keys() == {"quartz", "0012", "salt0", "salt1", "salt2"}
    (itself,) = (frame for frame in frames if frame.info["crystal"] == "quartz" and frame.info["kind"] == "itself")
    assert itself.symbols.get_chemical_formula() == "O6Si3"
    potential = PairPotential(PairPotential.Hypers())
    for frame in frames:
        assert {"key", "crystal", "kind", "rattle", "strain", "potential"} <= frame.info.keys()
        assert (frame.info["kind"] == "swapped") == ("swap" in frame.info)
        graph = crystal_graph(Crystal(frame.positions, frame.numbers, frame.cell.array), potential.cutoff)
        exact = forces_and_stress(potential, collate([graph], torch.float64))
        assert frame.get_potential_energy() == pytest.approx(exact.energy.item(), abs=1e-4 * len(frame))
        assert frame.get_forces() == pytest.approx(exact.forces.numpy(), rel=1e-4, abs=1e-3)
        assert frame.get_potential_energies().sum() == pytest.approx(frame.get_potential_energy(), abs=1e-5)
        assert frame.get_potential_energies() == pytest.approx(exact.atomic_energies.numpy(), abs=1e-4)
        assert frame.get_stress(voigt=False) == pytest.approx(exact.stress[0].numpy(), rel=1e-4, abs=1e-4)
    assert {frame.info["potential"] for frame in frames} == {f"pair-potential:{potential.energy_fingerprint()}"}


def test_the_order_of_the_crystals_does_not_matter(crystals: Path) -> None:
    labelled(crystals)
    labelled(crystals, source="cifs/salt1.cif", out="one.extxyz")
    alone = ase.io.read(crystals / "one.extxyz", index=":")
    among = [one for one in ase.io.read(crystals / "x.extxyz", index=":") if one.info["crystal"] == "salt1"]
    assert len(alone) == len(among) > 3
    for one, other in zip(alone, among, strict=True):
        assert np.array_equal(one.positions, other.positions) and one.info == other.info
        assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), rel=1e-5)


@pytest.mark.parametrize("stopped_after", [0, 1, 3])
def test_stopped_and_gone_on_with_to_the_same_bytes(
    crystals: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    labelled(crystals, out="whole.extxyz")
    written = LabelFile._note
    calls = 0

    def note(self: LabelFile) -> None:
        nonlocal calls
        if calls == stopped_after:
            raise KeyboardInterrupt  # the frames are in the file, and nothing says so yet
        calls += 1
        written(self)

    with monkeypatch.context() as patch:
        patch.setattr(LabelFile, "_note", note)
        done = labelled(crystals, code=130)
    assert "the same command goes on" in done.stderr
    assert not (crystals / "x.extxyz").exists()
    computed: list[int] = []
    of_piece = label._labelled
    monkeypatch.setattr(label, "_labelled", lambda how, piece: computed.append(1) or of_piece(how, piece))
    labelled(crystals)
    assert (crystals / "x.extxyz").read_bytes() == (crystals / "whole.extxyz").read_bytes()
    assert len(computed) == 5 - stopped_after, "what was noted is not computed again"
    progress = [json.loads((crystals / f"{name}.extxyz.json").read_text()) for name in ("x", "whole")]
    assert progress[0] == progress[1] and progress[0]["progress"]["finished"]
    computed.clear()
    assert "structures of" in labelled(crystals).stdout
    assert not computed, "it is finished"


def test_stopped_in_the_moment_when_it_was_finished(crystals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled(crystals)
    facts = crystals / "x.extxyz.json"
    before, bytes_before = facts.read_text(), (crystals / "x.extxyz").read_bytes()
    facts.write_text(before.replace('"finished": true', '"finished": false'))
    labelled(crystals)
    assert facts.read_text() == before and (crystals / "x.extxyz").read_bytes() == bytes_before


def test_other_settings_other_crystals_or_another_file(crystals: Path) -> None:
    labelled(crystals, "--per-crystal", "3")
    again = (*POTENTIAL, "cifs", "--device", "cpu", "--out")
    refused(zoo(*again, "x.extxyz", cwd=crystals), "x.extxyz was made with per-crystal 3, not 10", "--out")
    refused(zoo(*again, "x.extxyz", "--per-crystal", "3", "--seed", "1", cwd=crystals), "seed 0, not 1")
    deeper = ("--per-crystal", "3", "--set", "depth=2")
    refused(zoo(*again, "x.extxyz", *deeper, cwd=crystals), "was made with potential pair-potential:")
    (crystals / "cifs" / "tin.cif").write_text((crystals / "cifs" / "quartz.cif").read_text())
    refused(zoo(*again, "x.extxyz", "--per-crystal", "3", cwd=crystals), "the source holds more crystals now")
    (crystals / "cifs" / "quartz.cif").unlink()
    refused(zoo(*again, "x.extxyz", "--per-crystal", "3", cwd=crystals), "the source is not what it was")
    (crystals / "cifs" / "tin.cif").unlink()
    refused(zoo(*again, "x.extxyz", "--per-crystal", "3", cwd=crystals), "held 5 crystals", "now only 4")
    with (crystals / "x.extxyz").open("a") as file:
        file.write("1\n")
    refused(zoo(*again, "x.extxyz", "--per-crystal", "3", cwd=crystals), "x.extxyz is damaged")
    (crystals / "x.extxyz.json").write_text("{")
    refused(zoo(*again, "x.extxyz", cwd=crystals), "x.extxyz.json is damaged")
    (crystals / "mine.extxyz").write_text("my own work")
    refused(zoo(*again, "mine.extxyz", cwd=crystals), "mine.extxyz is there already")
    assert (crystals / "mine.extxyz").read_text() == "my own work"


def test_bad_input_is_one_line(crystals: Path) -> None:
    rest = ("--out", "x.extxyz", "--device", "cpu")
    for potential, *words in (("sevennett", "sevennet"), ("nequip", "has no energy"), ("nothing", "no encoder")):
        refused(zoo("label", potential, "cifs", *rest, cwd=crystals), *words)
    refused(zoo(*POTENTIAL, "petousis2018", *rest, cwd=crystals), "petousis2017")
    refused(zoo(*POTENTIAL, "nothing.cif", *rest, cwd=crystals), "nothing.cif", "no such file")
    refused(zoo(*POTENTIAL, "cifs", *rest, "--set", "depht=1", cwd=crystals), "depth")
    refused(zoo(*POTENTIAL, "cifs", "--out", "x.json", cwd=crystals), "x.json", ".extxyz")
    refused(zoo(*POTENTIAL, "cifs", "--out", "no/x.extxyz", cwd=crystals), "there is no folder no")
    (crystals / "empty").mkdir()
    refused(zoo(*POTENTIAL, "empty", *rest, cwd=crystals), "no file of crystals is in it")
    (crystals / "broken.cif").write_text("data_x\n")
    refused(zoo(*POTENTIAL, "broken.cif", *rest, cwd=crystals), "no structure is left", "broken.cif")
    left = {path.name for path in crystals.iterdir()} - {"cifs", "empty", "broken.cif"}
    assert all(name.startswith(".") for name in left), left


def test_a_crystal_that_cannot_be_labelled_is_left_out_and_named(
    crystals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairPotential, "elements", lambda self: frozenset({8, 11, 14, 17, 19, 22, 32}))
    (crystals / "cifs" / "broken.cif").write_text("data_x\n")
    done = labelled(crystals)
    assert "left out  2 of 6 crystals; the first: cifs/broken.cif" in done.stdout
    refused_ones = json.loads((crystals / "x.extxyz.json").read_text())["progress"]["refused"]
    assert "does not know Rb (in cifs/salt2.cif)" in refused_ones[1]
    frames = ase.io.read(crystals / "x.extxyz", index=":")
    assert {z for frame in frames for z in frame.numbers} <= {8, 11, 14, 17, 19, 22, 32}, "nor comes one in by a swap"


def test_a_dataset_and_a_limit(tmp_path: Path) -> None:
    labelled(tmp_path, "--limit", "3", "--per-crystal", "2", source="petousis2017")
    keys = {frame.info["crystal"] for frame in ase.io.read(tmp_path / "x.extxyz", index=":")}
    assert len(keys) == 3 and all(key.startswith("mp-") for key in keys)


def test_crystals_that_are_too_large_are_passed_over(crystals: Path) -> None:
    labelled(crystals, "--largest", "2", "--per-crystal", "1")
    sizes = {frame.info["crystal"]: len(frame) for frame in ase.io.read(crystals / "x.extxyz", index=":")}
    assert len(sizes) == 3 and all("salt" in key for key in sizes)
    other = labelled(crystals, "--largest", "3", "--per-crystal", "1", code=2)
    refused(other, "largest")


class Steep(PairPotential):
    """Forces above all bounds where there is sodium, none at all where there is potassium."""

    def atomic_energies(self, batch: CrystalBatch) -> torch.Tensor:
        atomic = super().atomic_energies(batch)
        height = batch.positions[:, 0].sin() * torch.where(batch.numbers == 11, 1000.0, 0.0).to(atomic)
        nan = torch.where(batch.numbers == 19, float("nan"), 0.0).to(atomic)
        return atomic + height + nan * batch.positions[:, 0]


def test_what_no_potential_should_learn_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "ATOMS_PER_PIECE", {"cpu": 100})

    def structures(*elements: str) -> list[NamedCrystal]:
        cell = Lattice.cubic(4.4)
        return [
            NamedCrystal("x", one, Structure(cell, [one, "Ar"], [[0.1, 0, 0], [0.5, 0.5, 0.5]])) for one in elements
        ]

    how = Labelling(Steep(Steep.Hypers()).float(), "steep", 1, 0, torch.device("cpu"))
    (part,) = labels(how, structures("Na", "K", "Ca"))
    assert part.left_out == {TOO_LARGE_FORCE: 1, NOT_FINITE: 1, TOO_CLOSE: 0}
    assert part.structures == 1 and "key=Ca" in part.text and "energies" in part.text
    assert "nan" not in part.text.lower()
    (sums,) = labels(replace(how, potential=PotentialOfSums(PotentialOfSums.Hypers()).float()), structures("Ca"))
    assert sums.structures == 1 and "energies" not in sums.text and "forces" in sums.text
    near = Structure(Lattice.cubic(4.4), ["Ca", "Ar"], [[0, 0, 0], [0.3, 0, 0]])
    (part,) = labels(how, [NamedCrystal("x", "near", near)])
    assert part.left_out[TOO_CLOSE] == 1 and not part.text


def test_parts_add_up(crystals: Path) -> None:
    how = Labelling(PairPotential(PairPotential.Hypers()).float(), "pair", 4, 0, torch.device("cpu"))
    named = [NamedCrystal("x", str(i), springs.quartz()) for i in range(6)]
    progress = Progress()
    for part in labels(how, named):
        progress.add(part)
    assert progress.crystals == 6 and progress.structures + sum(progress.left_out.values()) == 24


@pytest.mark.sevennet
def test_sevennet(tmp_path: Path) -> None:
    """Labels of SevenNet-0 equal energy, forces and stress of its calculator in float64, to float32's rounding."""
    springs.salt().to(filename=str(tmp_path / "salt.cif"))
    done = zoo("label", "sevennet", "salt.cif", "--out", "x.extxyz", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frames = ase.io.read(tmp_path / "x.extxyz", index=":")
    calculator = package.calculator("sevennet", dtype="float64", device="cpu")
    assert len(frames) > 5
    for frame in frames:
        structure = AseAtomsAdaptor.get_structure(frame)
        again = AseAtomsAdaptor.get_atoms(structure)
        again.calc = calculator
        assert frame.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-4 * len(frame))
        assert frame.get_forces() == pytest.approx(again.get_forces(), abs=2e-3)
        assert frame.get_stress() == pytest.approx(again.get_stress(), abs=1e-4)
