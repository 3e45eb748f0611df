"""zoo: open, modular equivariant models for crystal tensors."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, overload

from zoo import old_names
from zoo.registry import box

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from pymatgen.core import Structure

    from zoo.api import Encoder, Potential
    from zoo.data.inputs import CrystalLike
    from zoo.inference.calculator import PotentialCalculator
    from zoo.inference.prediction import Prediction, Predictions
    from zoo.inference.predictor import Predictor

__version__ = "0.1.0"

old_names.install()


def load(model: str | Path = box.DEFAULT, device: str = "auto") -> Predictor:
    """A trained model to ask: `zoo.load("models:/dtnet-total@champion").predict("quartz.cif")`.

    Args:
        model: a run folder, a model folder, the name of a registered model (its champion answers), or an MLflow URI
            such as `models:/dtnet-total/3` or `runs:/RUN_ID/model`; by default the model that comes with the zoo.
        device: auto (cuda, then mps, then cpu), or a torch device.

    Raises:
        zoo.errors.ZooError: there is no such model, a plugin that it needs is not installed, a newer zoo wrote it, or
            MLflow cannot be reached.
    """
    from zoo.inference.predictor import Predictor  # torch takes seconds to import, `zoo --help` needs none of it
    from zoo.registry.fetch import model_folder_of

    return Predictor.load(model_folder_of(str(model)), device)


@overload
def predict(crystals: CrystalLike, **options: Any) -> Prediction: ...


@overload
def predict(crystals: Iterable[CrystalLike], **options: Any) -> Predictions: ...


def predict(crystals: CrystalLike | Iterable[CrystalLike], **options: Any) -> Prediction | Predictions:
    """Dielectric tensors by the model that comes with the zoo, loaded once: `zoo.predict("quartz.cif")`.

    Args:
        crystals: a pymatgen Structure or dict of one, ASE Atoms, a path, or a list of such.
        options: of `zoo.inference.predictor.Predictor.predict_each`: coverage, symprec, explain, functional, ...

    Raises:
        zoo.errors.ZooError: the first crystal that cannot be answered.
    """
    return _in_the_box().predict(crystals, **options)


@cache
def _in_the_box() -> Predictor:
    return load()


def structures(*files: str | Path) -> list[Structure]:
    """Crystals in files to ask about: `predictor.predict(zoo.structures("my_folder", "relaxed.traj"))`.

    Args:
        files: as for `zoo predict`: files of one crystal or of many, folders, FILE#KEY for one crystal of many.

    Raises:
        zoo.errors.ZooError: the first file or crystal that cannot be read.
    """
    from zoo.data.crystal_files import crystals_in
    from zoo.errors import ZooError

    found = []
    for crystal in crystals_in(map(str, files)):
        if isinstance(crystal.structure, ZooError):
            raise crystal.structure
        found.append(crystal.structure)
    return found


def calculator(
    potential: str | Encoder | Potential, device: str = "auto", dtype: str = "float32", **settings: Any
) -> PotentialCalculator:
    """A calculator of ASE: `atoms.calc = zoo.calculator("sevennet", checkpoint="SevenNet-l3i5")`.

    Args:
        potential: the name of an encoder that has an energy (`zoo list`), such an encoder, or a `zoo.api.Potential`.
        device: auto (cuda, then mps, then cpu), or a torch device.
        dtype: float32, or float64 for force constants and other small differences.
        settings: of the encoder that is named, as a recipe says them: `checkpoint`, `modality`, `weights`, ...

    Raises:
        zoo.errors.ZooError: there is no such encoder, its weights are not here, or it has no energy.
    """
    from zoo.inference.calculator import make_calculator

    return make_calculator(potential, device, dtype, **settings)
