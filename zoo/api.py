"""All that a plugin author needs of the zoo, and all that a plugin may import of it (its tests: `zoo.testing`).

A plugin is a class registered under an entry-point group of its distribution:

    [options.entry_points]
    zoo.encoders =
        mine = my_package:MyEncoder

`zoo.encoders` takes an `Encoder`, `zoo.readouts` a `Readout`, `zoo.datasets` a `Dataset`, `zoo.objectives` an
`Objective`, `zoo.acquisitions` an `Acquisition`, `zoo.oracles` an `Oracle`.
"""

from zoo.contract.batch import CrystalBatch
from zoo.contract.discovery import Acquisition, Candidate, Objective, Oracle
from zoo.contract.features import Embedding, Features, Rows, matrix_to_spherical, spherical_to_matrix
from zoo.contract.lattice_response import LatticeResponse
from zoo.contract.level_of_theory import LevelOfTheory
from zoo.contract.padded_force_constants import PaddedForceConstants
from zoo.contract.plugin import BadRecord, Dataset, Encoder, Hypers, Needs, Provides, Readout, Record
from zoo.contract.potential import HasEnergy, Potential, PotentialOutput, forces_and_stress
from zoo.contract.pretrained import ConvertedEncoder, ConvertedHypers, PretrainedEncoder, choose_layers
from zoo.contract.radial import bessel_basis, bond_features, polynomial_envelope
from zoo.contract.references import references
from zoo.contract.target import TensorTarget, only_symmetric_rank_2
from zoo.convolution.convolve import convolve
from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block, TensorProductPath
from zoo.errors import CalculationFailed, ZooError
from zoo.old_names import from_api
from zoo.storage.weights import PublicWeights, Weights, load_weights, sha256_of, weights_file
from zoo.storage.weights import identity as weights_identity

__all__ = [
    "Acquisition",
    "BadRecord",
    "Block",
    "CalculationFailed",
    "Candidate",
    "ConvertedEncoder",
    "ConvertedHypers",
    "ConvolutionEdges",
    "CrystalBatch",
    "Dataset",
    "Embedding",
    "Encoder",
    "Features",
    "HasEnergy",
    "Hypers",
    "LatticeResponse",
    "LevelOfTheory",
    "Needs",
    "Objective",
    "Oracle",
    "PaddedForceConstants",
    "Potential",
    "PotentialOutput",
    "PretrainedEncoder",
    "Provides",
    "PublicWeights",
    "Readout",
    "Record",
    "Rows",
    "TensorProductPath",
    "TensorTarget",
    "Weights",
    "ZooError",
    "bessel_basis",
    "bond_features",
    "choose_layers",
    "convolve",
    "forces_and_stress",
    "load_weights",
    "matrix_to_spherical",
    "only_symmetric_rank_2",
    "polynomial_envelope",
    "references",
    "sha256_of",
    "spherical_to_matrix",
    "weights_file",
    "weights_identity",
]


def __getattr__(name: str) -> object:
    """Give the object that an old name means, with a DeprecationWarning (`zoo.old_names`)."""
    return from_api(name)
