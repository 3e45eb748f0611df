"""The challenger of a registered model against its champion: the better one on the same validation crystals answers.

The test part is reported and decides nothing: a test error that models are chosen by is none any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from scipy.stats import bootstrap

from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.evaluation.predictions import Predictions, read_predictions
from zoo.model import checkpoint
from zoo.registry.connect import CHALLENGER, CHAMPION, mlflow_errors
from zoo.registry.fetch import downloaded, unknown_model
from zoo.registry.tracking_store import client_of

PREVIOUS = "previous"
"""Alias of the version that was champion before."""
RESAMPLES = 9999


@dataclass(frozen=True)
class Difference:
    """Difference of the errors of two models on the same crystals.

    Attributes:
        n: crystals or, of one tensor an atom, labelled atoms.
        champion, challenger: MAE over the independent components.
        low, high: 95 % interval of challenger - champion, from a paired bootstrap over the crystals (bias-corrected and
            accelerated; Efron, J. Am. Stat. Assoc. 82, 171 (1987)).
    """

    n: int
    champion: float
    challenger: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        """challenger - champion: below zero where the challenger is better."""
        return self.challenger - self.champion


@dataclass(frozen=True)
class Contest:
    """Two versions of a registered model.

    Attributes:
        name: of the model.
        champion, challenger: their versions.
        validation: decides.
        test: is reported; None where the two were tested on different crystals.
    """

    name: str
    champion: str
    challenger: str
    validation: Difference
    test: Difference | None

    @property
    def won(self) -> bool:
        """Whether the whole interval of the difference lies below zero: the challenger is better."""
        return self.validation.high < 0

    @property
    def lost(self) -> bool:
        """Whether the whole interval lies above zero: the challenger is worse."""
        return self.validation.low > 0


def contest(name: str, version: str | None, uri: str) -> Contest | None:
    """Compare a version, by default the challenger, with the champion; None where there is no champion.

    Raises:
        ZooError: there is no such model or version, the two were not validated on the same crystals, or MLflow cannot
            be reached.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise unknown_model(name, uri) from None
        version = version or aliases.get(CHALLENGER)
        if version is None:
            raise ZooError(f"'{name}' has no challenger: train one under its name, or say --version")
        champion = aliases.get(CHAMPION)
        if champion is None:
            return None
        if str(champion) == str(version):
            raise ZooError(f"version {version} of '{name}' is the champion already")
    held, asked = (_answers(name, number, uri) for number in (champion, version))
    if held.target != asked.target:
        raise ZooError(f"versions {champion} and {version} of '{name}' predict different tensors: nothing to compare")
    held_out = {champion: held.read("val"), version: asked.read("val")}
    for number, answers in held_out.items():
        if not answers.keys:
            raise ZooError(
                f"version {number} of '{name}' was trained on all crystals (zoo refit): it has none to be compared by, "
                "so give it the alias champion in MLflow's page of the model, if it shall answer"
            )
    validation = difference(held_out[champion], held_out[version], held.target)
    if validation is None:
        raise ZooError(
            f"versions {champion} and {version} of '{name}' were not validated on the same crystals and tensors: "
            "train the challenger on the champion's dataset with the champion's split, split.seed=N"
        )
    test = difference(held.read("test"), asked.read("test"), held.target)
    return Contest(name, str(champion), str(version), validation, test)


def promote(found: Contest, uri: str) -> None:
    """Make the challenger the champion; the champion of before keeps the alias `previous`.

    A version that has not won carries the tag `zoo.promoted_by_force`.

    Raises:
        ZooError: there is another champion by now, or MLflow cannot be reached.
    """
    interval = f"{found.validation.mean:.4g} ({found.validation.low:.4g} to {found.validation.high:.4g})"
    with mlflow_errors(uri):
        client = client_of(uri)
        if str(client.get_registered_model(found.name).aliases.get(CHAMPION)) != found.champion:
            raise ZooError(f"'{found.name}' has got another champion meanwhile: compare again")
        # What a kill may cut off comes first: the champion changes last.
        client.set_model_version_tag(found.name, found.challenger, "zoo.promoted_over", found.champion)
        client.set_model_version_tag(found.name, found.challenger, "zoo.validation_difference", interval)
        if not found.won:
            client.set_model_version_tag(found.name, found.challenger, "zoo.promoted_by_force", interval)
        client.set_registered_model_alias(found.name, PREVIOUS, found.champion)
        _crown(client, found.name, found.challenger)


def crown(name: str, version: str | None, uri: str) -> str:
    """Make a version, by default the challenger, the champion of a model that has none; its number.

    Raises:
        ZooError: there is no such version, or MLflow cannot be reached.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        version = version or str(client.get_registered_model(name).aliases[CHALLENGER])
        client.get_model_version(name, version)
        _crown(client, name, version)
    return version


def _crown(client: MlflowClient, name: str, version: str) -> None:
    if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == version:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_registered_model_alias(name, CHAMPION, version)


@dataclass(frozen=True)
class _Answers:
    """Predictions of a version on its validation and test part."""

    path: Path
    target: TensorTarget

    def read(self, part: str) -> Predictions:
        return read_predictions(self.path, part, self.target)


def _answers(name: str, version: str, uri: str) -> _Answers:
    place = f"models:/{name}/{version}"
    folder = downloaded(place, uri, place)
    path = folder / "predictions.csv"
    if not path.is_file():
        raise ZooError(f"{place} was registered by an earlier zoo, without its predictions: train it again")
    return _Answers(path, checkpoint.read_card(folder).target)


def difference(champion: Predictions, challenger: Predictions, target: TensorTarget) -> Difference | None:
    """Compare two models' errors; None where these are not for the same crystals with the same true tensors."""
    order = {key: i for i, key in enumerate(challenger.keys)}
    if order.keys() != set(champion.keys) or len(order) < 2:
        return None
    paired = [order[key] for key in champion.keys]
    if not np.allclose(champion.true, challenger.true[paired], rtol=1e-5, atol=1e-5):
        return None
    before, after = _errors(champion, target), _errors(challenger, target)[paired]
    low = high = float(np.mean(after - before))
    if np.ptp(after - before) > 0:  # with no spread there is nothing to resample
        found = bootstrap((after - before,), np.mean, n_resamples=RESAMPLES, rng=np.random.default_rng(0))
        low, high = (float(end) for end in found.confidence_interval)
    return Difference(len(paired), float(before.mean()), float(after.mean()), low, high)


def _errors(answers: Predictions, target: TensorTarget) -> np.ndarray:
    """(n,) mean over the independent components of |Δ|."""
    error = np.abs(answers.predicted - answers.true).reshape(len(answers.keys), -1)
    return np.asarray(error[:, list(target.independent)].mean(axis=1))
