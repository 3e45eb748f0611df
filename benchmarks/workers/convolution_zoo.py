"""One convolution: convolution_zoo.py BATCHES nequip|sevennet SIDE; SIDE is `segments` (ours), `plain` or `e3nn`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from e3nn import o3
from passes import as_inside, matmul_flops, passes_of, read_batches
from serve import serve
from torch import Tensor, nn

import zoo_nequip.convolution
import zoo_sevennet.network
from zoo.api import Block, ConvolutionEdges, CrystalBatch, bessel_basis, convolve, polynomial_envelope
from zoo.convolution.plain import plain
from zoo_nequip import NequIP
from zoo_sevennet import SevenNetScratch

CUTOFF, BASIS = 5.0, 8

Call = tuple[Sequence[Callable[[], Tensor]], ConvolutionEdges, ConvolutionEdges]
"""Features of a batch; its edges; all of them without making use of equal lengths."""


def layer(name: str) -> tuple[Sequence[Block], nn.Module]:
    """Return the blocks that the second layer of an encoder couples, and its radial network."""
    if name == "nequip":
        of_nequip = NequIP(NequIP.Hypers(num_bessel=BASIS)).modules()
        nequip = [module for module in of_nequip if isinstance(module, zoo_nequip.convolution.Convolution)][1]
        return nequip.blocks, nequip.weights
    of_sevennet = SevenNetScratch(SevenNetScratch.Hypers()).modules()
    sevennet = [module for module in of_sevennet if isinstance(module, zoo_sevennet.network.Convolution)][1]
    return sevennet.blocks, sevennet.weights


class ByE3nn:
    """The same with e3nn's generated code: the weights of every edge, all messages, their sum."""

    def __init__(self, blocks: Sequence[Block], network: nn.Module) -> None:
        self.network = network
        paths = [(n, path, block.channels) for n, block in enumerate(blocks) for path in block.paths]
        order = sorted(range(len(paths)), key=lambda i: paths[i][1].into)
        place = {path: number for number, path in enumerate(order)}
        self.shapes = [(2 * paths[i][1].degree + 1, paths[i][2], paths[i][1].into) for i in order]
        degree = max(path.harmonic for _, path, _ in paths)
        self.product = o3.TensorProduct(
            o3.Irreps([(block.channels, (block.degree, 1)) for block in blocks]),
            o3.Irreps([(1, (n, 1)) for n in range(degree + 1)]),
            o3.Irreps([(paths[i][2], (paths[i][1].degree, 1)) for i in order]),
            [(n, path.harmonic, place[i], "uvu", True) for i, (n, path, _) in enumerate(paths)],
            irrep_normalization="component",
            path_normalization="none",
            internal_weights=False,
            shared_weights=False,
        )

    def __call__(self, x: Tensor, edges: ConvolutionEdges) -> Tensor:
        """(N, dim) -> (N, dim of all paths), in e3nn's layout."""
        messages = self.product(x[edges.src], edges.harmonics, self.network(edges.radial))
        return messages.new_zeros(len(x), messages.shape[1]).index_add(0, edges.dst, messages)

    def sums(self, messages: Tensor) -> list[Tensor]:
        """Return the sums in the form of `convolve`."""
        parts: list[list[Tensor]] = [[] for _ in range(1 + max(into for *_, into in self.shapes))]
        columns = messages.split([size * channels for size, channels, _ in self.shapes], dim=1)
        for part, (size, channels, into) in zip(columns, self.shapes, strict=True):
            parts[into].append(part.view(-1, channels, size).transpose(1, 2))
        return [torch.cat(part, dim=2) for part in parts]


folder, name, side = sys.argv[1:]
torch.manual_seed(0)
blocks, network = layer(name)
e3nn = ByE3nn(blocks, network)


def edges_of(batch: CrystalBatch, same_lengths: bool) -> ConvolutionEdges:
    vectors = batch.edge_vectors()
    length = vectors.norm(dim=-1)
    harmonics = o3.spherical_harmonics([0, 1, 2], vectors, normalize=True, normalization="component")
    radial = bessel_basis(length, CUTOFF, BASIS) * polynomial_envelope(length, CUTOFF).unsqueeze(-1)
    return ConvolutionEdges(batch.src, batch.dst, harmonics, radial, batch.n_atoms, length if same_lengths else None)


batches = [CrystalBatch(**arrays) for arrays in read_batches(folder)]
calls: list[Call] = []
for batch in batches:
    features = [as_inside(torch.randn(batch.n_atoms, 2 * block.degree + 1, block.channels)) for block in blocks]
    calls.append((features, edges_of(batch, same_lengths=True), edges_of(batch, same_lengths=False)))


def run_e3nn(call: Call) -> Tensor:
    return e3nn(torch.cat([x().transpose(1, 2).flatten(1) for x in call[0]], dim=1), call[2])


def run_zoo(call: Call) -> list[Tensor]:
    features, edges = [x() for x in call[0]], call[1]
    if side != "plain":
        return convolve(features, blocks, edges, network)
    return plain(features, blocks, edges, network, edges.harmonics, edges.radial)


def run(call: Call) -> Tensor:
    if side == "e3nn":
        return run_e3nn(call)
    return torch.cat([messages.flatten(1) for messages in run_zoo(call)], dim=1)


passes = passes_of("layer", network, run, calls)
for one_pass in passes.values():  # the first one warms up
    one_pass()
with torch.no_grad():
    theirs = e3nn.sums(run_e3nn(calls[0]))
    ours = theirs if side == "e3nn" else run_zoo(calls[0])
for a, b in zip(ours, theirs, strict=True):
    assert (a - b).abs().max() < 1e-4 * b.abs().max(), "not the same numbers"
about = {
    "atoms": sum(batch.n_atoms for batch in batches),
    "edges": sum(len(batch.src) for batch in batches),
    "weights": sum(block.weights for block in blocks),
}
serve(passes, {order: about | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
