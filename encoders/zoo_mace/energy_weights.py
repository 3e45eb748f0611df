"""The energy's tensors in a model that mace pickled, or why there are none."""

from __future__ import annotations

from torch import Tensor

from zoo_mace.energy import EnergyOutline
from zoo_mace.pickled import PickledObject


class NoEnergy(Exception):
    """The zoo cannot compute the energy of a model whose features it runs; the text says why."""


def energy_of(
    model: PickledObject, layers: int, channels: int, elements: int
) -> tuple[EnergyOutline, dict[str, Tensor]]:
    """Outline and tensors of `EnergyHead`, by name.

    Raises:
        NoEnergy: it has none that the zoo computes.
    """
    state, parts = model.state_dict(), model.children()
    heads = model.get("heads") or ["Default"]
    if len(heads) > 1:
        raise NoEnergy(f"it has {len(heads)} heads, which give an energy each")
    readouts = list(parts["readouts"].children().values())
    if len(readouts) not in (1, layers):
        raise NoEnergy(f"it has {len(readouts)} readouts for {layers} layers")
    read: list[tuple[int, int]] = []
    tensors: dict[str, Tensor] = {}
    for number, readout in enumerate(readouts):
        hidden, own = _readout(readout, channels)
        read.append((layers if len(readouts) == 1 else number + 1, hidden))
        tensors |= {f"readouts.{number}.{name}": value for name, value in own.items()}
    references = state["atomic_energies_fn.atomic_energies"]
    if references.numel() != elements:
        raise NoEnergy(f"it has {references.numel()} reference energies for {elements} elements")
    tensors["references"] = references.reshape(elements)
    for name in ("scale", "shift"):
        value = state.get(f"scale_shift.{name}")
        if value is not None:
            tensors[name] = value.reshape(())
        elif model.name == "ScaleShiftMACE":
            raise NoEnergy(f"it has no {name}")
    power = None
    if model.get("pair_repulsion"):
        repulsion = parts["pair_repulsion_fn"]
        if repulsion.name != "ZBLBasis":
            raise NoEnergy(f"its nuclei repel each other as {repulsion.name} says, which the zoo does not know")
        own = repulsion.state_dict()
        power = int(own["p"])
        tensors |= {f"repulsion.{name}": own[name] for name in ("c", "a_exp", "a_prefactor", "covalent_radii")}
    return EnergyOutline(readouts=tuple(read), repulsion=power), tensors


def _readout(readout: PickledObject, channels: int) -> tuple[int, dict[str, Tensor]]:
    """Number of hidden neurons, and weights."""
    state = readout.state_dict()
    if any(value.numel() for name, value in state.items() if name.endswith(".bias")):
        raise NoEnergy("its readouts have biases")
    if readout.name == "LinearReadoutBlock" and state["linear.weight"].numel() == channels:
        return 0, {"linear": state["linear.weight"]}
    if readout.name != "NonLinearReadoutBlock":
        raise NoEnergy(f"it has readouts of the kind {readout.name}")
    first, second = state["linear_1.weight"], state["linear_2.weight"]
    gates = [act.get("f") for act in readout.children()["non_linearity"].children()["acts"].children().values()]
    if [getattr(gate, "__name__", None) for gate in gates] != ["silu"]:
        raise NoEnergy("the activation of its readout is not silu alone")
    if first.numel() != channels * second.numel():
        raise NoEnergy("its readout reads or makes more than scalars")
    return second.numel(), {"linear_1": first, "linear_2": second}
