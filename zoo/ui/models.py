"""The models that the page offers: loaded when they are asked for, kept, and asked by one request at a time."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

from zoo.errors import ZooError
from zoo.inference.prediction import Prediction, by_file
from zoo.inference.predictor import Predictor
from zoo.registry.connect import mlflow_errors, tracking_uri
from zoo.registry.fetch import model_folder_of, refuse_missing_registry
from zoo.registry.tracking_store import client_of
from zoo.ui.uploads import MAX_ATOMS, MAX_EDGES, Crystal

NEIGHBOURS = 5
KEPT = 512  # answers
ALIASES = ("champion", "challenger")


def champion_of(name: str) -> str:
    """The URI of a registered model's champion."""
    return f"models:/{name}@champion"


def registered_models() -> dict[str, str]:
    """List the registered models: the name to load a model by -> its name on the page.

    Raises:
        ZooError: there is no registry, or it cannot be reached.
    """
    uri = tracking_uri(None)
    refuse_missing_registry(uri, "no model was named (zoo ui RUN_DIR), and there is no registry")
    client = client_of(uri)
    with mlflow_errors(uri):
        known = client.search_registered_models(max_results=1000)
    return {
        f"models:/{model.name}@{alias}": f"{model.name}, {alias} (version {model.aliases[alias]})"
        for model in sorted(known, key=lambda model: model.name)
        for alias in ALIASES
        if alias in model.aliases
    }


class Models:
    """The models on offer.

    Attributes:
        names: name to load a model by -> what it is called on the page. No other is loaded.
    """

    def __init__(self, names: dict[str, str], device: str = "auto") -> None:
        self.names = names
        self._device = device
        self._lock = Lock()
        self._loaded: dict[str, Predictor] = {}
        self._answers: OrderedDict[tuple[Any, ...], Prediction | ZooError] = OrderedDict()

    def get(self, name: str) -> Predictor:
        """A model, loaded where it is not yet.

        Raises:
            ZooError: it is not on offer, or as `zoo.load`.
        """
        with self._lock:
            return self._get(name)

    def _get(self, name: str) -> Predictor:
        if name not in self.names:
            raise ZooError(f"'{name}' is not among the models of this page")
        if name not in self._loaded:
            self._loaded[name] = Predictor.load(model_folder_of(name), self._device, MAX_ATOMS, MAX_EDGES)
        return self._loaded[name]

    def ask(
        self,
        name: str,
        crystals: Sequence[Crystal],
        symprec: float | None = None,
        coverage: float = 0.9,
        functional: str | None = None,
    ) -> list[Prediction | ZooError]:
        """Predict each crystal, with its nearest training crystals where the model knows them.

        Raises:
            ZooError: as `get` and `Predictor.predict_each`.
        """
        keys = [(name, _content(crystal), symprec, coverage, functional) for crystal in crystals]
        with self._lock:
            predictor = self._get(name)
            new = [n for n, key in enumerate(keys) if key not in self._answers]
            asked = {n: crystals[n].structure for n in new}
            good = [n for n in new if not isinstance(asked[n], ZooError)]
            found = predictor.predict_each(
                [asked[n] for n in good],  # type: ignore[misc]
                symprec=symprec,
                coverage=coverage,
                neighbours=0 if predictor.reference is None else NEIGHBOURS,
                explain=predictor.explains,
                functional=functional,
            )
            answers: dict[int, Prediction | ZooError] = {n: e for n, e in asked.items() if isinstance(e, ZooError)}
            answers |= dict(zip(good, found, strict=True))
            self._answers |= {keys[n]: answer for n, answer in answers.items()}
            given = [self._answers[key] for key in keys]
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return given


def _content(crystal: Crystal) -> str:
    """The same for the same crystal of the same file name."""
    if isinstance(crystal.structure, ZooError):
        return f"{crystal.name}: {crystal.structure}"
    return f"{crystal.name}: {crystal.structure.lattice.matrix.tolist()} {crystal.structure.as_dict()['sites']}"


def as_json(crystals: Sequence[Crystal], answers: Sequence[Prediction | ZooError]) -> str:
    """Return what `zoo predict --format json` prints for the same files."""
    content = by_file([crystal.name for crystal in crystals], answers)
    for one in content:
        one.pop("nearest", None)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
