"""Checks of behaviour: the contract kept, gradients, precision, smoothness, saving."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import sys
from typing import Any

import numpy as np
import safetensors.torch
import torch
from pymatgen.core import Lattice, Structure
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Features
from zoo.model.precomputed import Precomputed
from zoo.model.tensor_model import TensorModel
from zoo.testing.citation import refuse_unreadable
from zoo.testing.compare import FLOAT32, assert_same, norms, orthogonal_matrices, rotate_crystal, rotate_tensor
from zoo.testing.pair import Pair
from zoo.testing.prototypes import VARIED, prototypes, varied


def check_hypers(pair: Pair) -> None:
    """Every hyperparameter has a default, so that a recipe may name the plugin alone, and a docstring."""
    for plugin in (pair.encoder_class, pair.readout_class):
        for name, info in plugin.Hypers.model_fields.items():
            assert not info.is_required(), f"{plugin.__name__}: the hyperparameter '{name}' has no default"
            assert info.description, f"{plugin.__name__}: the hyperparameter '{name}' has no docstring below it"


def check_citation(pair: Pair) -> None:
    """The citations of both, if they have some, are BibTeX that can be read."""
    for plugin in (pair.encoder_class, pair.readout_class):
        refuse_unreadable(plugin)


def check_contract(pair: Pair) -> None:
    """Forward gives the irreps and shapes that were promised, and the readout the index symmetry of the target."""
    reason = pair.readout_class.unmet_with(pair.model.readout.hypers, pair.provides, pair.target)
    assert reason is None, f"the pair does not fit: {pair.readout_class.__name__} {reason}"
    model, batch = pair.model, pair.batch(varied())
    encoder = model.encoder
    embedding, tensor = _embed_and_read(model, batch)
    _assert_promised("atom", embedding.atoms, pair.provides.atoms, batch.n_atoms)
    if pair.provides.bonds is None:
        assert embedding.bonds is None, "the encoder makes bond features that it does not promise"
    else:
        assert embedding.bonds is not None, "the encoder promises bond features and makes none"
        _assert_promised("bond", embedding.bonds, pair.provides.bonds, len(batch.src))
    if encoder.bonds_from_geometry:
        again = encoder.bonds(batch)
        assert again is not None and embedding.bonds is not None, "bonds_from_geometry, but there are none"
        assert torch.equal(again.values, embedding.bonds.values), "encoder.bonds differs from what forward gives"
    if encoder.pretrained:
        assert encoder.fingerprint() == pair.build(seed=1).encoder.fingerprint(), "the fingerprint changes"
    count = batch.n_atoms if pair.target.per_atom else batch.n_crystals
    assert tensor.shape == (count, *pair.target.shape), f"the readout gives shape {tuple(tensor.shape)}"
    symmetric = pair.target.from_irreps(pair.target.to_irreps(tensor))
    error = (norms(tensor - symmetric) / norms(tensor)).max()
    assert error < 1e-12, f"the readout's tensor has not the index symmetry {pair.target.formula}: off by {error:.1e}"


def _assert_promised(what: str, features: Features, irreps: object, rows: int) -> None:
    assert features.irreps == irreps, f"{what} features are {features.irreps}, promised were {irreps}"
    assert len(features.values) == rows, f"{what} features have {len(features.values)} rows, not {rows}"


def check_one_atom(pair: Pair) -> None:
    """One atom in its cell, alone in its batch, and an atom that has no neighbour at all."""
    cutoff = pair.model.encoder.cutoff
    small = Structure(Lattice.from_parameters(2.713, 2.913, 3.117, 81, 99, 103), ["Ti"], [[0, 0, 0]])
    lonely = Structure(Lattice.cubic(1.5 * cutoff), ["O"], [[0.2, 0.3, 0.4]])
    _, tensor = _embed_and_read(pair.model, pair.batch([small]))
    assert tensor.shape == (1, *pair.target.shape), f"a one-atom cell gives shape {tuple(tensor.shape)}: squeezed away?"
    alone = torch.cat([pair.predict([small]), pair.predict([lonely])])
    names = ["one-atom cell", "atom without neighbours"]
    assert_same(pair, pair.predict([small, lonely]), alone, names, "a one-atom cell is wrong")


def check_batching(pair: Pair) -> None:
    """A crystal's tensor does not depend on what else is in its batch."""
    one_by_one = torch.cat([pair.predict([s]) for s in varied()])
    assert_same(pair, pair.of_varied, one_by_one, VARIED, "crystals of one batch influence each other")


