"""Make the weights of SevenNet-0 and SevenNet-l3i5 that the zoo ships: `python scripts/ship_sevennet.py`.

It needs the package sevenn, whose wheel holds the originals (with the optimiser's state, three times as large). To be
run again if `VERSION` of the encoder is raised: each file holds the fingerprints of all choices of features.
"""

from __future__ import annotations

import hashlib
import itertools
import json

from zoo.api import Weights
from zoo.storage.weights import save_weights, sha256_of
from zoo_sevennet import weights_file
from zoo_sevennet.checkpoint import CHECKPOINTS, load_energy
from zoo_sevennet.encoder import VERSION


def main() -> None:
    """Write both files, and print their checksums: the licence note beside them and weights_file.py name these."""
    weights_file.SHIPPED.mkdir(exist_ok=True)
    for name in ("SevenNet-0", "SevenNet-l3i5"):
        original = CHECKPOINTS[name].path()
        content = original.read_bytes()
        layers = range(1, 1 + len(CHECKPOINTS[name].architecture.channels))
        subsets = itertools.chain.from_iterable(itertools.combinations(layers, n) for n in layers)
        choices = [[[*subset], pseudo, VERSION] for subset in subsets for pseudo in (False, True)]
        words = [json.dumps(choice) for choice in (*choices, ["energy", VERSION])]
        made = weights_file.weights_of(load_energy(CHECKPOINTS[name]), name, None)
        metadata = {
            **made.metadata,
            "source": f"sevenn/{CHECKPOINTS[name].file}",
            "source_sha256": sha256_of(original),
            weights_file.IDENTITIES: {one: hashlib.sha256(content + one.encode()).hexdigest() for one in words},
        }
        path = weights_file.SHIPPED / f"{name}.safetensors"
        save_weights("sevennet", Weights(made.tensors, metadata), path)
        path.chmod(0o644)  # safetensors lets nobody else read what it writes
        print(f"{path.name}: {sha256_of(path)}, from {metadata['source']}: {metadata['source_sha256']}")


if __name__ == "__main__":
    main()
