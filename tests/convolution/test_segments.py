"""The convolution against `plain`: values, gradients, gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor
from torch.nn.functional import silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, convolve
from zoo.convolution.plain import plain

# Two paths into one sum, one of them odd.
BLOCKS = (
    Block(0, 3, (TensorProductPath(1, 1, 1),)),
    Block(1, 2, (TensorProductPath(1, 0, 0), TensorProductPath(1, 1, 1))),
)


class Made:
    """Some atoms, the last of which receives no edge."""

    def __init__(self, edges: int = 30, atoms: int = 5, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)
        self.dtype, self.atoms = dtype, atoms
        self.dst = torch.randint(0, max(atoms - 1, 1), (edges,), generator=generator).sort().values
        self.src = torch.randint(0, atoms, (edges,), generator=generator)
        self.vectors = self.randn(edges, 3, generator=generator)
        self.features = [self.randn(atoms, 2 * b.degree + 1, b.channels, generator=generator) for b in BLOCKS]
        torch.manual_seed(0)
        self.network = FullyConnectedNet([1, 4, sum(block.weights for block in BLOCKS)], silu).to(dtype)

    def randn(self, *shape: int, generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(self.dtype)

    def edges(self, vectors: Tensor, same_lengths: bool = True) -> ConvolutionEdges:
        length = vectors.norm(dim=-1)
        harmonics = o3.spherical_harmonics([0, 1], vectors, normalize=True, normalization="component")
        radial = length.cos().unsqueeze(1)
        return ConvolutionEdges(self.src, self.dst, harmonics, radial, self.atoms, length if same_lengths else None)

    def by_segments(self, vectors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Vectors, features -> sums."""
        return tuple(convolve(features, BLOCKS, self.edges(vectors), self.network))

    def plain(self, vectors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        edges = self.edges(vectors, same_lengths=False)
        return tuple(plain(features, BLOCKS, edges, self.network, edges.harmonics, edges.radial))

    def gradients(self, way: Callable[..., tuple[Tensor, ...]]) -> list[Tensor]:
        """Of vectors, features and radial network."""
        inputs = [x.clone().requires_grad_() for x in (self.vectors, *self.features)]
        out = way(*inputs)
        weighted = [x.square() * torch.arange(1.0, x.numel() + 1, dtype=x.dtype).view_as(x).sin() for x in out]
        return list(torch.autograd.grad(sum(x.sum() for x in weighted), [*inputs, *self.network.parameters()]))


def assert_close(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_values(dtype: torch.dtype, tolerance: float) -> None:
    made, exact = Made(dtype=dtype), Made()
    with torch.no_grad():
        found = made.by_segments(made.vectors, *made.features)
        assert found[0].dtype == dtype
        assert_close([x.double() for x in found], exact.plain(exact.vectors, *exact.features), tolerance)


def test_gradients() -> None:
    made = Made()
    assert_close(made.gradients(made.by_segments), made.gradients(made.plain), 1e-12)


def test_gradients_of_gradients() -> None:
    """As a loss on forces wants them, by finite differences."""
    made = Made(edges=12)
    inputs = [x.requires_grad_() for x in (made.vectors, *made.features)]
    assert torch.autograd.gradcheck(made.by_segments, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(made.by_segments, inputs, fast_mode=True)


def test_gradients_of_a_second_layer_to_be_differentiated() -> None:
    """Its features come from the same edges and the same network: each way to the vectors counts once."""
    made = Made(edges=12)
    vectors = made.vectors.requires_grad_()

    def energy(way: Callable[..., tuple[Tensor, ...]]) -> Tensor:
        scalars, others = way(vectors, *made.features)
        again = torch.cat([scalars, scalars[..., :1]], dim=-1), others[..., :2]  # as many channels as a layer takes
        return torch.cat([x.flatten() for x in way(vectors, *again)]).square().sum()

    inputs = [vectors, *made.network.parameters()]
    wanted = torch.autograd.grad(energy(made.plain), inputs, create_graph=True)
    for create_graph in (False, True):
        found = torch.autograd.grad(energy(made.by_segments), inputs, create_graph=create_graph)
        assert_close(found, wanted, 1e-12)
    seconds = [torch.autograd.grad(slopes[0].square().sum(), inputs) for slopes in (found, wanted)]
    assert_close(*seconds, 1e-12)


def test_only_what_is_wanted_gets_a_gradient() -> None:
    made = Made()
    made.network.requires_grad_(False)
    last = made.features[-1].requires_grad_()
    found = [
        torch.autograd.grad(way(made.vectors, *made.features)[1].square().sum(), last)[0]
        for way in (made.by_segments, made.plain)
    ]
    assert_close(found[:1], found[1:], 1e-12)


def test_images_share_the_weights() -> None:
    made = Made()
    features = [torch.stack([x, 2 * x.flip(0)], dim=2) for x in made.features]
    with torch.no_grad():
        found = made.by_segments(made.vectors, *features)
        assert_close(found, made.plain(made.vectors, *features), 1e-12)


def test_no_edge() -> None:
    made = Made(edges=0)
    assert not any(x.any() for x in made.by_segments(made.vectors, *made.features))


def test_after_a_prediction_it_can_still_learn() -> None:
    """What is kept from a pass in inference mode must not be of it."""
    made = Made()
    with torch.inference_mode():
        made.by_segments(made.vectors, *made.features)
    assert_close(made.gradients(made.by_segments), made.gradients(made.plain), 1e-12)
