"""Put a refitted model into the zoo itself: `python scripts/put_in_the_box.py runs/box/final zoo-dielectric-1`.

scripts/make_box.sh makes it. Where the data lay on this machine is left out of its recipe.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file

from zoo.config import recipe
from zoo.errors import ZooError
from zoo.model import checkpoint
from zoo.registry import box
from zoo.report import model_card, refit_card
from zoo.storage import checksums
from zoo.storage.run_folder import write_text
from zoo.workflows.refit import RefitFolder

LARGEST = 12e6  # bytes of a model in the box, for a wheel of 20 MB
DESCRIPTION = (
    "Electronic, ionic and total dielectric tensor of a crystal, by its Born charges and a potential's force constants"
)


def main() -> None:
    """Copy the model folder, under its new name, and say how large it is.

    Raises:
        ZooError: it is too large for the box.
    """
    folder, name = RefitFolder.existing(Path(sys.argv[1])), sys.argv[2]
    card = checkpoint.read_card(folder.model)
    content = recipe.resolved(card.recipe) | {"name": name.replace("-", "_"), "description": DESCRIPTION}
    for choice in (content["dataset"], *content["auxiliary"]):
        if "path" in choice:
            choice["path"] = Path(choice["path"]).name
    card = dataclasses.replace(card, recipe=recipe.parse(content, "the box"))
    weights = [load_file(folder.model / f"member_{k}.safetensors") for k in range(len(card.members))]
    place = box.FOLDER / name
    shutil.rmtree(place, ignore_errors=True)
    checkpoint.save(place, card, weights)
    for file in ("reference.safetensors", "reference.json", "predictions.csv"):
        shutil.copyfile(folder.model / file, place / file)
    write_text(place / model_card.NAME, refit_card.page(folder, card))
    checksums.seal(place, ["reference.safetensors", "reference.json", "predictions.csv", model_card.NAME])
    (place / checksums.LOCK).unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in place.glob("[!.]*"))
    if size > LARGEST:
        raise ZooError(f"{place} takes {size / 1e6:.1f} MB, more than {LARGEST / 1e6:g}")
    print(f"{place}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
