"""`zoo.calculator`: potentials as calculators of ASE."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import LBFGS
from cli import zoo as run_zoo
from potential_of_sums import PotentialOfSums
from pymatgen.core import Lattice, Structure

import zoo
from zoo.api import Potential, ZooError
from zoo.config import plugins
from zoo.inference.calculator import PotentialCalculator
from zoo.inference.relax import relax
from zoo.testing.pair import default_dtype, shake
from zoo.testing.pair_potential import PairPotential

sevennet = pytest.mark.sevennet
MACE = str(Path(__file__).parent / "encoders" / "data" / "mace" / "density.safetensors")


def quartz() -> Atoms:
    """Low symmetry enough to have forces and stress; atoms beyond the cell, as in a run of MD."""
    atoms = Atoms(
        "Si3O6",
        cell=[4.913, 4.913, 5.405, 90, 90, 120],
        pbc=True,
        scaled_positions=[
            *[[0.47, 0, 0.33], [0, 0.47, 0.67], [0.53, 0.53, 0]],
            *[[0.413, 0.267, 0.452], [0.733, 0.146, 0.786], [0.854, 0.587, 0.119]],
            *[[0.267, 0.413, 0.548], [0.146, 0.733, 0.214], [0.587, 0.854, 0.881]],
        ],
    )
    atoms.rattle(0.05, seed=1)
    atoms.positions[0] += 3 * atoms.cell[0]
    return atoms


def of_our_own(name: str) -> Potential:
    """An encoder that starts at random under an energy."""
    with torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
        torch.manual_seed(0)
        kind = plugins.load("encoder", name)
        made = Potential(kind(kind.Hypers()), width=8).double()
        shake(made)
    return made


CALCULATORS = {
    "sevennet": lambda: zoo.calculator("sevennet", dtype="float64"),
    "mace": lambda: zoo.calculator("mace", weights=MACE, dtype="float64"),
    "Potential": lambda: zoo.calculator(of_our_own("painn"), dtype="float64"),
    "buffers alone": lambda: zoo.calculator(PairPotential(PairPotential.Hypers()), dtype="float64"),
}
some = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[sevennet] if name == "sevennet" else []) for name in CALCULATORS]
)


class TestNumbers:
    @some
    def test_forces_and_stress_are_slopes_of_the_energy(self, name):
        atoms = quartz()
        atoms.calc = CALCULATORS[name]()
        forces = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 4])
        assert np.abs(atoms.get_forces()[[0, 4]] - forces).max() < 1e-5
        stress = calculate_numerical_stress(atoms, eps=1e-5)
        assert atoms.get_stress().shape == (6,)
        assert np.abs(atoms.get_stress() - stress).max() < 1e-6
        assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True)

    @sevennet
    def test_single_precision_is_near_double(self):
        single, double = quartz(), quartz()
        single.calc, double.calc = (zoo.calculator("sevennet", dtype=d) for d in ("float32", "float64"))
        assert single.get_potential_energy() == pytest.approx(double.get_potential_energy(), abs=9e-5)
        assert np.abs(single.get_forces() - double.get_forces()).max() < 4e-4

    def test_an_instance_stays_as_it_was(self):
        """It is copied: its owner goes on training it in float64."""
        made = of_our_own("nequip").train()
        atoms = quartz()
        atoms.calc = zoo.calculator(made)
        atoms.get_forces()
        assert made.training and next(made.parameters()).dtype == torch.float64
        assert all(p.requires_grad for p in made.parameters())
        assert next(atoms.calc.potential.parameters()).dtype == torch.float32

    @sevennet
    def test_an_encoder_as_an_instance(self):
        kind = plugins.load("encoder", "sevennet")
        atoms, named = quartz(), quartz()
        atoms.calc, named.calc = zoo.calculator(kind(kind.Hypers(layer=1))), zoo.calculator("sevennet")
        assert atoms.get_potential_energy() == named.get_potential_energy()


class TestPeriodicity:
    """Vacuum along what is not periodic: the answer is that of atoms whose images are too far to be seen."""

    @pytest.fixture(scope="class")
    def calculator(self) -> PotentialCalculator:
        return zoo.calculator("mace", weights=MACE, dtype="float64")

    def test_a_molecule(self, calculator):
        alone = molecule("H2O")
        alone.calc = calculator
        boxed = molecule("H2O", vacuum=8, pbc=True)
        boxed.calc = copy.copy(calculator)
        assert alone.get_potential_energy() == pytest.approx(boxed.get_potential_energy(), abs=1e-10)
        assert np.abs(alone.get_forces() - boxed.get_forces()).max() < 1e-10
        assert np.abs(calculate_numerical_forces(alone, eps=1e-4) - alone.get_forces()).max() < 1e-6

    @pytest.mark.parametrize("free", [[2], [0], [1, 2], [0, 1]])
    def test_a_slab_and_a_wire(self, calculator, free):
        """Lattice vectors along directions that are not periodic do not matter, not even where they have no length."""
        atoms = quartz()
        atoms.positions[0] -= 3 * atoms.cell[0]
        wide = atoms.copy()
        for axis in free:
            wide.cell[axis] *= 12
        wide.calc = copy.copy(calculator)
        atoms.pbc = [axis not in free for axis in range(3)]
        for length in (1, 0):
            atoms.cell[free] *= length
            atoms.calc = copy.copy(calculator)
            assert atoms.get_potential_energy() == pytest.approx(wide.get_potential_energy(), abs=1e-10)
            assert np.abs(atoms.get_forces() - wide.get_forces()).max() < 1e-10

    def test_a_stress_of_what_has_no_volume(self, calculator):
        atoms = molecule("H2O")
        atoms.calc = calculator
        atoms.get_forces()
        with pytest.raises((ZooError, PropertyNotImplementedError), match="periodic in three directions"):
            atoms.get_stress()

    def test_one_atom_alone(self, calculator):
        atoms = Atoms("Si")
        atoms.calc = calculator
        assert np.isfinite(atoms.get_potential_energy()) and not atoms.get_forces().any()


@sevennet
class TestRuns:
    def test_a_relaxation_that_keeps_the_symmetry(self):
        atoms = bulk("MgO", "rocksalt", a=4.4)
        atoms.set_constraint(FixSymmetry(atoms))
        atoms.calc = zoo.calculator("sevennet", dtype="float64")
        done = LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=40)
        assert done
        assert atoms.cell.lengths() * 2**0.5 == pytest.approx(4.25, abs=0.05)  # PBE: 4.25 Å

    def test_molecular_dynamics_keeps_the_energy(self):
        atoms = bulk("NaCl", "rocksalt", a=5.69, cubic=True)
        atoms.calc = zoo.calculator("sevennet", dtype="float64")
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        start = atoms.get_total_energy()
        VelocityVerlet(atoms, 1 * units.fs).run(20)
        assert atoms.get_total_energy() == pytest.approx(start, abs=2e-4 * len(atoms))
        Langevin(atoms, 1 * units.fs, temperature_K=300, friction=0.01, rng=np.random.default_rng(0)).run(2)


def test_a_relaxation_in_a_potential_that_has_buffers_alone():
    potential = PairPotential(PairPotential.Hypers()).double().eval()
    found = relax(potential, Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.45, 0.5, 0.5]]))
    assert found.steps > 0 and found.moved > 0.01


class TestBadInput:
    def error(self, *args: object, **kwargs: object) -> str:
        with pytest.raises(ZooError) as caught:
            zoo.calculator(*args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_what_cannot_be_a_potential(self):
        said = self.error("nequip")
        assert "'nequip' has no energy; those that have: " in said and "sevennet" in said and "nequip," not in said
        assert "no encoder 'sevenet'. Did you mean 'sevennet'?" in self.error("sevenet")
        kind = plugins.load("encoder", "painn")
        assert "put a zoo.api.Potential on it" in self.error(kind(kind.Hypers()))
        assert "a int is no potential" in self.error(3)
        assert "is made already" in self.error(of_our_own("painn"), layer=3)

    def test_settings(self):
        assert "dtype is float32 or float64, not float16" in self.error("sevennet", dtype="float16")
        assert "checkpoint" in self.error("sevennet", checkpoint="SevenNet-1")
        assert "there is no file nothing.safetensors" in self.error("mace", weights="nothing.safetensors")
        assert "device 'gpu' is not known" in self.error("mace", weights=MACE, device="gpu")

    def test_weights_without_an_energy(self):
        old = Path(__file__).parent / "encoders" / "data" / "tensornet" / "tensornet.safetensors"
        assert "convert it anew" in self.error("tensornet", weights=str(old))

    def test_weights_that_are_not_here(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        assert "zoo convert mace" in self.error("mace")

    @pytest.mark.parametrize(
        ("atoms", "complaint"),
        [
            (Atoms("PoPo", [[0, 0, 0], [2, 0, 0]]), "does not know Po"),
            (Atoms("X"), "does not know X"),
            (Atoms(), "no atoms"),
            (Atoms("Si2", [[0, 0, 0], [0, 0, 0]]), "two atoms on the same place"),
            (Atoms("Si", pbc=True), "no volume"),
            (Atoms("Si", [[np.nan, 0, 0]]), "NaN"),
            (Atoms("Si", pbc=True, cell=[np.inf, 3, 3]), "infinity"),
        ],
    )
    def test_atoms(self, atoms, complaint):
        for calculator in (zoo.calculator("mace", weights=MACE), zoo.calculator(of_our_own("painn"))):
            if complaint == "does not know Po" and calculator.elements is None:
                continue
            with pytest.raises(ZooError, match=complaint) as caught:
                calculator.get_potential_energy(atoms)
            assert "\n" not in str(caught.value)


def test_neither_torch_nor_ase_is_imported_before_it_is_needed(tmp_path):
    code = "import sys, zoo; sys.exit('torch' in sys.modules or 'ase' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_zoo_list_says_which_have_an_energy(tmp_path):
    said, of_one, of_another = (run_zoo("list", *name, cwd=tmp_path).stdout for name in ([], ["sevennet"], ["painn"]))
    assert "With an energy (zoo.calculator): mace, nequix, sevennet, tensornet" in said
    assert 'It has an energy, forces and stress: zoo.calculator("sevennet")' in of_one
    assert "zoo.calculator" not in of_another


def test_energies_of_atoms() -> None:
    atoms = quartz()
    atoms.calc = zoo.calculator(of_our_own("nequip"))
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), rel=1e-5)
    pairs = PotentialOfSums(PairPotential.Hypers())
    atoms.calc = PotentialCalculator(pairs.double(), "sums", torch.device("cpu"), torch.float64)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energies()
