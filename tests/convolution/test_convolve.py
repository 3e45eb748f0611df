"""The convolution against e3nn, against itself in other ways, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor
from torch.nn.functional import silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, convolve
from zoo.convolution import edges as edges_module
from zoo.convolution.paths import sums
from zoo.convolution.plain import plain

BLOCKS = (
    Block(0, 4, (TensorProductPath(0, 0, 0), TensorProductPath(1, 1, 1), TensorProductPath(2, 2, 2))),
    # Two sums of degree 1, as with parities: those of odd paths by themselves.
    Block(
        1,
        3,
        (
            TensorProductPath(0, 1, 1),
            TensorProductPath(1, 0, 0),
            TensorProductPath(1, 1, 3),
            TensorProductPath(1, 2, 2),
            TensorProductPath(2, 1, 1),
            TensorProductPath(2, 2, 2),
        ),
    ),
    Block(2, 2, (TensorProductPath(0, 2, 2), TensorProductPath(2, 0, 0), TensorProductPath(1, 3, 4))),
)
ATOMS = 7


class Made:
    """Some atoms, edges and features; the last atom receives no edge, and some edges have the same length."""

    def __init__(self, images: tuple[int, ...] = (), dtype: torch.dtype = torch.float64, edges: int = 60) -> None:
        generator = torch.Generator().manual_seed(0)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)

        ends, vectors = torch.randint(0, ATOMS - 1, (2, edges // 2), generator=generator), randn(edges // 2, 3)
        if edges > 40:  # two images of one atom at the same distance from another, two images of an atom to itself
            ends[:, 11], ends[:, 13] = ends[:, 10], ends[0, 13]
            vectors[11] = vectors[10].roll(1)
        self.dst, order = torch.cat([ends[0], ends[1]]).sort(stable=True)
        self.src = torch.cat([ends[1], ends[0]])[order]
        self.vectors = torch.cat([vectors, -vectors])[order]  # each edge there and back
        self.features = [randn(ATOMS, 2 * block.degree + 1, *images, block.channels) for block in BLOCKS]
        self.frequencies = randn(5)
        torch.manual_seed(0)
        self.network = FullyConnectedNet([5, 6, sum(block.weights for block in BLOCKS)], silu).to(dtype)

    def moved(self, positions: Tensor) -> Tensor:
        """The edge vectors where the atoms have been moved by (N, 3)."""
        return self.vectors + (positions[self.src] - positions[self.dst])

    def edges(self, vectors: Tensor | None = None, same_lengths: bool = True) -> ConvolutionEdges:
        vectors = self.vectors if vectors is None else vectors
        length = vectors.norm(dim=-1)
        harmonics = o3.spherical_harmonics([0, 1, 2], vectors, normalize=True, normalization="component")
        radial = torch.sin(length.unsqueeze(1) * self.frequencies)
        return ConvolutionEdges(self.src, self.dst, harmonics, radial, ATOMS, length if same_lengths else None)

    def convolve(self, edges: ConvolutionEdges, features: list[Tensor] | None = None) -> list[Tensor]:
        return convolve(self.features if features is None else features, BLOCKS, edges, self.network)

    def plain(self, vectors: Tensor | None = None, features: list[Tensor] | None = None) -> list[Tensor]:
        chosen = self.features if features is None else features
        edges = self.edges(vectors, same_lengths=False)
        return plain(chosen, BLOCKS, edges, self.network, edges.harmonics, edges.radial)

    def by_e3nn(self) -> list[Tensor]:
        """Each path a tensor product of its own."""
        edges = self.edges(same_lengths=False)
        weights = self.network(edges.radial)
        parts: list[list[Tensor]] = [[] for _ in sums(BLOCKS)]
        start = 0
        for x, block in zip(self.features, BLOCKS, strict=True):
            for path in block.paths:
                l1, l2, l3 = block.degree, path.harmonic, path.degree
                symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
                harmonic = edges.harmonics[:, l2**2 : (l2 + 1) ** 2]
                message = torch.einsum("eic,ej,ijk->ekc", x[self.src], harmonic, symbol)
                message = message * weights[:, None, start : start + block.channels]
                start += block.channels
                out = torch.zeros(ATOMS, *message.shape[1:], dtype=torch.float64)
                parts[path.into].append(out.index_add(0, self.dst, message))
        return [torch.cat(part, dim=-1) for part in parts]


def worst(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest error relative to the largest element, of some tensors."""
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, theirs, strict=True))


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(edges_module.CHUNK, "cpu", 11)
    monkeypatch.setattr(edges_module, "STRETCH", 23)
    monkeypatch.setattr(edges_module, "STRETCH_OF_SHARED", 37)