def check_precomputed(pair: Pair) -> None:
    """Precomputed rows of single crystals give in a batch the same tensors as the bond features themselves.

    To the accuracy of float32: it may put together what is equal to that.
    """
    model, structures = pair.model, varied()
    if model.readout.needs_grad:
        return  # nothing is cached for it

    def embed(piece: np.ndarray) -> tuple[Embedding, CrystalBatch]:
        batch = pair.batch([structures[i] for i in piece])
        with torch.no_grad():
            return model.encoder(batch), batch

    precomputed = Precomputed.build(model.readout, embed, [np.array([i]) for i in range(len(structures))])
    if precomputed is None:
        return
    order = list(reversed(range(len(structures))))
    embedding, batch = embed(np.array(order))
    rows = Embedding(embedding.atoms, precomputed=precomputed.rows(order))
    embedding = rows.to(batch.positions.device, batch.positions.dtype)
    with torch.no_grad():
        got = model(batch, embedding)
    expected = pair.predict([structures[i] for i in order])
    claim = "what the readout precomputes is not what its bond features say"
    assert_same(pair, got, expected, [VARIED[i] for i in order], claim, rtol=FLOAT32)


def check_input_not_mutated(pair: Pair) -> None:
    """The batch is as it was; a second run gives the same."""
    batch = pair.batch(varied())
    before = {name: value.clone() for name, value in _tensors(batch).items()}
    first, second = _run(pair.model, batch), _run(pair.model, batch)
    after = _tensors(batch)
    assert before.keys() == after.keys(), "the model adds to the batch, which belongs to the caller"
    for name, now in after.items():
        same = torch.equal(now, before[name]) and not now.requires_grad
        assert same, f"the model changes batch.{name}, which belongs to the caller"
    assert torch.equal(first, second), "two runs on one batch differ: is there randomness, or a hidden state?"


def check_gradients_flow(pair: Pair) -> None:
    """Every parameter has a gradient on low-symmetry crystals: none is left out, none is there in vain.

    But for those that `pair.without_gradient` names.
    """
    dead: set[str] = set()
    alive: set[str] = set()
    for name, gradient in _gradients(pair, varied()).items():
        (alive if gradient is not None and gradient.count_nonzero() else dead).add(name)
    excused = {n for n in dead | alive if any(fnmatch.fnmatch(n, pattern) for pattern in pair.without_gradient)}
    assert not dead - excused, (
        f"parameters without a gradient: {', '.join(sorted(dead - excused))}. "
        "Do not build what is not used, or name it in Pair(without_gradient=...) and say why"
    )
    assert not alive & excused, f"declared as without gradient, but they have one: {', '.join(sorted(alive & excused))}"


def check_gradients_finite(pair: Pair) -> None:
    """No NaN where vectors and tensors vanish: cubic crystals, one-atom cells, an atom without neighbours."""
    cubic = [p.structure for p in prototypes().values() if p.system == "cubic"]
    cutoff = pair.model.encoder.cutoff
    cubic += [Structure(Lattice.cubic(a), ["O"], [[0, 0, 0]]) for a in (2.913, 1.5 * cutoff)]
    for structure in cubic:
        bad = [n for n, g in _gradients(pair, [structure]).items() if g is not None and not g.isfinite().all()]
        assert not bad, (
            f"gradients that are not finite on {structure.formula}: {', '.join(bad)}. "
            "Is the norm of a zero vector, or eigh of equal eigenvalues, differentiated?"
        )


