"""The features of `sevennet` under all that leaves a crystal the same, or turns it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from e3nn import o3
from pymatgen.core import Lattice, Structure
from sevennets import LAYERS, MIRROR, batch_of, encoder
from small_crystals import check_slope, error, quartz, random_p1

from zoo.api import CrystalBatch
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_sevennet import SevenNet


class TestSymmetry:
    pytestmark = pytest.mark.sevennet

    @pytest.mark.parametrize("matrix", orthogonal_matrices(2), ids=["proper", "improper"])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
    def test_features_are_true_tensors(self, rotate_block, matrix, dtype, tolerance):
        model = SevenNet(SevenNet.Hypers(layer=LAYERS, pseudotensors=True)).to(dtype)
        with torch.no_grad():
            before = model(batch_of(quartz(), random_p1(), dtype=dtype)).atoms
            after = model(batch_of(*(rotate_crystal(c(), matrix) for c in (quartz, random_p1)), dtype=dtype)).atoms
        for _, irrep in before.irreps:
            # pseudotensors are small differences of large numbers: their error is measured by these
            scale = before.block(o3.Irrep(irrep.l, (-1) ** irrep.l)).norm()
            wanted = rotate_block(before.block(irrep), irrep, matrix)
            assert (after.block(irrep) - wanted).norm() < tolerance * scale, irrep

    def test_raw_features_are_not(self, rotate_block):
        """Why they are not used as they are: under a mirror they mix true tensors with pseudotensors."""
        with torch.no_grad():
            before = encoder().raw_features(batch_of(quartz()))[3]
            after = encoder().raw_features(batch_of(rotate_crystal(quartz(), MIRROR)))[3]
        for degree, (x, y) in enumerate(zip(before, after, strict=True)):
            got, was = (z[:, :, 0].transpose(1, 2) for z in (y, x))
            assert error(got, rotate_block(was, o3.Irrep(degree, (-1) ** degree), MIRROR)) > 1e-3

    def test_pseudotensors_vanish_on_achiral_crystals_alone(self):
        rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        with torch.no_grad():
            features = encoder()(batch_of(quartz(), rocksalt)).atoms
        pseudoscalars = features.block("0o").squeeze(-1)
        assert pseudoscalars[:9].norm() > 1e-3 * features.scalars()[:9].norm()
        assert pseudoscalars[9:].norm() < 1e-6 * features.scalars()[9:].norm()

    def test_every_pseudotensor_promised_is_alive(self):
        with torch.no_grad():
            values = encoder()(batch_of(random_p1())).atoms
        for irrep in ("0o", "1e", "2o"):
            assert (values.block(irrep).norm(dim=(0, 2)) > 0).all()

    def test_cells(self):
        """Permutation, an atom moved by a lattice vector, a supercell, a batch of several."""
        structure = random_p1()
        order = [3, 0, 4, 2, 1]
        moved = structure.copy()
        moved.translate_sites([2], [1, -2, 0], to_unit_cell=False)
        double = structure.make_supercell([2, 1, 1], in_place=False)
        model = SevenNet(SevenNet.Hypers()).double()
        with torch.no_grad():
            wanted = model(batch_of(structure, dtype=torch.float64)).atoms.values
            mixed = batch_of(quartz(), Structure.from_sites([structure[i] for i in order]), moved, dtype=torch.float64)
            got = model(mixed).atoms.values
            doubled = model(batch_of(double, dtype=torch.float64)).atoms.values
        assert error(got[9:14], wanted[order]) < 1e-10
        assert error(got[14:], wanted) < 1e-10
        assert error(doubled, wanted.repeat_interleave(2, dim=0)) < 1e-10

    def test_one_atom_cell_and_atom_without_neighbours(self):
        copper = Structure(Lattice.from_parameters(2.55, 2.55, 2.55, 60, 60, 60), ["Cu"], [[0, 0, 0]])
        lone = Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]])
        batch = batch_of(copper, lone)
        assert (batch.dst == 1).sum() == 0
        with torch.no_grad():
            features = encoder()(batch).atoms
        assert torch.isfinite(features.values).all()
        assert features.scalars()[1].norm() > 0  # the element itself
        assert features.vectors().norm() < 1e-5 * features.scalars().norm()
        assert encoder()(batch_of(lone)).bonds.values.shape == (0, 32)

    def test_bonds_vanish_at_the_cutoff_and_beyond(self):
        batch = batch_of(random_p1())
        direction = torch.tensor([0.6, 0.0, 0.8])
        values = []
        for length in (4.9, 4.999, 5.0, 5.3):
            pair = CrystalBatch(
                positions=torch.stack([torch.zeros(3), direction * length]),
                numbers=batch.numbers[:2],
                cell=100 * torch.eye(3)[None],
                crystal=torch.zeros(2, dtype=torch.int64),
                src=torch.tensor([1]),
                dst=torch.tensor([0]),
                shift=torch.zeros(1, 3, dtype=torch.int64),
            )
            with torch.no_grad():
                values.append(float(encoder().bonds(pair).values.norm()))
        assert values[0] > 100 * values[1] > 0
        assert values[2:] == [0, 0]

    def test_strain_derivative(self):
        """The graph of strain readouts goes through the encoder: against central differences, float64."""
        model = SevenNet(SevenNet.Hypers(layer=3)).double()
        batch = batch_of(random_p1(), dtype=torch.float64)
        direction = torch.tensor([[[0.3, 0.2, -0.5], [0.2, -0.4, 0.1], [-0.5, 0.1, 0.6]]], dtype=torch.float64)

        def total(size: torch.Tensor) -> torch.Tensor:
            return model(dataclasses.replace(batch, strain=size * direction)).atoms.scalars().sum()

        check_slope(total)
