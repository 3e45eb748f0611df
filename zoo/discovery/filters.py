"""Filters that leave candidates out of a screening, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymatgen.core import Structure

from zoo.contract.discovery import Objective
from zoo.discovery.candidate_source import number
from zoo.discovery.screen_config import Filters
from zoo.graphs.elements import symbols_of
from zoo.inference.predictor import Predictor


class CandidateFilter:
    """Says, in a few words that are counted, why a candidate is left out; None where it stays."""

    def __init__(
        self, filters: Filters, objective: Objective, predictor: Predictor, known: frozenset[str] = frozenset()
    ) -> None:
        self._filters = filters
        self._labelled = known
        self._required = objective.required()
        self._seen = frozenset(predictor.card.seen) if filters.unseen else frozenset()
        numbers = predictor.members[0].encoder.elements()
        self._known = None if numbers is None else symbols_of(numbers)

    def before_reading(self, key: str, properties: Mapping[str, Any]) -> str | None:
        """By what is said of a candidate, without its structure."""
        filters = self._filters
        if key in self._labelled:
            return "known or asked before"
        if key in self._seen:
            return "seen by the model"
        missing = next((name for name in self._required if number(properties, name) is None), None)
        if missing is not None:
            return f"no {missing}"
        above, gap = number(properties, "energy_above_hull"), number(properties, "band_gap")
        if above is not None and filters.max_energy_above_hull is not None and above > filters.max_energy_above_hull:
            return "max_energy_above_hull"
        if gap is not None and filters.min_band_gap is not None and gap < filters.min_band_gap:
            return "min_band_gap"
        return None

    def of_structure(self, structure: Structure) -> str | None:
        """By its atoms."""
        filters = self._filters
        if filters.max_atoms is not None and len(structure) > filters.max_atoms:
            return "max_atoms"
        elements = {element.symbol for element in structure.composition.elements}
        if filters.elements is not None and not elements <= set(filters.elements):
            return "elements"
        if elements & set(filters.without):
            return "without"
        if self._known is not None and not elements <= self._known:
            return "elements unknown to the encoder"
        return None
