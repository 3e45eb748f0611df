"""DTNet's decoder alone, on features that are given: what its equations say, and what holds for any weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from e3nn import o3
from pymatgen.core import Structure
from torch import nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Features,
    Provides,
    TensorTarget,
    bessel_basis,
    polynomial_envelope,
    spherical_to_matrix,
)
from zoo.graphs.graph import collate, crystal_graph
from zoo.model.precomputed import Precomputed
from zoo_dtnet import DTNet, DTNetExp, DTNetHypers, DTNetSimple
from zoo_dtnet.bonds import Bonds, Counts
from zoo_dtnet.layers import BondBlock, Dropout, safe_norm

CUTOFF = 4.0
TOTAL = TensorTarget("total")
PROVIDES = Provides(o3.Irreps("7x0e+5x1o+3x2e+2x1e"), o3.Irreps("4x0e+3x1o"))
SMALL = DTNetHypers(width=16)
VARIANTS = [DTNet, DTNetSimple, DTNetExp]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make(kind: type, hypers: DTNetHypers = SMALL, provides: Provides = PROVIDES) -> nn.Module:
    return kind(hypers, provides, CUTOFF, TOTAL).double().eval()


def crystals() -> CrystalBatch:
    triclinic = Structure(
        [[3.1, 0.2, 0.0], [0.4, 3.5, 0.1], [-0.3, 0.6, 4.2]], ["Si", "O", "O"], np.random.default_rng(0).random((3, 3))
    )
    one_atom = Structure(2.8 * np.eye(3), ["Po"], [[0, 0, 0]])
    return collate([crystal_graph(s, CUTOFF) for s in (triclinic, one_atom)], torch.float64)


def random_embedding(batch: CrystalBatch, provides: Provides = PROVIDES) -> Embedding:
    assert provides.bonds is not None
    atoms = torch.randn(batch.n_atoms, provides.atoms.dim, dtype=torch.float64)
    bonds = torch.randn(len(batch.src), provides.bonds.dim, dtype=torch.float64)
    return Embedding(Features(provides.atoms, atoms), Features(provides.bonds, bonds))


def test_default_size_is_the_papers() -> None:
    sevennet = Provides(o3.Irreps("128x0e+64x1o+32x2e"), o3.Irreps("8x0e+8x1o"))
    readout = DTNet(DTNetHypers(), sevennet, 5.0, TOTAL)
    assert sum(p.numel() for p in readout.parameters()) == pytest.approx(0.6e6, rel=0.05)


def test_head_in_closed_form() -> None:
    """Blocks that add nothing, a_s' = c: ε = c 1 + w² <v⊗v> + u <t>."""
    provides = Provides(o3.Irreps("1x0e+1x1o+1x2e"), PROVIDES.bonds)
    readout = make(DTNet, DTNetHypers(width=1, blocks=1), provides)
    c, w, u = 2.5, 0.7, -1.3
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.zero_()
        readout.embed.vector.weight.fill_(1)
        readout.embed.tensor.weight.fill_(1)
        readout.head.scalar[-1].bias.fill_(2 * c)  # the gate is σ(0) = 1/2
        readout.head.vector.weight.fill_(w)
        readout.head.tensor.weight.fill_(u)
    batch = crystals()
    embedding = random_embedding(batch, provides)
    v = embedding.atoms.vectors()[..., 0]
    t = embedding.atoms.tensors()[..., 0]
    atoms = c * torch.eye(3) + w**2 * v.unsqueeze(2) * v.unsqueeze(1) + u * t
    expected = torch.stack([atoms[:3].mean(0), atoms[3]])
    torch.testing.assert_close(readout(embedding, batch), expected, rtol=1e-12, atol=1e-12)


