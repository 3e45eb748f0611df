"""Checks of symmetry: what physics demands of the tensor of a crystal. All in float64, with graphs built anew."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from unittest import SkipTest

import numpy as np
import torch
from pymatgen.core import Lattice, Structure

from zoo.contract.features import Embedding
from zoo.contract.target import TensorTarget
from zoo.testing.compare import (
    FLOAT64,
    anisotropic,
    assert_same,
    irrep_matrix,
    moved,
    norms,
    orthogonal_matrices,
    rotate_crystal,
    rotate_tensor,
    scales,
)
from zoo.testing.pair import Pair
from zoo.testing.prototypes import VARIED, prototypes, varied


def check_equivariance(pair: Pair) -> None:
    """Turn or mirror the crystal, and the tensor turns with it: ε(R x) = R ε(x) Rᵀ for random R of O(3)."""
    before = pair.of_varied
    for index, R in enumerate(orthogonal_matrices(4)):
        kind = "improper" if index % 2 else "proper"
        got = pair.predict([rotate_crystal(s, R) for s in varied()])
        assert_same(pair, got, rotate_tensor(before, R), VARIED, f"not equivariant under a random {kind} rotation")


def check_embedding_equivariance(pair: Pair) -> None:
    """Turn or mirror the crystal, and every irrep of the encoder's atom and bond features turns with it.

    The tensor alone does not show this: a readout may leave out the irreps that are wrong.
    """
    encoder = pair.model.encoder

    def embed(structures: Sequence[Structure]) -> Embedding:
        with torch.no_grad():
            return encoder(pair.batch(structures))

    before = embed(varied())
    for index, R in enumerate(orthogonal_matrices(2)):
        kind = "improper" if index % 2 else "proper"
        after = embed([rotate_crystal(s, R) for s in varied()])
        for part in ("atoms", "bonds"):
            features, turned = getattr(before, part), getattr(after, part)
            if features is None:
                continue
            for (channels, irrep), where in zip(features.irreps, features.irreps.slices(), strict=True):
                blocks = features.values[:, where].unflatten(1, (channels, irrep.dim))
                expected = (blocks @ irrep_matrix(irrep, R).T).flatten(1)
                error, size = (turned.values[:, where] - expected).norm(), expected.norm()
                assert error <= FLOAT64 * size + 1e-12, (
                    f"the {irrep} features of the {part} are not equivariant under a random {kind} rotation: off by "
                    f"{error / size:.1e} of their norm"
                )


def check_permutation(pair: Pair) -> None:
    """The order of the atoms does not matter (one tensor an atom: it comes in their order)."""
    for name, structure in zip(VARIED, varied(), strict=True):
        order = np.random.default_rng(0).permutation(len(structure))
        shuffled = Structure(
            structure.lattice, [structure.species[i] for i in order], structure.frac_coords[order], to_unit_cell=False
        )
        expected = pair.predict([structure])
        if pair.target.per_atom:
            expected = expected[torch.from_numpy(order)]
        assert_same(pair, pair.predict([shuffled]), expected, [name], "the order of the atoms matters")


def check_origin_shift(pair: Pair) -> None:
    """The origin of the coordinates does not matter."""
    shift = np.array([0.137, -0.411, 0.263])
    got = pair.predict([moved(s, s.lattice, s.frac_coords + shift) for s in varied()])
    assert_same(pair, got, pair.of_varied, VARIED, "the origin matters: are absolute positions used?")


def check_lattice_shift(pair: Pair) -> None:
    """An atom written in another unit cell is the same atom."""

    def rewritten(structure: Structure) -> Structure:
        images = np.random.default_rng(1).integers(-2, 3, size=(len(structure), 3))
        images[0] = (1, 0, -1)
        return moved(structure, structure.lattice, structure.frac_coords + images)

    claim = "it matters in which unit cell an atom is written: are absolute positions used?"
    assert_same(pair, pair.predict([rewritten(s) for s in varied()]), pair.of_varied, VARIED, claim)


def check_supercell(pair: Pair) -> None:
    """A 2×1×1 supercell has the same tensor (intensive), twice the tensor (extensive) or the same on both copies."""
    for name, structure in zip(VARIED, varied(), strict=True):
        expected = pair.predict([structure])
        got = pair.predict([repeated(structure, (2, 1, 1))])
        if pair.target.per_atom:
            expected = torch.cat([expected, expected])
        elif not pair.target.intensive:
            expected = 2 * expected
        claim = "a 2×1×1 supercell has another tensor: is a sum over atoms taken where a mean is meant?"
        assert_same(pair, got, expected, [name], claim if pair.target.intensive else "a supercell is not extensive")


def check_self_images(pair: Pair) -> None:
    """Edges from an atom to its own images are bonds like any other.

    One atom in a cell smaller than the cutoff, against the same crystal in a cell that is larger than it: there, the
    same bonds are between different atoms.
    """
    if pair.target.per_atom or not pair.target.intensive:
        raise SkipTest("compares one intensive tensor a crystal")
    cutoff = pair.model.encoder.cutoff
    cell = Lattice.from_parameters(0.55 * cutoff, 0.62 * cutoff, 0.69 * cutoff, 84, 97, 101)
    one = Structure(cell, ["Ti"], [[0, 0, 0]])
    batch = pair.batch([one])
    assert len(batch.src) > 0 and (batch.src == batch.dst).all()
    claim = "an atom's own images do not count as other atoms do"
    assert_same(pair, pair.predict([repeated(one, (2, 2, 2))]), pair.predict([one]), ["one-atom cell"], claim)


def check_point_groups(pair: Pair) -> None:
    """On ideal crystals of all 32 classes, in random orientation: ε = R ε Rᵀ for every R of the point group."""
    _one_a_crystal(pair)
    orientations = orthogonal_matrices(len(prototypes()), seed=2)
    turned = [rotate_crystal(p.structure, Q) for p, Q in zip(prototypes().values(), orientations, strict=True)]
    tensors = pair.predict(turned)
    for (name, prototype), Q, tensor in zip(prototypes().items(), orientations, tensors, strict=True):
        operations = Q @ torch.from_numpy(prototype.rotations) @ Q.T
        images = rotate_tensor(tensor.expand(len(operations), *tensor.shape), operations)
        labels = [f"class {name}, operation of determinant {d:+.0f}" for d in torch.linalg.det(operations)]
        claim = "the tensor is not invariant under the point group of its crystal"
        assert_same(pair, images, tensor.expand_as(images), labels, claim)


# ε_xy, ε_yz, ε_xz, ε_xx - ε_yy and ε_yy - ε_zz vanish, as many of them in turn (table 1 of Mao, Li, Tan 2024; Nye).
_VANISHING = {
    "triclinic": 0, "monoclinic": 2, "orthorhombic": 3, "tetragonal": 4, "trigonal": 4, "hexagonal": 4, "cubic": 5
}  # fmt: skip


def check_zero_pattern(pair: Pair) -> None:
    """The components that vanish or are equal in each crystal system, axes as usual; a·1 where it is cubic."""
    _one_a_crystal(pair)
    if pair.target.rank != 2:
        raise SkipTest("the table is that of tensors of rank 2; check_point_groups holds for every rank")
    tensors = pair.of_prototypes
    limits = FLOAT64 * scales(pair, tensors)
    for prototype, e, limit in zip(prototypes().values(), tensors, limits, strict=True):
        forms = torch.stack([e[0, 1], e[1, 2], e[0, 2], e[0, 0] - e[1, 1], e[1, 1] - e[2, 2]])
        count = _VANISHING[prototype.system]
        assert (forms[:count].abs() <= limit).all(), (
            f"the tensor of a {prototype.system} crystal ({prototype.point_group}) has not the form of its system:\n"
            f"{e.numpy()}"
        )


def check_anisotropy(pair: Pair) -> None:
    """Anisotropy is there wherever the class allows it, else all checks above would pass for want of it."""
    _one_a_crystal(pair)
    for (name, prototype), tensor in zip(prototypes().items(), pair.of_prototypes, strict=True):
        if not _allows_anisotropy(name, pair.target):
            continue
        share = norms(anisotropic(tensor[None], pair.target)) / norms(tensor[None])
        assert share > 1e-6, (
            f"the tensor of a {prototype.system} crystal ({name}) is isotropic, though its class demands that of none: "
            f"anisotropic part {share.item():.1e} of the whole"
        )


@functools.cache
def _allows_anisotropy(point_group: str, target: TensorTarget) -> bool:
    """Whether something is left of a random anisotropic tensor after the mean over the operations of a class."""
    operations = torch.from_numpy(prototypes()[point_group].rotations)
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(1, target.irreps.dim, dtype=torch.float64, generator=generator)
    tensor = anisotropic(target.from_irreps(values), target)
    images = rotate_tensor(tensor.expand(len(operations), *target.shape), operations)
    return bool(images.mean(0).norm() > 1e-8)


def repeated(structure: Structure, times: tuple[int, int, int]) -> Structure:
    """A supercell, copy after copy, each in the order of the cell's atoms."""
    copies = [
        structure.frac_coords + np.array([i, j, k])
        for i in range(times[0])
        for j in range(times[1])
        for k in range(times[2])
    ]
    lattice = Lattice(structure.lattice.matrix * np.array(times)[:, None])
    return Structure(lattice, structure.species * len(copies), np.concatenate(copies) / times, to_unit_cell=False)


def _one_a_crystal(pair: Pair) -> None:
    if pair.target.per_atom:
        raise SkipTest("one tensor an atom: it has the symmetry of its site, not of the crystal")
