"""The encoder `sevennet`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from e3nn import o3
from pydantic import StrictInt, ValidationInfo, field_validator
from torch import Tensor, nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Features,
    Hypers,
    PretrainedEncoder,
    Provides,
    Weights,
    ZooError,
    bond_features,
    choose_layers,
    references,
    weights_file,
)
from zoo_sevennet import weights_file as files
from zoo_sevennet.checkpoint import CHECKPOINTS, ELEMENTS, load, load_energy
from zoo_sevennet.energy import EnergyModel
from zoo_sevennet.network import Network

# Raise it whenever the same checkpoint, layers and parities come to give other numbers: caches are then made anew.
VERSION = 1

# The first layer whose pseudotensors of degree 0, 1, 2, 3 are not zero by construction.
FIRST_PSEUDO = (3, 2, 2, 2)


class FeaturesHypers(Hypers):
    """Choice of the network of the family, and of its features."""

    checkpoint: Literal["SevenNet-0", "SevenNet-0_22May2024", "SevenNet-l3i5", "SevenNet-MF-0"] = "SevenNet-0"
    """SevenNet-0 (11 July 2024), its predecessor of 22 May, l3i5 (has l = 3 too), MF-0 (several levels of theory)."""

    layer: StrictInt | tuple[StrictInt, ...] = 4
    """The layer L_n whose features are given, 1 to 5, or a list of layers whose features are concatenated."""

    pseudotensors: bool = False
    """Also give the pseudotensors (0o, 1e, 2o, ...), which tell a chiral crystal from its mirror image."""

    @field_validator("layer")
    @classmethod
    def _exists(cls, layer: int | tuple[int, ...], info: ValidationInfo) -> int | tuple[int, ...]:
        if "checkpoint" in info.data:  # else the checkpoint is what is wrong
            choose_layers(layer, len(CHECKPOINTS[info.data["checkpoint"]].architecture.channels))
        return layer

    @property
    def wanted(self) -> list[int]:
        """The layers asked for, ascending."""
        return sorted(self.layer) if isinstance(self.layer, tuple) else [self.layer]

    def sources(self) -> list[tuple[o3.Irrep, list[int]]]:
        """Each irrep to be given, and the layers that it is taken from.

        A layer without vectors and tensors, the fifth, stands for its scalars with the vectors and tensors of the layer
        before, which is the DTNet paper's L5. No channel is given twice.
        """
        channels = CHECKPOINTS[self.checkpoint].architecture.channels
        out = []
        for pseudo in (False, True) if self.pseudotensors else (False,):
            for degree in range(len(channels[0])):
                last = max(n for n, of_layer in enumerate(channels, start=1) if len(of_layer) > degree)
                first = FIRST_PSEUDO[degree] if pseudo else 1
                layers = [n for n in sorted({min(n, last) for n in self.wanted}) if n >= first]
                if layers:
                    out.append((o3.Irrep(degree, (-1) ** (degree + pseudo)), layers))
        return out


class SevenNetHypers(FeaturesHypers):
    """Hyperparameters of `SevenNet`."""

    modality: str | None = None
    """Level of theory whose features SevenNet-MF-0 gives: PBE (the default) or R2SCAN; for this checkpoint alone."""

    weights: str | None = None
    """A SevenNet of `zoo pretrain`: its file, its run folder, or models:/NAME@ALIAS; null: the checkpoint's weights."""

    @field_validator("modality")
    @classmethod
    def _has(cls, modality: str | None, info: ValidationInfo) -> str | None:
        known = CHECKPOINTS[info.data["checkpoint"]].modalities if "checkpoint" in info.data else ()
        if known and modality is not None and modality not in known:
            raise ValueError(f"modality is one of {', '.join(known)}")
        if "checkpoint" in info.data and not known and modality is not None:
            raise ValueError(f"{info.data['checkpoint']} has one level of theory alone: leave modality out")
        return modality

    @property
    def level_of_theory(self) -> str | None:
        """The modality, or the checkpoint's first; None where it has none."""
        return self.modality or next(iter(CHECKPOINTS[self.checkpoint].modalities), None)


