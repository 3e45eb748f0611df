"""The sum over neighbours by NVIDIA's cuEquivariance: one kernel a block gathers, multiplies and adds up.

What it multiplies with are our own coupling constants, so that signs and normalisation are e3nn's, as of the other
backends. On a CPU the package's slow reference method takes the kernel's place, to compare with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block, coupling, sums
from zoo.convolution.plain import plain
from zoo.errors import ZooError


def load(device: torch.device | None) -> Callable[..., Sequence[Tensor]]:
    """The backend.

    Raises:
        ZooError: the package or its kernels are not installed, or the device is none that they are for.
    """
    try:
        import cuequivariance_torch  # noqa: F401
    except ImportError as error:
        raise ZooError(
            'cuequivariance-torch is not installed: pip install "crystal-tensor-zoo[cuequivariance]" and the kernels '
            "for your CUDA (docs/convolution.md)"
        ) from error
    if device is not None and device.type != "cuda":
        raise ZooError(
            f"convolution.backend=cuequivariance is for NVIDIA GPUs, and the device is {device.type}: "
            "set convolution.backend=auto, or device=cuda"
        )
    if device is not None:
        _refuse_without_kernels()
    return by_kernels


def _refuse_without_kernels() -> None:
    try:
        import cuequivariance_ops_torch  # noqa: F401
    except (ImportError, OSError) as error:
        version = (torch.version.cuda or "12").split(".")[0]
        raise ZooError(
            f"the kernels of cuEquivariance are missing: pip install cuequivariance-ops-torch-cu{version}, of the same "
            "version as cuequivariance-torch (docs/convolution.md)"
        ) from error


def by_kernels(
    features: Sequence[Tensor], blocks: Sequence[Block], edges: ConvolutionEdges, network: nn.Module
) -> list[Tensor]:
    """As `convolve`, of features (N, 2l1+1, I, C)."""
    if not len(edges.src):
        return plain(features, blocks, edges, network, edges.harmonics, edges.radial)
    images, n = features[0].shape[2], edges.n_atoms
    # An image is one more atom with the same edges: rows N·I of features and sums, E·I of indices.
    number = torch.arange(images, device=edges.src.device)
    src, dst = ((ends.unsqueeze(1) * images + number).flatten() for ends in (edges.src, edges.dst))
    indices = {0: edges.length_of.repeat_interleave(images), 1: src}
    if images > 1:
        indices[2] = torch.arange(len(edges.src), device=src.device).repeat_interleave(images)
    rows = {0: src.new_empty(n * images, 1)}  # read for its shape alone
    of_blocks = network(edges.radial).split([block.weights for block in blocks], dim=1)
    parts: list[list[Tensor]] = [[] for _ in sums(blocks)]
    for x, block, weights in zip(features, blocks, of_blocks, strict=True):
        product = _product(block, edges.filter_degree, x.device)
        inputs = [weights, x.transpose(1, 2).reshape(n * images, -1), edges.harmonics]
        (made,) = product(inputs, dict(indices), dict(rows), {0: dst})
        degrees = [2 * path.degree + 1 for path in block.paths]
        by_path = made.view(n, images, sum(degrees), block.channels).split(degrees, dim=2)
        for path, part in zip(block.paths, by_path, strict=True):
            parts[path.into].append(part.transpose(1, 2))
    return [torch.cat(part, dim=-1) for part in parts]


@functools.cache
def _product(block: Block, filter_degree: int, device: torch.device) -> nn.Module:
    import cuequivariance_torch

    on_gpu = device.type == "cuda"
    if on_gpu:
        _refuse_without_kernels()  # the package would warn, and be slow
    with torch.inference_mode(False):  # it is kept, as `coupling` is
        method = "uniform_1d" if on_gpu else "naive"
        return cuequivariance_torch.SegmentedPolynomial(polynomial(block, filter_degree), method=method).to(device)


def polynomial(block: Block, filter_degree: int) -> Any:
    """cuEquivariance's description of all paths of a block, with a segment for each path and degree.

    Radial weights (paths × channels), features (2l1+1 × channels), harmonics ((L+1)^2) -> (Σ 2l3+1 × channels).
    """
    import cuequivariance

    made = cuequivariance.SegmentedTensorProduct.from_subscripts("u,iu,j,ku+ijk")
    made.add_segment(1, (2 * block.degree + 1, block.channels))
    for degree in range(filter_degree + 1):
        made.add_segment(2, (2 * degree + 1,))
    constants = coupling(block, filter_degree, torch.float64, torch.device("cpu"))
    by_path = constants.split([2 * path.degree + 1 for path in block.paths], dim=2)
    for number, (path, constant) in enumerate(zip(block.paths, by_path, strict=True)):
        made.add_segment(0, (block.channels,))
        made.add_segment(3, (2 * path.degree + 1, block.channels))
        symbol = constant[path.harmonic**2 : (path.harmonic + 1) ** 2].transpose(0, 1)
        made.add_path(number, 0, path.harmonic, number, c=symbol.numpy())
    return cuequivariance.SegmentedPolynomial.eval_last_operand(made)