def test_is_what_e3nn_gives():
    made = Made()
    expected = made.by_e3nn()
    assert worst(made.convolve(made.edges()), expected) < 1e-13
    assert worst(made.plain(), expected) < 1e-13


def test_in_float32():
    made, exact = Made(dtype=torch.float32), Made()
    assert worst([x.double() for x in made.convolve(made.edges())], exact.by_e3nn()) < 1e-6


@pytest.mark.parametrize("images", [(), (2,)])
def test_chunks_do_not_show(images, monkeypatch):
    made = Made(images)
    expected = made.plain()
    small_chunks(monkeypatch)
    edges = made.edges()
    assert len(edges.stretches) > 1
    assert max(len(stretch.chunks) for stretch in edges.stretches) > 1
    assert worst(made.convolve(edges), expected) < 1e-13


def test_no_edges():
    made = Made(edges=0)
    assert all(not x.any() for x in made.convolve(made.edges()))


@pytest.mark.parametrize("images", [(), (2,)])
@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_gradients(images, moving, learned, monkeypatch):
    """Gradients by features, radial network, a learned basis and positions are those of `plain` by autograd."""
    small_chunks(monkeypatch)
    made = Made(images)
    positions = torch.zeros(ATOMS, 3, dtype=torch.float64, requires_grad=moving)
    made.frequencies.requires_grad_(learned)
    features = [x.requires_grad_() for x in made.features]
    inputs = [*features, *made.network.parameters(), *([positions] if moving else [])]
    inputs += [made.frequencies] if learned else []

    def convolved() -> list[Tensor]:
        return made.convolve(made.edges(made.moved(positions)), features)

    def gradients(way: Callable[[], list[Tensor]]) -> list[Tensor]:
        out = way()
        weights = [torch.arange(1.0, x.numel() + 1, dtype=x.dtype).view_as(x).sin() for x in out]
        return list(torch.autograd.grad(sum((x.square() * w).sum() for x, w in zip(out, weights, strict=True)), inputs))

    assert worst(gradients(convolved), gradients(lambda: made.plain(made.moved(positions), features))) < 1e-12


@pytest.mark.parametrize("images", [(), (2,)])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("order", [2, 3])
def test_gradients_of_forces(images, learned, order, monkeypatch):
    """A loss on forces and its gradient by everything are those of `plain`; so is what comes of that, once more."""
    small_chunks(monkeypatch)
    made = Made(images)
    positions = torch.zeros(ATOMS, 3, dtype=torch.float64, requires_grad=True)
    made.frequencies.requires_grad_(learned)
    features = [x.requires_grad_() for x in made.features]
    inputs = [*features, *made.network.parameters(), positions, *([made.frequencies] if learned else [])]

    def gradients(way: Callable[[], list[Tensor]]) -> list[Tensor]:
        found = [sum((x.square() * x.cos()).sum() for x in way())]
        for number in range(1, order + 1):
            wanted = [positions, features[1]] if number < order else inputs
            found = torch.autograd.grad(sum(x.square().sum() for x in found), wanted, create_graph=number < order)
        return list(found)

    ours = gradients(lambda: made.convolve(made.edges(made.moved(positions)), features))
    assert worst(ours, gradients(lambda: made.plain(made.moved(positions), features))) < 1e-10


def test_gradients_that_are_not_wanted_are_not_made():
    made = Made()
    features = [made.features[0], made.features[1].requires_grad_(), made.features[2]]
    made.network.requires_grad_(False)
    out = made.convolve(made.edges(), features)
    (found,) = torch.autograd.grad(out[0].square().sum(), [features[1]])
    (expected,) = torch.autograd.grad(made.plain(features=features)[0].square().sum(), [features[1]])
    assert worst([found], [expected]) < 1e-13


