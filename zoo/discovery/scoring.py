"""Scoring of candidates by a model, an objective and an acquisition together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoo.config import plugins
from zoo.contract.discovery import Acquisition, Candidate, Objective
from zoo.contract.target import TensorTarget
from zoo.discovery.acquisitions import spread
from zoo.discovery.screen_config import Screen, Search
from zoo.errors import ZooError
from zoo.inference.answering import doubts_of_crystal
from zoo.inference.doubt import Kind
from zoo.inference.plain_numbers import without_noise
from zoo.inference.predictor import Predictor
from zoo.runtime.timing import Stopwatch


@dataclass(frozen=True)
class Scored:
    """A candidate that has been predicted.

    Attributes:
        tensor: (*target.shape), mean over the members; of a joint target all parts.
        mean, std: of the objective over the members, ddof = 1; zero for a single member.
        score: by the acquisition.
        novelty: distance to the training crystals (`zoo.inference.novelty`); None where the model does not know them.
        warnings: kinds of the reasons not to trust the prediction (`zoo.inference.doubt.KINDS`).
    """

    tensor: np.ndarray
    mean: float
    std: float
    score: float
    novelty: float | None
    warnings: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A candidate that is not in the running.

    Attributes:
        status: `filtered` or `failed`.
        reason: in a few words, which are counted.
        detail: more of it.
    """

    status: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Scoring:
    """Scores candidates by a model, an objective and an acquisition.

    Attributes:
        part: the tensor that the objective is of: the model's target, or a part of it.
        best: the highest value of the objective so far, where the acquisition asks for it.
    """

    predictor: Predictor
    objective: Objective
    part: TensorTarget
    acquisition: Acquisition
    best: float | None
    seed: int
    name: str

    @property
    def target(self) -> TensorTarget:
        """The tensor that is predicted; a joint target with all its parts."""
        return self.predictor.card.target

    @classmethod
    def of(cls, config: Screen, predictor: Predictor) -> Scoring:
        """For a recipe.

        Raises:
            ZooError: an unknown plugin or setting, or they do not go with the model.
        """
        objective, acquisition = (
            plugins.load(kind, one.name)(plugins.hypers(kind, one.name, one.settings))
            for kind, one in (("objective", config.objective), ("acquisition", config.acquisition))
        )
        part = part_of(predictor.card.target, config, objective)
        if acquisition.needs_ensemble and len(predictor.members) == 1:
            raise ZooError(
                f"the acquisition '{config.acquisition.name}' needs an ensemble, {config.model} has one member: train "
                "it "
                "with 'seeds=[0,1,2,3,4]' split.seed=0, or choose acquisition.name=greedy"
            )
        scoring = cls(predictor, objective, part, acquisition, config.best, config.seed, config.objective.name)
        if acquisition.needs_best and config.best is None:
            return replace(scoring, best=scoring._best_of_training(config.acquisition.name))
        return scoring

    def _best_of_training(self, acquisition: str) -> float:
        reference = self.predictor.reference
        labels = None if reference is None or self.objective.properties else reference.tensors
        if labels is None or self.part != self.predictor.target:  # of the other parts a model keeps no labels
            raise ZooError(
                f"the acquisition '{acquisition}' needs the highest '{self.name}' so far, which the model's training "
                "crystals do not tell: say best=NUMBER"
            )
        return float(np.nanmax(self._values(labels.astype(np.float64), [{} for _ in labels])))

    def score(self, candidates: Sequence[Candidate], watch: Stopwatch) -> list[Scored | Rejected]:
        """For each candidate what there is to say of it, or why there is nothing; some hundred at most."""
        outcomes: list[Scored | Rejected] = [Rejected("failed", "not predicted")] * len(candidates)
        reference, target = self.predictor.reference, self.target
        tensors: dict[int, np.ndarray] = {}
        novelty: dict[int, float | None] = {}
        warnings: dict[int, tuple[Kind, ...]] = {}
        for i, answer in enumerate(self.predictor.ask([each.structure for each in candidates], watch, keep=True)):
            if isinstance(answer, ZooError):
                outcomes[i] = Rejected("failed", "not predicted", str(answer))
                continue
            descriptor, of_each = answer.descriptor, [answer.tensors[one.name] for one in target.parts]
            members = np.stack(of_each, axis=1) if of_each else answer.tensors[target.name]
            tensors[i] = members.astype(np.float64)
            with watch("novelty"):
                novelty[i] = None if reference is None or descriptor is None else reference.novelty(descriptor)
                doubts = doubts_of_crystal(candidates[i].structure, answer, self.predictor.card, reference, novelty[i])
                warnings[i] = tuple(dict.fromkeys(doubt.kind for doubt in doubts))
        if not tensors:
            return outcomes
        with watch("objective"):
            predicted = [candidates[i] for i in tensors]
            by_member = np.stack([target.split(one)[self.part.name][1] for one in tensors.values()], axis=1)
            properties = [each.properties for each in predicted]
            values = np.stack([self._values(member, properties) for member in by_member])
            defined = np.isfinite(values).all(axis=0)
            keys, finite = [each.key for each in predicted], np.where(defined, values, 0.0)
            scores = _numbers(
                "the acquisition", len(predicted), lambda: self.acquisition.scores(finite, self.best, keys, self.seed)
            )
            means, stds = values.mean(0), spread(values)
        for k, i in enumerate(tensors):
            if defined[k] and np.isfinite(scores[k]):
                outcomes[i] = Scored(
                    without_noise(tensors[i].mean(0)),
                    float(means[k]),
                    float(stds[k]),
                    float(scores[k]),
                    novelty[i],
                    warnings[i],
                )
            else:
                outcomes[i] = Rejected(
                    "failed", "not defined", f"'{self.name}' is not defined for what the model predicts"
                )
        return outcomes

    def _values(self, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n,) the objective."""
        return values_of(self.objective, tensors, properties, self.name)


def part_of(target: TensorTarget, config: Search, objective: Objective) -> TensorTarget:
    """The tensor that the objective of a search is of: what models of this target predict, or one part of that.

    Raises:
        ZooError: they predict no such part, or one that the objective has no meaning for.
    """
    parts = {one.name: one for one in target.parts or (target,)}
    part = parts.get(config.part or target.main.name)
    if part is None:
        raise ZooError(f"part: the model predicts {', '.join(parts)}, not '{config.part}': say part=NAME of these")
    if part.per_atom:
        raise ZooError(f"'{part.name}' is one tensor an atom: crystals are searched by one tensor each")
    why = objective.cannot_use(part)
    if why is not None:
        raise ZooError(f"the objective '{config.objective.name}' {why}")
    return part


def values_of(
    objective: Objective, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]], name: str
) -> np.ndarray:
    """(n,) an objective, whose name is for errors.

    Raises:
        ZooError: it fails.
    """
    return _numbers(f"the objective '{name}'", len(tensors), lambda: objective.values(tensors, properties))


def _numbers(what: str, count: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """(n,) float64 of a plugin, which may be a stranger's and do anything."""
    try:
        numbers = np.asarray(make(), dtype=np.float64)
    except ZooError:
        raise
    except Exception as error:
        raise ZooError(f"{what} fails ({type(error).__name__}: {error})") from error
    if numbers.shape != (count,):
        raise ZooError(
            f"{what} made an array of shape {numbers.shape} of {count} candidates: one number each is wanted"
        )
    return numbers
