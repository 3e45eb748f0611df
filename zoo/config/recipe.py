"""Recipes: each experiment is one YAML file with typed keys; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from zoo.config.dataset_settings import Splitting
from zoo.config.sections import (
    Cache,
    Convolution,
    Data,
    EncoderChoice,
    ForceConstants,
    Graph,
    Plugin,
    Section,
    Tracking,
    Training,
)
from zoo.config.yaml_text import parse_yaml
from zoo.errors import ZooError, did_you_mean, explain_validation
from zoo.storage import checksums

PLUGIN_SECTIONS = ("dataset", "encoder", "readout")
PLUGIN_KINDS = (*PLUGIN_SECTIONS, "objective", "acquisition", "oracle")


class Recipe(Section):
    """Complete description of an experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the run and, with hyphens, of the registered model."""
    description: str = ""
    """One line for `zoo recipes`."""
    dataset: Plugin
    """Dataset of crystals and tensors."""
    auxiliary: tuple[Plugin, ...] = ()
    """Further datasets for the training part alone: all their crystals but the twins of validation and test part."""
    target: str
    """Name of the tensor in the dataset that the model predicts."""
    data: Data = Data()
    split: Splitting = Splitting()
    encoder: EncoderChoice
    """Encoder, which maps a crystal to equivariant features."""
    readout: Plugin
    """Readout, which maps features to the tensor."""
    training: Training = Training()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=(0,), min_length=1)
    """Random seeds, of which each trains a model; `split.seed` follows the seed unless it is fixed."""
    device: str = "auto"
    """Device of torch, or auto: cuda, else mps, else cpu."""
    graph: Graph = Graph()
    convolution: Convolution = Convolution()
    force_constants: ForceConstants = ForceConstants()
    cache: Cache = Cache()
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _of_readouts(cls, content: Any) -> Any:
        """Read `readouts: {electronic: ..., ionic: ...}` as the readout `joint` of these."""
        if not isinstance(content, dict) or "readouts" not in content:
            return content
        if "readout" in content:
            raise ValueError("readout is for one tensor, readouts for several: leave one of them out")
        if not isinstance(content["readouts"], dict):
            raise ValueError("readouts names a readout of each part: {electronic: {name: ...}, ionic: {name: ...}}")
        rest = {key: value for key, value in content.items() if key != "readouts"}
        return {**rest, "readout": {"name": "joint", **content["readouts"]}}

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("the seeds must differ")
        return seeds

    @model_validator(mode="after")
    def _share_of_auxiliary(self) -> Recipe:
        if self.auxiliary and self.training.batch_edges is not None and self.training.auxiliary_share is not None:
            raise ValueError("training.batch_edges takes all auxiliary crystals: set training.auxiliary_share: null")
        return self

    @property
    def registered_name(self) -> str:
        """Name of the registered model: that of the recipe, with hyphens."""
        return self.name.replace("_", "-")

    @property
    def plugins(self) -> dict[str, str]:
        """Names of dataset, encoder and readout by kind."""
        return {"dataset": self.dataset.name, "encoder": self.encoder.name, "readout": self.readout.name}


def shipped() -> dict[str, Path]:
    """Return the paths of the recipes that ship with the zoo, by name."""
    folder = Path(str(resources.files("zoo_recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def kind_of(content: dict[str, Any]) -> str:
    """Return the command that a recipe is for: `run`, `screen`, `discover` or `pretrain`."""
    marks = {"oracle": "discover", "candidates": "screen", "sources": "pretrain"}
    return next((command for mark, command in marks.items() if mark in content), "run")


def for_command(command: str) -> dict[str, Path]:
    """Return the paths of the shipped recipes for a command (`run`, `screen`, ...), by name."""
    return {
        name: path
        for name, path in shipped().items()
        if kind_of(yaml.safe_load(path.read_text(encoding="utf-8"))) == command
    }


def refuse_other_kind(content: dict[str, Any], command: str, where: str) -> None:
    """Check by its keys that a recipe is for a command.

    Raises:
        ZooError: the recipe is for another command.
    """
    kind = kind_of(content)
    if kind != command and not (kind == "run" and "readout" not in content):
        does = {
            "run": "trains a model",
            "screen": "is a screening",
            "discover": "is a discovery",
            "pretrain": "pretrains a potential",
        }
        raise ZooError(f"{where} {does[kind]}: zoo {kind} {where}")


def find(name_or_path: str) -> Path:
    """Return the path of a recipe that is given as a file or by the name of a shipped one.

    Raises:
        ZooError: there is no such file or shipped recipe.
    """
    path = Path(name_or_path)
    if _there(path) and path.is_file():
        return path
    recipes = shipped()
    if name_or_path in recipes:
        return recipes[name_or_path]
    raise ZooError(f"no recipe '{name_or_path}': neither a file nor one that ships.{did_you_mean(path.stem, recipes)}")


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe from a file or by name, with `key.key=value` overrides (values are YAML).

    A `sweep` section is left out: the result is the recipe that the sweep varies (`zoo.sweep`).

    Raises:
        ZooError: no such recipe, no YAML, an unknown key, a bad value.
    """
    content, where = read_content(name_or_path, overrides)
    content.pop("sweep", None)
    return parse(content, where)


