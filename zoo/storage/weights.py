"""Converted weights of other packages' models: safetensors files with metadata of the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.errors import ZooError, clear_disk_errors
from zoo.storage.cache import cache_root
from zoo.storage.user_path import user_path

FORMAT = 1
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Weights:
    """Tensors and metadata of a converted model.

    Attributes:
        tensors: tensors by name.
        metadata: plain JSON values that must be known before a tensor is read.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


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


def locate_weights(encoder: str, weights: str, public: Mapping[str, PublicWeights], package: str = "") -> Path:
    """Return the converted file that a recipe names: the user's own (`*.safetensors`), or public weights by name.

    `package` is a remark on the package that the weights come from, for the message.

    Raises:
        ZooError: the file does not exist; the message says where to get the original and how to convert it.
    """
    if weights.endswith(SUFFIX):
        path = user_path(weights)
        if not path.is_file():
            raise ZooError(f"there is no file {path}: `zoo convert {encoder} FILE --out {path}` makes it")
        return path
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

    Raises:
        ZooError: no space, or no permission.
    """
    header = {"format": str(FORMAT), "encoder": encoder, "metadata": json.dumps(weights.metadata)}
    part = path.with_name(f"{path.name}.part")
    with clear_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in weights.tensors.items()}, part, header)
        part.replace(path)


def read_metadata(encoder: str, path: Path) -> dict[str, Any]:
    """Read the metadata of a converted model from the header of its file.

    Raises:
        ZooError: the file is damaged or not from `zoo convert` for this encoder.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} is damaged or no safetensors file ({error}): convert it anew") from error
    if header.get("encoder") != encoder:
        raise ZooError(f"{path} is not from `zoo convert {encoder}`")
    if header.get("format") != str(FORMAT):
        raise ZooError(f"{path} has format {header.get('format')}, this zoo reads {FORMAT}: convert it anew")
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
