"""The `nequip` package's own modules: nequip_package.py BATCHES HYPERS eager|compile.

HYPERS are those of the zoo's `nequip`, and `irreps`: those of the features after each layer. The model is made of the
package's modules as its own builder makes it, with two differences that make it the same as the zoo's: a linear map
from the elements' embedding to the first features, and a last layer that keeps the vectors and tensors that an energy
does not need.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import nequip
import torch
from e3nn import o3
from nequip.data import AtomicDataDict
from nequip.model.utils import model_builder
from nequip.nn import ApplyFactor, AtomwiseLinear, ConvNetLayer, SequentialGraphNetwork
from nequip.nn.embedding import (
    BesselEdgeLengthEncoding,
    EdgeLengthNormalizer,
    NodeTypeEmbed,
    PolynomialCutoff,
    SphericalHarmonicEdgeAttrs,
)
from nequip.utils.global_state import set_global_state
from passes import as_inside, matmul_flops, passes_of, read_batches
from serve import serve
from torch import Tensor, nn

FEATURES = AtomicDataDict.NODE_FEATURES_KEY
ELEMENTS = [f"Z{z}" for z in range(119)]


@model_builder
def features(type_names: list[str], r_max: float, hypers: dict[str, Any], irreps: list[str]) -> SequentialGraphNetwork:
    """The package's model up to its last layer; `irreps` are those of the features after each layer."""
    embed = NodeTypeEmbed(type_names=type_names, num_features=hypers["element_channels"])
    harmonics = SphericalHarmonicEdgeAttrs(
        repr(o3.Irreps.spherical_harmonics(hypers["l_max"])), irreps_in=embed.irreps_out
    )
    norm = EdgeLengthNormalizer(r_max=r_max, type_names=type_names, irreps_in=harmonics.irreps_out)
    bessel = BesselEdgeLengthEncoding(
        num_bessels=hypers["num_bessel"],
        cutoff=PolynomialCutoff(hypers["envelope_power"]),
        edge_invariant_field=AtomicDataDict.EDGE_EMBEDDING_KEY,
        irreps_in=norm.irreps_out,
    )
    factor = ApplyFactor(
        in_field=AtomicDataDict.EDGE_EMBEDDING_KEY,
        factor=2 * math.pi / r_max**2,
        irreps_in=bessel.irreps_out,
    )
    first = AtomwiseLinear(irreps_in=factor.irreps_out, irreps_out=f"{hypers['channels']}x0e")
    before = first.irreps_out
    modules = {"embed": embed, "harmonics": harmonics, "norm": norm, "bessel": bessel, "factor": factor, "first": first}
    for n, after in enumerate(irreps):
        layer = ConvNetLayer(
            irreps_in=before,
            feature_irreps_hidden=after,
            convolution_kwargs={
                "radial_mlp_depth": hypers["radial_layers"],
                "radial_mlp_width": hypers["radial_width"],
                "is_first_layer": n == 0,
                "avg_num_neighbors": hypers["average_neighbours"],
                "type_names": type_names,
            },
        )
        modules[f"layer{n}"] = layer
        before = layer.irreps_out
    return SequentialGraphNetwork(modules)


def as_package(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The zoo's batch in the package's terms: its edges name the atom that a message goes to first."""
    return {
        AtomicDataDict.POSITIONS_KEY: arrays["positions"],
        AtomicDataDict.CELL_KEY: arrays["cell"],
        AtomicDataDict.EDGE_INDEX_KEY: torch.stack([arrays["dst"], arrays["src"]]),
        AtomicDataDict.EDGE_CELL_SHIFT_KEY: arrays["shift"].to(arrays["positions"].dtype),
        AtomicDataDict.BATCH_KEY: arrays["crystal"],
        AtomicDataDict.NUM_NODES_KEY: torch.bincount(arrays["crystal"]),
        AtomicDataDict.ATOM_TYPE_KEY: arrays["numbers"],
    }


def build(hypers: dict[str, Any], how: str) -> nn.Module:
    """The package's model of these HYPERS, made for eager execution or compiled."""
    hypers = dict(hypers)
    irreps = hypers.pop("irreps")
    set_global_state()
    settings = {"type_names": ELEMENTS, "r_max": hypers["cutoff"], "hypers": hypers, "irreps": irreps}
    return features(seed=0, model_dtype="float32", compile_mode=how, **settings)


def main(folder: str, text: str, how: str) -> None:
    model = build(json.loads(text), how)
    batches = [as_package(arrays) for arrays in read_batches(folder)]
    passes = passes_of("model", model, lambda batch: model(batch)[FEATURES], batches)
    about = {"nequip": nequip.__version__, "parameters": sum(p.numel() for p in model.parameters())}
    if how == "eager":
        layer = model.model.layer1
        inputs: list[dict[str, Tensor]] = []
        hook = layer.register_forward_pre_hook(lambda module, args: inputs.append(dict(args[0])))
        with torch.no_grad():
            for batch in batches:
                model(batch)
        hook.remove()
        calls = [(data, as_inside(data[FEATURES])) for data in inputs]
        passes |= passes_of("layer", layer, lambda call: layer({**call[0], FEATURES: call[1]()})[FEATURES], calls)
        serve(passes, {order: {**about, "flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
    serve(passes, dict.fromkeys(passes, about))


if __name__ == "__main__":
    main(*sys.argv[1:])
