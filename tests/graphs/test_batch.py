"""`crystal_graph`, `collate` and `CrystalBatch` on real crystals."""

import dataclasses

import numpy as np
import pytest
import torch
from pymatgen.core import DummySpecies, Lattice, Structure

from zoo.contract.batch import CrystalBatch
from zoo.errors import ZooError
from zoo.graphs.graph import collate, crystal_graph

ZINC_BLENDE = Structure.from_spacegroup("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25] * 3])
QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.916, 5.405), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.7858]]
)
TUNGSTEN = Structure(Lattice([[-1.58, 1.58, 1.58], [1.58, -1.58, 1.58], [1.58, 1.58, -1.58]]), ["W"], [[0.2, 0.7, 0.1]])
CRYSTALS = [ZINC_BLENDE, TUNGSTEN, QUARTZ]


def batch_of(structures, cutoff=4.5) -> CrystalBatch:
    return collate([crystal_graph(s, cutoff) for s in structures], dtype=torch.float64)


def lengths(batch):
    return batch.edge_vectors().norm(dim=-1)


def test_collate_is_the_crystals_one_after_the_other():
    batch = batch_of(CRYSTALS)
    assert batch.n_crystals == 3
    assert batch.n_atoms == 8 + 1 + 9
    assert batch.atoms_per_crystal().tolist() == [8, 1, 9]
    assert batch.crystal.tolist() == [0] * 8 + [1] + [2] * 9
    assert (batch.dst.diff() >= 0).all()
    assert torch.equal(batch.crystal[batch.src], batch.crystal[batch.dst])
    alone = [batch_of([s]) for s in CRYSTALS]
    for name in ("positions", "numbers", "cell", "shift"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(one, name) for one in alone]))
    assert torch.equal(batch.edge_vectors(), torch.cat([one.edge_vectors() for one in alone]))


def test_collate_dtypes():
    batch = collate([crystal_graph(QUARTZ, 4.0)])
    assert batch.positions.dtype == batch.cell.dtype == torch.float32
    assert {getattr(batch, n).dtype for n in ("numbers", "crystal", "src", "dst", "shift")} == {torch.int64}
    moved = batch.to(dtype=torch.float64)
    assert moved.positions.dtype == torch.float64
    assert moved.src.dtype == torch.int64


def test_edge_vectors_agree_with_pymatgen():
    batch = batch_of([QUARTZ])
    for index, site in enumerate(QUARTZ):
        mine = batch.edge_vectors()[batch.dst == index].norm(dim=-1).sort().values.numpy()
        theirs = np.sort([neighbour.nn_distance for neighbour in QUARTZ.get_neighbors(site, 4.5)])
        np.testing.assert_allclose(mine, theirs, atol=1e-10)


def random_strains(count, size=0.02):
    return size * torch.randn(count, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_strain_deforms_positions_and_cell_together():
    batch, strain = batch_of(CRYSTALS), random_strains(3)
    deformation = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.transpose(1, 2))
    deformed = dataclasses.replace(
        batch,
        positions=torch.einsum("ni,nij->nj", batch.positions, deformation[batch.crystal]),
        cell=batch.cell @ deformation,
    )
    strained = dataclasses.replace(batch, strain=strain).edge_vectors()
    torch.testing.assert_close(strained, deformed.edge_vectors(), rtol=0, atol=1e-12)


def test_a_rotation_is_no_strain():
    batch, strain = batch_of(CRYSTALS), random_strains(3)
    antisymmetric = strain - strain.transpose(1, 2)
    torch.testing.assert_close(dataclasses.replace(batch, strain=antisymmetric).edge_vectors(), batch.edge_vectors())


def energy(batch):
    """(B,) a smooth function of the edge lengths, an attraction along z among it so that nothing cancels."""
    vectors = batch.edge_vectors()
    per_edge = torch.exp(-vectors.norm(dim=-1)) * (1 + vectors[:, 2] ** 2)
    return vectors.new_zeros(batch.n_crystals).index_add(0, batch.crystal[batch.dst], per_edge)


@pytest.mark.parametrize("wrt", ["strain", "positions", "cell"])
def test_derivatives_against_finite_differences(wrt):
    batch = dataclasses.replace(batch_of(CRYSTALS, 3.5), strain=random_strains(3))
    values = getattr(batch, wrt).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(dataclasses.replace(batch, **{wrt: values})).sum(), values)
    assert gradient.abs().max() > 1e-2
    step = 1e-5
    for index in torch.randperm(values.numel(), generator=torch.Generator().manual_seed(0))[:12].tolist():
        moved = [values.detach().clone() for _ in range(2)]
        moved[0].view(-1)[index] += step
        moved[1].view(-1)[index] -= step
        up, down = (energy(dataclasses.replace(batch, **{wrt: m})).sum() for m in moved)
        assert float((up - down) / (2 * step)) == pytest.approx(float(gradient.view(-1)[index]), rel=1e-6, abs=1e-8)


def test_within_is_the_graph_of_the_smaller_cutoff():
    small, large = batch_of(CRYSTALS, 3.0), batch_of(CRYSTALS, 4.5).within(3.0)
    assert len(small.src) == len(large.src) < len(batch_of(CRYSTALS, 4.5).src)

    def edges(batch):
        return sorted(torch.column_stack([batch.src, batch.dst, batch.shift]).tolist())

    assert edges(small) == edges(large)
    assert (lengths(large) <= 3.0).all()
    assert (large.dst.diff() >= 0).all()


def test_within_sees_the_strained_lengths():
    batch = batch_of([TUNGSTEN], 4.5)  # 8 neighbours at 2.74 Å, 6 at 3.16 Å
    assert len(batch.within(3.0).src) == 8
    stretched = dataclasses.replace(batch, strain=0.2 * torch.eye(3, dtype=torch.float64)[None])
    assert len(stretched.within(3.0).src) == 0
    assert len(stretched.within(3.4).src) == 8


def test_messages_arrive_at_dst():
    batch = batch_of(CRYSTALS, 3.0)
    count = batch.sum_to_atoms(torch.ones(len(batch.dst), 2, dtype=torch.float64))
    assert torch.equal(count[:, 0], torch.bincount(batch.dst, minlength=batch.n_atoms).double())
    assert count[:8].unique().tolist() == [4.0]  # tetrahedral
    torch.testing.assert_close(
        batch.sum_to_atoms(batch.edge_vectors())[:9], torch.zeros(9, 3, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_pooling_is_a_mean_and_blind_to_a_supercell():
    batch = batch_of(CRYSTALS)
    values = torch.randn(batch.n_atoms, 3, 3, dtype=torch.float64)
    pooled = batch.mean_over_atoms(values)
    for index, part in enumerate(values.split([8, 1, 9])):
        torch.testing.assert_close(pooled[index], part.mean(0))

    def mean_coordination(structure):
        one = batch_of([structure])
        return one.mean_over_atoms(one.sum_to_atoms(torch.exp(-lengths(one))))

    torch.testing.assert_close(mean_coordination(QUARTZ * (2, 1, 1)), mean_coordination(QUARTZ))


def test_structures_without_atomic_numbers_are_refused():
    partial = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ZooError, match=r"partially occupied.*OrderDisordered"):
        crystal_graph(partial, 4.0)
    with pytest.raises(ZooError, match="no chemical element"):
        crystal_graph(Structure(Lattice.cubic(3.6), [DummySpecies("X")], [[0, 0, 0]]), 4.0)
