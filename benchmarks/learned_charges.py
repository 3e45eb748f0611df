"""Born charges learned from dielectric tensors alone against DFT's: `python benchmarks/learned_charges.py DATA RUN`.

DATA is a folder with petretto2018 (see `open_labels`), RUN a run or model whose ionic readout is `born`; the mean over
its members is compared. Tensors tell charges up to one factor, as ε0 stays where Z* becomes cZ* and Φ becomes c²Φ:
errors are given as the charges come and with the factor of least squares. A row an element goes to --out, a picture
beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from open_labels import Labelled, petretto
from pymatgen.core import Element

import zoo
from zoo.graphs.graph import collate, crystal_graph
from zoo.inference.predictor import Predictor
from zoo_born import Born

AT_ONCE = 32


def born_readout(readout: torch.nn.Module) -> Born:
    """The readout `born` of a model, alone or of the ionic part."""
    found = next((part for part in readout.modules() if isinstance(part, Born)), None)
    if found is None:
        raise SystemExit("the model has no readout born")
    return found


def charges_of(predictor: Predictor, crystals: list[Labelled]) -> list[np.ndarray]:
    """(N, 3, 3) e of each crystal, the mean over the members."""
    out: list[torch.Tensor] = []
    for start in range(0, len(crystals), AT_ONCE):
        graphs = [
            crystal_graph(one.structure, predictor.members[0].encoder.cutoff)
            for one in crystals[start : start + AT_ONCE]
        ]
        batch = collate(graphs).to(predictor.device)
        with torch.inference_mode():
            embedding = predictor.members[0].encoder(batch)
            each = [born_readout(member.readout).learned(embedding, batch)[0] for member in predictor.members]
        out += torch.stack(each).mean(0).double().cpu().split(batch.atoms_per_crystal().tolist())
    return [one.numpy() for one in out]


def main() -> None:
    """Predict, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    predictor = zoo.load(chosen.run)
    known = predictor.members[0].encoder.elements()
    crystals = [one for one in petretto(chosen.data) if known is None or set(one.structure.atomic_numbers) <= known]
    found = charges_of(predictor, crystals)
    for one, born in zip(crystals, found, strict=True):
        assert one.born.shape == born.shape
    numbers = np.concatenate([one.structure.atomic_numbers for one in crystals])
    # DFT's own sum over a cell is not quite zero.
    true = np.concatenate([one.born - one.born.mean(axis=0) for one in crystals])
    born = np.concatenate(found)
    factor = float((true * born).sum() / (born * born).sum())
    mean_true, mean_born = (np.trace(z, axis1=1, axis2=2) / 3 for z in (true, born))
    rows = []
    for number in np.unique(numbers):
        at = numbers == number
        rows.append(
            {
                "element": str(Element.from_Z(int(number))),
                "atoms": int(at.sum()),
                "dft": mean_true[at].mean(),
                "learned": factor * mean_born[at].mean(),
                "mae": np.abs(factor * mean_born[at] - mean_true[at]).mean(),
            }
        )
    table = pd.DataFrame(rows).sort_values("atoms", ascending=False)
    table.to_csv(chosen.out, index=False, float_format="%.3f")
    print(f"{len(crystals)} crystals, {len(numbers)} atoms; factor of least squares {factor:.3f}")
    for words, scale in (("as they come", 1.0), ("times the factor", factor)):
        error = np.abs(scale * mean_born - mean_true)
        print(
            f"{words}: a third of the trace: MAE {error.mean():.3f} e, median {np.median(error):.3f}; "
            f"all nine components: MAE {np.abs(scale * born - true).mean():.3f} e"
        )
    print(f"correlation of a third of the trace: {np.corrcoef(mean_born, mean_true)[0, 1]:.4f}")
    figure = Figure(figsize=(5, 4.6), layout="compressed")
    axes = figure.subplots()
    axes.axline((0, 0), (1, 1), color="0.6", linewidth=0.8)
    axes.scatter(mean_true, factor * mean_born, s=5, alpha=0.4, linewidths=0)
    axes.set(xlabel="DFPT, tr Z*/3 (e)", ylabel=f"learned from tensors alone, times {factor:.2f} (e)")
    figure.savefig(chosen.out.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
