"""Training steps in less than float32. What is validated, tested, saved and served is float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn

from zoo.errors import ZooError

# On which devices; mps has them too, but nobody has measured there what they do to the tensors.
DEVICES = {
    "float32": ("cpu", "cuda", "mps"),
    "tf32": ("cuda",),
    "bfloat16": ("cpu", "cuda"),
    "float16": ("cpu", "cuda"),
}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Tensor cores take multiples of eight. Narrower maps gain nothing, and those that end in the tensor are narrow.
NARROW = 8


def refuse_precision(name: str, device: torch.device) -> None:
    """Check that the device can compute in a precision.

    Raises:
        ZooError: it cannot.
    """
    if device.type not in DEVICES[name]:
        there = ", ".join(precision for precision, devices in DEVICES.items() if device.type in devices)
        raise ZooError(f"training.precision '{name}' is not to be had on {device.type}; there is {there}")
    if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ZooError("this GPU has no bfloat16; set training.precision to float16 or float32")


def dense_maps(model: nn.Module) -> list[nn.Module]:
    """The linear maps and perceptrons: where dense matrix products are, and nothing of the geometry.

    Edge vectors, radial basis, spherical harmonics, the convolution's tensor products and sums over neighbours, norms,
    products of vectors, the narrow maps of a head and the normaliser are not among them.
    """
    return [module for module in model.modules() if _width(module) >= NARROW]


def _width(module: nn.Module) -> int:
    """Output channels, 0 of what is no dense map."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, o3.Linear | o3.FullyConnectedTensorProduct):
        return max((mul for mul, _ in module.irreps_out), default=0)
    return int(module.hs[-1]) if isinstance(module, FullyConnectedNet) else 0


@contextmanager
def rounded(maps: list[nn.Module], dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Compute these maps, by autocast, in `dtype`; what they give is float32 again.

    Not around the whole model: autocast would round edge vectors and sums over neighbours, and e3nn's modules do not
    take what it has rounded. The backward pass belongs inside, for plugins that compute a forward pass anew in it.
    """

    def wrapped(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def in_less(*arguments: Tensor, **more: Tensor) -> Tensor:
            with torch.autocast(device.type, dtype):
                return forward(*arguments, **more).float()

        return in_less

    for module in maps:
        module.forward = wrapped(module.forward)
    try:
        yield
    finally:
        for module in maps:
            del module.forward


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Precision:
    """Precision of a training step.

    Attributes:
        scaler: of the loss, so that small gradients do not vanish in float16; without effect otherwise.
    """

    def __init__(self, name: str, model: nn.Module, device: torch.device) -> None:
        """Choose the precision; `refuse_precision` raises its errors."""
        refuse_precision(name, device)
        self._name = name
        self._device = device
        self._maps = dense_maps(model) if name in DTYPES else []
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def __call__(self) -> AbstractContextManager[None]:
        """For the forward and the backward pass."""
        if self._name in DTYPES:
            return rounded(self._maps, DTYPES[self._name], self._device)
        return _tf32() if self._name == "tf32" else nullcontext()
