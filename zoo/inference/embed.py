"""Computation of the rows of feature files from crystals, some thousand atoms at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zoo.contract.plugin import Encoder
from zoo.data.crystal_files import NamedCrystal
from zoo.data.inputs import checked_crystal
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import symbols
from zoo.graphs.graph import CrystalGraph, crystal_graphs
from zoo.inference.feature_arrays import CrystalFeatures, embed
from zoo.inference.features_file import FeaturesFile, Table

ATOMS_AT_ONCE = 5_000  # and in a row group of Parquet: 12 MB of SevenNet-0's features
CRYSTALS_AT_ONCE = 500
NO_LIMIT = 2**63


@dataclass
class Written:
    """Counts of what was written to the files, and of what was not.

    Attributes:
        refused: for each crystal that has no features the reason, which names it.
    """

    crystals: int = 0
    atoms: int = 0
    bonds: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of crystals that were to be processed."""
        return self.crystals + len(self.refused)


def write_features(
    file: FeaturesFile,
    encoder: Encoder,
    crystals: Iterable[NamedCrystal],
    bonds: bool,
    progress: Callable[[int], object] = lambda done: None,
) -> Written:
    """Write the features of all crystals in their order, with only some thousand atoms in memory.

    Args:
        file: the open files.
        encoder: in eval mode.
        crystals: crystals in the order of the rows; unreadable or refused ones are left out and named.
        bonds: also of the bonds.
        progress: called with the number of crystals that have just been done.

    Raises:
        ZooError: the files cannot be written.
    """
    done = Written()
    for chosen in _together(crystals):
        known: list[tuple[NamedCrystal, Crystal]] = []
        for named in chosen:
            try:
                known.append((named, _checked(named)))
            except ZooError as error:
                done.refused.append(str(error))
                progress(1)
        graphs = list(crystal_graphs((crystal for _, crystal in known), encoder.cutoff))
        answers = embed(encoder, [named.name for named, _ in known], graphs, bonds, progress)
        rows: list[_Row] = []
        for (named, _), graph, answer in zip(known, graphs, answers, strict=True):
            if isinstance(answer, ZooError):
                done.refused.append(str(answer))
            else:
                rows.append(_Row(done.crystals + len(rows), named, graph, answer))
        if rows:
            file.write(_tables(rows, bonds))
        done.crystals += len(rows)
        done.atoms += sum(len(row.graph.numbers) for row in rows)
        done.bonds += sum(len(row.graph.src) for row in rows)
    return done


@dataclass(frozen=True)
class _Row:
    """One crystal, and its row in the table of crystals."""

    index: int
    named: NamedCrystal
    graph: CrystalGraph
    features: CrystalFeatures


def _together(crystals: Iterable[NamedCrystal]) -> Iterator[list[NamedCrystal]]:
    """Group crystals in their order into chunks of some thousand atoms."""
    chunk: list[NamedCrystal] = []
    atoms = 0
    for crystal in crystals:
        chunk.append(crystal)
        atoms += 0 if isinstance(crystal.structure, ZooError) else len(crystal.structure)
        if atoms >= ATOMS_AT_ONCE or len(chunk) >= CRYSTALS_AT_ONCE:
            yield chunk
            chunk, atoms = [], 0
    if chunk:
        yield chunk


def _checked(named: NamedCrystal) -> Crystal:
    if isinstance(named.structure, ZooError):
        raise named.structure
    try:
        return checked_crystal(named.structure, NO_LIMIT)
    except ZooError as error:
        raise ZooError(f"{named.name}: {error}") from None


def _tables(rows: Sequence[_Row], bonds: bool) -> dict[str, Table]:
    graphs = [row.graph for row in rows]
    index = np.array([row.index for row in rows])
    n_atoms = np.array([len(graph.numbers) for graph in graphs])
    numbers = np.concatenate([graph.numbers for graph in graphs])
    tables: dict[str, Table] = {
        "atoms": {
            "crystal": np.repeat(index, n_atoms),
            "file": [row.named.file for row in rows for _ in row.graph.numbers],
            "key": [row.named.key for row in rows for _ in row.graph.numbers],
            "atom": np.concatenate([np.arange(n) for n in n_atoms]),
            "number": numbers,
            "symbol": symbols(numbers),
            "position": np.concatenate([graph.positions for graph in graphs]),
            **_joined([row.features.atoms for row in rows]),
        },
        "crystals": {
            "crystal": index,
            "file": [row.named.file for row in rows],
            "key": [row.named.key for row in rows],
            "formula": [row.named.formula for row in rows],
            "n_atoms": n_atoms,
            "cell": np.stack([graph.cell for graph in graphs]),
            **_joined([{name: array[None] for name, array in row.features.crystal.items()} for row in rows]),
        },
    }
    if bonds:
        tables["bonds"] = {
            "crystal": np.repeat(index, [len(graph.src) for graph in graphs]),
            "src": np.concatenate([graph.src for graph in graphs]),
            "dst": np.concatenate([graph.dst for graph in graphs]),
            "shift": np.concatenate([graph.shift for graph in graphs]),
            "vector": np.concatenate([edge_vectors(graph) for graph in graphs]),
            **_joined([row.features.bonds or {} for row in rows]),
        }
    return tables


def _joined(features: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([each[name] for each in features]) for name in features[0]}


def edge_vectors(graph: CrystalGraph) -> np.ndarray:
    """Return the vectors from dst to the image of src, (E, 3) in Å."""
    return graph.positions[graph.src] - graph.positions[graph.dst] + graph.shift @ graph.cell
