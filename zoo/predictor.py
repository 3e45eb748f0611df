"""Ask a trained model about crystals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from zoo import derived, model_folder
from zoo.data.symmetry import crystal_system
from zoo.errors import ZooError
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.graph import CrystalGraph, collate, crystal_graph, crystal_graphs
from zoo.model import TensorModel

EDGES_PER_BATCH = 20_000
TOO_CLOSE = 0.5  # Å; the shortest bond there is, H-H, has 0.74


@dataclass(frozen=True)
class Prediction:
    """The answer for one crystal.

    Attributes:
        formula: reduced.
        crystal_system: of the structure, by spglib.
        tensor: (*target.shape), or per atom (n_atoms, *target.shape), in the Cartesian frame of the structure that was
            asked about.
        spread: the same shape, standard deviation over the members of an ensemble, None for a single model.
        polycrystalline_spread: that of tr/3, likewise; None for tensors that have no tr/3.
        derived: what follows from one tensor a crystal: eigenvalues, axes, ... (see `zoo.derived.describe`).
        warnings: what speaks against trusting it.
    """

    formula: str
    crystal_system: str
    tensor: np.ndarray
    spread: np.ndarray | None
    polycrystalline_spread: float | None
    derived: dict[str, Any]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "formula": self.formula,
            "crystal_system": self.crystal_system,
            "tensor": self.tensor.tolist(),
            **self.derived,
            "spread": None if self.spread is None else self.spread.tolist(),
            "polycrystalline_spread": self.polycrystalline_spread,
            "warnings": list(self.warnings),
        }


class Predictor:
    """A trained model, or an ensemble, that answers in the frame of the question.

    Attributes:
        card: what is known of the model (see `zoo.model_folder.Card`).
    """

    def __init__(self, card: model_folder.Card, members: Sequence[TensorModel], device: torch.device) -> None:
        self.card = card
        self.members = [member.to(device) for member in members]
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Predictor:
        """From a model folder.

        Raises:
            ZooError: as `zoo.model_folder.load`.
        """
        card, members = model_folder.load(folder)
        return cls(card, members, torch.device(device))

    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """One answer a structure, in their order.

        Raises:
            ZooError: as `tensors`.
        """
        return [self._answer(*asked) for asked in zip(structures, self.tensors(structures), strict=True)]

    def tensors(self, structures: Sequence[Structure]) -> list[np.ndarray]:
        """For each structure every member's tensor, (members, *target.shape), per atom (members, n_atoms, *shape).

        Raises:
            ZooError: a partly occupied site, an element that the encoder does not know, or atoms that overlap.
        """
        encoder = self.members[0].encoder
        graphs = list(crystal_graphs(structures, encoder.cutoff))
        names = [structure.composition.reduced_formula for structure in structures]
        self._refuse(names, graphs)
        answers: dict[int, np.ndarray] = {}
        for chosen in size_sorted(graphs, EDGES_PER_BATCH):
            answers |= zip(chosen, self._forward([graphs[i] for i in chosen]), strict=True)
        tensors = [answers[i] for i in range(len(graphs))]
        broken = [name for name, tensor in zip(names, tensors, strict=True) if not np.isfinite(tensor).all()]
        if broken:
            raise ZooError(f"no finite answer for {', '.join(broken)}: are two of its atoms at one place?")
        return tensors

    def refuse(self, structure: Structure) -> None:
        """See that a structure can be asked about.

        Raises:
            ZooError: as `tensors`.
        """
        graph = crystal_graph(structure, self.members[0].encoder.cutoff)
        self._refuse([structure.composition.reduced_formula], [graph])

    def _refuse(self, names: Sequence[str], graphs: Sequence[CrystalGraph]) -> None:
        refuse_unknown_elements(self.members[0].encoder, names, graphs)
        for name, graph in zip(names, graphs, strict=True):
            if shortest_edge(graph) < TOO_CLOSE:
                raise ZooError(f"{name}: two atoms are less than {TOO_CLOSE} Å apart; mend the structure")

    def _forward(self, graphs: list[CrystalGraph]) -> list[np.ndarray]:
        """As `tensors`, of one batch; a frozen encoder runs once for all members."""
        batch = collate(graphs).to(self.device)
        first = self.members[0]
        with nullcontext() if first.readout.needs_grad else torch.inference_mode():
            embedding = first.encoder(batch) if first.caches_embeddings else None
            found = np.stack([member(batch, embedding).detach().cpu().numpy() for member in self.members])
        if not self.card.target.per_atom:
            return list(found.swapaxes(0, 1))
        ends = np.cumsum([len(graph.numbers) for graph in graphs])
        return np.split(found, ends[:-1], axis=1)

    def _answer(self, structure: Structure, tensors: np.ndarray) -> Prediction:
        tensor, several, target = tensors.mean(0), len(tensors) > 1, self.card.target
        has_trace = derived.is_symmetric_matrix(target) and not target.per_atom
        constants = derived.polycrystalline(tensors) if has_trace else None
        unseen = sorted({site.specie.symbol for site in structure if site.specie.Z not in self.card.elements})
        warnings = (f"not among the training crystals: {', '.join(unseen)}",) if unseen else ()
        return Prediction(
            formula=structure.composition.reduced_formula,
            crystal_system=crystal_system(structure),
            tensor=tensor,
            spread=tensors.std(0, ddof=1) if several else None,
            polycrystalline_spread=float(constants.std(ddof=1)) if several and constants is not None else None,
            derived={} if target.per_atom else derived.describe(tensor, target),
            warnings=warnings,
        )


def shortest_edge(graph: CrystalGraph) -> float:
    """Å; infinite where no two atoms are within the cutoff."""
    vectors = graph.positions[graph.src] - graph.positions[graph.dst] + graph.shift @ graph.cell
    return float(np.linalg.norm(vectors, axis=1).min(initial=np.inf))


def size_sorted(graphs: Sequence[CrystalGraph], budget: int) -> list[list[int]]:
    """Indices in batches of like size, each of at most `budget` edges (one crystal at least)."""
    batches: list[list[int]] = []
    edges = 0
    for index in sorted(range(len(graphs)), key=lambda i: len(graphs[i].src)):
        size = len(graphs[index].src)
        if not batches or edges + size > budget:
            batches.append([])
            edges = 0
        batches[-1].append(index)
        edges += size
    return batches
