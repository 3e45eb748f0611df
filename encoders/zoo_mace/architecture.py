"""Architecture of a MACE model, known before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Layer(BaseModel):
    """One interaction and the product after it.

    Attributes:
        residual: the atom's features, mapped by its element, are added after the product; else the map of its element
            acts on the messages.
        density: the messages are divided by 1 + Σ of a learned function of the distances, else by a constant.
        neighbours: the constant.
        paths: numbers of many-body paths of order 1, 2, ... to each degree that comes out.
    """

    model_config = ConfigDict(frozen=True)

    residual: bool
    density: bool
    neighbours: float
    paths: tuple[tuple[int, ...], ...]

    @property
    def degree(self) -> int:
        """Highest degree of the features that come out."""
        return len(self.paths) - 1


class Architecture(BaseModel):
    """A model.

    Attributes:
        elements: atomic numbers, in the order of the weights.
        channels: C.
        degree: highest degree of the spherical harmonics and of the atomic basis A.
        layers: in order.
        cutoff: Å.
        envelope: p of the polynomial envelope.
        envelope_on: the envelope multiplies the radial basis, or what the radial network makes of it.
        radial: sizes of the radial network: basis functions, hidden neurons.
        transform: what is done to the distance before the basis.
    """

    model_config = ConfigDict(frozen=True)

    elements: tuple[int, ...]
    channels: int
    degree: int
    layers: tuple[Layer, ...]
    cutoff: float
    envelope: int
    envelope_on: Literal["basis", "weights"]
    radial: tuple[int, ...]
    transform: Literal["none", "agnesi"]

    def degree_into(self, layer: int) -> int:
        """Highest degree of the features that layer 0, 1, ... reads."""
        return 0 if layer == 0 else self.layers[layer - 1].degree

    @property
    def outline(self) -> Outline:
        """Return the irreps that an encoder of this architecture promises."""
        degrees = tuple(layer.degree for layer in self.layers)
        return Outline(self.channels, self.degree, degrees, self.cutoff, self.radial[0])


@dataclass(frozen=True)
class Outline:
    """Irreps and cutoff of a model.

    Attributes:
        channels: C.
        basis: highest degree of the atomic basis.
        degrees: highest degree of the features after each layer.
        cutoff: Å.
        radial: number of radial basis functions.
    """

    channels: int
    basis: int
    degrees: tuple[int, ...]
    cutoff: float
    radial: int
