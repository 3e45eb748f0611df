"""mace's checkpoints: the published ones, and how one becomes the zoo's own file of weights."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from zoo.api import PublicWeights, Weights, ZooError
from zoo_mace.architecture import Architecture, Layer, Outline
from zoo_mace.energy_weights import NoEnergy, energy_of
from zoo_mace.pickled import PickledObject, read_pickled_module
from zoo_mace.product import monomials, symmetric_part

_PAGE = "the release {} of github.com/ACEsuit/mace-foundations"


def _outline(degree: int) -> Outline:
    """All: 128 channels, cutoff 6 Å, two layers, the last one scalar (the training scripts in that repository)."""
    return Outline(channels=128, basis=3, degrees=(degree, 0), cutoff=6.0, radial=10)


KNOWN = {
    "mp-0a-small": _outline(0),
    "mp-0a-medium": _outline(1),
    "mp-0a-large": _outline(2),
    "mp-0b3-medium": _outline(1),
    "mpa-0-medium": _outline(1),
}

# The checksums are those on which public records of these files agree.
PUBLIC = {
    "mp-0a-small": PublicWeights(
        file="2023-12-10-mace-128-L0_energy_epoch-249.model",
        page=_PAGE.format("mace_mp_0"),
        sha256="2ddb079cee0e131eaaf6912ba581b394551ead283e95c99cfe78c605d10b5736",
    ),
    "mp-0a-medium": PublicWeights(
        file="2023-12-03-mace-128-L1_epoch-199.model",
        page=_PAGE.format("mace_mp_0"),
        sha256="01bfe22100139f424713cf921144e5509cbe353d67aa9fa1be9c6e1e0ed35845",
    ),
    "mp-0a-large": PublicWeights(
        file="2024-01-07-mace-128-L2_epoch-199.model",
        page=_PAGE.format("mace_mp_0"),
        sha256="514bd2f1938653c37929f7c275a489378f03a7e3ffb27aa2ae0ddce8d0c859c8",
    ),
    "mp-0b3-medium": PublicWeights(
        file="mace-mp-0b3-medium.model",
        page=_PAGE.format("mace_mp_0b3"),
        sha256="2f2be696351ac9e94fbe01cdfb6f017679acdbd2db7645209ef55fec9826b012",
    ),
    "mpa-0-medium": PublicWeights(
        file="mace-mpa-0-medium.model",
        page=_PAGE.format("mace_mpa_0"),
        sha256="75428afe3a1d7d8062e19bcaabd5c433623cabf308242ec9fb493e38604fb638",
    ),
}

# interaction block -> residual, density
INTERACTIONS = {
    "RealAgnosticInteractionBlock": (False, False),
    "RealAgnosticResidualInteractionBlock": (True, False),
    "RealAgnosticDensityInteractionBlock": (False, True),
    "RealAgnosticDensityResidualInteractionBlock": (True, True),
}


def convert(source: Path) -> Weights:
    """The tensors of a model that mace pickled: embedding, interactions, products, and the readouts of the energy.

    Raises:
        ZooError: it is no MACE model that the zoo can run.
    """
    model = read_pickled_module(source)
    if model.name not in ("MACE", "ScaleShiftMACE"):
        raise ZooError(f"{source} is of {model.module}.{model.name}, not of a MACE potential")
    try:
        return _convert(model, source)
    except (KeyError, AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240)
        raise ZooError(f"{source} lacks what the zoo must know of a MACE model ({reason})") from error


def _convert(model: PickledObject, source: Path) -> Weights:
    state = model.state_dict()
    if "joint_embedding" in model.children():
        raise ZooError(f"{source} reads charges, spins or the like beside the elements: the zoo does not run this")
    interactions, products = (list(model.children()[name].children().values()) for name in ("interactions", "products"))
    transform, envelope_on = _radial(model.children()["radial_embedding"], source)
    tensors = {"radial_basis.bessel_weights": state["radial_embedding.bessel_fn.bessel_weights"]}
    if transform == "agnesi":
        for name in ("q", "p", "a", "covalent_radii"):
            tensors[f"radial_basis.distance_transform.{name}"] = state[f"radial_embedding.distance_transform.{name}"]
    elements = tuple(state["atomic_numbers"].tolist())
    tensors["node_embedding"] = state["node_embedding.linear.weight"].view(len(elements), -1)
    layers = []
    for t, (interaction, product) in enumerate(zip(interactions, products, strict=True)):
        if interaction.name not in INTERACTIONS:
            raise ZooError(f"{source} has interactions of the kind {interaction.name}: the zoo does not run these")
        residual, density = INTERACTIONS[interaction.name]
        if product.get("use_agnostic_product") or (residual and not product.get("use_sc", True)):
            raise ZooError(f"{source} has products of a kind that the zoo does not run")
        networks = (f"interactions.{t}.conv_tp_weights.layer", f"interactions.{t}.density_fn.layer")
        linear = [f"interactions.{t}.{name}.weight" for name in ("linear_up", "linear", "skip_tp")]
        for name, value in state.items():
            if name.startswith(networks) or name in (*linear, f"products.{t}.linear.weight"):
                tensors[name] = value
        paths = []
        for degree in range(len(_contractions(product))):
            prefix = f"products.{t}.symmetric_contractions.contractions.{degree}."
            counts, made = _contraction(_contractions(product)[degree].state_dict(), degree, source)
            tensors.update({prefix + name: value for name, value in made.items()})
            paths.append(counts)
        neighbours = float(interaction.get("avg_num_neighbors"))
        layers.append(Layer(residual=residual, density=density, neighbours=neighbours, paths=tuple(paths)))
    variables = _contractions(products[0])[0].state_dict()["U_matrix_1"].shape[0]
    architecture = Architecture(
        elements=elements,
        channels=tensors["node_embedding"].shape[1],
        degree=math.isqrt(variables) - 1,
        layers=tuple(layers),
        cutoff=float(state["r_max"]),
        envelope=int(state["radial_embedding.cutoff_fn.p"]),
        envelope_on=envelope_on,
        radial=_radial_sizes(tensors),
        transform=transform,
    )
    try:
        known, energy = energy_of(model, len(layers), architecture.channels, len(elements))
    except NoEnergy as reason:
        return Weights(tensors, {**architecture.model_dump(), "energy": str(reason)})
    named = {f"energy.{name}": tensor for name, tensor in energy.items()}
    return Weights({**tensors, **named}, {**architecture.model_dump(), "energy": known.model_dump()})


def _radial(embedding: PickledObject, source: Path) -> tuple[Literal["none", "agnesi"], Literal["basis", "weights"]]:
    """Read how the distance is transformed, and what the envelope multiplies."""
    kinds = {name: child.name for name, child in embedding.children().items()}
    transform = kinds.get("distance_transform", "none")
    if kinds["bessel_fn"] != "BesselBasis" or transform not in ("none", "AgnesiTransform"):
        raise ZooError(f"{source} has the radial basis {kinds['bessel_fn']} ({transform}): the zoo does not run this")
    on: Literal["basis", "weights"] = "basis" if embedding.get("apply_cutoff", True) else "weights"
    return ("none" if transform == "none" else "agnesi"), on


def _radial_sizes(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    sizes: list[int] = []
    while (name := f"interactions.0.conv_tp_weights.layer{len(sizes)}.weight") in tensors:
        sizes.append(tensors[name].shape[0])
    return tuple(sizes)


def _contractions(product: PickledObject) -> list[PickledObject]:
    return list(product.children()["symmetric_contractions"].children()["contractions"].children().values())


def _contraction(state: Mapping[str, Tensor], degree: int, source: Path) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """Numbers of paths of order 1, 2, ... and, for each order that has any, weights and couplings.

    Raises:
        ZooError: a product couples pseudotensors, so the features are no tensors under inversion.
    """
    highest = sum(name.startswith("U_matrix_") for name in state)
    counts, made = [], {}
    for order in range(1, highest + 1):
        coupling = state[f"U_matrix_{order}"]
        coupling = coupling if degree > 0 else coupling.unsqueeze(0)
        symmetric = symmetric_part(coupling, order)
        some = symmetric.abs() > 1e-6 * coupling.abs().max()  # more than rounding
        if not some.any():  # the symmetry allows no path; mace keeps one of zeros
            counts.append(0)
            continue
        degrees = torch.tensor([d for d in range(math.isqrt(coupling.shape[1])) for _ in range(2 * d + 1)])
        odd = (degrees[monomials(len(degrees), order)].sum(1) + degree) % 2 == 1
        if some[odd].any():
            raise ZooError(f"{source} mixes tensors and pseudotensors: the zoo runs models of natural parity alone")
        made[f"coupling_{order}"] = symmetric
        made[f"weights.{order}"] = state["weights_max" if order == highest else f"weights.{highest - 1 - order}"]
        counts.append(symmetric.shape[2])
    return tuple(counts), made
