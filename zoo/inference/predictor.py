"""Prediction of tensors for crystals by a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from pymatgen.core import Structure
from tqdm import tqdm

from zoo.contract.level_of_theory import level_of
from zoo.contract.plugin import Encoder
from zoo.data.inputs import CLOSEST, CrystalLike, checked_crystal, is_one, structure_of, too_close
from zoo.errors import ZooError
from zoo.evaluation.calibration import LEVELS
from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.graph import (
    MAX_EDGES,
    CrystalGraph,
    crystal_graphs,
    refuse_too_many_edges,
    size_sorted,
    too_many_edges,
)
from zoo.inference.answering import Question, answer_of
from zoo.inference.novelty import Novelty
from zoo.inference.prediction import Prediction, Predictions
from zoo.inference.raw_answers import Raw, answers_of
from zoo.model import checkpoint
from zoo.model.tensor_model import TensorModel
from zoo.phonons import potentials
from zoo.phonons.force_constants import refuse_size
from zoo.runtime.devices import choose_device, with_float64
from zoo.runtime.timing import Stopwatch

EDGES_PER_BATCH = 20_000
AT_ONCE = 256  # crystals in memory as graphs
MAX_ATOMS = 10_000  # of one crystal
MOST_NEIGHBOURS = 100

Given = TypeVar("Given")
Found = TypeVar("Found")


class Predictor:
    """A trained model or ensemble that predicts tensors in the Cartesian frame of each given structure.

    Attributes:
        card: recipe, target, metrics and provenance of the model (see `zoo.model.checkpoint.Card`).
        target: the tensor that is predicted; of a joint target its main part.
        reference: its training crystals; None for a model of format 2 or before.
        potentials: encoders of whose energies the force constants that the readout needs are the mean, float64.
        folder: where it was loaded from.
        max_atoms, max_edges: crystals with more are refused.
    """

    def __init__(
        self,
        card: checkpoint.Card,
        members: Sequence[TensorModel],
        device: torch.device,
        reference: Novelty | None = None,
        folder: Path | None = None,
        max_atoms: int = MAX_ATOMS,
        max_edges: int = MAX_EDGES,
        potentials: Sequence[Encoder] = (),
    ) -> None:
        self.card = card
        self.target = card.target.main
        self.potentials = potentials
        self.members = [member.to(device) for member in members]
        self.device = device
        self.reference = reference
        self.folder = folder
        self.max_atoms = max_atoms
        self.max_edges = max_edges

    @classmethod
    def load(
        cls, folder: Path, device: str = "cpu", max_atoms: int = MAX_ATOMS, max_edges: int = MAX_EDGES
    ) -> Predictor:
        """Load a model folder.

        Raises:
            ZooError: as `zoo.model.checkpoint.load`, or the device is not available here.
        """
        card, members = checkpoint.load(folder)
        reference = Novelty.load(folder) if card.format_version >= 3 else None
        place = choose_device(device)
        found: list[Encoder] = []
        if members[0].readout.needs.force_constants:
            choices = potentials.chosen(card.recipe)
            found = [potentials.build(choice).to(with_float64(place)) for choice in choices]
            if potentials.fingerprint(found) != card.potential_fingerprint:
                names = ", ".join(choice.name for choice in choices)
                raise ZooError(
                    f"{folder} was trained on force constants of other weights of {names} than are installed: install "
                    "those, or train it again"
                )
        return cls(card, members, place, reference, folder, max_atoms, max_edges, found)

    def __repr__(self) -> str:
        config, count = self.card.recipe, len(self.members)
        which = f"an ensemble of {count}" if count > 1 else "one model"
        parts = f"{config.encoder.name} + {config.readout.name}"
        return f"<Predictor {config.name}: {parts}, {self.card.target.name}, {which}>"

    @property
    def explains(self) -> bool:
        """Whether it can tell the Born charges and modes of which it makes the ionic tensor."""
        return self.members[0].readout.explains and bool(self.potentials)

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of theory to choose from, its recipe's dataset's first; none where it does not tell them apart."""
        return tuple(self.card.levels) if self.members[0].reads_level else ()

    @overload
    def predict(self, crystals: CrystalLike, **options: Any) -> Prediction: ...

    @overload
    def predict(self, crystals: Iterable[CrystalLike], **options: Any) -> Predictions: ...

    def predict(self, crystals: CrystalLike | Iterable[CrystalLike], **options: Any) -> Prediction | Predictions:
        """Predict one crystal, or several as a list in their order.

        Args:
            crystals: pymatgen Structures, ASE Atoms, or paths of CIF or VASP files.
            options: see `predict_each`.

        Raises:
            ZooError: the first crystal that cannot be answered; `predict_each` answers the others.
        """
        if is_one(crystals):
            return self.predict([crystals], **options)[0]  # type: ignore[list-item]
        requested: list[CrystalLike] = list(crystals)  # type: ignore[arg-type]
        answers = Predictions()
        answers.names = [str(crystal) if isinstance(crystal, str | Path) else None for crystal in requested]
        for answer in self.predict_each(requested, **options):
            if isinstance(answer, ZooError):
                raise answer
            answers.append(answer)
        return answers

    def predict_each(
        self,
        crystals: Iterable[CrystalLike],
        *,
        symprec: float | None = None,
        coverage: float = 0.9,
        neighbours: int = 0,
        explain: bool = False,
        functional: str | None = None,
        progress: bool = False,
    ) -> list[Prediction | ZooError]:
        """Predict each crystal; one that cannot be predicted has an error in its place.

        Args:
            crystals: see `predict`; the prediction for one does not depend on the others.
            symprec: tolerance in Å within which spglib finds the point group that each tensor is projected on; None for
                no projection.
            coverage: coverage of the intervals, one of `zoo.evaluation.calibration.LEVELS`.
            neighbours: number of nearest training crystals to return.
            explain: tell the Born charges and modes of which the ionic tensor is made (`Prediction.explanation`).
            functional: level of theory of the answer, one that the model was trained on (`levels`); None: the first of
                these.
            progress: draw a bar.

        Raises:
            ZooError: an option that makes no sense for this model.
        """
        question = Question(symprec, coverage, neighbours, explain)
        self._refuse_options(question)
        level = self._level(functional)
        requested = list(crystals)
        answers: list[Prediction | ZooError] = []
        with tqdm(total=len(requested), desc="predicting", unit=" crystals", disable=None if progress else True) as bar:
            for start in range(0, len(requested), AT_ONCE):
                part = requested[start : start + AT_ONCE]
                answers += self._answer_together(part, level, question)
                bar.update(len(part))
        return answers

    def tensors(self, structures: Sequence[Structure]) -> list[np.ndarray]:
        """Return all members' tensors of each structure, (members, *target.shape), per atom (members, n_atoms, *shape).

        Of a joint target they are those of its main part.

        Raises:
            ZooError: the first crystal that cannot be answered.
        """
        found = self.ask(structures)
        for answer in found:
            if isinstance(answer, ZooError):
                raise answer
        name = self.target.name
        return [answer.tensors[name] for answer in found if not isinstance(answer, ZooError)]

    def ask(
        self,
        structures: Sequence[Structure],
        watch: Stopwatch | None = None,
        keep: bool = False,
        level: int | None = None,
    ) -> list[Raw | ZooError]:
        """Compute the members' tensors and the descriptor of each structure, or the error that prevented it.

        Args:
            structures: some hundred at most: their graphs are in memory at once.
            watch: counts the time of "graphs", "phonons", "encoder" and "readout"; an encoder that the readout
                differentiates is counted with it, as is what a GPU has only been told to do.
            keep: keep force constants in the cache, as those of training crystals: they will be asked for again.
            level: of theory, by its number; None: that of the recipe's dataset.
        """
        watch = watch or Stopwatch()
        level = self._level(None) if level is None else level
        names = [structure.composition.reduced_formula for structure in structures]
        with watch("graphs"):
            found: list[Any] = [_or_error(self._checked, structure) for structure in structures]
            good = [i for i, crystal in enumerate(found) if not isinstance(crystal, ZooError)]
            built = crystal_graphs((found[i] for i in good), self.members[0].encoder.cutoff)
            graphs = dict(zip(good, built, strict=True))
            for i in good:
                edges = len(graphs[i].src)
                if shortest_edge(graphs[i]) < CLOSEST:
                    found[i] = ZooError(too_close(names[i]))
                elif edges > self.max_edges:  # its atoms lie close together in a large cell
                    cutoff = self.members[0].encoder.cutoff
                    found[i] = ZooError(too_many_edges(len(structures[i]), edges, cutoff, self.max_edges))
                if isinstance(found[i], ZooError):
                    del graphs[i]
        indices = list(graphs)
        for chosen in size_sorted([len(graph.src) for graph in graphs.values()], EDGES_PER_BATCH):
            chosen = [indices[k] for k in chosen]
            answers = zip(chosen, self._answers_of([graphs[i] for i in chosen], watch, keep, level), strict=True)
            for i, answer in answers:
                if isinstance(answer, ZooError):
                    found[i] = answer
                    continue
                finite = all(np.isfinite(tensors).all() for tensors in answer.tensors.values())
                reason = f"no finite answer for {names[i]}: are two of its atoms at one place?"
                found[i] = answer if finite else ZooError(reason)
        return found

    def _refuse_options(self, question: Question) -> None:
        symprec, coverage, neighbours = question.symprec, question.coverage, question.neighbours
        if coverage not in LEVELS:
            raise ZooError(f"coverage is one of {', '.join(map(str, LEVELS))}, not {coverage}")
        if symprec is not None and not (_is_number(symprec) and 0 < symprec <= 1):
            raise ZooError(f"symprec is a distance of more than 0 and at most 1 Å, not {symprec}")
        if symprec is not None and self.card.target.per_atom:
            raise ZooError(f"'{self.card.target.name}' is one tensor an atom: only one a crystal can be projected")
        if not (_is_number(neighbours) and neighbours in range(MOST_NEIGHBOURS + 1)):
            raise ZooError(f"neighbours counts training crystals, 0 to {MOST_NEIGHBOURS}, not {neighbours}")
        if neighbours and self.reference is None:
            raise ZooError("this model was saved without its training crystals (format 2 or before): train it again")
        if not isinstance(question.explain, bool):
            raise ZooError(f"explain is true or false, not {question.explain}")
        if question.explain and not self.explains:
            raise ZooError(
                f"the readout '{self.card.recipe.readout.name}' makes its tensor of no Born charges and modes, so "
                "there is nothing to explain: ask a model with the readout born (recipes dielectric and born_ionic)"
            )

    def _level(self, functional: str | None) -> int | None:
        """The number of the level of theory to answer at; None where the model knows of none.

        Raises:
            ZooError: it was not trained on this one.
        """
        if functional is None:
            return level_of(self.levels[0]) if self.levels else None
        if functional not in self.levels:
            asked = f"{functional!s:.40}"
            if self.levels:
                raise ZooError(f"the model was trained on {', '.join(self.levels)}, not on {asked}")
            raise ZooError(
                f"the model does not tell levels of theory apart, so {asked} cannot be asked for: train one on "
                "several sources with level_of_theory: true of its readouts"
            )
        return level_of(functional)

    def _answer_together(
        self, part: Sequence[CrystalLike], level: int | None, question: Question
    ) -> list[Prediction | ZooError]:
        structures: list[Structure | ZooError] = [_or_error(structure_of, crystal) for crystal in part]
        good = [structure for structure in structures if not isinstance(structure, ZooError)]
        found = iter(self.ask(good, level=level))
        answers: list[Prediction | ZooError] = []
        for structure in structures:
            if isinstance(structure, ZooError):
                answers.append(structure)
                continue
            outcome = next(found)
            if isinstance(outcome, ZooError):
                answers.append(outcome)
            else:
                try:
                    answers.append(answer_of(structure.copy(), outcome, self.card, self.reference, question))
                except ZooError as error:  # a polar mode at zero cannot be explained
                    answers.append(error)
        return answers

    def _checked(self, structure: Structure) -> Crystal:
        crystal = checked_crystal(structure, self.max_atoms)
        refuse_too_many_edges(crystal, self.members[0].encoder.cutoff, self.max_edges)
        refuse_unknown_elements(self.members[0].encoder, [structure.composition.reduced_formula], [crystal])
        for potential in self.potentials:
            refuse_size(len(crystal.numbers))
            refuse_unknown_elements(potential, [structure.composition.reduced_formula], [crystal])
        return crystal

    def _answers_of(
        self, graphs: list[CrystalGraph], watch: Stopwatch, keep: bool, level: int | None
    ) -> list[Raw | ZooError]:
        describe = self.reference is not None
        return answers_of(graphs, self.members, self.potentials, describe, self.device, watch, keep, level)


def shortest_edge(graph: CrystalGraph) -> float:
    """Return the length of the shortest edge in Å; infinite where no two atoms are within the cutoff."""
    vectors = graph.positions[graph.src] - graph.positions[graph.dst] + graph.shift @ graph.cell
    return float(np.linalg.norm(vectors, axis=1).min(initial=np.inf))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _or_error(do: Callable[[Given], Found], given: Given) -> Found | ZooError:
    try:
        return do(given)
    except ZooError as error:
        return error
