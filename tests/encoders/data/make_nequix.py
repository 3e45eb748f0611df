"""A small Nequix with random weights, and its features: run in an environment with nequix (test-foreign).

    python make_nequix.py FOLDER [SEED [VARIANT]]

FOLDER gets nequix' own `model.nqx`, and `features.safetensors`: crystals, the features after every layer, and energy,
forces and stress (eV, Å), in float64.

    python make_nequix.py published FILE MODEL...

FILE gets the same of published models, by the name of each file, of rattled crystals; of the features those after the
third layer, in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase import Atoms
from crystals import crystals, edges
from nequix.model import Nequix, NequixConvolution, load_model, save_model
from safetensors.numpy import save_file

ELEMENTS = [*range(1, 84), *range(89, 95)]
SETTINGS: dict[str, Any] = {
    "cutoff": 4.0,
    "hidden_irreps": "8x0e + 4x1o + 3x2e + 2x3o",
    "lmax": 3,
    "n_layers": 2,
    "radial_basis_size": 5,
    "radial_mlp_size": 6,
    "radial_mlp_layers": 2,
    "radial_polynomial_p": 6.0,
    "mlp_init_scale": 4.0,
    "index_weights": False,
    "layer_norm": True,
    "shift": 0.3,
    "scale": 1.7,
    "avg_n_neighbors": 14.5,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "small": {},
    # Harmonics of more degrees than the features, another envelope, one hidden layer.
    "other": {"hidden_irreps": "6x0e + 5x1o + 4x2e", "n_layers": 3, "radial_mlp_layers": 1, "radial_polynomial_p": 5.0},
}


def make(folder: Path, seed: int = 0, variant: str = "small") -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | VARIANTS[variant]
    energies = np.random.default_rng(seed).normal(size=len(ELEMENTS))
    model = Nequix(jax.random.key(seed), n_species=len(ELEMENTS), atom_energies=energies.tolist(), **settings)
    leaves, tree = jax.tree_util.tree_flatten(model)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))  # the layer norm's weights start at one
    leaves = [x + 0.2 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    path = folder / "model.nqx"
    save_model(str(path), jax.tree_util.tree_unflatten(tree, leaves), settings | {"atomic_numbers": ELEMENTS})
    kept = {}
    for name, atoms in crystals().items():
        kept |= {f"{name}.{key}": value for key, value in answer(path, atoms).items()}
    save_file(kept, folder / "features.safetensors")


def published(file: Path, *models: str) -> None:
    """Write what published models say of the rattled crystals."""
    kept = {}
    for path in map(Path, models):
        for name, atoms in crystals().items():
            atoms.rattle(0.08, seed=0)
            found = answer(path, atoms)
            # Of 704 numbers an atom, so that the file stays small: of one layer, and rounded.
            found = {key: value for key, value in found.items() if not key.isdigit()} | {"3": np.float32(found["3"])}
            kept |= {f"{path.stem}:{name}.{key}": value for key, value in found.items()}
    save_file(kept, file)


def answer(path: Path, atoms: Atoms) -> dict[str, np.ndarray]:
    """Return positions and cell (Å), features after each layer, energy (eV), forces (eV/Å), stress (eV/Å³), float64."""
    jax.config.update("jax_enable_x64", False)
    model, config = load_model(str(path))
    jax.config.update("jax_enable_x64", True)
    model = jax.tree_util.tree_map(lambda x: x.astype(jnp.float64) if eqx.is_array(x) else x, model)
    i, j, offset = edges(atoms, config["cutoff"])
    cell = atoms.cell.array
    graph = jraph.GraphsTuple(
        nodes={
            "species": jnp.array([config["atomic_numbers"].index(z) for z in atoms.numbers]),
            "positions": jnp.array(atoms.positions),
        },
        edges={"shifts": jnp.array((offset @ np.linalg.inv(cell)).round())},
        senders=jnp.array(j),
        receivers=jnp.array(i),
        globals={"cell": jnp.array(cell)[None]},
        n_node=jnp.array([len(atoms)]),
        n_edge=jnp.array([len(i)]),
    )
    given: list[Any] = []
    call = NequixConvolution.__call__

    def remember(layer: Any, *arguments: Any) -> Any:
        given.append(call(layer, *arguments))
        return given[-1]

    NequixConvolution.__call__ = remember  # so that no formula of the package has to be repeated here
    try:
        vectors = graph.nodes["positions"][j] + offset - graph.nodes["positions"][i]
        model.node_energies(vectors, graph.nodes["species"], graph.senders, graph.receivers)
    finally:
        NequixConvolution.__call__ = call
    # The package takes the last graph of a batch for one that fills it up, and gives it no forces.
    energy, forces, stress = model(jraph.pad_with_graphs(graph, len(atoms) + 1, len(i) + 1, 2))
    found = {str(n): x.array for n, x in enumerate(given, start=1)}
    found |= {"energy": energy[:1], "forces": forces[: len(atoms)], "stress": stress[0]}
    known = {"positions": atoms.positions, "cell": cell, "numbers": atoms.numbers}
    return {key: np.ascontiguousarray(value) for key, value in {**known, **found}.items()}


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    if first == "published":
        published(Path(rest[0]), *rest[1:])
    else:
        make(Path(first), int(rest[0]) if rest else 0, rest[1] if len(rest) > 1 else "small")
