"""Recipes: one YAML file an experiment, typed, unknown keys refused."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from zoo.config.dataset_settings import Cleaning, FrameCheck, Splitting
from zoo.errors import ZooError, did_you_mean, explain_validation
from zoo.graphs import neighbour_backends

PLUGIN_SECTIONS = ("dataset", "encoder", "readout")
PLUGIN_KINDS = (*PLUGIN_SECTIONS, "objective", "acquisition", "oracle")
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Plugin(BaseModel):
    """A plugin by name, its hyperparameters beside it; the plugin itself checks them."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the plugin (`zoo list`)."""

    @property
    def settings(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


class EncoderChoice(Plugin):
    """An encoder by name, and whether it learns; its hyperparameters beside it."""

    trainable: bool | None = None
    """true: fine-tune a pretrained encoder, which then runs in every step; null: it is frozen, all others learn."""
    learning_rate: PositiveFloat | None = None
    """Of the encoder's own parameters, at the start; null: training.learning_rate."""


class Data(Section):
    """What is done to the records that the dataset yields, in this order."""

    cleaning: Cleaning | Literal["default"] | None = "default"
    """Range that every element of the tensor must lie in; null keeps all; default: -10 to 100 for dielectric tensors,
    none for any other."""
    frame: FrameCheck | None = FrameCheck()
    """Tensors that are not invariant under the point group of their own structure; null: no check."""
    deduplicate: bool = True
    """Same formula, same space group, volume within 2 %: the lowest key stays."""
    on_bad_record: Literal["stop", "skip"] = "stop"
    """A record that cannot be read stops the run, or is skipped and listed in data_report.json."""
    limit: PositiveInt | None = None
    """Use only the first so many records (sorted by key), to try something out."""


class Training(Section):
    """How the model is trained: MAE of the tensor's independent components, AdamW, cosine annealing."""

    max_epochs: PositiveInt = 300
    """The learning rate falls to zero, along a cosine, over so many epochs."""
    batch_size: PositiveInt = 64
    """Crystals a step."""
    batch_edges: PositiveInt | None = None
    """Edges a step at most, in place of `batch_size`; a larger crystal is a step by itself. null: by crystals."""
    learning_rate: PositiveFloat = 1e-4
    """Of AdamW, at the start."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    gradient_clip: PositiveFloat = 2.0
    """Largest norm of the gradient."""
    patience: PositiveInt = 200
    """Stop after so many epochs without a lower validation error."""
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    """Of linear maps and perceptrons in training steps (tf32: of all matrix products); all else is float32."""
    weight_average: float | None = Field(default=None, gt=0, lt=1)
    """Momentum, a step, of a moving average of the weights, which is what is validated and kept; null: no average."""


CUT = {"vesin": "graph.backend", "compiled": "convolution.backend", "cuequivariance": "convolution.backend"}
"""Backend that recipes of earlier versions may name -> its key; `auto` takes its place, with the same results."""


@cache
def _tell_of_cut(name: str) -> None:
    print(f"zoo: {CUT[name]}: {name} is no longer available; auto gives the same result", file=sys.stderr)


def _neighbour_list(name: str) -> str:
    if CUT.get(name) == "graph.backend":
        _tell_of_cut(name)
        return neighbour_backends.DEFAULT
    neighbour_backends.refuse_unknown(name)
    return name


def _convolution(name: str) -> str:
    if CUT.get(name) == "convolution.backend":
        _tell_of_cut(name)
    elif name not in ("auto", "segments"):
        raise ZooError(f"there is no convolution backend '{name}'; there is auto")
    return "auto"


class Graph(Section):
    """How the neighbours of the atoms are found."""

    backend: Annotated[str, AfterValidator(_neighbour_list)] = neighbour_backends.DEFAULT
    """auto, images, pymatgen or torch-cluster: all find the same edges (docs/neighbours.md)."""


class Convolution(Section):
    """The convolution of `nequip`, `sevennet` and `mace`; kept so that recipes of earlier versions can be read."""

    backend: Annotated[str, AfterValidator(_convolution)] = "auto"
    """auto: there is one way to compute it (docs/convolution.md)."""


class Cache(Section):
    """Embeddings of a frozen encoder on disk."""

    dtype: Literal["float32", "float16"] = "float32"
    """float16 takes half the space and costs 2e-4 relative."""


class Tracking(Section):
    """Where MLflow keeps the run."""

    uri: str | None = None
    """Tracking URI; null: MLFLOW_TRACKING_URI from the environment, else sqlite:///mlflow.db here."""
    experiment: str = "zoo"
    """Name of the MLflow experiment."""
    register_model: bool = True
    """Register the trained model under the recipe's name, with hyphens."""
    enabled: bool = True
    """false: nothing is sent; `zoo track RUN_DIR` can do it later."""


class Recipe(Section):
    """All that fixes an experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the run and, with hyphens, of the registered model."""
    description: str = ""
    """One line for `zoo recipes`."""
    dataset: Plugin
    """Where crystals and tensors come from."""
    target: str
    """Which tensor of the dataset."""
    data: Data = Data()
    split: Splitting = Splitting()
    encoder: EncoderChoice
    """Crystal -> equivariant features."""
    readout: Plugin
    """Features -> tensor."""
    training: Training = Training()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=(0,), min_length=1)
    """One model is trained for each; `split.seed` follows it unless it is fixed."""
    device: str = "auto"
    """auto (cuda, then mps, then cpu), or a torch device."""
    graph: Graph = Graph()
    convolution: Convolution = Convolution()
    cache: Cache = Cache()
    tracking: Tracking = Tracking()

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("the seeds must differ")
        return seeds

    @property
    def registered_name(self) -> str:
        """The name of the registered model."""
        return self.name.replace("_", "-")

    @property
    def plugins(self) -> dict[str, str]:
        """Kind -> name of the three plugins."""
        return {"dataset": self.dataset.name, "encoder": self.encoder.name, "readout": self.readout.name}


