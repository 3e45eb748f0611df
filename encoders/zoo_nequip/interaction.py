"""One interaction layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn import o3
from e3nn.nn import Gate
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo.api import ConvolutionEdges
from zoo_nequip.convolution import Convolution


class Interaction(nn.Module):
    """Linear, convolution, linear, plus a self-connection that depends on the element; then a gate.

    Batzner et al., Nat. Commun. 13, 2453 (2022), fig. 1. The nonlinearities keep parity: SiLU for 0e, tanh, which is
    odd, for 0o. Two things differ from the paper, without which the untrained vectors and tensors of a crystal grow a
    hundredfold a layer in models of five: the gates are sigmoids, and the sum of the two terms is halved in variance.

    Args:
        irreps_in: of the features.
        irreps_out: of the features after it, scalars first.
        elements: number of channels of the element embedding.
        l_max: highest degree of the spherical harmonics.
        radial: sizes of the radial network up to its last hidden layer.
        average_neighbours: the sum over neighbours is divided by its square root.
    """

    def __init__(
        self,
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        elements: int,
        l_max: int,
        radial: Sequence[int],
        average_neighbours: float,
    ) -> None:
        super().__init__()
        self.scale = average_neighbours**-0.5
        scalars = o3.Irreps([(mul, ir) for mul, ir in irreps_out if ir.l == 0])
        gated = o3.Irreps([(mul, ir) for mul, ir in irreps_out if ir.l > 0])
        gates = o3.Irreps([(mul, "0e") for mul, _ in gated])
        self.gate = Gate(
            scalars,
            [silu if ir.p == 1 else torch.tanh for _, ir in scalars],
            gates,
            [torch.sigmoid] * len(gates),
            gated,
        )
        self.self_connection = o3.FullyConnectedTensorProduct(irreps_in, f"{elements}x0e", self.gate.irreps_in)
        self.linear_1 = o3.Linear(irreps_in, irreps_in)
        self.convolution = Convolution(irreps_in, {ir for _, ir in self.gate.irreps_in}, l_max, radial)
        self.linear_2 = o3.Linear(self.convolution.irreps_out, self.gate.irreps_in)

    def forward(self, features: Tensor, elements: Tensor, edges: ConvolutionEdges) -> Tensor:
        """(N, irreps_in.dim) -> (N, irreps_out.dim); `elements` is (N, C_elements)."""
        gathered = self.convolution(self.linear_1(features), edges) * self.scale
        return self.gate((self.linear_2(gathered) + self.self_connection(features, elements)) * 0.5**0.5)