def _gradients(pair: Pair, structures: list[Structure]) -> dict[str, Tensor | None]:
    """Gradients of a random linear function of the tensors: of learned parameters and, where they learn, positions."""
    model, batch = pair.model, pair.batch(structures)
    parameters: dict[str, Tensor] = {name: p for name, p in model.learned().named_parameters() if p.requires_grad}
    if not model.frozen:
        parameters["positions"] = batch.positions.clone().requires_grad_()
        batch = dataclasses.replace(batch, positions=parameters["positions"])
    # What is a derivative already can be differentiated again in training alone.
    model.train(model.readout.needs_grad)
    try:
        tensor = model(batch)
    finally:
        model.eval()
    weights = torch.randn(tensor.shape, dtype=tensor.dtype, generator=torch.Generator().manual_seed(4))
    found = torch.autograd.grad((tensor * weights).sum(), list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


def check_trains_after_inference(pair: Pair) -> None:
    """A model that has answered under inference mode can still be trained: nothing that is kept was made there."""
    for plugin in (pair.encoder_class, pair.readout_class):
        _forget(plugin.__module__.split(".")[0])
    model, batch = pair.model, pair.batch(varied())
    if not model.readout.needs_grad:
        with torch.inference_mode():
            model(batch)
    else:
        with torch.inference_mode():
            model.encoder(batch)
    try:
        gradients = _gradients(pair, varied())
    except RuntimeError as error:
        raise AssertionError(
            f"after an inference it cannot be trained ({error}). "
            "Make what is kept (lru_cache) under torch.inference_mode(False)"
        ) from None
    assert any(gradient is not None for gradient in gradients.values())


def _forget(package: str) -> None:
    """Clear the functions of a package that keep what they made."""
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(f"{package}."):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


def check_save_and_load(pair: Pair) -> None:
    """Learned weights, saved as safetensors and loaded into a model of another seed, give the same tensors."""
    state = {n: v.detach().contiguous().clone() for n, v in pair.model.learned().state_dict().items()}
    other = pair.build(seed=1)
    other.learned().load_state_dict(safetensors.torch.load(safetensors.torch.save(state)))
    claim = "saved and loaded, the model makes other tensors: is something neither parameter nor persistent buffer?"
    assert_same(pair, _run(other, pair.batch(varied())), pair.of_varied, VARIED, claim, rtol=1e-12)


def check_float32(pair: Pair) -> None:
    """In float32 the tensors are those of float64 and turn with the crystal, to 1e-5.

    Relative to the tensor or, where its atoms happen to cancel, to the root mean square over the crystals.
    """
    R = orthogonal_matrices(2, seed=5)[1]
    expected = pair.of_varied
    sizes = norms(expected)
    sizes = torch.maximum(sizes, sizes.square().mean().sqrt())
    as_is = pair.predict(varied(), torch.float32)
    turned = pair.predict([rotate_crystal(s, R) for s in varied()], torch.float32)
    for got, what in ((as_is, "differ from float64's"), (rotate_tensor(turned, R.T), "do not turn with the crystal")):
        error = (norms(got - expected) / sizes).max()
        assert error <= FLOAT32, f"tensors in float32 {what}: off by {error:.1e}, {FLOAT32:.0e} is allowed"


def check_smooth_at_cutoff(pair: Pair) -> None:
    """An edge that crosses the cutoff makes no jump: over a thousandth of the way, far less than over the whole."""
    cutoff = pair.model.encoder.cutoff

    def at(length: float) -> Structure:
        lattice = Lattice([[length, 0, 0], [0.61, 0.83 * cutoff, 0], [0.32, 0.71, 0.87 * cutoff]])
        return Structure(lattice, ["Ti", "O"], np.array([[0, 0, 0], [0.41, 0.53, 0.37]]))

    def change(half: float) -> float:
        before, after = pair.predict([at(cutoff - half)]), pair.predict([at(cutoff + half)])
        return (norms(after - before) / norms(before)).max().item()

    counts = [len(pair.batch([at(cutoff + d)]).src) for d in (-1e-6, 1e-6)]
    assert counts[0] > counts[1], "no edge crosses the cutoff: is every edge up to it in the graph?"
    jump, slope = change(1e-6), change(1e-3)
    assert jump <= 0.05 * slope + 1e-11, (
        f"the tensor jumps when a bond crosses the cutoff: by {jump:.1e} over 2e-6 Å, beside {slope:.1e} over 2e-3 Å. "
        "Give what flows along an edge an envelope (zoo.api.polynomial_envelope)"
    )


def _embed_and_read(model: TensorModel, batch: CrystalBatch) -> tuple[Embedding, Tensor]:
    """The embedding and what the readout itself makes of it, without the normaliser behind it."""
    with torch.set_grad_enabled(model.readout.needs_grad):
        batch = model.readout.prepare(batch)
        embedding = model.encoder(batch)
        return embedding, model.readout(embedding, batch).detach()


def _run(model: TensorModel, batch: CrystalBatch) -> Tensor:
    with torch.set_grad_enabled(model.readout.needs_grad):
        return model(batch).detach()


def _tensors(parts: Any) -> dict[str, Tensor]:
    """All tensors of a batch by name, those of its force constants among them."""
    out: dict[str, Tensor] = {}
    for field in dataclasses.fields(parts):
        value = getattr(parts, field.name)
        if isinstance(value, Tensor):
            out[field.name] = value
        elif dataclasses.is_dataclass(value):
            out |= {f"{field.name}.{name}": tensor for name, tensor in _tensors(value).items()}
    return out
