"""The model that MLflow logs and serves: this file itself is what it keeps (models from code), no pickle.

Input: a list of crystals, each as CIF text or as a pymatgen Structure dict. Output: for each the same object as in
`zoo predict --format json`, without the file; a crystal that cannot be answered is {"error": "why"}, in its place.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pydantic
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import DEADLINE_EXCEEDED, INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from pymatgen.core import Structure

from zoo.data.structures import structure_from_cif, structure_from_dict
from zoo.errors import ZooError, did_you_mean
from zoo.inference.prediction import Prediction
from zoo.tracking.prediction_worker import PredictionWorker, TookTooLong, load
from zoo.tracking.request_batcher import RequestBatcher
from zoo.tracking.request_validation import NO_OBJECT, OPTIONS, WANTED, Limits

AT_ONCE = 64  # crystals of several requests that are answered together
TEXT = 1_000_000  # characters of a CIF, beside 100 for each atom that a crystal may have


class Crystal(pydantic.BaseModel):
    """A crystal, as one of the two: CIF text, or what pymatgen's `Structure.as_dict` gives, as an object or JSON text.

    MLflow refuses a whole request for one value of another type. All that is given is therefore kept as it is, in
    `given`, and looked at when the crystal is read: then one that is wrong fails alone.
    """

    model_config = pydantic.ConfigDict(extra="allow")

    cif: str | None = None
    structure: str | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def keep(cls, given: Any) -> Any:
        """The fields that are text, and everything as `given`."""
        texts = {key: given[key] for key in cls.model_fields if isinstance(given.get(key), str)}
        return {**texts, "given": given}


EXAMPLE = [
    {
        "cif": "data_NaCl\n_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c 5.64\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'F m -3 m'\n"
        "_symmetry_Int_Tables_number 225\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n"
        "_atom_site_fract_z\nNa 0 0 0\nCl 0.5 0.5 0.5\n"
    }
]
LOGGED: dict[str, Any] = {"input_example": (EXAMPLE, OPTIONS), "model_config": asdict(Limits())}
"""Arguments of `mlflow.pyfunc.log_model` for this model, beside its files and requirements."""


class Refused(MlflowException):
    """Error that a client gets: a status and one line, without what MLflow would put before it."""

    @property
    def message(self) -> str:
        """The line."""
        return self._line

    @message.setter
    def message(self, text: str) -> None:
        if not hasattr(self, "_line"):  # MLflow sets it again, to all of the request and the line
            self._line = " ".join(text.split())


class _Options(NamedTuple):
    """Options of `Predictor.predict_each`; crystals of several requests with the same ones are answered together."""

    symprec: float | None
    coverage: float
    neighbours: int
    explain: bool
    functional: str | None


class TensorService(PythonModel):
    """The zoo's predictor behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged as the artifact `model`.

        Raises:
            ZooError: the folder cannot be loaded, see `Predictor.load`.
        """
        self.limits = Limits.of(context.model_config)
        given = partial(load, Path(context.artifacts["model"]), self.limits.max_atoms, self.limits.max_edges)
        seconds = self.limits.max_seconds
        self.predictor = PredictionWorker(given, seconds) if seconds else given()
        self.batcher: RequestBatcher[Structure, Prediction | Exception] = RequestBatcher(self._predict, AT_ONCE)

    # MLflow reads the types for the signature, and leaves out the context for a method without one.
    def predict(  # type: ignore[override]
        self, model_input: list[Crystal], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer a crystal: as `Prediction.as_dict`, or an `error`.

        Args:
            model_input: the crystals.
            params: options, see `zoo.tracking.request_validation.OPTIONS`.

        Raises:
            MlflowException: no crystal can be answered, or more is asked than the limits allow: with
                INVALID_PARAMETER_VALUE, so that a client gets status 400 and the line.
        """
        try:
            return self._answers(model_input, {**OPTIONS, **(params or {})})
        except ZooError as error:
            raise Refused(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        except TookTooLong as error:
            raise Refused(str(error), error_code=DEADLINE_EXCEEDED) from None
        except Exception as error:
            logging.getLogger(__name__).error("a request failed", exc_info=error)
            raise Refused(_failed(error), error_code=INTERNAL_ERROR) from None

    def _answers(self, crystals: Sequence[Crystal], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        if not crystals:
            raise ZooError(f"no crystals; wanted is {WANTED}")
        if len(crystals) > self.limits.max_crystals:
            most = self.limits.max_crystals
            raise ZooError(f"{len(crystals):,} crystals in one request, at most {most:,} are answered")
        read = [self._read(crystal) for crystal in crystals]
        good = [one for one in read if isinstance(one, Structure)]
        atoms = sum(map(len, good))
        if atoms > self.limits.max_total_atoms:
            most = self.limits.max_total_atoms
            raise ZooError(f"{atoms:,} atoms in one request, at most {most:,} are answered: ask for fewer at a time")
        try:
            kind = _Options(
                options["symprec"] or None,
                float(options["coverage"]),
                int(options["neighbours"]),
                options["explain"],
                options["functional"] or None,
            )
        except (OverflowError, ValueError):  # a whole number of hundreds of digits, infinity or NaN
            raise ZooError("coverage is a number such as 0.9, and neighbours a whole one") from None
        found = iter(self.batcher.ask(kind, good) if good else ())
        outcomes = [next(found) if isinstance(one, Structure) else one for one in read]
        answers = [one.as_dict() if isinstance(one, Prediction) else {"error": _told(one)} for one in outcomes]
        if not any(isinstance(one, Prediction) for one in outcomes):
            raise outcomes[0]  # type: ignore[misc]
        return answers

    def _predict(self, kind: _Options, structures: list[Structure]) -> list[Prediction | Exception]:
        try:
            return list(self.predictor.predict_each(structures, **kind._asdict()))
        except (ZooError, TookTooLong):
            raise  # the options are wrong, or there are too many crystals
        except Exception as error:  # whatever it is that the predictor did not foresee: it shall not spread
            if len(structures) > 1:
                return [self._predict(kind, [structure])[0] for structure in structures]
            logging.getLogger(__name__).error("a crystal failed", exc_info=error)
            return [error]

    def _read(self, crystal: Crystal) -> Structure | ZooError:
        try:
            return read((crystal.model_extra or {})["given"], self.limits.max_atoms)
        except ZooError as error:
            return error


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, ZooError) else _failed(error)


def _failed(error: Exception) -> str:
    return f"the model failed on it ({type(error).__name__}); the server's log says where"


def read(given: Mapping[str, Any], max_atoms: int) -> Structure:
    """The Structure of a crystal of a request.

    Raises:
        ZooError: it cannot be read, or is too large.
    """
    unknown = next((key for key in given if key not in Crystal.model_fields), None)
    if unknown == NO_OBJECT:
        raise ZooError(f"a crystal is an object with 'cif' or 'structure', not of type {given[unknown]!s:.40}")
    if unknown is not None:
        raise ZooError(f"unknown key '{unknown[:40]}' of a crystal.{did_you_mean(unknown, Crystal.model_fields)}")
    cif, content = given.get("cif"), given.get("structure")
    if (cif is None) == (content is None):
        raise ZooError("a crystal is given either as 'cif' or as 'structure'")
    if cif is not None:
        if not isinstance(cif, str):
            raise ZooError("'cif' is no text")
        most = TEXT + 100 * max_atoms
        if len(cif) > most:
            raise ZooError(f"the CIF has {len(cif):,} characters, at most {most:,} are read")
        return structure_from_cif(cif, max_atoms)
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError):
            raise ZooError("'structure' is no JSON object of a pymatgen Structure") from None
    return structure_from_dict(content, max_atoms)


mlflow.models.set_model(TensorService())
