"""The answer about one crystal, made of what the members of a model say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pymatgen.core import Structure

from zoo.contract.target import TensorTarget
from zoo.data.symmetry import has_infrared_modes, is_cubic, rotated, symmetry
from zoo.evaluation import derived
from zoo.inference.doubt import Doubt
from zoo.inference.doubts import doubts_of_distance, doubts_of_elements, doubts_of_size
from zoo.inference.explanation import explanation_of
from zoo.inference.novelty import Novelty
from zoo.inference.phonon_warnings import phonon_warnings
from zoo.inference.plain_numbers import NOISE, without_noise
from zoo.inference.prediction import Prediction
from zoo.inference.raw_answers import Raw, ionic_part
from zoo.model.checkpoint import Card


@dataclass(frozen=True)
class Question:
    """Options of an answer, see `zoo.inference.predictor.Predictor.predict_each`."""

    symprec: float | None = None
    coverage: float = 0.9
    neighbours: int = 0
    explain: bool = False


def answer_of(structure: Structure, raw: Raw, card: Card, reference: Novelty | None, question: Question) -> Prediction:
    """Make the answer.

    Args:
        structure: the crystal.
        raw: what the members say of it.
        card: the model's.
        reference: its training crystals, where it knows them.
        question: options of the answer.

    Raises:
        ZooError: an explanation is asked for, and a polar mode is at zero.
    """
    target = card.target.main
    rotations, doubts = _projection(structure, question.symprec)
    answers = {}
    for part in card.target.parts or (target,):
        tensors = raw.tensors[part.name]
        if rotations is not None:
            tensors = np.stack([rotated(tensor, rotations).mean(0) for tensor in tensors])
        answers[part.name] = _of_part(structure, part, tensors, card, question.coverage)
    more: dict[str, Any] = {}
    distance = None
    if reference is not None and raw.descriptor is not None:
        distance = reference.novelty(raw.descriptor)
        more["novelty"] = {"distance": distance, "threshold": reference.threshold}
        if question.neighbours:
            more["nearest"] = reference.nearest(raw.descriptor, question.neighbours)
    if question.explain and raw.response is not None:
        electronic = answers.get("electronic")
        more["explanation"] = explanation_of(
            structure,
            raw.response,
            answers[ionic_part(card.target).name].tensor.astype(np.float64),
            None if electronic is None else electronic.tensor.astype(np.float64),
            None if raw.force_constants is None else raw.force_constants.matrix,
            raw.by_potential,
        )
    doubts = [
        *doubts_of_crystal(structure, raw, card, reference, distance),
        *doubts,
        *answers[target.name].warnings,
    ]
    return replace(answers.pop(target.name), warnings=tuple(doubts), parts=answers, **more)


def doubts_of_crystal(
    structure: Structure, raw: Raw, card: Card, reference: Novelty | None, distance: float | None = None
) -> list[Doubt]:
    """Tell all reasons not to trust an answer that do not depend on the question.

    Args:
        distance: of the crystal from the training crystals (`Novelty.novelty`), where it is known already.
        structure, raw, card, reference: as in `answer_of`.
    """
    target = card.target.main
    doubts = doubts_of_elements(structure, target, card.elements)
    if reference is not None and raw.descriptor is not None:
        known = reference.novelty(raw.descriptor) if distance is None else distance
        doubts += doubts_of_distance(known, reference)
    for part in card.target.parts or (target,):
        usual = reference.usual if reference is not None and part == target else None
        doubts += doubts_of_size(raw.tensors[part.name].mean(0), part, usual)
    if raw.force_constants is not None:
        doubts += phonon_warnings(raw.force_constants, raw.response, raw.by_potential)
    return doubts


def _projection(structure: Structure, symprec: float | None) -> tuple[np.ndarray | None, list[Doubt]]:
    """Return the operations to project on, (n, 3, 3), None for none, and a warning where none were found."""
    if symprec is None:
        return None, []
    group = symmetry(structure, symprec)
    if group is None:
        return None, [Doubt("not projected", f"not projected: spglib finds no symmetry within {symprec} Å")]
    return group.rotations, []


def _of_part(
    structure: Structure, target: TensorTarget, tensors: np.ndarray, card: Card, coverage: float
) -> Prediction:
    """The prediction of one tensor from all members' of it."""
    several = len(tensors) > 1
    # Symmetry is looked for, which takes its time, where the numbers are what it would make them.
    small = target.quantity == "ionic dielectric" and np.abs(tensors).max() < NOISE
    no_ions = small and not has_infrared_modes(structure)
    tensor = without_noise(np.zeros_like(tensors[0]) if no_ions else tensors.mean(0))
    has_trace = derived.is_symmetric_matrix(target) and not target.per_atom
    constants = derived.polycrystalline(tensors) if has_trace else None
    more: dict[str, Any] = {}
    calibration = card.calibrations.get(target.name)
    if calibration is not None and not target.per_atom:
        intervals, radius = calibration.intervals(tensors.astype(np.float64), target, coverage)
        if no_ions and intervals:
            intervals, radius = {"polycrystalline": [0.0, 0.0], "eigenvalues": [[0.0, 0.0]] * 3}, 0.0
        elif "anisotropy" in intervals and derived.anisotropy(tensor[None], 0.0) < 1 + NOISE and is_cubic(structure):
            intervals["anisotropy"] = [1.0, 1.0]
        more = {"coverage": coverage, "intervals": intervals, "tensor_radius": radius}
        if not intervals and radius is None:
            more["coverage"] = None
            few = f"no intervals of {100 * coverage:.0f} %: {calibration.n} held-out crystals are too few for that"
            more["warnings"] = (Doubt("no intervals", few),)
    return Prediction(
        structure=structure,
        target=target,
        tensor=tensor,
        derived={} if target.per_atom else derived.describe(tensor, target),
        spread=tensors.std(0, ddof=1) if several else None,
        polycrystalline_spread=float(constants.std(ddof=1)) if several and constants is not None else None,
        **more,
    )
