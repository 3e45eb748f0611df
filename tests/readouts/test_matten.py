"""MatTen's readout: which irreps it reaches, that it is equivariant for tensors of any symmetry, closed forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from e3nn import o3
from e3nn.o3 import Irrep
from pymatgen.core import Structure
from torch import Tensor

from zoo.api import Embedding, Features, Provides, TensorTarget, spherical_to_matrix
from zoo.contract.batch import CrystalBatch
from zoo.graphs.graph import collate, crystal_graph
from zoo.testing import ConformanceTests, Pair
from zoo_matten import MatTen, MatTenHypers
from zoo_matten.layers import Gate, Mix, Product
from zoo_matten.paths import paths, plan, products_to_reach
from zoo_matten.surroundings import Surroundings

CUTOFF = 4.0
EYE = torch.eye(3, dtype=torch.float64)
SMALL = MatTenHypers(scalars=8, tensors=4)
TWO = Provides(o3.Irreps("6x0e+5x1o+4x2e"))
ONE = Provides(o3.Irreps("6x0e+5x1o"))
TENSOR = TensorTarget("tensor")
TARGETS = {
    "dielectric": TENSOR,
    "general": TensorTarget("general", "ij"),
    "antisymmetric": TensorTarget("antisymmetric", "ij=-ji"),
    "polarisation": TensorTarget("polarisation", "i"),
    "elasticity": TensorTarget("elasticity", "ijkl=jikl=klij"),
    "piezo": TensorTarget("piezo", "ijk=ikj"),
}
QUICK = {"scalars": 8, "tensors": 4}


class TestElasticity(ConformanceTests):
    pair = Pair("nequip", "matten", {"channels": 4, "layers": 2}, QUICK, TARGETS["elasticity"])


class TestPiezo(ConformanceTests):
    pair = Pair("nequip", "matten", {"channels": 4, "layers": 2}, QUICK, TARGETS["piezo"])


class TestPerAtom(ConformanceTests):
    """Born charges: one general 3×3 tensor an atom."""

    pair = Pair("nequip", "matten", {"channels": 4, "layers": 2}, QUICK, TensorTarget("born", "ij", per_atom=True))


class TestExtensive(ConformanceTests):
    pair = Pair("nequip", "matten", {"channels": 4, "layers": 2}, QUICK, TensorTarget("sum", intensive=False))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make(target: TensorTarget, provides: Provides = TWO, hypers: MatTenHypers = SMALL) -> MatTen:
    return MatTen(hypers, provides, CUTOFF, target).double().eval()


def crystals() -> CrystalBatch:
    triclinic = Structure(
        [[3.1, 0.2, 0.0], [0.4, 3.5, 0.1], [-0.3, 0.6, 4.2]], ["Si", "O", "O"], np.random.default_rng(0).random((3, 3))
    )
    one_atom = Structure(2.8 * np.eye(3), ["Po"], [[0, 0, 0]])
    return collate([crystal_graph(s, CUTOFF) for s in (triclinic, one_atom)], torch.float64)


def random_embedding(batch: CrystalBatch, provides: Provides = TWO) -> Embedding:
    values = torch.randn(batch.n_atoms, provides.atoms.dim, dtype=torch.float64)
    return Embedding(Features(provides.atoms, values))


def turned(features: Features, R: Tensor) -> Features:
    """By the matrix itself: e3nn's D_from_matrix is good to 1e-6 only."""
    vectors = torch.einsum("ij,njc->nic", R, features.vectors())
    tensors = torch.einsum("ij,njkc,lk->nilc", R, features.tensors(), R) if features.irreps.count("2e") else None
    return Features.from_cartesian(features.scalars(), vectors, tensors)


