"""The readout that differentiates: against central differences of what it differentiates, on crystals built anew."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from e3nn import o3
from pymatgen.core import Lattice, Structure

from zoo.api import CrystalBatch, Embedding, Features, Provides, TensorTarget
from zoo.config.recipe import EncoderChoice, Plugin
from zoo.graphs.graph import collate, crystal_graph
from zoo.model.tensor_model import TensorModel, build
from zoo_strain import Strain, StrainHypers

TOTAL = TensorTarget("total")
STEP = 1e-4
ENCODERS = {
    "m3gnet": {"cutoff": 4.5, "threebody_cutoff": 3.6, "channels": 8, "layers": 2},
    "nequip": {"cutoff": 4.5, "channels": 8, "layers": 2},
}


def made(encoder: str, width: int = 16, **hypers: object) -> TensorModel:
    return build(EncoderChoice(name=encoder, **hypers), Plugin(name="strain", width=width), TOTAL)


def model_of(encoder: str) -> TensorModel:
    torch.manual_seed(0)
    return made(encoder, **ENCODERS[encoder]).double().eval()


def triclinic() -> Structure:
    places = [[0.02, 0.05, 0.01], [0.45, 0.55, 0.38], [0.5, 0.1, 0.72], [0.13, 0.6, 0.6]]
    return Structure(Lattice.from_parameters(4.3, 5.1, 5.7, 81, 97, 104), ["Ca", "Ti", "O", "S"], places)


def rutile() -> Structure:
    lattice = Lattice.tetragonal(4.61, 2.97)
    return Structure.from_spacegroup("P4_2/mnm", lattice, ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])


def batch_of(*structures: Structure, dtype: torch.dtype = torch.float64) -> CrystalBatch:
    return collate([crystal_graph(structure, 4.5) for structure in structures], dtype)


def strained(structure: Structure, strain: np.ndarray) -> Structure:
    lattice = Lattice(structure.lattice.matrix @ (np.eye(3) + strain))
    return Structure(lattice, structure.species, structure.frac_coords, to_unit_cell=False)


@torch.no_grad()
def mean_scalar(model: TensorModel, structure: Structure) -> float:
    batch = batch_of(structure)
    scalars = model.encoder(batch).atoms.scalars()
    return float(model.readout.scalar(scalars).mean())


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_is_the_slope_of_the_mean_scalar(encoder: str) -> None:
    """Every component, the graph of each strained crystal built anew, two crystals in a batch."""
    model = model_of(encoder)
    crystals = [triclinic(), rutile()]
    tensors = model(batch_of(*crystals))
    for structure, tensor in zip(crystals, tensors, strict=True):
        assert tensor.norm() > 1e-3
        for i in range(3):
            for j in range(i, 3):
                strain = np.zeros((3, 3))
                strain[i, j] += STEP / 2
                strain[j, i] += STEP / 2
                ends = [mean_scalar(model, strained(structure, sign * strain)) for sign in (1, -1)]
                slope = (ends[0] - ends[1]) / (2 * STEP)
                assert tensor[i, j].item() == pytest.approx(slope, rel=1e-5, abs=1e-6 * tensor.norm().item())
                assert tensor[i, j] == tensor[j, i]


def test_of_a_known_scalar() -> None:
    """S_i = Σ_j r_ij² has the slope 2 Σ_j r_ij ⊗ r_ij."""

    class Sum(torch.nn.Module):
        def forward(self, scalars: torch.Tensor) -> torch.Tensor:
            return scalars.sum(dim=1, keepdim=True)

    readout = Strain(StrainHypers(), Provides(o3.Irreps("1x0e")), 4.5, TOTAL)
    readout.scalar = Sum()
    batch = batch_of(triclinic(), rutile())
    prepared = readout.prepare(batch)
    squares = prepared.sum_to_atoms(prepared.edge_vectors().square().sum(1, keepdim=True))
    got = readout(Embedding(Features("1x0e", squares)), prepared)
    vectors = batch.edge_vectors()
    products = batch.sum_to_atoms(vectors[:, :, None] * vectors[:, None])
    torch.testing.assert_close(got, 2 * batch.mean_over_atoms(products), rtol=1e-12, atol=1e-12)


def test_the_batch_stays_as_it_was() -> None:
    batch = batch_of(triclinic())
    prepared = model_of("m3gnet").readout.prepare(batch)
    tensors = [value for field in dataclasses.fields(batch) if (value := getattr(batch, field.name)) is not None]
    assert batch.strain is None and not any(tensor.requires_grad for tensor in tensors)
    assert prepared.strain.shape == (1, 3, 3) and not prepared.strain.any() and prepared.strain.requires_grad


def test_nothing_depends_on_the_strain() -> None:
    """Atoms without neighbours have a tensor of zero, alone and beside others; so have features that are constant."""
    lone = Structure(Lattice.cubic(12.0), ["Cu"], [[0, 0, 0]])
    model = model_of("m3gnet")
    assert not model(batch_of(lone)).any()
    tensors = model(batch_of(lone, rutile()))
    assert not tensors[0].any() and tensors[1].any()
    prepared = model.readout.prepare(batch_of(rutile()))
    features = Features("8x0e", torch.ones(6, 8, dtype=torch.float64))
    assert not model.readout(Embedding(features), prepared).any()


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_training_reaches_every_parameter(encoder: str) -> None:
    """And in eval mode no graph is left behind the tensor."""
    model = model_of(encoder)
    batch = batch_of(triclinic())
    assert not model(batch).requires_grad
    model.train()
    model(batch).square().sum().backward()
    for name, parameter in model.learned().named_parameters():
        assert parameter.grad is not None and parameter.grad.count_nonzero() > 0, name


def test_gradients_of_training_against_differences() -> None:
    """Of a loss on the tensor, by a weight of the encoder and one of the readout: mixed second derivatives."""
    model = model_of("m3gnet").train()
    batch = batch_of(triclinic())
    weights = torch.randn(1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for parameter in (model.encoder.many_body[0].value.weight, model.readout.scalar[0].weight):
        model.zero_grad()
        (model(batch) * weights).sum().backward()
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        expected = float((parameter.grad * direction).sum())
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * 1e-5)
            losses.append(float((model(batch) * weights).sum().detach()))
            with torch.no_grad():
                parameter.add_(direction, alpha=-sign * 1e-5)
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(expected, rel=1e-5)


@pytest.mark.sevennet
def test_a_frozen_encoder_runs_uncached_and_takes_no_gradient() -> None:
    torch.manual_seed(0)
    model = made("sevennet", layer=2).train()
    assert not model.caches_embeddings
    batch = collate([crystal_graph(s, model.encoder.cutoff) for s in (triclinic(), rutile())])
    tensor = model(batch)
    tensor.square().sum().backward()
    assert not any(p.requires_grad or p.grad is not None for p in model.encoder.parameters())
    assert all(p.grad is not None and p.grad.count_nonzero() > 0 for p in model.readout.parameters())
    assert tensor[0].norm() > 0


def test_order_one_before_training() -> None:
    """What the normaliser behind it expects."""
    torch.manual_seed(0)
    for encoder in ENCODERS:
        model = made(encoder, width=64, cutoff=4.5, **({"threebody_cutoff": 4.0} if encoder == "m3gnet" else {}))
        tensors = model(batch_of(triclinic(), rutile(), dtype=torch.float32))
        assert 0.05 < tensors.flatten(1).norm(dim=1).mean() < 5


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (TensorTarget("elastic", "ijkl=jikl=klij"), "symmetric 3×3"),
        (TensorTarget("any", "ij"), "symmetric 3×3"),
        (TensorTarget("born", per_atom=True), "one an atom"),
        (TensorTarget("polarisability", intensive=False), "extensive"),
    ],
)
def test_what_it_cannot_make(target: TensorTarget, why: str) -> None:
    reason = Strain.cannot_make(target)
    assert reason is not None and why in reason
    assert Strain.cannot_make(TensorTarget("electronic", "ab=ba")) is None


def test_needs_invariants() -> None:
    assert Strain.needs.unmet_by(Provides(o3.Irreps("4x0e"))) is None
    assert "0e" in str(Strain.needs.unmet_by(Provides(o3.Irreps("4x1o+2x0o"))))
