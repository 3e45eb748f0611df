"""The conformance suite: what every encoder and readout must pass, for the authors of plugins too.

Subclass `ConformanceTests` in a test file of your own, or call single checks (`check_equivariance(pair)`, ...): each
takes a `Pair` and raises AssertionError with the reason, or unittest.SkipTest where it does not apply.
"""

from zoo.testing.behaviour import (
    check_batching,
    check_citation,
    check_contract,
    check_float32,
    check_gradients_finite,
    check_gradients_flow,
    check_hypers,
    check_input_not_mutated,
    check_one_atom,
    check_save_and_load,
    check_smooth_at_cutoff,
    check_trains_after_inference,
)
from zoo.testing.conformance import ConformanceTests
from zoo.testing.dataset import DatasetTests, check_description, check_frame, check_records
from zoo.testing.ionic_checks import (
    IonicTests,
    check_force_constants,
    check_no_optic_modes,
    check_not_polar,
    check_positive,
)
from zoo.testing.pair import Pair
from zoo.testing.pair_potential import PairPotential, second_derivatives
from zoo.testing.potential_checks import (
    EncoderWithEnergy,
    PotentialTests,
    check_atomic_energies,
    check_energy_symmetry,
    check_forces,
    check_hessian,
    check_second_derivative,
    check_smooth_energy,
)
from zoo.testing.prototypes import Prototype, point_operations, prototypes
from zoo.testing.symmetry_checks import (
    check_anisotropy,
    check_embedding_equivariance,
    check_equivariance,
    check_lattice_shift,
    check_origin_shift,
    check_permutation,
    check_point_groups,
    check_self_images,
    check_supercell,
    check_zero_pattern,
)

__all__ = [
    "ConformanceTests",
    "DatasetTests",
    "EncoderWithEnergy",
    "IonicTests",
    "Pair",
    "PairPotential",
    "PotentialTests",
    "Prototype",
    "check_anisotropy",
    "check_atomic_energies",
    "check_batching",
    "check_citation",
    "check_contract",
    "check_description",
    "check_embedding_equivariance",
    "check_energy_symmetry",
    "check_equivariance",
    "check_float32",
    "check_force_constants",
    "check_forces",
    "check_frame",
    "check_gradients_finite",
    "check_gradients_flow",
    "check_hessian",
    "check_hypers",
    "check_input_not_mutated",
    "check_lattice_shift",
    "check_no_optic_modes",
    "check_not_polar",
    "check_one_atom",
    "check_origin_shift",
    "check_permutation",
    "check_point_groups",
    "check_positive",
    "check_records",
    "check_save_and_load",
    "check_second_derivative",
    "check_self_images",
    "check_smooth_at_cutoff",
    "check_smooth_energy",
    "check_supercell",
    "check_trains_after_inference",
    "check_zero_pattern",
    "point_operations",
    "prototypes",
    "second_derivatives",
]
