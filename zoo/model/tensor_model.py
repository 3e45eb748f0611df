"""The model: encoder, readout and normaliser, which together predict in physical units."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import plugins
from zoo.config.recipe import EncoderChoice, Plugin
from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding
from zoo.contract.lattice_response import LatticeResponse
from zoo.contract.level_of_theory import LevelOfTheory
from zoo.contract.plugin import Encoder, Readout
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.model.normaliser import Normaliser
from zoo.phonons.potentials import refuse_without_energy


class TensorModel(nn.Module):
    """Module that predicts a tensor for each crystal, or atom, of a batch.

    Attributes:
        frozen: the encoder takes no gradient, and stays in eval mode whatever the mode of the model.
        knows_charges: it was trained on Born charges, so that their scale, and that of force constants, is known.
    """

    knows_charges = False

    def __init__(self, encoder: Encoder, readout: Readout, target: TensorTarget, frozen: bool | None = None) -> None:
        """Assemble the parts; `frozen` None freezes a pretrained encoder and no other."""
        super().__init__()
        self.encoder = encoder
        self.readout = readout
        self.target = target
        self.normaliser = Normaliser(target)
        self.frozen = encoder.pretrained if frozen is None else frozen
        if self.frozen:
            encoder.requires_grad_(False)
        self.train(self.training)

    @property
    def caches_embeddings(self) -> bool:
        """Whether the output of the encoder is the same in every epoch, so that it is computed once."""
        return self.frozen and not self.readout.needs_grad

    @property
    def reads_level(self) -> bool:
        """Whether the readout is told the level of theory that is asked for."""
        return any(isinstance(module, LevelOfTheory) for module in self.readout.modules())

    def train(self, mode: bool = True) -> TensorModel:
        """Set the training mode like nn.Module, except that a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def learned(self) -> nn.ModuleDict:
        """Return the parts with learned state: all but a frozen encoder, whose fingerprint is kept instead."""
        parts: dict[str, nn.Module] = {"readout": self.readout, "normaliser": self.normaliser}
        if not self.frozen:
            parts["encoder"] = self.encoder
        return nn.ModuleDict(parts)

    def fit_normaliser(self, tensors: Tensor) -> None:
        """Take the statistics of the training tensors, (n, *target.shape), where the readout wants them."""
        if self.readout.normalise:
            self.normaliser.fit(tensors)
        self.readout.fit(tensors)

    def forward(self, batch: CrystalBatch, embedding: Embedding | None = None) -> Tensor:
        """Predict (B, *target.shape), per atom (N, *target.shape), in physical units.

        `embedding` where it is at hand already (from the cache).
        """
        return self.with_labels(batch, embedding)[0]

    def with_labels(self, batch: CrystalBatch, embedding: Embedding | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict the tensors as `forward` does, and the other labels that the readout makes on the way."""
        batch = self.readout.prepare(batch)
        if embedding is None:
            with torch.no_grad() if self.caches_embeddings else contextlib.nullcontext():
                embedding = self.encoder(batch)
        made, labels = self.readout.with_labels(embedding, batch)
        return made if self.target.parts else self.normaliser(made), labels

    @torch.no_grad()
    def explain(self, batch: CrystalBatch, embedding: Embedding | None = None) -> LatticeResponse | None:
        """Born charges and force constants of which `forward` makes the ionic tensor; None where it does not."""
        if not self.readout.explains:
            return None
        batch = self.readout.prepare(batch)
        found = self.readout.explain(self.encoder(batch) if embedding is None else embedding, batch)
        return None if found is None else dataclasses.replace(found, absolute=found.absolute or self.knows_charges)


def mismatch(
    encoder: str,
    encoder_hypers: Any,
    readout: str,
    target: TensorTarget,
    *,
    readout_hypers: Any = None,
    potential: bool = False,
) -> str | None:
    """Say why a pair cannot work, or None; this needs neither weights nor data.

    With `potential` the force constants that a readout may need come from another encoder.
    """
    reader = plugins.load("readout", readout)
    given = plugins.load("encoder", encoder).provides(encoder_hypers)
    if potential:
        given = dataclasses.replace(given, energy=True)
    return reader.unmet(given, target) if readout_hypers is None else reader.unmet_with(readout_hypers, given, target)


def build(
    encoder: EncoderChoice, readout: Plugin, target: TensorTarget, potential: Plugin | tuple[Plugin, ...] | None = None
) -> TensorModel:
    """Build an untrained model from the plugins of a recipe.

    Args:
        encoder, readout: the plugins.
        target: the tensor that the model predicts.
        potential: what the recipe names for force constants; None: the encoder itself, if the readout needs some.

    Raises:
        ZooError: an unknown plugin or setting, a missing extra, a pair that cannot work, a potential without an energy,
            or an encoder that starts at random and shall not learn.
    """
    encoder_hypers = plugins.hypers("encoder", encoder.name, encoder.settings)
    readout_hypers = plugins.hypers("readout", readout.name, readout.settings)
    given = potential is not None
    for one in potential if isinstance(potential, tuple) else (potential,):
        if one is not None:
            settings = plugins.hypers("encoder", one.name, one.settings)
            refuse_without_energy(one.name, plugins.load("encoder", one.name), settings)
    reason = mismatch(
        encoder.name, encoder_hypers, readout.name, target, readout_hypers=readout_hypers, potential=given
    )
    if reason is not None:
        names = plugins.available("readout")
        fits = [name for name in names if mismatch(encoder.name, encoder_hypers, name, target) is None]
        others = f"; what fits: {', '.join(fits)}" if fits else ""
        raise ZooError(
            f"readout '{readout.name}' does not fit encoder '{encoder.name}': it {reason}{others} (zoo compat)"
        )
    kind = plugins.load("encoder", encoder.name)
    if encoder.trainable is False and not kind.pretrained:
        raise ZooError(f"encoder '{encoder.name}' starts at random and must learn: take out encoder.trainable: false")
    with _memory(encoder.name, readout.name):
        built = kind(encoder_hypers)
        provided, reader = kind.provides(encoder_hypers), plugins.load("readout", readout.name)
        head = reader(readout_hypers, provided, built.cutoff, target)
    return TensorModel(built, head, target, frozen=kind.pretrained and not encoder.trainable)


@contextlib.contextmanager
def _memory(*names: str) -> Iterator[None]:
    """Turn a failed allocation into a line that says what to make smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            raise ZooError(
                f"a model of {' and '.join(names)} with these widths does not fit into memory: make them smaller"
            ) from None
        raise
