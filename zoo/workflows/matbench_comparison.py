"""A finished run on Matbench's crystals beside the published predictions of other models, crystal by crystal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.matbench_file import MatbenchCrystals, read_ambiguous, read_published
from zoo.errors import ZooError
from zoo.evaluation.paired_errors import PairedError, paired_errors
from zoo.storage.run_folder import write_rows

OURS = "zoo"
ALL, UNAMBIGUOUS = "all", "unambiguous"
TABLE, BY_CRYSTAL, FIGURE = "compared.csv", "compared_crystals.csv", "compared.png"


@dataclass(frozen=True)
class Comparison:
    """Models on the crystals of which all have a prediction.

    Attributes:
        keys: of the crystals.
        true: (n,) refractive indices.
        folds: (n,) numbers of the official folds.
        predictions: of each model, (n,); the run's own is the first.
        errors: of `all` crystals and, where it is known which are ambiguous, of the `unambiguous` ones.
    """

    keys: list[str]
    true: np.ndarray
    folds: np.ndarray
    predictions: Mapping[str, np.ndarray]
    errors: Mapping[str, list[PairedError]]

    def write(self, folder: Path) -> None:
        """Write the errors, the predictions by crystal, and the figure."""
        from zoo.report.index_figure import draw_indices  # matplotlib, which is not wanted where nothing is drawn

        rows = ({"crystals": part, **error.row()} for part, errors in self.errors.items() for error in errors)
        write_rows(folder / TABLE, rows)
        columns = {"key": self.keys, "fold": self.folds.tolist(), "true_n": self.true.tolist()}
        columns |= {model: predicted.tolist() for model, predicted in self.predictions.items()}
        each = zip(*columns.values(), strict=True)
        write_rows(folder / BY_CRYSTAL, (dict(zip(columns, values, strict=True)) for values in each))
        draw_indices(self.true, self.predictions, self.errors[ALL], folder / FIGURE)


@dataclass(frozen=True)
class Others:
    """Published predictions for crystals at hand.

    Attributes:
        crystals: those at hand.
        published: model -> key -> n.
        ambiguous: keys of crystals whose structure is in doubt; None where that is not known.
    """

    crystals: MatbenchCrystals
    published: Mapping[str, Mapping[str, float]]
    ambiguous: Collection[str] | None

    def compare(self, ours: Mapping[str, float]) -> Comparison:
        """Compare on the crystals that all models, ours among them, have a prediction of.

        Raises:
            ZooError: there are none.
        """
        models = {OURS: ours, **self.published}
        kept = [i for i, key in enumerate(self.crystals.keys) if all(key in found for found in models.values())]
        if not kept:
            raise ZooError("no crystal of the run has a prediction of every published model: leave out --published")
        keys = [self.crystals.keys[i] for i in kept]
        true, folds = self.crystals.indices[kept], self.crystals.folds[kept]
        predictions = {model: np.array([found[key] for key in keys]) for model, found in models.items()}
        errors = {ALL: paired_errors(true, predictions, folds, OURS)}
        if self.ambiguous is not None:
            sure = np.array([key not in self.ambiguous for key in keys])
            certain = {model: predicted[sure] for model, predicted in predictions.items()}
            errors[UNAMBIGUOUS] = paired_errors(true[sure], certain, folds[sure], OURS) if sure.any() else []
        return Comparison(keys, true, folds, predictions, errors)


def open_others(published: Path, sources: Path | None, crystals: MatbenchCrystals | None) -> Others:
    """Read the published predictions and, where a file of sources is given, which crystals are ambiguous.

    Raises:
        ZooError: the crystals are not from a file, or a file is missing, of another layout or about other crystals.
    """
    if crystals is None:
        raise ZooError("--published needs Matbench's crystals from a file: --data matbench_dielectric.json.gz")
    found = read_published(published)
    if OURS in found:
        raise ZooError(f"{published}: has a model '{OURS}', the name of the run's own: rename it")
    strange = [model for model, of_model in found.items() if not set(of_model) & set(crystals.keys)]
    if not found or strange:
        about = f"'{strange[0][:40]}' predicts none of the crystals" if strange else "no model"
        raise ZooError(f"{published}: {about}; it must hold {{model: {{mb-dielectric-0001: n, ...}}}}")
    return Others(crystals, found, None if sources is None else read_ambiguous(sources, crystals))
