"""Reasons not to trust an answer: elements, distance from the training crystals, size of the tensor."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Element, Structure

from zoo.contract.target import TensorTarget
from zoo.evaluation import derived
from zoo.inference.doubt import Doubt
from zoo.inference.novelty import NEIGHBOURS, USUAL, WITHIN, Novelty

BELOW = 0.01
"""Amount by which an eigenvalue may be below what is possible before it is warned of."""


def doubts_of_elements(structure: Structure, target: TensorTarget, trained_on: tuple[int, ...]) -> list[Doubt]:
    """Warn of elements that no training crystal has, and of a formula of metals alone.

    A metal has no static dielectric tensor, and the models have been trained on crystals with a gap alone: they answer
    for aluminium as if it had one. The formula cannot tell. Metals are what pymatgen's `Element.is_metal` counts, which
    B, Si, Ge, As, Sb and Te are not: GaAs and Mg2Si are not warned of, the half-Heusler semiconductors (TiNiSn) are;
    neither are the metals that have a non-metal in the formula (TiN, RuO2).
    """
    elements = {Element.from_Z(site.specie.Z) for site in structure}
    doubts = []
    unseen = sorted(element.symbol for element in elements if element.Z not in trained_on)
    if unseen:
        doubts.append(Doubt("unseen element", f"not among the training crystals: {', '.join(unseen)}"))
    if target.quantity.endswith("dielectric") and all(element.is_metal for element in elements):
        doubts.append(
            Doubt(
                "metal",
                "all its elements are metals: unless it is one of the few such compounds with a gap, it has no static "
                "dielectric tensor",
            )
        )
    return doubts


def doubts_of_distance(distance: float, reference: Novelty) -> list[Doubt]:
    """Warn of a crystal that is farther from the training crystals than most validation crystals."""
    if distance <= reference.threshold:
        return []
    return [
        Doubt(
            "novel",
            f"unlike the training crystals: its features are {distance:.2f} from the {NEIGHBOURS} nearest of them, on "
            f"average; those of {100 * WITHIN:.0f} % of held-out crystals are within {reference.threshold:.2f}",
        )
    ]


def doubts_of_size(tensor: np.ndarray, target: TensorTarget, usual: float | None = None) -> list[Doubt]:
    """Warn of a tensor that is larger than most of the training, or smaller than any can be.

    Args:
        tensor: the answer, (*target.shape).
        target: what it is.
        usual: the norm that `USUAL` of the training tensors do not exceed (`Novelty.usual`), where it is known.
    """
    doubts = []
    size = float(np.linalg.norm(tensor))
    if usual is not None and size > usual:
        doubts.append(
            Doubt(
                "range",
                f"larger than {100 * USUAL:.0f} % of the training tensors: its norm is {size:.3g}, that of these "
                f"below {usual:.3g}",
            )
        )
    bound = None if target.per_atom else derived.lower_bound(target)
    if bound is not None:
        least = float(np.linalg.eigvalsh(0.5 * (tensor + tensor.T))[0])
        if least < bound - BELOW:
            doubts.append(
                Doubt(
                    "range",
                    f"its {target.name} tensor is less than possible: an eigenvalue is {least:.3g}, and none can be "
                    f"below {bound:g}",
                )
            )
    return doubts
