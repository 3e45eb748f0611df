"""Force constants at Γ of the crystals of a run: its own and, where there are some, those of auxiliary sources."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from zoo.config.recipe import Recipe
from zoo.data.crystals import ManyCrystals
from zoo.data.labels import Labels
from zoo.errors import ZooError
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.store import GraphStore
from zoo.phonons import potentials
from zoo.phonons.force_constants import LARGE_FORCE
from zoo.phonons.force_constants_store import CombinedForceConstants, ForceConstantsStore
from zoo.runtime.devices import with_float64

Echo = Callable[[str], None]


def force_constants(config: Recipe, graphs: GraphStore, device: torch.device, echo: Echo) -> ForceConstantsStore:
    """Force constants of all crystals by the potential that the recipe names, else by its encoder."""
    stores = []
    for choice in potentials.chosen(config):
        potential = potentials.build(choice).to(with_float64(device))
        refuse_unknown_elements(potential, graphs.keys, graphs)
        stores.append(ForceConstantsStore.build(potential, graphs))
    store = ForceConstantsStore.mean(stores, graphs)
    large = int((store.largest_force > LARGE_FORCE).sum())
    moved = f"; {large} crystals with a force above {LARGE_FORCE:g} eV/Å" if large else ""
    names = " and ".join(choice.name for choice in potentials.chosen(config))
    echo(f"phonons   force constants at Γ of {len(store):,} crystals by {names}, cached{moved}")
    return store


def with_auxiliary(
    config: Recipe,
    first: int,
    graphs: GraphStore,
    everything: ManyCrystals,
    tensors: Tensor,
    beside: Labels,
    device: torch.device,
    echo: Echo,
) -> CombinedForceConstants:
    """Force constants of the recipe's crystals, the `first` ones, and of auxiliary ones with an ionic or total label.

    Of these they are the record's or, up to a size, the potential's. The others lose these labels, in `tensors` and
    `beside`: they would be compared with what a stand-in for the force constants gives.
    """
    settings, target = config.force_constants, everything.target
    if settings.of_records == "records" and not target.parts:
        raise ZooError(
            f"force_constants.of_records: records goes with target: dielectric; '{target.name}' alone is compared with "
            "what the potential's force constants give"
        )
    names = [part.name for part in target.parts] or [target.name]
    lattice = [k for k, name in enumerate(names) if name != "electronic"]
    labels, means = tensors.view(len(tensors), len(names), -1), beside.means
    known = ~labels[:, lattice].isnan().flatten(1).all(dim=1)
    if config.training.labels.means:
        known |= ~means[:, lattice].isnan().all(dim=1)
    labelled = known.numpy()
    main = np.arange(len(graphs)) < first
    held = labelled & ~main & np.array([everything.has_force_constants(i) for i in range(len(graphs))])
    given = held & (settings.of_records == "records")
    left_out = held & (settings.of_records == "none")
    largest = settings.largest_auxiliary
    small = main | (True if largest is None else graphs.n_atoms <= largest)
    computed = (main | labelled) & ~given & ~left_out & small
    lost = labelled & ~computed & ~given & ~left_out
    without = torch.from_numpy(~(computed | given))
    for k in lattice:
        labels[without, k] = torch.nan
        means[without, k] = torch.nan

    def own_graphs(chosen: np.ndarray) -> GraphStore:
        some = everything.select(np.flatnonzero(chosen))
        return GraphStore.build(some, graphs.cutoff, some.keys, backend=config.graph.backend)

    parts = [(force_constants(config, own_graphs(computed), device, echo), np.flatnonzero(computed))]
    if given.any():
        some = everything.select(np.flatnonzero(given))
        store = ForceConstantsStore.of_records(own_graphs(given), some.force_constants)
        parts.append((store, np.flatnonzero(given)))
    echo(
        f"          of auxiliary crystals with an ionic or total label {(computed & ~main).sum():,} are among them, "
        f"{given.sum():,} have their record's, {left_out.sum():,} are used without the label, for it follows from "
        f"charges and force constants, {lost.sum():,} for they are too large"
    )
    return CombinedForceConstants(graphs.n_atoms, parts, given)
