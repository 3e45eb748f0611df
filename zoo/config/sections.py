"""The sections of a recipe, each key with its type, default and docstring."""

from __future__ import annotations

import sys
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from zoo.config.dataset_settings import Cleaning, FrameCheck
from zoo.errors import ZooError
from zoo.graphs import neighbour_backends

Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base class of recipes and their sections; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Plugin(BaseModel):
    """Choice of a plugin by name, with its hyperparameters beside the name; the plugin itself validates them."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the plugin (`zoo list`)."""

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, content: Any) -> Any:
        """Read `{name: teanet, weights: FILE}`, an encoder that takes no weights of its own, as `pretrained` of it."""
        if not isinstance(content, dict) or "weights" not in content:
            return content
        from zoo.config import plugins  # here: whoever only lists recipes needs no torch

        return plugins.on_weights(content)

    @property
    def settings(self) -> dict[str, Any]:
        """Hyperparameters: all keys but the name."""
        return dict(self.model_extra or {})


class EncoderChoice(Plugin):
    """Choice of an encoder by name, and whether it is trained; its hyperparameters beside the name."""

    trainable: bool | None = None
    """true: fine-tune a pretrained encoder, which then runs in every step; null: freeze pretrained encoders only."""
    learning_rate: PositiveFloat | None = None
    """Learning rate of the encoder's parameters at the start of training; null: training.learning_rate."""


class Data(Section):
    """Preparation of the records that the dataset yields; the steps are applied in this order."""

    cleaning: Cleaning | Literal["default"] | None = "default"
    """Range that every element of the tensor must lie in; null keeps all; default: -10 to 100 for dielectric tensors,
    none for any other."""
    frame: FrameCheck | None = FrameCheck()
    """Check that tensors are invariant under the point group of their own structure; null: no check."""
    deduplicate: bool = True
    """Remove duplicates (same formula, same space group, volume within 2 %); the lowest key stays."""
    on_bad_record: Literal["stop", "skip"] = "stop"
    """stop: a record that cannot be read stops the run; skip: it is listed in data_report.json."""
    limit: PositiveInt | None = None
    """Largest number of records (the first by key) of each dataset that are used, for a quick trial; null: all."""


class LabelScales(Section):
    """Factors by which the mean absolute error of each label enters the loss of a joint target."""

    electronic: float = Field(default=1.0, ge=0)
    """Factor of ε∞'s error; the three tensors count by a third each."""
    ionic: float = Field(default=1.0, ge=0)
    """Factor of ε0's error."""
    total: float = Field(default=1.0, ge=0)
    """Factor of ε's error."""
    means: float = Field(default=0.0, ge=0)
    """Factor of the error of a mean, of tensors that are known by it alone; 0.3 was worse than none (docs/results)."""
    born: float = Field(default=1.0, ge=0)
    """Factor of the error of Born charges, in e; where the readout makes them."""
    band_gap: float = Field(default=0.1, ge=0)
    """Factor of the error of the band gap, in eV; where the readout makes one (readouts.electronic.band_gap)."""


class Optimisation(Section):
    """Settings of the trainer, whatever it trains: AdamW with cosine annealing."""

    max_epochs: PositiveInt = 300
    """Largest number of epochs, over which the learning rate falls to zero along a cosine."""
    batch_size: PositiveInt = 64
    """Number of crystals per step."""
    batch_edges: PositiveInt | None = None
    """Largest number of edges per step, instead of `batch_size`; a larger crystal is a step by itself. null: none."""
    learning_rate: PositiveFloat = 1e-4
    """Learning rate of AdamW at the start of training."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of AdamW's averages of the gradient and of its square."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW."""
    gradient_clip: PositiveFloat = 2.0
    """Largest norm of the gradient of all parameters; a larger gradient is scaled down."""
    patience: PositiveInt = 200
    """Number of epochs without a lower validation error after which training stops."""
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    """Precision of linear maps and perceptrons in training steps (tf32: of all matrix products), else float32."""
    weight_average: float | None = Field(default=None, gt=0, lt=1)
    """Momentum per step of a moving average of the weights, which is then validated and saved; null: no average."""


class Training(Optimisation):
    """Training by AdamW with cosine annealing on the MAE of the tensor's independent components."""

    labels: LabelScales = LabelScales()
    auxiliary_share: PositiveFloat | None = 1.0
    """Auxiliary crystals in an epoch for each crystal of the training part, drawn anew; null: all in every epoch."""


REMOVED = {"vesin": "graph.backend", "compiled": "convolution.backend", "cuequivariance": "convolution.backend"}
"""Backend that recipes of earlier versions may name -> its key; `auto` takes its place, with the same results."""


@cache
def _tell_of_cut(name: str) -> None:
    print(f"zoo: {REMOVED[name]}: {name} is no longer available; auto gives the same result", file=sys.stderr)


def _neighbour_list(name: str) -> str:
    if REMOVED.get(name) == "graph.backend":
        _tell_of_cut(name)
        return neighbour_backends.DEFAULT
    neighbour_backends.refuse_unknown(name)
    return name


def _convolution(name: str) -> str:
    if REMOVED.get(name) == "convolution.backend":
        _tell_of_cut(name)
    elif name not in ("auto", "segments"):
        raise ZooError(f"there is no convolution backend '{name}'; there is auto")
    return "auto"


class Graph(Section):
    """Search for the neighbours of the atoms."""

    backend: Annotated[str, AfterValidator(_neighbour_list)] = neighbour_backends.DEFAULT
    """auto, images, pymatgen or torch-cluster: all find the same edges (docs/neighbours.md)."""


class Convolution(Section):
    """The convolution of `nequip`, `sevennet` and `mace`; kept so that recipes of earlier versions can be read."""

    backend: Annotated[str, AfterValidator(_convolution)] = "auto"
    """auto: there is one way to compute it (docs/convolution.md)."""


class Cache(Section):
    """Cache on disk of the embeddings of a frozen encoder."""

    dtype: Literal["float32", "float16"] = "float32"
    """Number format; float16 takes half the space at a relative error of 2e-4."""


class ForceConstants(Section):
    """Force constants at Γ, for a readout that needs them; computed once and cached."""

    potential: Plugin | tuple[Plugin, ...] | None = None
    """Encoder whose energy is differentiated twice, settings beside its name; a list: their mean; null: the recipe's
    own encoder."""
    of_records: Literal["none", "records", "potential"] = "none"
    """Force constants of auxiliary crystals whose records hold some, for target: dielectric. records: these,
    uncorrected; potential: computed; none: their ionic and total label, which follow from charges and force constants,
    are left out. For ionic or total alone they are computed always."""
    largest_auxiliary: NonNegativeInt | None = None
    """Atoms of the largest cell of auxiliary sources whose force constants are computed; larger ones lose their ionic
    and total label, and the means of these. null: all are computed."""


class Tracking(Section):
    """Tracking of the run by MLflow."""

    uri: str | None = None
    """Tracking URI; null: MLFLOW_TRACKING_URI from the environment, else sqlite:///mlflow.db here."""
    experiment: str = "zoo"
    """Name of the MLflow experiment."""
    register_model: bool = True
    """Register the trained model under the recipe's name, with hyphens."""
    enabled: bool = True
    """Send the run to MLflow; false: `zoo track RUN_DIR` can do it later."""