def shipped() -> dict[str, Path]:
    """Recipes that come with the zoo, by name."""
    folder = Path(str(resources.files("zoo_recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def kind_of(content: dict[str, Any]) -> str:
    """The command that a recipe is for: `run`, `screen` or `discover`."""
    return "discover" if "oracle" in content else "screen" if "candidates" in content else "run"


def for_command(command: str) -> dict[str, Path]:
    """Those recipes that ship which are for `zoo run`, `zoo screen` or `zoo discover`, by name."""
    return {
        name: path
        for name, path in shipped().items()
        if kind_of(yaml.safe_load(path.read_text(encoding="utf-8"))) == command
    }


def refuse_other_kind(content: dict[str, Any], command: str, where: str) -> None:
    """See that a recipe is for a command, which is known by the keys that only such recipes have.

    Raises:
        ZooError: it is for another one.
    """
    kind = kind_of(content)
    if kind != command and not (kind == "run" and "readout" not in content):
        does = {"run": "trains a model", "screen": "is a screening", "discover": "is a discovery"}
        raise ZooError(f"{where} {does[kind]}: zoo {kind} {where}")


def find(name_or_path: str) -> Path:
    """A file as it is, or a shipped recipe by name.

    Raises:
        ZooError: there is neither.
    """
    path = Path(name_or_path)
    if _there(path) and path.is_file():
        return path
    recipes = shipped()
    if name_or_path in recipes:
        return recipes[name_or_path]
    raise ZooError(f"no recipe '{name_or_path}': neither a file nor one that ships.{did_you_mean(path.stem, recipes)}")


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe from a file or by name, with `key.key=value` overrides (values are YAML).

    A `sweep` section is left out: what is left is a recipe of its own, the one that the sweep varies (`zoo.sweep`).

    Raises:
        ZooError: no such recipe, no YAML, an unknown key, a bad value.
    """
    content, where = read_content(name_or_path, overrides)
    content.pop("sweep", None)
    return parse(content, where)


def read_content(name_or_path: str, overrides: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """What a recipe file says, with the overrides, unchecked; and the path of the file.

    Raises:
        ZooError: no such recipe, no YAML.
    """
    path = find(name_or_path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ZooError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ZooError(f"{path} is no recipe: it must be a mapping of keys to values")
    names = {kind: _name_of(content.get(kind)) for kind in PLUGIN_KINDS}
    changed = []
    for override in overrides:
        dotted, value = parse_override(override)
        put(content, dotted, value)
        changed.append(dotted)
    for kind, name in names.items():
        choice = content.get(kind)
        if f"{kind}.name" in changed and isinstance(choice, dict) and name != _name_of(choice):
            content[kind] = _without_old_settings(kind, choice, changed)
    make_path_absolute(content.get("dataset"))
    make_path_absolute(content.get("split"))
    return content, str(path)


def _name_of(choice: Any) -> str | None:
    name = choice.get("name") if isinstance(choice, dict) else None
    return name if isinstance(name, str) else None


def _without_old_settings(kind: str, choice: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """What a plugin that the command line names takes over of the settings that a file gives to another one."""
    from zoo.config import plugins  # here: whoever only lists recipes needs no torch

    name = _name_of(choice)
    known = {*EncoderChoice.model_fields, *(plugins.load(kind, name).Hypers.model_fields if name else ())}
    said = {dotted.split(".")[1] for dotted in changes if dotted.startswith(f"{kind}.")}
    return {key: value for key, value in choice.items() if key in known or key in said}


def make_path_absolute(section: Any, key: str = "path") -> None:
    """A run is resumed, and its model evaluated, from other folders too; datasets within a dataset included."""
    if isinstance(section, dict):
        if isinstance(section.get(key), str) and _there(Path(section[key])):
            section[key] = str(Path(section[key]).resolve())
        make_path_absolute(section.get("dataset"))
        make_path_absolute(section.get("datasets"))
    elif isinstance(section, list):
        for one in section:
            make_path_absolute(one)


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # so long a name, for one
        return False


def parse(content: dict[str, Any], where: str) -> Recipe:
    """A recipe from a mapping.

    Raises:
        ZooError: an unknown key or a bad value, or it is not for a training.
    """
    refuse_other_kind(content, "run", where)
    return checked(Recipe, content, where)


Kind = TypeVar("Kind", bound=Section)


def checked(kind: type[Kind], content: dict[str, Any], where: str) -> Kind:
    """A recipe of some kind from a mapping that `where` holds.

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
    """`key.key=value` as the dotted key and the value.

    Raises:
        ZooError: it is not of that form.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ZooError(f"'{override}' is no override; write key=value, as in training.max_epochs=5")
    try:
        return dotted, yaml.safe_load(text)
    except yaml.YAMLError:
        raise ZooError(f"the value of '{override}' is no valid YAML") from None


def put(content: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a key of a recipe's content, `training.max_epochs` for one; sections that are missing are made.

    Raises:
        ZooError: the way there leads through a value.
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
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True)


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value, ready for JSON; a password in the tracking URI is left out."""
    content = recipe.model_dump(mode="json")
    if recipe.tracking.uri is not None and "@" in recipe.tracking.uri:
        content["tracking"]["uri"] = None
    return content