def test_block_is_the_sum_over_bonds_of_eqs_14_and_17() -> None:
    """The maps that we moved behind the sum, bond by bond as the paper writes them."""
    batch = crystals()
    embedding = random_embedding(batch)
    assert embedding.bonds is not None
    block = BondBlock(PROVIDES, 16, 2, 0.2).double().eval()
    s, v, t = (torch.randn(4, *shape, 16, dtype=torch.float64) for shape in ((), (3,), (5,)))

    s2, v2 = block.scalar(s), block.vector(v)
    distances = batch.edge_vectors().norm(dim=-1)
    for edge, atom in enumerate(batch.dst.tolist()):
        f_c = polynomial_envelope(distances[edge], CUTOFF)
        mlp = nn.Sequential(block.bond_hidden, block.bond_scalar)
        s2[atom] = s2[atom] + f_c * mlp(embedding.bonds.scalars()[edge])
        v2[atom] = v2[atom] + f_c * block.bond_vector(embedding.bonds.vectors()[edge])
    t1 = spherical_to_matrix(block.tensor(t).transpose(1, 2), 2).permute(0, 2, 3, 1)
    s3 = block.gates(torch.cat([s2, v2.norm(dim=1), t1.flatten(1, 2).norm(dim=1)], dim=1))
    s4, g_v, g_t = s3.split(16, dim=1)
    v4 = torch.sigmoid(g_v)[:, None] * block.vector_out(v2)
    t4 = torch.sigmoid(g_t)[:, None] * block.tensor_out(block.tensor(t))

    got = block((s, v, t), Bonds.of(embedding.bonds, batch, CUTOFF))
    for mine, papers in zip(got, (s + s4, v + v4, t + t4), strict=True):
        torch.testing.assert_close(mine, papers, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("improper", [False, True])
def test_equivariant_under_o3(kind: type, improper: bool) -> None:
    readout = make(kind)
    batch = crystals()
    embedding = random_embedding(batch)
    assert embedding.bonds is not None
    R = o3.rand_matrix(dtype=torch.float64) * (-1 if improper else 1)

    def turned(features: Features) -> Features:
        # By the matrix itself: e3nn's D_from_matrix is good to 1e-6 only.
        vectors = torch.einsum("ij,njc->nic", R, features.vectors())
        tensors = torch.einsum("ij,njkc,lk->nilc", R, features.tensors(), R)
        return Features.from_cartesian(features.scalars(), vectors, tensors)

    rotated = dataclasses.replace(batch, positions=batch.positions @ R.T, cell=batch.cell @ R.T)
    expected = R @ readout(embedding, batch) @ R.T
    got = readout(Embedding(turned(embedding.atoms), turned(embedding.bonds)), rotated)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    anisotropy = expected - expected.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(3)
    assert (anisotropy.flatten(1).norm(dim=1) > 1e-3).all()


@pytest.mark.parametrize("kind", VARIANTS)
def test_twice_the_same_cell_is_the_same_tensor(kind: type) -> None:
    readout = make(kind)
    one = crystals()
    embedding = random_embedding(one)
    assert embedding.bonds is not None
    two = dataclasses.replace(
        one,
        positions=torch.cat([one.positions] * 2),
        numbers=torch.cat([one.numbers] * 2),
        crystal=torch.cat([one.crystal] * 2),
        src=torch.cat([one.src, one.src + one.n_atoms]),
        dst=torch.cat([one.dst, one.dst + one.n_atoms]),
        shift=torch.cat([one.shift] * 2),
    )
    doubled = Embedding(
        Features(embedding.atoms.irreps, torch.cat([embedding.atoms.values] * 2)),
        Features(embedding.bonds.irreps, torch.cat([embedding.bonds.values] * 2)),
    )
    torch.testing.assert_close(readout(doubled, two), readout(embedding, one), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", VARIANTS)
def test_gradients_are_finite_where_all_vectors_and_tensors_vanish(kind: type) -> None:
    """So it is on cubic sites; the embedding's gradient counts where the encoder trains too."""
    readout = make(kind).train()
    batch = crystals()
    embedding = random_embedding(batch)
    assert embedding.bonds is not None
    leaves = []
    for features in (embedding.atoms, embedding.bonds):
        values = features.values.clone()
        values[:, features.irreps.count("0e") :] = 0
        leaves.append(values.requires_grad_())
    cubic = Embedding(Features(PROVIDES.atoms, leaves[0]), Features(PROVIDES.bonds, leaves[1]))
    tensor = readout(cubic, batch)
    isotropic = tensor.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(3)
    torch.testing.assert_close(tensor, isotropic, rtol=1e-12, atol=1e-12)
    tensor.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in readout.parameters() if p.grad is not None)
    assert leaves[0].grad is not None and torch.isfinite(leaves[0].grad).all()


def test_safe_norm() -> None:
    x = torch.tensor([[3.0], [0.0], [4.0]], dtype=torch.float64).unsqueeze(0).requires_grad_()
    torch.testing.assert_close(safe_norm(x), torch.tensor([[5.0]], dtype=torch.float64))
    zero = torch.zeros(1, 3, 1, requires_grad=True)
    safe_norm(zero).sum().backward()
    assert zero.grad is not None and (zero.grad == 0).all()


def test_the_norm_is_differentiable_twice() -> None:
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(safe_norm, (x,))
    assert torch.autograd.gradgradcheck(safe_norm, (x,))


def test_dropout_of_nearly_everything_is_finite() -> None:
    assert torch.isfinite(Dropout(0.999999)(torch.ones(1000))).all()


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    layer = Dropout(p)
    x = torch.ones(1001, 301, requires_grad=True)  # no multiple of four
    torch.manual_seed(1)
    dropped = layer(x)
    values = dropped.unique()
    assert values[0] == 0 and values[1:].tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert (dropped == 0).double().mean().item() == pytest.approx(p, abs=5 * deviation)
    by_row = (dropped == 0).double().mean(dim=1)
    assert by_row.std().item() == pytest.approx((p * (1 - p) / 301) ** 0.5, rel=0.1)  # as independent draws have it
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())
    torch.manual_seed(1)
    assert torch.equal(layer(x), dropped)
    assert torch.equal(layer.eval()(x), x)


