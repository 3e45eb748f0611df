"""Against DFT: ionic tensors of the phonon database, frequencies, LO splittings and irreps by phonopy."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.phonons.infrared import infrared_spectrum, longitudinal_modes
from zoo.phonons.irreps import irrep_labels
from zoo.phonons.modes import masses_of
from zoo.phonons.polar_modes import ionic_tensor

pytestmark = pytest.mark.shared

FACTOR = 15.633304228935 / 15.633302300230  # CODATA of today over phonopy's of 1986


def phonons_of(crystal, nac: bool = False):
    """phonopy's own object for the same force constants."""
    phonopy = pytest.importorskip("phonopy")
    structure, atoms = crystal.structure, len(crystal.structure)
    cell = phonopy.structure.atoms.PhonopyAtoms(
        numbers=list(structure.atomic_numbers),
        masses=masses_of(structure),
        scaled_positions=structure.frac_coords,
        cell=structure.lattice.matrix,
    )
    phonons = phonopy.Phonopy(cell, np.eye(3, dtype=int), primitive_matrix=np.eye(3))
    phonons.force_constants = np.ascontiguousarray(
        crystal.force_constants.reshape(atoms, 3, atoms, 3).transpose(0, 2, 1, 3)
    )
    if nac:
        phonons.nac_params = {
            "born": crystal.born - crystal.born.mean(axis=0),
            "dielectric": crystal.electronic,
            "factor": 14.3996454787,
            "method": "wang",
        }
    return phonons


def test_quartz(phonondb) -> None:
    """Its tensor, and 16 subspaces: A2 is what absorbs along the axis, E across it, A1 does not."""
    crystal = phonondb["mp-7000"]
    polar = crystal.polar
    assert polar.ionic == pytest.approx(crystal.ionic, abs=1e-4)
    labels = irrep_labels(polar.modes, crystal.structure)
    assert {label: labels.count(label) for label in ("A1", "A2", "E")} == {"A1": 4, "A2": 4, "E": 8}
    assert max(abs(share) for label, share in zip(labels, polar.shares, strict=True) if label == "A1") < 1e-10
    spectrum = infrared_spectrum(polar, crystal.electronic)
    across, along = spectrum.distinct_axes()
    assert abs(spectrum.axes[along][2]) == pytest.approx(1, abs=1e-6)
    named = {label: np.array([modes.mean() for modes in found]) for label, found in _by_label(polar, labels).items()}
    assert spectrum.transverse[along] == pytest.approx(named["A2"])
    assert spectrum.transverse[across] == pytest.approx(named["E"])
    for to, lo in zip(spectrum.transverse, spectrum.longitudinal, strict=True):
        assert len(lo) == len(to)


def _by_label(polar, labels) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for label, which in zip(labels, polar.modes.subspaces, strict=True):
        found.setdefault(label, []).append(polar.modes.wavenumbers[which])
    return found


def test_ionic_tensors_follow_from_charges_and_force_constants(phonondb) -> None:
    deviations = []
    for crystal in phonondb.sample(60):
        size = max(1.0, np.abs(crystal.ionic).max())
        found = crystal.polar.ionic
        without_masses = ionic_tensor(crystal.force_constants, crystal.born, crystal.structure.volume)
        assert np.abs(found - without_masses).max() < 1e-9 * size
        deviations.append(np.abs(found - crystal.ionic).max() / size)
    assert np.median(deviations) < 5e-6
    assert max(deviations) < 3e-5


def test_silicon_and_salt(phonondb) -> None:
    silicon, salt = phonondb["mp-149"], phonondb["mp-22862"]
    assert np.abs(silicon.polar.ionic).max() < 1e-6
    assert irrep_labels(silicon.polar.modes, silicon.structure) == ["T2g"]
    assert silicon.polar.modes.wavenumbers == pytest.approx(520, rel=0.03)
    assert irrep_labels(salt.polar.modes, salt.structure) == ["T1u"]
    assert salt.polar.shares == pytest.approx([1.0])


def test_cubic_barium_titanate_warns(phonondb) -> None:
    polar = phonondb["mp-2998"].polar
    assert irrep_labels(polar.modes, phonondb["mp-2998"].structure) == ["T1u", "T1u", "T2u", "T1u"]
    assert "imaginary (lowest 202i" in polar.warnings()[0]


def test_frequencies_are_those_of_phonopy(phonondb) -> None:
    for crystal in phonondb.sample(20):
        phonons = phonons_of(crystal)
        phonons.run_qpoints([[0, 0, 0]])
        theirs = np.sort(phonons.qpoints.frequencies[0])
        ours = np.sort([*crystal.polar.modes.frequencies, 0.0, 0.0, 0.0])
        # Of Φ that breaks the sum rule slightly phonopy's translations are not at zero: eigenvalues differ by as much.
        loose = np.abs(theirs * np.abs(theirs) - ours * np.abs(ours) / FACTOR**2).max()
        assert loose < 2e-3, crystal.mpid
        stiff = np.abs(ours) > 1
        assert ours[stiff] / FACTOR == pytest.approx(theirs[stiff], abs=1e-4), crystal.mpid


def test_longitudinal_frequencies_are_those_of_phonopy(phonondb) -> None:
    for mpid in ("mp-7000", "mp-22862", "mp-2657"):
        crystal = phonondb[mpid]
        phonons = phonons_of(crystal, nac=True)
        for direction in ([1.0, 0, 0], [0, 0, 1.0], [1.0, 2.0, -1.0]):
            reduced = crystal.structure.lattice.matrix @ direction
            phonons.run_qpoints([[0, 0, 0]], nac_q_direction=reduced)
            theirs = np.sort(phonons.qpoints.frequencies[0])[3:]
            ours = longitudinal_modes(crystal.polar, crystal.electronic, direction).modes.frequencies
            assert ours / FACTOR == pytest.approx(theirs, abs=2e-5), mpid


def test_irreps_are_those_of_phonopy(phonondb) -> None:
    """By closeness of frequencies, as phonopy did before: its sets and labels, the acoustic ones left out."""
    for mpid in ("mp-7000", "mp-22862", "mp-2657", "mp-2998"):
        crystal = phonondb[mpid]
        irreps = phonons_of(crystal).run_irreps([0, 0, 0], degeneracy_tolerance=1e-3)
        theirs = [
            (label, len(bands))
            for label, bands in zip(irreps._ir_labels, irreps.band_indices, strict=True)
            if abs(irreps.frequencies[bands[0]]) > 0.1
        ]
        modes = crystal.polar.modes
        ours = irrep_labels(modes, crystal.structure)
        assert theirs == [(label, w.stop - w.start) for label, w in zip(ours, modes.subspaces, strict=True)], mpid


def test_next_to_all_modes_have_a_name(phonondb) -> None:
    pytest.importorskip("phonopy")
    labels = [
        label for crystal in phonondb.sample(25) for label in irrep_labels(crystal.polar.modes, crystal.structure)
    ]
    assert sum(label is None for label in labels) < 0.02 * len(labels)
