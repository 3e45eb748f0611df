"""Errors of a potential's energies, forces, stresses and force constants, and their weighted sum as a loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.contract.potential import energies_of, forces_and_stress, forces_of
from zoo.errors import ZooError
from zoo.pretraining.labelled_batches import Bent, LabelledBatch, LabelledBatches
from zoo.pretraining.pretraining_config import Loss
from zoo.pretraining.trained_potential import TrainedPotential
from zoo.runtime.distributed import sum_over_processes
from zoo.training.batches import Batches
from zoo.training.mean_error import mean_or_zero

SHOWN = {
    "energy": ("energy_meV_per_atom", 1000.0),
    "atomic_energies": ("atomic_energies_meV", 1000.0),
    "forces": ("forces_meV_per_A", 1000.0),
    "stress": ("stress_meV_per_A3", 1000.0),
    "force_constants": ("force_constants_eV_per_A2", 1.0),
}
"""Label -> the name of its mean absolute error in histories, and the factor from eV."""


def predictions(
    potential: TrainedPotential, batch: LabelledBatch, create_graph: bool
) -> dict[str, tuple[Tensor, Tensor]]:
    """By label what the potential predicts and what is true, both flat; labels that are not there are left out.

    `energy` is that of the crystal over its number of atoms, eV; forces eV/Å, the six components of the stress eV/Å³,
    those of Φv eV/Å².
    """
    found: dict[str, tuple[Tensor, Tensor]] = {}
    if batch.crystals is not None:
        made: dict[str, Tensor | None] = {}
        if {"forces", "stress"} & set(batch.labels):
            out = forces_and_stress(potential, batch.crystals, create_graph)
            made = {"forces": out.forces, "stress": out.stress}
            made |= {"energy": out.energy, "atomic_energies": out.atomic_energies}
        else:
            made["energy"], made["atomic_energies"] = energies_of(potential, batch.crystals)
        atoms = batch.crystals.atoms_per_crystal()
        for name, label in batch.labels.items():
            predicted = made[name]
            if predicted is None:
                raise ZooError("this potential gives no energies of atoms: set loss.atomic_energies: 0")
            if name == "energy":
                predicted, label = predicted / atoms, label / atoms
            elif name == "stress":
                predicted, label = (x.flatten(1)[:, [0, 1, 2, 4, 5, 8]] for x in (predicted, label))
            known = ~label.isnan()
            found[name] = predicted[known], label[known]
    if batch.bent is not None:
        found["force_constants"] = (
            curvature(potential, batch.bent, create_graph).flatten(),
            batch.bent.product.flatten(),
        )
    return found


def curvature(potential: TrainedPotential, bent: Bent, create_graph: bool) -> Tensor:
    """(N, 3) Φv of the potential, eV/Å²: [F(x - hv) - F(x + hv)] / 2h of the energy that is even under inversion."""
    there, back = forces_of(potential.even_energy, bent.crystals, create_graph).chunk(2)
    return (back - there) / (2 * bent.step)


class PotentialLoss(nn.Module):
    """Loss of a batch: the sum over its labels of weight (of the recipe), `batch.weights` and mean error.

    Attributes:
        sums: by label the sum of the absolute errors, and their number, since they were last taken (`taken`).
    """

    def __init__(self, potential: TrainedPotential, settings: Loss) -> None:
        super().__init__()
        self.potential = potential
        self._settings = settings
        self.sums: dict[str, list[float]] = {}

    def forward(self, batch: LabelledBatch | None) -> Tensor:
        """Return the loss; zero, with a gradient of zero, where this process has no crystal of the step."""
        loss = 0 * next(p for p in self.potential.parameters() if p.requires_grad).sum()
        if batch is None:
            return loss
        for name, (predicted, true) in predictions(self.potential, batch, create_graph=True).items():
            errors = (predicted - true).abs()
            self._count(name, errors.detach())
            loss = loss + self._settings.used[name] * batch.weights[name] * mean_or_zero(self._bent(errors))
        return loss

    def _bent(self, errors: Tensor) -> Tensor:
        """Absolute errors as they enter the loss."""
        if self._settings.kind == "l1":
            return errors
        delta = self._settings.delta
        return torch.where(errors < delta, errors.square() / (2 * delta), errors - delta / 2)

    def _count(self, name: str, errors: Tensor) -> None:
        held = self.sums.setdefault(name, [0.0, 0.0])
        held[0] += float(errors.double().sum())
        held[1] += errors.numel()

    def taken(self) -> dict[str, float]:
        """By label the mean absolute error since the last call, over all processes."""
        names = list(self._settings.used)
        place = next(self.potential.parameters()).device
        sums = torch.tensor([self.sums.get(name, [0.0, 0.0]) for name in names], dtype=torch.float64, device=place)
        self.sums = {}
        return {
            name: total / count
            for name, (total, count) in zip(names, sum_over_processes(sums).tolist(), strict=True)
            if count
        }


class PotentialLearner:
    """A potential as a `zoo.training.learner.Learner`.

    Args:
        potential: where it is to be trained.
        settings: the loss.
    """

    compared = "val_loss"
    one_thread = False

    def __init__(self, potential: TrainedPotential, settings: Loss) -> None:
        self.model: nn.Module = potential
        self.learned = nn.ModuleDict({"potential": potential.learned})
        # Positions are leaves as well, but nobody wants their gradient.
        self.leaves: Sequence[Tensor] = [p for p in self.learned.parameters() if p.requires_grad]
        self.loss_of = PotentialLoss(potential, settings)
        self._settings = settings

    def groups(self) -> list[dict[str, Any]]:
        """All parameters alike, but that no weight decay draws reference energies of elements to zero."""
        head = self.loss_of.potential.head
        references = [] if head is None else list(head.reference.parameters())
        rest = [p for p in self.leaves if not any(p is one for one in references)]
        return [{"params": rest}, *([{"params": references, "weight_decay": 0.0}] if references else [])]

    def validate(self, batches: Batches) -> dict[str, float]:
        """Mean absolute errors of the epoch's training steps and of the batches, and the loss that these make."""
        trained = self.loss_of.taken()
        found = self.errors(batches)
        loss = sum(self._settings.used[name] * error for name, error in found.items())
        rows: dict[str, float] = {"val_loss": loss}
        for part, errors in (("val", found), ("train", trained)):
            rows |= {f"{part}_{name}": value for name, value in in_units(errors).items()}
        return rows

    def errors(self, batches: Batches) -> dict[str, float]:
        """By label the mean absolute error of the batches, over all processes, in eV and Å."""
        assert isinstance(batches, LabelledBatches)
        self.model.eval()
        names = list(self._settings.used)
        sums = torch.zeros(len(names), 2, dtype=torch.float64)
        for batch in cast(Iterable[LabelledBatch | None], batches):
            if batch is not None:
                for name, (predicted, true) in predictions(self.loss_of.potential, batch, create_graph=False).items():
                    errors = (predicted.detach() - true).abs().double()
                    sums[names.index(name)] += torch.tensor([float(errors.sum()), errors.numel()])
        found = zip(names, sum_over_processes(sums.to(batches.device)).tolist(), strict=True)
        return {name: total / count for name, (total, count) in found if count}


def in_units(errors: Mapping[str, float]) -> dict[str, float]:
    """Errors by label as histories and tables have them: name with unit -> value."""
    return {SHOWN[name][0]: SHOWN[name][1] * error for name, error in errors.items()}