def test_finite_differences_twice(monkeypatch):
    """A loss on forces takes a second derivative; gradcheck and gradgradcheck in random directions."""
    small_chunks(monkeypatch)
    made = Made(edges=24)

    def out(positions: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        return tuple(made.convolve(made.edges(made.moved(positions)), list(features)))

    positions = torch.zeros(ATOMS, 3, dtype=torch.float64, requires_grad=True)
    inputs = (positions, *(x.requires_grad_() for x in made.features))
    assert torch.autograd.gradcheck(out, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(out, inputs, fast_mode=True)


def test_a_layer_keeps_its_inputs_alone():
    """Nothing of the size edges × channels is saved for the backward pass."""
    made = Made()
    made.features[0].requires_grad_()
    largest = 0

    def pack(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, x.numel())
        return x

    edges = made.edges()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        made.convolve(edges)
    inputs = [edges.harmonics, edges.radial, *made.features, *made.network.parameters()]
    assert 0 < largest <= max(x.numel() for x in inputs)


def test_nor_does_its_backward_pass():
    """With create_graph, the backward pass saves the radial weights (bonds, W), and nothing of edges × channels."""
    made = Made((2,))
    made.features[0].requires_grad_()
    positions = torch.zeros(ATOMS, 3, dtype=torch.float64, requires_grad=True)
    edges = made.edges(made.moved(positions))
    energy = sum(x.square().sum() for x in made.convolve(edges))
    largest = 0

    def pack(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        torch.autograd.grad(energy, positions, create_graph=True)
    bonds, _ = edges.bonds
    assert len(bonds) == 30
    assert largest == len(bonds) * sum(block.weights for block in BLOCKS)


class TestEdges:
    def test_each_length_once(self):
        made = Made()
        edges = made.edges()
        lengths = made.vectors.norm(dim=-1)
        assert len(edges.radial) == len(lengths.unique()) < 35
        expected = torch.sin(lengths.unique().unsqueeze(1) * made.frequencies)
        assert torch.equal(edges.radial, expected)

    def test_images_at_the_same_distance_are_one_edge(self):
        made = Made()
        united, all_of_them = made.edges(), made.edges(same_lengths=False)
        ends = torch.stack([made.src, made.dst]).double()
        different = torch.cat([ends, made.vectors.norm(dim=-1).unsqueeze(0)]).unique(dim=1)
        assert len(united.src) == different.shape[1] == 50
        assert torch.allclose(united.harmonics.sum(0), all_of_them.harmonics.sum(0))
        assert (united.dst.diff() >= 0).all()

    def test_kinds_tell_edges_of_the_same_length_apart(self):
        made = Made()
        harmonics, length = made.edges(same_lengths=False).harmonics, made.vectors.norm(dim=-1)
        radial = torch.stack([length, made.src.double()], dim=1)
        by_kind = ConvolutionEdges(made.src, made.dst, harmonics, radial, ATOMS, length, kinds=made.src)
        assert len(by_kind.radial) == len(radial.unique(dim=0))
        assert torch.equal(by_kind.radial[by_kind.length_of][:, 1], by_kind.src.double())

    def test_gradients_of_lengths_need_every_edge_but_each_length_once(self):
        made = Made()
        different = len(made.vectors.norm(dim=-1).unique())
        edges = made.edges(made.vectors.requires_grad_())
        assert len(edges.src) == 60 and len(edges.radial) == different < 35
        expected = torch.cos(edges.length.unsqueeze(1) * made.frequencies) * made.frequencies
        assert torch.allclose(edges.slope[edges.length_of], expected.detach(), rtol=1e-12)

    def test_of_a_basis_that_learns_each_bond_has_its_own(self):
        made = Made()
        made.frequencies.requires_grad_()
        edges = made.edges(made.vectors.requires_grad_())
        assert edges.length is None and len(edges.radial) == 30
        assert torch.equal(edges.radial[edges.length_of], made.edges(same_lengths=False).radial)

    def test_every_edge_is_in_one_chunk(self, monkeypatch):
        small_chunks(monkeypatch)
        edges = Made().edges()
        rows = edges.rows[edges.rows < 50]
        assert torch.equal(rows.sort().values, torch.arange(50))
        covered = torch.cat([torch.arange(c.rows.start, c.rows.stop) for s in edges.stretches for c in s.chunks])
        assert torch.equal(covered, torch.arange(len(edges.rows)))
        assert sorted(edges.atoms.tolist()) == list(range(ATOMS - 1))


class TestSums:
    def test_degrees_and_channels(self):
        assert sums(BLOCKS) == [(0, 4 + 3 + 2), (1, 4 + 3 + 3), (2, 4 + 3 + 3 + 2), (1, 3), (3, 2)]

    def test_two_degrees_in_one_sum(self):
        with pytest.raises(ValueError, match="degree 0 and degree 1"):
            sums([Block(0, 4, (TensorProductPath(0, 0, 0), TensorProductPath(1, 1, 0)))])

    def test_a_sum_without_a_path(self):
        with pytest.raises(ValueError, match="from 0 on"):
            sums([Block(0, 4, (TensorProductPath(0, 0, 1),))])