def rotate(tensor: Tensor, R: Tensor) -> Tensor:
    for axis in range(1, tensor.dim()):
        tensor = torch.tensordot(tensor, R, dims=([axis], [1])).movedim(-1, axis)
    return tensor


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("provides", [ONE, TWO], ids=["0e+1o", "0e+1o+2e"])
@pytest.mark.parametrize("sign", [1, -1], ids=["proper", "improper"])
def test_equivariant_under_o3(name: str, provides: Provides, sign: int) -> None:
    target = TARGETS[name]
    readout, batch = make(target, provides), crystals()
    embedding = random_embedding(batch, provides)
    R = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    R = R * torch.linalg.det(R) * sign
    rotated = dataclasses.replace(batch, positions=batch.positions @ R.T, cell=batch.cell @ R.T)
    got = readout(Embedding(turned(embedding.atoms, R)), rotated)
    expected = rotate(readout(embedding, batch), R)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    assert expected.flatten(1).norm(dim=1).min() > 1e-4
    # Every irreducible part is there, not only those that are easy to make (the other crystal's bonds are cubic).
    values = target.to_irreps(expected)[0]
    assert all(values[where].norm() > 1e-6 for where in target.irreps.slices())


def test_irreps_of_the_targets() -> None:
    """Piezoelectricity is odd: a crystal with inversion has none. Elasticity is even."""
    assert TARGETS["piezo"].irreps.simplify() == o3.Irreps("2x1o+1x2o+1x3o")
    assert TARGETS["elasticity"].irreps.simplify() == o3.Irreps("2x0e+2x2e+1x4e")
    assert TARGETS["general"].irreps.simplify() == o3.Irreps("1x0e+1x1e+1x2e")


def test_an_inverted_crystal_has_the_opposite_piezoelectric_tensor() -> None:
    readout, batch = make(TARGETS["piezo"]), crystals()
    atoms = random_embedding(batch).atoms
    inverted = dataclasses.replace(batch, positions=-batch.positions, cell=-batch.cell)
    mirrored = Features.from_cartesian(atoms.scalars(), -atoms.vectors(), atoms.tensors())
    tensor = readout(Embedding(atoms), batch)
    assert tensor.flatten(1).norm(dim=1).min() > 1e-4
    torch.testing.assert_close(readout(Embedding(mirrored), inverted), -tensor, rtol=1e-10, atol=1e-12)
    # The one-atom crystal is its own inverted image: with the features of one it has no such tensor.
    centred = Features.from_cartesian(atoms.scalars(), 0 * atoms.vectors(), atoms.tensors())
    assert readout(Embedding(centred), batch)[1].abs().max() < 1e-14


def test_pooling() -> None:
    """Mean for intensive tensors, sum for extensive ones, each atom its own."""
    batch = crystals()
    embedding = random_embedding(batch)
    per_atom, mean, total = (
        make(TensorTarget("t", **options)) for options in ({"per_atom": True}, {}, {"intensive": False})
    )
    mean.load_state_dict(per_atom.state_dict())
    total.load_state_dict(per_atom.state_dict())
    atoms = per_atom(embedding, batch)
    assert atoms.shape == (4, 3, 3)
    torch.testing.assert_close(mean(embedding, batch), torch.stack([atoms[:3].mean(0), atoms[3]]))
    torch.testing.assert_close(total(embedding, batch), torch.stack([atoms[:3].sum(0), atoms[3]]))


