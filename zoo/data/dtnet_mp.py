"""The dataset of the DTNet paper: Mao, Li, Tan, npj Comput. Mater. 10, 265 (2024), doi 10.1038/s41524-024-01450-z."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.references import references
from zoo.contract.target import TensorTarget
from zoo.data.download import download
from zoo.data.formats import records_of
from zoo.data.json_records import json_entries
from zoo.data.tensors import DIELECTRIC
from zoo.storage.cache import cache_root
from zoo.storage.user_path import user_path
from zoo.storage.weights import sha256_of

URL = (
    "https://raw.githubusercontent.com/pfnet-research/dielectric-pred/"
    "c09e5299890a5473dfa2accf39bedbe5bdf385ab/data/mp_dielectric.json"
)
SHA256 = "7dae31b2f95b60060bf2bab1ce91751f7a48cb18f4e3b6459e44a899337759e0"


class DTNetMPHypers(Hypers):
    """Location of the file."""

    path: str | None = None
    """A file of this format that is here already (.json, .json.gz); null: downloaded once, into the cache."""


class DTNetMP(Dataset):
    """The DTNet paper's 7,277 Materials Project crystals, to be downloaded: electronic, ionic and total tensors.

    By id; the paper's cleaning, which also drops elements that its encoder lacks, leaves 6,648.
    Tensors of Materials Project's API may be in another frame than their structure: `zoo data check dtnet-mp`.
    """

    Hypers = DTNetMPHypers
    licence: ClassVar[str] = (
        "data of the Materials Project, CC BY 4.0 (materialsproject.org/about/terms); the file is published by "
        "github.com/pfnet-research/dielectric-pred without a licence of its own"
    )
    citation: ClassVar[str] = references("mao2024dtnet", "jain2013materials", "petousis2017dielectric")

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the electronic, ionic and total dielectric tensor; dimensionless."""
        return DIELECTRIC

    def fetch(self) -> Path:
        """Return the file that `path` names or, downloaded if necessary, the one in the cache.

        Raises:
            ZooError: it cannot be downloaded; the message says from where and to where to do so by hand.
        """
        if self.hypers.path is not None:
            return user_path(self.hypers.path, "dataset.path")
        return download(URL, SHA256, cache_root() / "datasets" / "dtnet-mp" / "mp_dielectric.json")

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file.

        Raises:
            ZooError: the file cannot be downloaded or read.
        """
        return sha256_of(self.fetch())

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records in the order of the file.

        Raises:
            ZooError: the file cannot be downloaded or read.
        """
        yield from records_of(json_entries(self.fetch()), DIELECTRIC, "dtnet-mp", "PBE")
