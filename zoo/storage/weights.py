"""Converted weights of other packages' models: safetensors files with metadata of the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.errors import ZooError, clear_disk_errors
from zoo.registry.connect import tracking_uri
from zoo.registry.fetch import artifacts_of, refuse_missing_registry
from zoo.storage.cache import cache_root
from zoo.storage.user_path import user_path

FORMAT = 2
READABLE = ("1", "2")
"""Formats of the header. 1 has no energy and no identity: `zoo convert` left out the heads of potentials."""
SUFFIX = ".safetensors"
ENERGY = "energy"
"""Tensors of the energy have names that begin with `energy.`; the metadata's `energy` is what must be known of them."""
POTENTIAL = f"potential{SUFFIX}"
"""Name of the file of weights in the folder, and among the artifacts, of a `zoo pretrain`."""
_ORIGIN = ("source", "source_sha256")


@dataclass(frozen=True)
class Weights:
    """Tensors and metadata of a converted model.

    Attributes:
        tensors: tensors by name.
        metadata: plain JSON values that must be known before a tensor is read.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def content(self, energy: bool = True) -> str:
        """SHA-256 of all numbers and metadata, hex, wherever they came from; without the energy, of the features."""
        digest = hashlib.sha256()
        left_out = (*_ORIGIN, *(() if energy else (ENERGY,)))
        metadata = {key: value for key, value in self.metadata.items() if key not in left_out}
        digest.update(json.dumps(metadata, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors.items()):
            if energy or not name.startswith(f"{ENERGY}."):
                digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class PublicWeights:
    """File of weights that the authors of a model have published.

    Attributes:
        file: name of the file.
        page: page from which it can be downloaded.
        sha256: checksum of the file, hex.
    """

    file: str
    page: str
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex.

    Raises:
        ZooError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ZooError(f"cannot read {path} ({error.strerror})") from error


def default_path(encoder: str, name: str) -> Path:
    """Return the path to which `zoo convert` writes the weights of that name, and from which the encoder reads them."""
    return cache_root() / "weights" / encoder / f"{name}{SUFFIX}"


def names_file(weights: str) -> bool:
    """Whether weights are named by where they are (a file, a folder, a registered model), not by a published name."""
    return weights.endswith(SUFFIX) or weights.startswith("models:/") or "/" in weights or Path(weights).is_dir()


def weights_file(weights: str) -> Path:
    """Return the file of weights that a user names: itself, that of a run folder, or of a registered model.

    Raises:
        ZooError: there is none, or MLflow cannot be reached.
    """
    if weights.startswith("models:/"):
        return _fetched(weights)
    path = user_path(weights, "weights")
    if path.is_dir():
        if not (path / POTENTIAL).is_file():
            raise ZooError(f"{path} holds no {POTENTIAL}: zoo pretrain --resume {path} makes it, if it is its folder")
        return path / POTENTIAL
    if not path.is_file():
        raise ZooError(
            f"there is no file {path}: name a {POTENTIAL}, the folder of a zoo pretrain, or models:/NAME@ALIAS"
        )
    return path


@lru_cache(maxsize=16)  # fetched once a process
def _fetched(name: str) -> Path:
    uri = tracking_uri(None)
    refuse_missing_registry(uri, f"no registry to look for {name} in")
    found = sorted(artifacts_of(name, uri, name).rglob(POTENTIAL))
    if not found:
        raise ZooError(f"{name} is no potential: it holds no {POTENTIAL}")
    return found[0]


def locate_weights(encoder: str, weights: str, public: Mapping[str, PublicWeights], package: str = "") -> Path:
    """Return the file that a recipe names: the user's own (`weights_file`), or public weights by name.

    `package` is a remark on the package that the weights come from, for the message.

    Raises:
        ZooError: the file does not exist; the message says where to get the original and how to convert it.
    """
    if weights.endswith(SUFFIX) and not weights.startswith("models:/"):
        path = user_path(weights)
        if not path.is_file():
            raise ZooError(f"there is no file {path}: `zoo convert {encoder} FILE --out {path}` makes it")
        return path
    if weights not in public:
        return weights_file(weights)
    path = default_path(encoder, weights)
    if not path.is_file():
        known = public[weights]
        raise ZooError(
            f"the weights {weights} of the encoder {encoder} are not here yet: get {known.file} from {known.page}, "
            f"then: zoo convert {encoder} {known.file}{f' ({package})' if package else ''}"
        )
    return path


def save_weights(encoder: str, weights: Weights, path: Path) -> None:
    """Write converted weights atomically.

    Where they replace a file of the same features, which an earlier zoo wrote without the energy, they keep its
    `identity`: models that were trained on it go on, and what is cached stays good.

    Raises:
        ZooError: no space, or no permission.
    """
    features = weights.content(energy=False)
    header = {
        "format": str(FORMAT),
        "encoder": encoder,
        "metadata": json.dumps(weights.metadata),
        "features": features,
        "identity": _identity_of_the_same(encoder, features, path) or features,
    }
    part = path.with_name(f"{path.name}.part")
    with clear_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in weights.tensors.items()}, part, header)
        part.replace(path)


def _identity_of_the_same(encoder: str, features: str, path: Path) -> str | None:
    """The identity of a file that is there already, if its features are these."""
    if not path.is_file():
        return None
    try:
        there = load_weights(encoder, path)
        return identity(encoder, path) if there.content(energy=False) == features else None
    except (ZooError, SafetensorError):  # whatever it is, it is replaced
        return None


def identity(encoder: str, path: Path) -> str:
    """Return the name, hex, of a converted file's features, the same however often the same weights are converted.

    Raises:
        ZooError: the file is damaged or not from `zoo convert` for this encoder.
    """
    header = _header(encoder, path)
    if header["format"] == "1":
        return sha256_of(path)
    if load_weights(encoder, path).content(energy=False) != header.get("features"):
        raise ZooError(f"{path} is damaged, its numbers are not those that were written: convert it anew")
    return header.get("identity", "")


def _header(encoder: str, path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} is damaged or no safetensors file ({error}): convert it anew") from error
    if header.get("encoder") != encoder:
        other = f": it holds weights of the encoder {header['encoder']}" if "encoder" in header else ""
        raise ZooError(f"{path} is not from `zoo convert {encoder}`{other}")
    if header.get("format") not in READABLE:
        known = " and ".join(READABLE)
        raise ZooError(f"{path} has format {header.get('format')}, this zoo reads {known}: convert it anew")
    return dict(header)


def read_metadata(encoder: str, path: Path) -> dict[str, Any]:
    """Read the metadata of a converted model from the header of its file.

    Raises:
        ZooError: the file is damaged or not from `zoo convert` for this encoder.
    """
    header = _header(encoder, path)
    try:
        metadata = json.loads(header.get("metadata", ""))
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{path} has a damaged header ({type(error).__name__}): convert it anew") from error
    if not isinstance(metadata, dict):
        raise ZooError(f"{path} has a damaged header (a {type(metadata).__name__}): convert it anew")
    return metadata


def load_weights(encoder: str, path: Path) -> Weights:
    """Read tensors and metadata of a converted model.

    Raises:
        ZooError: the file is damaged or not from `zoo convert` for this encoder.
    """
    metadata = read_metadata(encoder, path)
    return Weights(load_file(path), metadata)
