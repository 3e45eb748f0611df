"""Make the small model that stands for a format version in tests/checkpoints, and what it answers.

    python scripts/make_format_checkpoint.py tests/checkpoints/format_1

Run once when the format is counted up, and commit what it writes: from then on every version of the zoo must load it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from pymatgen.core import Lattice, Structure

from zoo.config import recipe
from zoo.inference.predictor import Predictor
from zoo.storage.run_folder import RunFolder
from zoo.workflows import train

RECIPE = {
    "name": "format",
    "dataset": {"name": "petousis2017"},
    "target": "total",
    "data": {"limit": 30},
    "split": {"seed": 0, "val": 0.4},
    "encoder": {"name": "nequip", "cutoff": 4.0, "layers": 1, "channels": 4, "radial_width": 8},
    "readout": {"name": "dtnet", "width": 4, "blocks": 1},
    "training": {"max_epochs": 5, "batch_size": 8, "learning_rate": 0.01},
    "seeds": [0, 1],
    "device": "cpu",
    "tracking": {"enabled": False},
}


def main(folder: Path) -> None:
    """Train, keep the model folder, and write the crystal asked about with the answer."""
    with tempfile.TemporaryDirectory() as place:
        finished = RunFolder(Path(place) / "run")
        train.run(recipe.parse(RECIPE, "format"), finished, print)
        shutil.copytree(finished.model, folder, ignore=shutil.ignore_patterns("card*"))
    wurtzite = Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0.0], [1 / 3, 2 / 3, 0.382]]
    )
    answer = Predictor.load(folder).predict([wurtzite])[0]
    content = {"structure": wurtzite.as_dict(), "answer": answer.as_dict()}
    (folder / "expected.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
