"""The edges of a batch, in the order in which a convolution takes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zoo.convolution.along import gradient_along

# Edges whose messages are made at a time: on a CPU few enough to stay in its cache. Measured on 192 to 1024.
CHUNK = {"cpu": 384}
CHUNK_ELSEWHERE = 1 << 17
# Edges whose radial weights are made at a time, which bounds the memory of a large cell.
STRETCH = 1 << 12
STRETCH_OF_SHARED = 1 << 13  # most of whose weights are the same


@dataclass(frozen=True)
class Chunk:
    """Some atoms that receive about as many edges each, padded to the same number.

    Attributes:
        atoms: their places among the atoms in order of falling degree.
        rows: their edges, `degree` for each, among the padded ones.
        degree: the largest number of edges that one of them receives.
    """

    atoms: slice
    rows: slice
    degree: int


@dataclass(frozen=True)
class Stretch:
    """Chunks whose radial weights are made together.

    Attributes:
        chunks: at least one.
        lengths: (u,) the different lengths of their edges, indices into `ConvolutionEdges.radial`.
        start: the first padded edge.
        which: (e,) for each padded edge its place in `lengths`.
    """

    chunks: list[Chunk]
    lengths: Tensor
    start: int
    which: Tensor

    def of(self, chunk: Chunk) -> Tensor:
        """(e,) the same for the edges of one of the chunks."""
        return self.which[chunk.rows.start - self.start : chunk.rows.stop - self.start]


class ConvolutionEdges:
    """The E edges of a batch as a convolution uses them; they are made once and shared by all layers.

    Most lengths in a crystal occur several times, that of ij and ji at least. Edges of the same length have the same
    radial weights, so radial networks see each length once. Edges between the same two atoms, to images of one of them
    at the same distance, differ in their harmonics alone, in which a message is linear: they count as one edge, whose
    harmonics are the sum. Nothing is rounded: lengths are the same where all their bits are.

    Where a gradient by the lengths is wanted, edges are not united. If by nothing else the radial inputs have one,
    radial weights and their first derivatives by the length are still made once for each length, which copies of a
    crystal with one atom displaced have in common mostly. If a learned basis has one as well, and for second
    derivatives, they are made once for each bond, ij and ji, whose lengths are the same function of the positions.

    Args:
        src: (E,) int64.
        dst: (E,) int64, ascending.
        harmonics: (E, (L+1)^2), spherical harmonics of degrees 0 .. L of the edges.
        radial: (E, R), what the radial networks read of an edge.
        n_atoms: N.
        length: (E,) the tensor that `radial` was made of, or None: every edge is one by itself.
        kinds: (E,) integers of which `radial` is a function as well, such as what elements an edge is between.

    Attributes:
        src, dst: (F,) int64, of the F ≤ E edges that are left.
        harmonics: (F, (L+1)^2).
        radial: (U, R), of the different lengths.
        length_of: (F,) int64, the row of `radial` of each edge.
        length: (E,) Å, by which a gradient is wanted that goes past `radial`; None where there is none.
        slope: (U, R) derivative of `radial` by the length, where there is such a gradient.
        radial_in_graph: the radial inputs in the graph of whatever they depend on: (E, R) where there is a slope, else
            `radial`; see `bonds`.
    """

    def __init__(
        self,
        src: Tensor,
        dst: Tensor,
        harmonics: Tensor,
        radial: Tensor,
        n_atoms: int,
        length: Tensor | None = None,
        kinds: Tensor | None = None,
    ) -> None:
        self.src, self.dst, self.harmonics, self.n_atoms = src, dst, harmonics, n_atoms
        self.radial, self.length_of = radial, torch.arange(len(src), device=src.device)
        self.length: Tensor | None = None
        self.slope: Tensor | None = None
        if length is not None and len(src) and not length.requires_grad:
            self.radial = radial[self._unite_lengths(length, kinds)]
            self._unite_images()
        elif length is not None and len(src) and _has_a_gradient_by_alone(radial, length):
            one = self._unite_lengths(length.detach(), kinds)
            self.length, self.slope, self.radial = length, _slope(radial, length)[one], radial.detach()[one]
            self.radial_in_graph = radial
            self._lengths_and_kinds = length.detach(), kinds
            return
        elif length is not None and len(src):
            one, self.length_of = self._unite_directions(length.detach(), kinds)
            self.radial = radial[one]
        self.radial_in_graph = self.radial

    @cached_property
    def bonds(self) -> tuple[Tensor | None, Tensor]:
        """The radial inputs that second derivatives are made with, and for each edge the one that it has.

        Returns:
            (U,) int64, the rows of `radial_in_graph` to make radial weights of, None: all; (F,) int64, for each edge
            the place of its own among them.
        """
        if self.slope is None:
            return None, self.length_of
        return self._unite_directions(*self._lengths_and_kinds)

    def _unite_lengths(self, length: Tensor, kinds: Tensor | None) -> Tensor:
        """(U,) an edge of each length, to which `length_of` is then set."""
        different, self.length_of = torch.unique(length, return_inverse=True)
        if kinds is not None:
            kind_of = self.length_of * (kinds.max() + 1) + kinds
            different, self.length_of = torch.unique(kind_of, return_inverse=True)
        return _one_of_each(self.length_of, len(different))

    def _unite_directions(self, length: Tensor, kinds: Tensor | None) -> tuple[Tensor, Tensor]:
        """(U,) an edge of each pair ij and ji of opposite directions, and (E,) for each edge the number of its pair.

        Harmonics of degree 1 tell the directions. What rounding has made different stays two; nothing else suffers.
        """
        places = torch.arange(len(self.src), device=self.src.device)
        if self.filter_degree == 0:
            return places, places
        direction = self.harmonics.detach()[:, 1:4].double()
        first = torch.take_along_dim(direction, (direction != 0).int().argmax(dim=1, keepdim=True), dim=1).squeeze(1)
        turned = (self.src > self.dst) | ((self.src == self.dst) & (first < 0))
        direction = torch.where(turned.unsqueeze(1), -direction, direction) + 0.0  # no -0.0
        ends = torch.minimum(self.src, self.dst) * self.n_atoms + torch.maximum(self.src, self.dst)
        columns = torch.column_stack([ends, direction.view(torch.int64), length.double().view(torch.int64)])
        if kinds is not None:
            columns = torch.column_stack([columns, kinds])
        key = ends.new_zeros(len(ends))
        for column in columns.unbind(dim=1):
            key = (key ^ column) * 0x2545F4914F6CDD1D  # wraps around
            key = key ^ (key >> 29)
        different, pair_of = torch.unique(key, return_inverse=True)
        one = _one_of_each(pair_of, len(different))
        if not torch.equal(columns[one][pair_of], columns):  # two keys alike by chance
            return places, places
        return one, pair_of

    def _unite_images(self) -> None:
        ends = self.dst * self.n_atoms + self.src
        different, edge_of = torch.unique(ends * len(self.radial) + self.length_of, return_inverse=True)
        one = _one_of_each(edge_of, len(different))  # dst comes first in the key, so it still ascends
        self.src, self.dst, self.length_of = self.src[one], self.dst[one], self.length_of[one]
        summed = self.harmonics.new_zeros(len(different), self.harmonics.shape[1])
        self.harmonics = summed.index_add(0, edge_of, self.harmonics)

    @property
    def filter_degree(self) -> int:
        """L."""
        return int(self.harmonics.shape[1] ** 0.5 + 0.5) - 1

    @cached_property
    def _padded(self) -> tuple[Tensor, Tensor, list[Chunk]]:
        """Atoms in order of falling degree, padded edges (number E for those that fill up), chunks."""
        device = self.src.device
        degrees, atoms = torch.bincount(self.dst, minlength=self.n_atoms).sort(descending=True, stable=True)
        counts = degrees.tolist()
        most = CHUNK.get(device.type, CHUNK_ELSEWHERE)
        chunks, padded, start, row = [], [], 0, 0
        while start < len(counts) and counts[start] > 0:
            degree = counts[start]
            end = min(start + max(1, most // degree), len(counts))
            while counts[end - 1] < 0.8 * degree:  # else padding would cost more than another chunk
                end -= max(1, (end - start) // 8)
            chunks.append(Chunk(slice(start, end), slice(row, row + (end - start) * degree), degree))
            padded += [degree] * (end - start)
            start, row = end, row + (end - start) * degree
        atoms = atoms[:start]
        width = torch.tensor(padded, device=device, dtype=torch.int64)
        first = torch.cumsum(width, 0) - width
        place = torch.arange(row, device=device) - torch.repeat_interleave(first, width, output_size=row)
        begin = torch.searchsorted(self.dst, atoms)
        edges = torch.repeat_interleave(begin, width, output_size=row) + place
        real = place < torch.repeat_interleave(degrees[:start], width, output_size=row)
        return atoms, torch.where(real, edges, len(self.src)), chunks

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks."""
        return self._padded[2]

    @property
    def atoms(self) -> Tensor:
        """(A,) int64, the atoms that receive an edge, in order of falling degree."""
        return self._padded[0]

    @property
    def rows(self) -> Tensor:
        """(P,) int64, the edge of each padded edge; E where there is none."""
        return self._padded[1]

    @cached_property
    def padded_src(self) -> Tensor:
        """(P,) int64; 0 where there is no edge, whose harmonics are zero."""
        return torch.cat([self.src, self.src.new_zeros(1)])[self.rows]

    @cached_property
    def stretches(self) -> list[Stretch]:
        """All chunks."""
        made: list[Stretch] = []
        most = STRETCH if self.slope is None else STRETCH_OF_SHARED
        length_of = torch.cat([self.length_of, self.length_of.new_zeros(1)])[self.rows]
        chunks = self.chunks
        while chunks:
            start = chunks[0].rows.start
            count = max(1, sum(chunk.rows.stop - start <= most for chunk in chunks))
            some, chunks = chunks[:count], chunks[count:]
            lengths, which = torch.unique(length_of[start : some[-1].rows.stop], return_inverse=True)
            made.append(Stretch(some, lengths, start, which))
        return made

    def pad(self, harmonics: Tensor) -> Tensor:
        """(E, H) -> (P, H), zero where there is no edge."""
        return torch.cat([harmonics, harmonics.new_zeros(1, harmonics.shape[1])])[self.rows]


def _one_of_each(group: Tensor, count: int) -> Tensor:
    """(E,) in 0 .. count - 1 -> (count,): a member of each group."""
    one = torch.empty(count, dtype=torch.int64, device=group.device)
    one[group] = torch.arange(len(group), device=group.device)
    return one


def _has_a_gradient_by_alone(radial: Tensor, length: Tensor) -> bool:
    """Whether `radial` has a gradient by `length`, and by other tensors only through it."""
    if not length.requires_grad or radial.grad_fn is None:
        return False
    waiting: list[Any] = [radial.grad_fn]
    seen: set[Any] = set()
    found = False
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if node is length.grad_fn or leaf is length:
            found = True
        elif leaf is not None:
            return False
        else:
            more = {after for after, _ in node.next_functions if after is not None} - seen
            seen |= more
            waiting += more
    return found


def _slope(radial: Tensor, length: Tensor) -> Tensor:
    """(E, R) derivative of the radial inputs of each edge by its length."""
    along = torch.zeros_like(radial).requires_grad_()
    (whole,) = gradient_along(radial, [length], along, create_graph=True)
    return torch.autograd.grad(whole.sum(), along, retain_graph=True)[0]
