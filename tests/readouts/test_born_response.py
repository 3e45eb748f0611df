"""The ionic tensor of charges and force constants: against the plain formula; and the rules for soft modes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import springs
import torch
from pymatgen.core import Lattice, Structure
from torch.nn.functional import softplus

from zoo.api import CrystalBatch
from zoo.graphs.graph import collate, crystal_graph
from zoo.phonons.force_constants import ForceConstants
from zoo.phonons.force_constants_store import padded
from zoo.testing.symmetry_checks import repeated
from zoo_born import response
from zoo_born.response import COULOMB, LEAST, ionic_tensor, size_classes
from zoo_born.soft_modes import RULES, Expectation, Floor, Softplus

DOUBLE = {"dtype": torch.float64}


def one_atom() -> Structure:
    return Structure(Lattice.cubic(3.3), ["Po"], [[0.1, 0.2, 0.3]])


STRUCTURES = [
    springs.quartz(),
    springs.salt(),
    one_atom(),
    springs.rutile(),
    repeated(springs.rutile(), (2, 1, 2)),  # 24 atoms: another class of size
    repeated(springs.salt(), (2, 2, 1)),
]


def batch_of(structures: list[Structure], matrices: list[np.ndarray] | None = None) -> CrystalBatch:
    if matrices is None:
        matrices = [springs.force_constants(s) for s in structures]
    constants = padded([ForceConstants.of(matrix) for matrix in matrices])
    batch = collate([crystal_graph(s, 2.0) for s in structures], torch.float64)
    return dataclasses.replace(batch, force_constants=constants)


def random_charges(structures: list[Structure]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([springs.charges(s, seed) for seed, s in enumerate(structures)]))


def drawn(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def random_stiffness(count: int) -> torch.Tensor:
    factor = drawn(count, 3, 3, seed=6)
    return factor @ factor.mT


def plain(
    structure: Structure, matrix: np.ndarray, charges: np.ndarray, scale: np.ndarray, stiffness: np.ndarray
) -> np.ndarray:
    """(4πk/V) Z* [P (D f(Φ) D + K) P]⁺ Z*ᵀ, by the pseudo-inverse; charges (N, 3, 3), field and then displacement.

    f makes nothing softer than `LEAST`; these crystals are stable, so that it changes rigid translations alone.
    """
    n = len(structure)
    matrix = matrix + LEAST * np.kron(np.ones((n, n)) / n, np.eye(3))
    d = np.diag(np.repeat(np.exp(scale), 3))
    k = np.zeros((3 * n, 3 * n))
    for atom in range(n):
        k[3 * atom : 3 * atom + 3, 3 * atom : 3 * atom + 3] = stiffness[atom]
    project = np.eye(3 * n) - np.kron(np.ones((n, n)) / n, np.eye(3))
    inverse = np.linalg.pinv(project @ (d @ matrix @ d + k) @ project, rcond=1e-10)
    rows = charges.transpose(1, 0, 2).reshape(3, 3 * n)
    return 4 * np.pi * COULOMB / structure.volume * rows @ inverse @ rows.T


def expected(scale: torch.Tensor | None, stiffness: torch.Tensor | None) -> np.ndarray:
    charges = random_charges(STRUCTURES).numpy()
    start, out = 0, []
    for structure in STRUCTURES:
        part = slice(start, start + len(structure))
        start = part.stop
        out.append(
            plain(
                structure,
                springs.force_constants(structure),
                charges[part],
                np.zeros(len(structure)) if scale is None else scale[part].numpy(),
                np.zeros((len(structure), 3, 3)) if stiffness is None else stiffness[part].numpy(),
            )
        )
    return np.stack(out)


def identity(values: torch.Tensor) -> torch.Tensor:
    return values


COUNT = sum(map(len, STRUCTURES))
CORRECTIONS = {
    "none": (None, None),
    "scale": (0.3 * drawn(COUNT), None),
    "stiffness": (None, random_stiffness(COUNT)),
    "both": (0.3 * drawn(COUNT), random_stiffness(COUNT)),
}


@pytest.mark.parametrize("name", sorted(CORRECTIONS))
def test_equal_to_the_formula(name: str) -> None:
    """Several crystals in one batch, of stable force constants as they are: one atom has exactly nothing."""
    scale, stiffness = CORRECTIONS[name]
    found = ionic_tensor(random_charges(STRUCTURES), batch_of(STRUCTURES), identity, scale, stiffness).numpy()
    wanted = expected(scale, stiffness)
    assert np.abs(wanted[0]).max() > 1 and not found[2].any()
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    assert np.array_equal(found, found.transpose(0, 2, 1))


def test_no_dependence_on_padding_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    scale, stiffness = CORRECTIONS["both"]
    charges, batch = random_charges(STRUCTURES), batch_of(STRUCTURES)
    together = ionic_tensor(charges, batch, identity, scale, stiffness)
    wider = batch.force_constants
    pad = torch.nn.functional.pad
    wider = dataclasses.replace(
        wider,
        matrix=pad(wider.matrix, (0, 30, 0, 30)),
        eigenvalues=pad(wider.eigenvalues, (0, 30)),
        eigenvectors=pad(wider.eigenvectors, (0, 30, 0, 30)),
    )
    for classes, given in ((response.CLASSES, wider), ((), batch.force_constants), ((1, 2, 6), batch.force_constants)):
        monkeypatch.setattr(response, "CLASSES", classes)
        found = ionic_tensor(charges, dataclasses.replace(batch, force_constants=given), identity, scale, stiffness)
        torch.testing.assert_close(found, together, rtol=1e-12, atol=1e-12)
    start = 0
    for index, structure in enumerate(STRUCTURES):
        part = slice(start, start + len(structure))
        start = part.stop
        alone = ionic_tensor(charges[part], batch_of([structure]), identity, scale[part], stiffness[part])
        torch.testing.assert_close(alone[0], together[index], rtol=1e-11, atol=1e-11)


def test_classes_of_size() -> None:
    """Every crystal is in one; the last class is open."""
    counts = torch.tensor([1, 64, 4, 200, 5, 65, 8, 2])
    found = [part.tolist() for part in size_classes(counts)]
    assert found == [[0, 2, 7], [4, 6], [1], [3, 5]]


def test_a_supercell_has_the_same() -> None:
    structure = springs.quartz()
    double = repeated(structure, (1, 2, 1))
    charges, scale, stiffness = random_charges([structure]), 0.2 * drawn(9), random_stiffness(9)
    found = [
        ionic_tensor(charges.repeat(n, 1, 1), batch_of([s]), Floor(0.2), scale.repeat(n), stiffness.repeat(n, 1, 1))
        for n, s in ((1, structure), (2, double))
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=0)


def test_what_is_held_for_translations_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charges have no part along them: whatever the stiffness that is added."""
    scale, stiffness = CORRECTIONS["both"]
    charges, batch = random_charges(STRUCTURES), batch_of(STRUCTURES)
    one = ionic_tensor(charges, batch, identity, scale, stiffness)
    whole = response._in_the_space_of_optic_modes

    def stiffer(matrix: torch.Tensor, counts: torch.Tensor, most: int) -> torch.Tensor:
        there = (torch.arange(most) < counts.unsqueeze(1)).double() / counts.sqrt().unsqueeze(1)
        t = torch.einsum("ba,ij->baij", there, torch.eye(3, **DOUBLE)).reshape(len(counts), 3 * most, 3)
        return whole(matrix, counts, most) + 17.0 * t @ t.mT

    monkeypatch.setattr(response, "_in_the_space_of_optic_modes", stiffer)
    torch.testing.assert_close(ionic_tensor(charges, batch, identity, scale, stiffness), one, rtol=1e-9, atol=1e-9)