class SevenNet(PretrainedEncoder):
    """SevenNet, pretrained on MPtrj: Park et al., J. Chem. Theory Comput. 20, 4857 (2024).

    SevenNet-MF-0 was trained on PBE and r2SCAN together: Kim et al., J. Am. Chem. Soc. 147, 1042 (2025).

    Its own features f_l are equivariant under rotations alone. From those of the crystal, f_l(x), and of its inverted
    image, f_l(-x), follow the true tensors (f_l(x) + (-1)^l f_l(-x)) / 2 and the pseudotensors
    (f_l(x) - (-1)^l f_l(-x)) / 2, exactly. Bonds: the trained radial basis × envelope, and these × Y_1 of the
    direction; all vanish at the cutoff.

    Raises:
        ZooError: a checkpoint is wanted that the zoo does not ship, and the package `sevenn` is not installed.
    """

    Hypers: ClassVar[type[FeaturesHypers]] = SevenNetHypers
    citation = references("park2024sevennet")
    bonds_from_geometry = True
    energy_is_chiral = True

    hypers: FeaturesHypers

    def __init__(self, hypers: FeaturesHypers) -> None:
        super().__init__(hypers, ELEMENTS, hypers.checkpoint)
        self.checkpoint = CHECKPOINTS[hypers.checkpoint]
        self.cutoff = self.checkpoint.architecture.cutoff
        self.network = self.make_network(layers=max(hypers.wanted))

    def make_network(self, layers: int) -> Network:
        """The first interaction layers, with the pretrained weights."""
        assert isinstance(self.hypers, SevenNetHypers)  # for the type checker
        if self.file is not None:
            return files.load(self.file, self.hypers.checkpoint, self.hypers.level_of_theory, layers)
        return load(self.checkpoint, layers, self.hypers.level_of_theory)

    @property
    def file(self) -> str | None:
        """The safetensors file of its weights: the one that is named, or the zoo's own; None: those of sevenn."""
        assert isinstance(self.hypers, SevenNetHypers)  # for the type checker
        return self.hypers.weights or files.shipped(self.hypers.checkpoint)

    @classmethod
    def cites(cls, hypers: FeaturesHypers) -> str:
        """SevenNet, its training on several levels of theory, and the data of its checkpoint."""
        if not cls.pretrained:
            return cls.citation
        # That of May 2024 was trained on M3GNet's data (README of the package), the others on MPtrj.
        data = "chen2022m3gnet" if hypers.checkpoint == "SevenNet-0_22May2024" else "deng2023chgnet"
        several = [references("kim2025multifidelity")] if hypers.checkpoint == "SevenNet-MF-0" else []
        return "\n".join([cls.citation, references(data), *several])

    @classmethod
    def provides(cls, hypers: FeaturesHypers) -> Provides:
        """Atoms e.g. 128x0e+64x1o+32x2e for one layer; bonds 8x0e+8x1o."""
        architecture = CHECKPOINTS[hypers.checkpoint].architecture
        atoms = [
            (sum(architecture.channels[n - 1][irrep.l] for n in layers), irrep) for irrep, layers in hypers.sources()
        ]
        basis = architecture.radial[0]
        return Provides(o3.Irreps(atoms), o3.Irreps(f"{basis}x0e+{basis}x1o"), energy=cls.pretrained)

    @classmethod
    def layers(cls, hypers: FeaturesHypers) -> int:
        """5 for all that there are."""
        return len(CHECKPOINTS[hypers.checkpoint].architecture.channels)

    @classmethod
    def missing(cls, hypers: FeaturesHypers) -> str | None:
        """The file that is named, or the package sevenn, for weights that the zoo does not ship."""
        try:
            if isinstance(hypers, SevenNetHypers) and hypers.weights is not None:
                weights_file(hypers.weights)
            elif files.shipped(hypers.checkpoint) is None:
                CHECKPOINTS[hypers.checkpoint].path()
        except ZooError as error:
            return str(error)
        return None

    def fingerprint(self) -> str:
        """sha256 of sevenn's checkpoint file, the layers, the parities, the modality and the version of this plugin."""
        return self._fingerprint_with(self.hypers.wanted, self.hypers.pseudotensors, VERSION)

    def energy_fingerprint(self) -> str:
        """sha256 of sevenn's checkpoint file, the modality and this plugin's version, whatever layers are exposed."""
        return self._fingerprint_with("energy", VERSION)

    def _fingerprint_with(self, *choice: Any) -> str:
        assert isinstance(self.hypers, SevenNetHypers)  # for the type checker
        level = self.hypers.level_of_theory
        words = [*choice] if level is None else [*choice, level]
        if self.hypers.weights is not None:
            known = files.fingerprint(self.hypers.weights, energy="energy" in choice)
            return hashlib.sha256(json.dumps([known, *words]).encode()).hexdigest()
        if self.file is not None:
            return files.identity_of_shipped(self.hypers.checkpoint, json.dumps(words))
        return hashlib.sha256(self.checkpoint.path().read_bytes() + json.dumps(words).encode()).hexdigest()

    def make_energy_model(self) -> EnergyModel:
        """Return all layers and the head: the crystal's own energy as sevenn gives it, not the mean with its image."""
        assert isinstance(self.hypers, SevenNetHypers)  # for the type checker
        if self.file is not None:
            return files.load_energy(self.file, self.hypers.checkpoint, self.hypers.level_of_theory)
        return load_energy(self.checkpoint, self.hypers.level_of_theory)

    def weights_of(self, model: nn.Module) -> Weights:
        """Return the numbers of a tuned potential, for a file that `weights` can name."""
        assert isinstance(model, EnergyModel) and isinstance(self.hypers, SevenNetHypers)  # for the type checker
        return files.weights_of(model, self.hypers.checkpoint, self.hypers.level_of_theory)

    def even_energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV, the mean with the mirror image's, which shares edges and weights: a sixth more than `energy`.

        Raises:
            ZooError: the checkpoint does not know an element of the batch.
        """
        atomic = self.energy_model()(self.species_of(batch), batch, mirror=True)
        return batch.sum_over_atoms(atomic)

    def raw_features(self, batch: CrystalBatch) -> list[list[Tensor]]:
        """SevenNet's own features, and those of the mirror image.

        Returns:
            A list over the layers 1, 2, ... that are built of lists over l of (N, 2l+1, I, C): image 0 is f_l(x), image
            1 is (-1)^l f_l(-x); I = 1 where the two are the same by construction.

        Raises:
            ZooError: the checkpoint does not know an element of the batch.
        """
        return self.network(self.species_of(batch), batch.src, batch.dst, batch.edge_vectors())

    def bonds(self, batch: CrystalBatch) -> Features:
        """8x0e+8x1o: radial basis × envelope, and that × Y_1."""
        vectors = batch.edge_vectors()
        radial = self.network.radial_basis(vectors.norm(dim=-1))
        return bond_features(radial, vectors)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the chosen layers, with their true parities.

        Raises:
            ZooError: the checkpoint does not know an element of the batch.
        """
        raw = self.raw_features(batch)
        blocks = [_part([raw[n - 1][irrep.l] for n in layers], irrep) for irrep, layers in self.hypers.sources()]
        return Embedding(Features(self.provides(self.hypers).atoms, torch.cat(blocks, dim=1)), self.bonds(batch))


def _part(images: Sequence[Tensor], irrep: o3.Irrep) -> Tensor:
    """(N, 2l+1, I, C) of several layers -> their true tensors or their pseudotensors, (N, C (2l+1))."""
    sign = 1 if irrep.p == (-1) ** irrep.l else -1
    values = torch.cat([(x[:, :, 0] + sign * x[:, :, -1]) / 2 for x in images], dim=-1)
    return values.transpose(1, 2).flatten(1)
