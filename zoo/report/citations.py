"""BibTeX of what an answer rests on: the zoo, encoder, potential and readout of a model, and the data behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zoo import __version__
from zoo.config import plugins
from zoo.config.recipe import Plugin, Recipe
from zoo.contract.references import entries, references
from zoo.errors import ZooError
from zoo.phonons import potentials
from zoo.storage.weights import read_metadata, weights_file

ZOO = f"""@misc{{zoo,
  author = {{{{The zoo authors}}}},
  title = {{zoo: open, modular equivariant models for crystal tensors}},
  year = {{2026}},
  note = {{Version {__version__}}},
}}
"""
"""The zoo itself, as in CITATION.cff."""
OWN = "crystal-tensor-zoo"


@dataclass
class Bibliography:
    """Entries of a bibliography, by key, and what it cannot cite.

    Attributes:
        found: key -> BibTeX entry.
        unsaid: plugins and files that do not say what to cite, in words.
    """

    found: dict[str, str] = field(default_factory=dict)
    unsaid: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """BibTeX, sorted by key; before the entries, as comments, what names no citation."""
        comments = "".join(f"% {line}\n" for line in dict.fromkeys(self.unsaid))
        return comments + ("\n" if comments else "") + "\n".join(self.found[key] for key in sorted(self.found))

    def add(self, text: str, whose: str) -> None:
        """Take in BibTeX; an entry of a key that is there already is the same publication, and the first one stays.

        Raises:
            ZooError: it is no BibTeX; `whose` it is.
        """
        try:
            self.found = {**entries(text), **self.found}
        except ValueError as error:
            raise ZooError(f"the citation of {whose} cannot be read: {error}") from None


def of_the_zoo() -> Bibliography:
    """The zoo, and the paper whose idea it opens: all that can be said without a model."""
    return Bibliography(entries(ZOO + "\n" + references("mao2024dtnet")))


def of_recipe(config: Recipe) -> Bibliography:
    """Gather the publications that the answers of a model of this recipe rest on.

    Raises:
        ZooError: a plugin is not installed, or refuses its settings; weights that it names are not here or damaged.
    """
    made = of_the_zoo()
    parts = [
        *_each("encoder", config.encoder),
        *_each("readout", config.readout),
        *(part for choice in (config.dataset, *config.auxiliary) for part in _each("dataset", choice)),
    ]
    if any(part.kind == "readout" and part.plugin.needs.force_constants for part in parts):
        parts += [part for choice in potentials.chosen(config) for part in _each("encoder", choice)]
    for part in parts:
        _cite(part, made)
    return made


@dataclass(frozen=True)
class _Part:
    """A plugin of a recipe with its hyperparameters."""

    kind: str
    name: str
    plugin: Any
    hypers: Any


def _each(kind: str, choice: Plugin) -> Iterator[_Part]:
    """The plugin that is chosen, or those that it is made of: `joint`, `joined`, `concatenated` choose others."""
    hypers = plugins.hypers(kind, choice.name, choice.settings)
    values = [getattr(hypers, name) for name in type(hypers).model_fields]
    inside = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    yield _Part(kind, choice.name, plugins.load(kind, choice.name), hypers)
    for one in inside:
        if isinstance(one, Plugin):
            yield from _each(kind, one)


def _cite(part: _Part, made: Bibliography) -> None:
    text = part.plugin.cites(part.hypers)
    point = plugins.available(part.kind)[part.name]
    made.add(text, f"the {part.kind} '{part.name}'")
    path = getattr(part.hypers, "path", None)
    if not text and part.kind == "dataset" and part.name == "file":
        made.unsaid.append(f"the data are a file of yours: {path}")
    elif not text and not plugins.origin(point).startswith(f"{OWN} "):
        made.unsaid.append(f"the {part.kind} '{part.name}' ({plugins.origin(point)}) does not say what to cite")
    if part.kind == "encoder":
        _cite_training(part, made)


def _cite_training(part: _Part, made: Bibliography) -> None:
    """The datasets that `zoo pretrain` trained the encoder's weights on, as their file tells."""
    weights = getattr(part.hypers, "weights", None)
    if not isinstance(weights, str) or weights in part.plugin.public_weights:
        return
    inner = getattr(part.hypers, "encoder", None)  # of `pretrained`, whose file is that of the encoder within
    name = inner.name if isinstance(inner, Plugin) else part.name
    try:
        about = read_metadata(name, weights_file(weights)).get("pretraining", {})
    except ZooError:  # a model may be cited on another machine than it was trained on
        made.unsaid.append(f"the weights {weights} are not here to say what they were trained on")
        return
    for source in about.get("sources", ()):
        content = {key: value for key, value in source["source"].items() if key != "share"}
        if content["name"] == "file":
            made.unsaid.append(f"the weights {weights} were trained on a file: {content.get('path')}")
            continue
        for data in _each("dataset", Plugin(**content)):
            _cite(data, made)