def test_a_bond_at_the_cutoff_counts_nothing() -> None:
    """With the biases of the bond's MLP it would jump by them; the tensor does not, nor does its slope."""
    readout = make(DTNet)
    values = torch.randn(1, PROVIDES.atoms.dim, dtype=torch.float64)
    bond = torch.randn(1, PROVIDES.bonds.dim, dtype=torch.float64)

    def tensor(length: float) -> torch.Tensor:
        graph = crystal_graph(Structure(np.diag([length, 9.0, 9.0]), ["Po"], [[0, 0, 0]]), CUTOFF)
        batch = collate([graph], torch.float64)
        bonds = Features(PROVIDES.bonds, bond.expand(len(batch.src), -1))
        return readout(Embedding(Features(PROVIDES.atoms, values), bonds), batch)

    without, inside = tensor(CUTOFF + 1e-4), tensor(CUTOFF - 1e-4)
    assert (inside - without).abs().max() < 1e-8
    assert (tensor(CUTOFF - 1.0) - without).abs().max() > 1e-4
    assert without.isfinite().all()  # no edge at all


def test_simple_reads_no_bonds() -> None:
    batch = crystals()
    embedding = random_embedding(batch)
    readout = make(DTNetSimple, provides=Provides(PROVIDES.atoms))
    torch.testing.assert_close(readout(Embedding(embedding.atoms), batch), readout(embedding, batch))
    assert DTNetSimple.needs.unmet_by(Provides(PROVIDES.atoms)) is None
    assert "bond" in str(DTNet.needs.unmet_by(Provides(PROVIDES.atoms)))


def test_dropout_in_training_alone() -> None:
    readout = make(DTNet, DTNetHypers(width=16, dropout=0.5))
    batch = crystals()
    embedding = random_embedding(batch)
    assert torch.equal(readout(embedding, batch), readout(embedding, batch))
    readout.train()
    assert not torch.equal(readout(embedding, batch), readout(embedding, batch))