def read_content(name_or_path: str, overrides: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """Return the unchecked content of a recipe file with the overrides, and the path of the file.

    Raises:
        ZooError: no such recipe, no YAML.
    """
    path = find(name_or_path)
    checksums.verify(path)  # that of a run folder has one
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (ZooError, UnicodeDecodeError) as error:
        raise ZooError(f"{path} {error if isinstance(error, ZooError) else f'is no valid YAML: {error}'}") from None
    if not isinstance(content, dict):
        raise ZooError(f"{path} is no recipe: it must be a mapping of keys to values")
    names = {dotted: _name_of(choice) for dotted, _, choice in _choices(content)}
    changed = []
    for override in overrides:
        dotted, value = parse_override(override)
        put(content, dotted, value)
        changed.append(dotted)
    for dotted, kind, choice in _choices(content):
        if f"{dotted}.name" in changed and isinstance(choice, dict) and names.get(dotted) != _name_of(choice):
            put(content, dotted, _without_old_settings(kind, choice, dotted, changed))
    make_path_absolute(content.get("dataset"))
    make_path_absolute(content.get("auxiliary"))
    make_path_absolute(content.get("split"))
    make_path_absolute(content.get("encoder"), "weights")
    constants = content.get("force_constants")
    make_path_absolute(constants.get("potential") if isinstance(constants, dict) else None, "weights")
    return content, str(path)


def _name_of(choice: Any) -> str | None:
    name = choice.get("name") if isinstance(choice, dict) else None
    return name if isinstance(name, str) else None


def _choices(content: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Return the dotted key, the kind and the section of each choice of a plugin, that of each part's readout too."""
    found = [(kind, kind, content.get(kind)) for kind in PLUGIN_KINDS]
    for section in ("readout", "readouts"):
        parts = content.get(section)
        if isinstance(parts, dict) and (section == "readouts" or _name_of(parts) == "joint"):
            found += [(f"{section}.{key}", "readout", part) for key, part in parts.items() if isinstance(part, dict)]
    return found


def _without_old_settings(kind: str, choice: dict[str, Any], where: str, changes: Iterable[str]) -> dict[str, Any]:
    """Drop the settings of the plugin in the file that the plugin of the command line does not know."""
    from zoo.config import plugins  # here: whoever only lists recipes needs no torch

    name = _name_of(choice)
    known = {*EncoderChoice.model_fields, *(plugins.load(kind, name).Hypers.model_fields if name else ())}
    overridden = {
        dotted.removeprefix(f"{where}.").split(".")[0] for dotted in changes if dotted.startswith(f"{where}.")
    }
    return {key: value for key, value in choice.items() if key in known or key in overridden}


def make_path_absolute(section: Any, key: str = "path") -> None:
    """Make a path in a section absolute: runs are resumed from other folders too. Nested datasets are included."""
    if isinstance(section, dict):
        if isinstance(section.get(key), str) and _there(Path(section[key])):
            section[key] = str(Path(section[key]).resolve())
        make_path_absolute(section.get("dataset"))
        make_path_absolute(section.get("datasets"))
    elif isinstance(section, list):
        for entry in section:
            make_path_absolute(entry)


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # so long a name, for one
        return False


def parse(content: dict[str, Any], where: str) -> Recipe:
    """Build a recipe from a mapping.

    Raises:
        ZooError: an unknown key, a bad value, or a recipe of another command.
    """
    refuse_other_kind(content, "run", where)
    return checked(Recipe, content, where)


Kind = TypeVar("Kind", bound=Section)


def checked(kind: type[Kind], content: dict[str, Any], where: str) -> Kind:
    """Build a recipe of a given class from a mapping that was read from `where`.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    try:
        return kind(**content)
    except ValidationError as error:
        raise ZooError(explain_validation(error, kind, where)) from None
    except TypeError:
        raise ZooError(f"{where}: every key of a recipe must be a text") from None


def parse_override(override: str) -> tuple[str, Any]:
    """Parse `key.key=value` into the dotted key and the value.

    Raises:
        ZooError: the override does not have that form.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ZooError(f"'{override[:80]}' is no override; write key=value, as in training.max_epochs=5")
    try:
        return dotted, parse_yaml(text)
    except ZooError as error:
        raise ZooError(f"the value of '{override[:80]}' {error}") from None


def put(content: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key of a recipe's content, such as `training.max_epochs`; missing sections are created.

    Raises:
        ZooError: a parent of the key is a value.
    """
    *parents, last = dotted.split(".")
    here = content
    for key in parents:
        inner = here.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ZooError(f"'{dotted}': '{key}' is a value, not a section")
        here = inner
    here[last] = value


def dump(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML, with every default written out."""
    return yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True)


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Return every key with its value, ready for JSON; a tracking URI with a password is left out."""
    content = recipe.model_dump(mode="json")
    if recipe.tracking.uri is not None and "@" in recipe.tracking.uri:
        content["tracking"]["uri"] = None
    return content