def test_gradients_against_differences() -> None:
    """By charges, scale, stiffness and the learned floor, with unstable modes too."""
    structures = [springs.salt(), springs.rutile(), one_atom()]
    matrices = [springs.force_constants(s) for s in structures]
    matrices[1] = -0.1 * matrices[1]  # all imaginary
    batch = batch_of(structures, matrices)
    assert batch.force_constants.eigenvalues.min() < -0.3
    rule = Floor(0.3).double()
    n = batch.n_atoms

    def tensor(charges: torch.Tensor, scale: torch.Tensor, factor: torch.Tensor, log: torch.Tensor) -> torch.Tensor:
        centred = charges - batch.mean_over_atoms(charges)[batch.crystal]

        def floor(values: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(rule, {"log_delta": log}, values)

        return ionic_tensor(centred, batch, floor, scale, factor @ factor.mT)

    given = (drawn(n, 3, 3), 0.3 * drawn(n), drawn(n, 3, 3, seed=7), torch.tensor(-1.0, **DOUBLE))
    assert torch.autograd.gradcheck(tensor, tuple(x.requires_grad_() for x in given), atol=1e-5)


def test_degenerate_modes_have_gradients() -> None:
    """Rock salt: six eigenvalues in two triplets. No eigenvector is differentiated."""
    structures = [springs.salt(), repeated(springs.salt(), (2, 2, 2))]
    batch = batch_of(structures)
    values = batch.force_constants.eigenvalues[0, :6]
    assert values[3:].max() - values[3:].min() < 1e-9
    scale = torch.zeros(batch.n_atoms, **DOUBLE).requires_grad_()
    charges = random_charges(structures).requires_grad_()
    rule = Floor(0.1)
    ionic_tensor(charges, batch, rule, scale, None).square().sum().backward()
    for gradient in (scale.grad, charges.grad, rule.log_delta.grad):
        assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("shift", [0.0, -5.0, -80.0])
def test_unstable_crystals_in_float32(rule: str, shift: float) -> None:
    """Positive, finite, with finite gradients, and near float64's, however negative the eigenvalues."""
    structures = [springs.quartz(), springs.salt(), springs.rutile()]
    matrices = [springs.force_constants(s) + shift * np.eye(3 * len(s)) for s in structures]
    batch, charges = batch_of(structures, matrices), random_charges(structures)
    made = RULES[rule](0.02)
    wanted = ionic_tensor(charges, batch, made.double(), None, None)
    single = RULES[rule](0.02)
    given = charges.float().requires_grad_()
    found = ionic_tensor(given, batch.to(dtype=torch.float32), single, None, None)
    assert found.dtype == torch.float32
    found.sum().backward()
    for tensor in (found, given.grad, *(p.grad for p in single.parameters())):
        assert tensor is not None and tensor.isfinite().all()
    assert (torch.linalg.eigvalsh(wanted)[:, 0] > 0).all()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=0)


