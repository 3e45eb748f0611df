"""The recipe of a discovery: how models are trained, what is searched, who calculates, how many rounds."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt, model_validator

from zoo.config import plugins, recipe
from zoo.config.recipe import Plugin, Recipe, Section, Tracking
from zoo.discovery.screen_config import Search
from zoo.errors import ZooError


class Models(Section):
    """Training of the models of each round."""

    recipe: str
    """A recipe for `zoo run`: a file, or the name of one that ships. Its dataset holds what is known at the start."""
    members: PositiveInt = 5
    """Seeds 0, 1, ... on one split: the ensemble, whose spread acquisitions read."""
    change: dict[str, Any] = Field(default_factory=dict)
    """Keys of that recipe, dotted, with other values: {training.max_epochs: 40}."""
    first: str | None = None
    """A finished run of the same recipe and crystals, which the first round takes in place of a training."""
    last: bool = True
    """Train once more after the last round, on all that is known then, and register that model."""


class Start(Section):
    """Crystals of the recipe's dataset that are known when the first round begins."""

    share: float | None = Field(default=None, gt=0, lt=1)
    """Such a share of the usable ones, drawn at random; the others are hidden, to test a search. null: all."""
    seed: int = Field(default=0, ge=0)
    """Seed of the random choice."""


class Discovery(Search):
    """All that fixes a discovery."""

    MAY_CHANGE = (*Search.MAY_CHANGE, "rounds", "tracking", "candidates")
    model: Models
    start: Start = Start()
    oracle: Plugin
    """Who tells the tensors of the chosen crystals (`zoo list`)."""
    rounds: PositiveInt = 3
    """So many times `top` crystals are chosen and calculated; the paper's three."""
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _none_by_model(self) -> Discovery:
        if not self.filters.unseen:
            raise ValueError("filters.unseen: what is known is never asked for again")
        return self

    @property
    def plugins(self) -> dict[str, str]:
        """Kind -> name."""
        return {**super().plugins, "oracle": self.oracle.name}

    @property
    def content(self) -> dict[str, Any]:
        """Every key with its value, ready for JSON; a password in the tracking URI is left out."""
        content = super().content
        if self.tracking.uri is not None and "@" in self.tracking.uri:
            content["tracking"]["uri"] = None
        return content

    @property
    def fixed(self) -> dict[str, Any]:
        """The keys that must be the same when the work is resumed, without settings that the oracle says may change."""
        fixed = super().fixed
        free = plugins.load("oracle", self.oracle.name).may_change
        return fixed | {"oracle": {key: value for key, value in fixed["oracle"].items() if key not in free}}

    def training(self) -> Recipe:
        """The recipe of the models, on the dataset as a whole.

        Raises:
            ZooError: it is not there or not right.
        """
        content, where = recipe.read_content(self.model.recipe)
        content.pop("sweep", None)
        content["seeds"] = list(range(self.model.members))
        for key, value in self.model.change.items():
            recipe.put(content, key, value)
        split = content.setdefault("split", {})
        if isinstance(split, dict) and split.get("seed") is None:
            split["seed"] = 0  # members on different splits would have seen each other's validation crystals
        for section in ("dataset", "split"):
            recipe.make_path_absolute(content.get(section))
        content["name"] = self.name
        content["device"] = self.device
        config = recipe.parse(content, f"model.recipe: {where}")
        return config.model_copy(update={"tracking": self.tracking})


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Discovery:
    """A discovery from a file or by name, with `key.key=value` overrides (values are YAML).

    Raises:
        ZooError: no such recipe, one of another kind, no YAML, an unknown key, a bad value.
    """
    content, where = recipe.read_content(name_or_path, overrides)
    recipe.refuse_other_kind(content, "discover", name_or_path)
    _refuse_keys_of_models(content, where, overrides)
    recipe.make_path_absolute(content.get("candidates"))
    for key in ("recipe", "first"):
        recipe.make_path_absolute(content.get("model"), key)
    oracle = content.get("oracle")
    for key, value in oracle.items() if isinstance(oracle, dict) else ():
        if isinstance(value, str) and "/" in value:  # a bare word is a program, or the name of something
            recipe.make_path_absolute(oracle, key)
    recipe.make_path_absolute(oracle)
    return parse(content, where)


def _refuse_keys_of_models(content: dict[str, Any], where: str, overrides: tuple[str, ...]) -> None:
    """Name `model.change` to whoever gives a discovery a key of the recipe by which its models are trained.

    Raises:
        ZooError: there is such a key.
    """
    theirs = next((key for key in content if key in Recipe.model_fields and key not in Discovery.model_fields), None)
    if theirs is None:
        return
    given = next((one for one in overrides if one.split("=")[0].split(".")[0] == theirs), f"{theirs}.KEY=VALUE")
    dotted, _, value = given.partition("=")
    fix = f"say 'model.change={{{dotted}: {value}}}'"
    raise ZooError(f"{where}: '{theirs}' is a key of the recipe by which its models are trained: {fix}")


def parse(content: dict[str, Any], where: str) -> Discovery:
    """A discovery from a mapping.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    return recipe.checked(Discovery, content, where)