@pytest.mark.parametrize(
    ("made", "part"),
    [
        ("0e", lambda u, v: (u @ v) / 3 * EYE),
        ("1e", lambda u, v: (torch.outer(u, v) - torch.outer(v, u)) / 2),
        ("2e", lambda u, v: (torch.outer(u, v) + torch.outer(v, u)) / 2 - (u @ v) / 3 * EYE),
    ],
)
def test_product_of_two_vectors_in_closed_form(made: str, part: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Invariant, antisymmetric and symmetric traceless part of u v."""
    product = Product({"1o": 2}, [made], 1).double()
    product.left.maps["1o"].weight.data = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    product.right.maps["1o"].weight.data = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    vectors = Features.from_cartesian(vectors=torch.randn(1, 3, 2, dtype=torch.float64))
    u, v = vectors.vectors()[0].T
    got = product({"1o": vectors.block("1o").transpose(1, 2)})[made][0, :, 0]
    torch.testing.assert_close(spherical_to_matrix(got, Irrep(made).l), part(u, v), rtol=1e-12, atol=1e-12)


def test_only_paths_to_the_target() -> None:
    """A symmetric target has no antisymmetric part on the way, a centrosymmetric one no odd part in the end."""
    for name, forbidden in (("dielectric", {"1e", "4e"}), ("elasticity", {"1e"})):
        made = {str(c) for m in make(TARGETS[name]).modules() if isinstance(m, Product) for *_, c in m.paths}
        assert not made & forbidden
    assert set(make(TARGETS["piezo"]).out.product.channels) == {"1o", "2o", "3o"}
    assert "1e" in make(TARGETS["general"]).out.product.channels


def test_plan_by_hand() -> None:
    def kinds(text: str) -> set[Irrep]:
        return {Irrep(part) for part in text.split("+")}

    # 4e out of vectors: v⊗v is 2e, 2e⊗2e has 4e.
    assert products_to_reach(kinds("0e+1o"), kinds("0e+2e+4e")) == 2
    assert plan(kinds("0e+1o"), kinds("0e+2e+4e"), 2) == [kinds("0e+1o"), kinds("0e+1o+2e"), kinds("0e+2e+4e")]
    assert products_to_reach(kinds("0e+1o+2e"), kinds("1o+2o+3o")) == 1
    assert products_to_reach(kinds("0e+1o+2e"), kinds("0e+2e")) == 0
    assert plan(kinds("0e+1o+2e"), kinds("0e+2e"), 1) == [kinds("0e+1o+2e"), kinds("0e+2e")]
    assert products_to_reach(kinds("0e"), kinds("0e+2e")) is None
    assert products_to_reach(kinds("0e+2e"), kinds("1o")) is None
    # 3o is of no use to a lone vector: nothing comes of it with an invariant.
    assert plan(kinds("0e+3o"), kinds("3o"), 1) == [kinds("0e+3o"), kinds("3o")]
    assert plan(kinds("0e+0o+1o"), kinds("1o"), 1) == [kinds("0e+1o"), kinds("1o")]
    assert [tuple(map(str, path)) for path in paths(kinds("0e+1o"), kinds("2e"))] == [("1o", "1o", "2e")]


@pytest.mark.parametrize("given", ["0e", "0e+1o", "0e+2e", "0e+1o+1e", "0e+1o+2e", "0e+0o+1o+1e+2o+2e+3o"])
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("products", [1, 2, 3])
def test_every_parameter_has_a_gradient_or_the_pair_is_refused(given: str, name: str, products: int) -> None:
    target, provides = TARGETS[name], Provides(o3.Irreps("+".join(f"3x{i}" for i in given.split("+"))))
    reason = MatTen.unmet(provides, target)
    if reason is not None:
        assert (given, name) == ("0e", "antisymmetric"), reason
        return
    assert (given, name) != ("0e", "antisymmetric")
    readout = make(target, provides, MatTenHypers(scalars=3, tensors=2, products=products))
    batch = crystals()
    tensor = readout(random_embedding(batch, provides), batch)
    (tensor * torch.randn_like(tensor)).sum().backward()
    dead = [n for n, p in readout.named_parameters() if p.grad is None or not p.grad.count_nonzero()]
    assert not dead


def test_what_it_cannot_make_and_why() -> None:
    """There is no antisymmetric part in invariants, and none among spherical harmonics."""
    invariant = Provides(o3.Irreps("64x0e"))
    why = MatTen.unmet(invariant, TARGETS["antisymmetric"])
    assert why == "cannot make the 1e part of ij=-ji: no product of 64x0e has it"
    assert MatTen.unmet(TWO, TARGETS["antisymmetric"]) is None
    assert "0e" in str(MatTen.unmet(Provides(o3.Irreps("8x1o")), TENSOR))
    for name in ("dielectric", "general", "elasticity", "piezo"):
        assert MatTen.unmet(invariant, TARGETS[name]) is None and MatTen.unmet(ONE, TARGETS[name]) is None


def test_surroundings_as_a_sum_over_neighbours() -> None:
    """Atom by atom, with the harmonics of degree 4 from Legendre's polynomial: Σ_m Y_4m(a) Y_4m(b) = 9 P_4(a·b)."""
    batch, channels = crystals(), 3
    layer = Surroundings([Irrep("4e")], 6, channels, CUTOFF).double()
    scalars = torch.randn(batch.n_atoms, 6, dtype=torch.float64)
    got = layer(scalars, batch)["4e"]
    assert got.shape == (4, 9, channels)
    vectors = batch.edge_vectors()
    r = vectors.norm(dim=1) / (CUTOFF / 2)
    k = torch.arange(1, 9, dtype=torch.float64)
    envelope = 1 - 28 * (r / 2) ** 6 + 48 * (r / 2) ** 7 - 21 * (r / 2) ** 8
    radial = torch.sin(k * torch.pi * r[:, None] / 2) / r[:, None] * envelope[:, None]
    weight = (radial @ layer.radial.weight.T) * layer.neighbour(scalars)[batch.src]
    for atom in range(4):
        mine = (batch.dst == atom).nonzero()[:, 0]
        unit = torch.nn.functional.normalize(vectors[mine], dim=1)
        t = unit @ unit.T
        legendre = 9 * (35 * t**4 - 30 * t**2 + 3) / 8
        expected = torch.einsum("ac,ab,bc->c", weight[mine], legendre, weight[mine])
        torch.testing.assert_close(got[atom].square().sum(0), expected, rtol=1e-9, atol=1e-12)


def test_surroundings_only_where_a_degree_is_lacking() -> None:
    assert make(TENSOR).surroundings is None and make(TARGETS["general"]).surroundings is None
    assert [str(i) for i in make(TARGETS["elasticity"]).surroundings.irreps] == ["4e"]
    assert [str(i) for i in make(TARGETS["piezo"]).surroundings.irreps] == ["3o"]
    assert [str(i) for i in make(TENSOR, ONE).surroundings.irreps] == ["2e"]


def test_a_cubic_site_is_elastically_anisotropic() -> None:
    """On the site of a simple cubic crystal all features of degree 1 and 2 vanish; C44 is not (C11 - C12)/2 there."""
    readout = make(TARGETS["elasticity"])
    batch = collate([crystal_graph(Structure(2.8 * np.eye(3), ["Po"], [[0, 0, 0]]), CUTOFF)], torch.float64)
    atoms = random_embedding(batch).atoms
    cubic = Features.from_cartesian(atoms.scalars(), 0 * atoms.vectors(), 0 * atoms.tensors())
    c = readout(Embedding(cubic), batch)[0]
    assert abs(c[1, 2, 1, 2] - (c[0, 0, 0, 0] - c[0, 0, 1, 1]) / 2) > 1e-3 * c.norm()
    assert c[0, 0, 0, 0].item() == pytest.approx(c[1, 1, 1, 1].item(), rel=1e-10)
    assert abs(c[0, 0, 0, 1]) < 1e-12 * c.norm()


def test_gate_and_mix() -> None:
    gate = Gate({"0e": 2, "1o": 3}, 0.0)
    assert gate.inputs == {"0e": 5, "1o": 3}
    s, v = torch.randn(4, 1, 5), torch.randn(4, 3, 3)
    out = gate({"0e": s, "1o": v})
    torch.testing.assert_close(out["0e"], torch.nn.functional.silu(s[..., :2]))
    torch.testing.assert_close(out["1o"], v * torch.sigmoid(s[..., 2:]))
    mix = Mix({"0e": 5, "1o": 3}, {"1o": 2, "2e": 1})
    assert set(mix.maps) == {"1o"} and mix.maps["1o"].bias is None
    assert Mix({"0e": 5}, {"0e": 1}).maps["0e"].bias is not None


def test_dropout_in_training_alone() -> None:
    readout, batch = make(TENSOR, hypers=MatTenHypers(scalars=8, tensors=4, dropout=0.5)), crystals()
    embedding = random_embedding(batch)
    assert torch.equal(readout(embedding, batch), readout(embedding, batch))
    readout.train()
    assert not torch.equal(readout(embedding, batch), readout(embedding, batch))
