"""Charges or force constants, whose error counts more: `python benchmarks/error_sources.py DATA RUN --out FILE.csv`.

DATA is a folder with phonondb2018 (see `open_labels`), RUN a run or model whose ionic readout is `born`. On the
crystals of `phonon_frequencies`, stable in DFT and without a twin in petousis2017, ε0 is made of DFT's charges and
force constants and, in turn, of what the model has learned and of what its potential gives. Learned charges are known
up to a factor, that of `learned_charges`, which --factor gives. A table goes to standard output, errors to
--out.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from learned_charges import born_readout, charges_of
from open_labels import Labelled
from phonon_frequencies import computed, drawn
from torch import Tensor, nn

import zoo
from zoo.graphs.graph import collate, crystal_graph
from zoo.inference.predictor import Predictor
from zoo.phonons import potentials
from zoo.phonons.force_constants import ForceConstants
from zoo.phonons.force_constants_store import mean_of, padded
from zoo_born.response import ionic_tensor
from zoo_born.soft_modes import Floor

FLOOR = 0.02
"""eV/Å², of what is not corrected: nothing for a stable crystal."""

AT_ONCE = 32


def tensors(
    predictor: Predictor,
    crystals: list[Labelled],
    constants: list[ForceConstants],
    charges: list[np.ndarray] | None,
    corrected: bool,
) -> np.ndarray:
    """(n, 3, 3) ε0 of charges, the learned ones where none are given, and force constants, corrected by the model."""
    out: list[Tensor] = []
    for start in range(0, len(crystals), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        batch = collate([crystal_graph(one.structure, predictor.members[0].encoder.cutoff) for one in crystals[part]])
        batch = dataclasses.replace(batch, force_constants=padded(constants[part])).to(predictor.device)
        given = None if charges is None else torch.from_numpy(np.concatenate(charges[part])).to(batch.cell)
        each = []
        with torch.inference_mode():
            embedding = predictor.members[0].encoder(batch)
            for member in predictor.members:
                readout = born_readout(member.readout)
                z, scale, stiffness = readout.learned(embedding, batch)
                rule: nn.Module = readout.soft_modes
                if not corrected:
                    scale = stiffness = None
                    rule = Floor(FLOOR)
                each.append(ionic_tensor(z if given is None else given, batch, rule, scale, stiffness))
        out.append(torch.stack(each).mean(0))
    return torch.cat(out).double().cpu().numpy()


def main() -> None:
    """Make the tensors in each way, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    predictor = zoo.load(chosen.run)
    crystals = drawn(chosen.data, 500)
    by_potential = [computed(choice, crystals) for choice in potentials.chosen(predictor.card.recipe)]
    everywhere = [i for i in range(len(crystals)) if all(one[i] is not None for one in by_potential)]
    known = predictor.members[0].encoder.elements()
    everywhere = [i for i in everywhere if known is None or set(crystals[i].structure.atomic_numbers) <= known]
    own = [mean_of([one[i] for one in by_potential]) for i in everywhere]  # type: ignore[misc]
    crystals = [crystals[i] for i in everywhere]
    of_dft = [ForceConstants.of(one.force_constants) for one in crystals]  # type: ignore[arg-type]
    dft = [one.born - one.born.mean(axis=0) for one in crystals]
    learned = [chosen.factor * z for z in charges_of(predictor, crystals)]
    true = tensors(predictor, crystals, of_dft, dft, corrected=False)
    ways = {
        "DFT's force constants, learned charges": tensors(predictor, crystals, of_dft, learned, corrected=False),
        "the potential's force constants, DFT's charges": tensors(predictor, crystals, own, dft, corrected=False),
        "the potential's, corrected, DFT's charges / factor": tensors(
            predictor, crystals, own, [z / chosen.factor for z in dft], corrected=True
        ),
        "the potential's, learned charges": tensors(predictor, crystals, own, learned, corrected=False),
        "the model": tensors(predictor, crystals, own, None, corrected=True),
    }
    rows, columns = np.triu_indices(3)
    errors = pd.DataFrame({name: np.abs(made - true)[:, rows, columns].mean(axis=1) for name, made in ways.items()})
    size = np.abs(true[:, rows, columns] - true[:, rows, columns].mean(axis=0)).mean()
    print(f"{len(crystals)} crystals; predicting the mean: {size:.3f}\n")
    print("| ε0 from | MAE_ten | median | 90 % quantile |\n|---|---|---|---|")
    for name in errors:
        one = errors[name]
        print(f"| {name} | {one.mean():.3f} | {one.median():.3f} | {one.quantile(0.9):.3f} |")
    errors.insert(0, "key", [one.key for one in crystals])
    errors.insert(1, "formula", [one.structure.composition.reduced_formula for one in crystals])
    errors.to_csv(chosen.out, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
