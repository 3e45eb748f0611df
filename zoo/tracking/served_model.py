"""The model that MLflow logs and serves: this file itself is what it keeps (models from code), no pickle.

Input: a list of crystals, each as CIF text or as a pymatgen Structure dict. Output: for each the same object as in
`zoo predict --format json`, without the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pydantic
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from pymatgen.core import Structure

from zoo.data.structures import structure_from_cif, structure_from_dict
from zoo.errors import ZooError
from zoo.predictor import Predictor


class Crystal(pydantic.BaseModel):
    """A crystal, as one of the two: CIF text, or what pymatgen's `Structure.as_dict` gives, as JSON text."""

    cif: str | None = None
    structure: str | None = None


class Answer(pydantic.BaseModel):
    """What is predicted, in the Cartesian frame of the structure (a CIF's: c along z, a in the xz plane).

    `tensor` and `spread` are nested lists, as deep as the tensor has indices, one level more where there is one tensor
    an atom. Of the numbers that follow from a tensor those are there that a tensor of its kind has.
    """

    formula: str
    crystal_system: str
    tensor: list[Any]
    spread: list[Any] | None = None
    eigenvalues: list[float] | None = None
    axes: list[list[float]] | None = None
    polycrystalline: float | None = None
    polycrystalline_spread: float | None = None
    anisotropy: float | None = None
    refractive_index: float | None = None
    voigt: list[list[float]] | None = None
    bulk_modulus: float | None = None
    shear_modulus: float | None = None
    warnings: list[str]


EXAMPLE = [
    {
        "cif": "data_NaCl\n_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c 5.64\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'F m -3 m'\n"
        "_symmetry_Int_Tables_number 225\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n"
        "_atom_site_fract_z\nNa 0 0 0\nCl 0.5 0.5 0.5\n"
    }
]


class TensorService(PythonModel):
    """The zoo's predictor behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged as the artifact `model`."""
        self.predictor = Predictor.load(Path(context.artifacts["model"]))

    # MLflow reads the types for the signature, and leaves out the context for a method without one.
    def predict(  # type: ignore[override]
        self, model_input: list[Crystal], params: dict[str, Any] | None = None
    ) -> list[Answer]:
        """One answer a crystal.

        Raises:
            MlflowException: a crystal that cannot be read or predicted, with INVALID_PARAMETER_VALUE, so that a
                client gets status 400 and the one line that says why.
        """
        try:
            structures = [_structure(crystal) for crystal in model_input]
            return [Answer(**answer.as_dict()) for answer in self.predictor.predict(structures)]
        except ZooError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


def _structure(crystal: Crystal) -> Structure:
    if (crystal.cif is None) == (crystal.structure is None):
        raise ZooError("a crystal is given either as 'cif' or as 'structure'")
    if crystal.cif is not None:
        return structure_from_cif(crystal.cif)
    try:
        return structure_from_dict(pydantic.TypeAdapter(dict[str, Any]).validate_json(str(crystal.structure)))
    except pydantic.ValidationError:
        raise ZooError("'structure' is no JSON object of a pymatgen Structure") from None


mlflow.models.set_model(TensorService())