def test_what_is_not_finite_is_no_traceback() -> None:
    """NaN, of that crystal alone: the trainer and the predictor say what they do of it."""
    structures = [springs.salt(), springs.rutile()]
    charges, batch = random_charges(structures), batch_of(structures)
    stiffness = random_stiffness(batch.n_atoms)
    stiffness[0, 0, 0] = torch.nan
    found = ionic_tensor(charges, batch, identity, None, stiffness)
    assert found[0].isnan().all() and found[1].isfinite().all()


class TestSoftModes:
    """What each rule's docstring says of its limits."""

    values = torch.tensor([-1e4, -50.0, -1.0, -1e-3, 0.0, 1e-3, 0.3, 1.0, 50.0, 1e4], **DOUBLE)

    @pytest.mark.parametrize("rule", sorted(RULES))
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_never_negative_rising_and_the_identity_for_stiff_modes(self, rule: str, dtype: torch.dtype) -> None:
        made = RULES[rule](0.1).to(dtype)
        found = made(self.values.to(dtype))
        assert found.dtype == dtype and found.isfinite().all() and (found >= 0).all()
        assert (found[3:].diff() > 0).all(), "a stiffer mode stays stiffer"
        torch.testing.assert_close(found[-2:].double(), self.values[-2:], rtol=1e-3, atol=0)

    @pytest.mark.parametrize("rule", sorted(RULES))
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_gradients_are_finite_everywhere(self, rule: str, dtype: torch.dtype) -> None:
        made = RULES[rule](0.1).to(dtype)
        values = self.values.to(dtype).clone().requires_grad_()
        made(values).sum().backward()
        assert values.grad.isfinite().all() and (values.grad >= 0).all()
        for parameter in made.parameters():
            assert parameter.grad.isfinite() and parameter.grad != 0

    def test_floor(self) -> None:
        delta = 0.07
        found = Floor(delta).double()(self.values)
        v = self.values.numpy()
        exact = np.where(v > 0, (v + np.hypot(v, 2 * delta)) / 2, 2 * delta**2 / (np.hypot(v, 2 * delta) - v))
        np.testing.assert_allclose(found.detach().numpy(), exact, rtol=1e-6)
        assert found[4].item() == pytest.approx(delta)
        assert found[0].item() == pytest.approx(delta**2 / 1e4, rel=1e-4)

    def test_softplus(self) -> None:
        found = Softplus(0.1).double()(self.values)
        assert found[4].item() == pytest.approx(0.1)
        beta = math.log(2) / 0.1
        torch.testing.assert_close(found, softplus(self.values * beta) / beta, rtol=1e-6, atol=1e-12)

    def test_expectation(self) -> None:
        """Against the mean of 1/f over many draws of the error."""
        made = Expectation(0.2, nodes=15).double()
        values = torch.tensor([-0.3, 0.0, 0.1, 0.5, 3.0], **DOUBLE)
        draws = values.unsqueeze(1) + 0.2 * drawn(400_000)
        wanted = 1 / (1 / Floor(0.2 / 3).double()(draws)).mean(1)
        torch.testing.assert_close(made(values), wanted, rtol=0.02, atol=0)
        assert made(values[3:4]) < made.floor(values[3:4]), "uncertain stiffness is softer on the mean"

    def test_the_solve_has_a_least_stiffness(self) -> None:
        """However far a rule goes down: the tensor is that of `LEAST`."""
        structure = springs.salt()
        batch = batch_of([structure], [springs.force_constants(structure) - 100 * np.eye(6)])
        found = ionic_tensor(random_charges([structure]), batch, Softplus(0.1), None, None)
        z = springs.charges(structure)[0]
        wanted = 4 * np.pi * COULOMB / structure.volume * 2 * z @ z.T / LEAST
        np.testing.assert_allclose(found[0].detach().numpy(), wanted, rtol=1e-9)