def test_exponential_is_positive_definite() -> None:
    readout = make(DTNetExp)
    plain = make(DTNet)
    plain.load_state_dict(readout.state_dict())
    with torch.no_grad():
        readout.head.tensor.weight.mul_(5)
    batch = crystals()
    embedding = random_embedding(batch)
    eigenvalues = torch.linalg.eigvalsh(readout(embedding, batch))
    assert (eigenvalues > 0).all() and (eigenvalues[:, 2] / eigenvalues[:, 0] > 10).all()
    readout.load_state_dict(plain.state_dict())
    values, axes = torch.linalg.eigh(plain(embedding, batch))
    torch.testing.assert_close(readout(embedding, batch), axes @ torch.diag_embed(values.exp()) @ axes.mT)
    assert not DTNetExp.normalise and DTNet.normalise


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (TensorTarget("elastic", "ijkl=jikl=klij"), "symmetric 3×3"),
        (TensorTarget("any", "ij"), "symmetric 3×3"),
        (TensorTarget("spin", "ij=-ji"), "symmetric 3×3"),
        (TensorTarget("born", per_atom=True), "one an atom"),
        (TensorTarget("polarisability", intensive=False), "extensive"),
    ],
)
@pytest.mark.parametrize("kind", VARIANTS)
def test_what_it_cannot_make(kind: type, target: TensorTarget, why: str) -> None:
    reason = kind.cannot_make(target)
    assert reason is not None and why in reason
    assert kind.cannot_make(TensorTarget("electronic", "ab=ba")) is None


SALT = Structure.from_spacegroup("Fm-3m", 5.64 * np.eye(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]])
GRAPHS = [
    crystal_graph(structure, CUTOFF)
    for structure in (
        SALT,
        Structure(SALT.lattice, SALT.species, SALT.frac_coords + np.random.default_rng(1).normal(0, 0.02, (8, 3))),
        Structure(9.0 * np.eye(3), ["Ar"], [[0, 0, 0]]),  # none
        SALT.get_primitive_structure(),
    )
]


def embedded(indices: np.ndarray, by_length: bool = True) -> tuple[Embedding, CrystalBatch]:
    """Atom features by chance, the same for a crystal in any batch; bond features of the length, or by chance too."""
    batch = collate([GRAPHS[i] for i in indices], torch.float64)
    random = [torch.Generator().manual_seed(int(i)) for i in indices]
    counts = [(len(GRAPHS[i].numbers), len(GRAPHS[i].src)) for i in indices]
    draw = [
        (torch.randn(n, PROVIDES.atoms.dim, generator=g).double(), torch.randn(e, 13, generator=g).double())
        for (n, e), g in zip(counts, random, strict=True)
    ]
    atoms, bonds = (torch.cat(parts) for parts in zip(*draw, strict=True))
    if by_length:
        bonds[:, :4] = bessel_basis(batch.edge_vectors().norm(dim=1), CUTOFF, 4)
    return Embedding(Features(PROVIDES.atoms, atoms), Features(PROVIDES.bonds, bonds)), batch


@pytest.mark.parametrize("by_length", [True, False])
def test_bonds_that_are_alike_are_read_once(by_length: bool) -> None:
    """Tensors and gradients are those of all bonds one by one; scalars that differ at one length stay apart."""
    readout = make(DTNet)
    one_by_one = [np.array([i]) for i in range(len(GRAPHS))]
    precomputed = Precomputed.build(readout, lambda piece: embedded(piece, by_length), one_by_one)
    assert precomputed is not None
    order = [3, 1, 0, 2, 0]
    embedding, batch = embedded(np.array(order), by_length)
    found = []
    for given in (embedding, Embedding(embedding.atoms, precomputed=precomputed.rows(order)).to(dtype=torch.float64)):
        tensor = readout(given, batch)
        slopes = torch.autograd.grad(tensor.square().sum(), list(readout.parameters()))
        found.append([tensor, *slopes])
    for got, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)
    # Rock salt has two lengths within the cutoff; where the atoms are moved, i to j is as long as j to i still.
    kinds = precomputed.rows([0, 1, 2, 3])["kinds"]
    edges = [len(graph.src) for graph in GRAPHS]
    merged = [2, edges[1] // 2, 0, 2]
    assert torch.bincount(kinds.crystal, minlength=4).tolist() == (merged if by_length else edges)


def test_sums_of_counted_bonds_and_all_their_derivatives() -> None:
    atom, kind = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 0, 1, 4])
    count = torch.tensor([2.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    counts = Counts.of(atom, kind, count, n_atoms=4, n_kinds=5)
    dense = torch.zeros(4, 5, dtype=torch.float64).index_put((atom, kind), count)
    values = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(counts.sum(values), dense @ values)
    torch.autograd.gradcheck(counts.sum, (values,))
    torch.autograd.gradgradcheck(lambda x: counts.sum(x.square()), (values,))
