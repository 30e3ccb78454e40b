"""The settings of a run: frozen, complete, saved with it. TOML in, TOML out, and no unknown key."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

import numpy as np
import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError

from glassnet.data.augment import Augment, default_augment
from glassnet.data.dataset import Dataset
from glassnet.errors import ConfigError, did_you_mean
from glassnet.losses import LOSSES, Loss, SoftmaxCrossEntropy
from glassnet.optim import OPTIMIZERS, SGD, Optimizer
from glassnet.schedules import SCHEDULES, Constant, Schedule
from glassnet.settings.defaults import defaults_for

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Table = dict[str, Any]

NEEDS = {  # pydantic's kind of error -> what the setting must be
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "sequence_str": "a list of numbers",
    "dict_type": "a table",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "is_instance_of": "a name, a table or an object of class {class}",
}


def as_config_error(error: ValidationError, setting: str = "") -> ConfigError:
    """The first problem, in one sentence: the key, what it must be, what it is.

    setting: the one that all of the error is about; words in its places then are pydantic's, for types.
    """

    def key_of(problem: ErrorDetails) -> str:
        inside = [setting, *(place for place in problem["loc"] if isinstance(place, int))]
        return ".".join(map(str, inside if setting else problem["loc"]))

    problems = error.errors()
    first, key = problems[0], key_of(problems[0])
    if first["type"] == "value_error":  # raised by a check of our own, which says it all
        return ConfigError(str(first["ctx"]["error"]))
    if first["type"] == "extra_forbidden":
        return ConfigError(f"Unknown setting {key!r}.{did_you_mean(key, TrainConfig.model_fields)}")
    if first["type"] == "missing":
        return ConfigError(f"The setting {key!r} is missing. Give it a value.")
    needs = [need(problem) for problem in problems if key_of(problem) == key]
    return ConfigError(f"{key} must be {' or '.join(needs)}, got {first['input']!r}.")


def need(problem: ErrorDetails) -> str:
    """What a setting must be."""
    facts = problem.get("ctx", {})
    kind = "sequence_str" if facts.get("class") == "Sequence" else problem["type"]
    return NEEDS.get(kind, problem["msg"]).format(**facts)


def from_table(kinds: Mapping[str, type], section: str, value: Any) -> Any:
    """{"name": "sgd", "lr": 0.1} -> SGD(lr=0.1); a text is a name alone; an object stays as it is."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return without_numpy(value)
    settings = dict(value)
    name = settings.pop("name", None)
    if name not in kinds:
        raise ConfigError(f"Unknown {section} {name!r}.{did_you_mean(str(name), kinds)}")
    hints = get_type_hints(kinds[name])
    known = [field.name for field in fields(kinds[name])]
    for key, setting in settings.items():
        if key not in known:
            raise ConfigError(f"Unknown setting '{section}.{key}' of {name!r}.{did_you_mean(key, known)}")
        try:
            TypeAdapter(hints[key]).validate_python(setting, strict=True)
        except ValidationError as error:
            raise as_config_error(error, f"{section}.{key}") from None
    return kinds[name](**settings)


def without_numpy(value: Any) -> Any:
    """An object with Python's own numbers: TOML holds no others, and a resumed run computes with these."""
    if not isinstance(value, Schedule | Loss):  # an optimiser sees to its own
        return value
    changes = {
        key: np.asarray(setting).tolist()
        for key, setting in vars(value).items()
        if isinstance(setting, np.generic | np.ndarray)
        or (isinstance(setting, list | tuple) and any(isinstance(number, np.generic) for number in setting))
    }
    return replace(value, **changes) if changes else value


def to_table(kinds: Mapping[str, type], value: Any) -> Table:
    """The inverse of `from_table`; None, which TOML does not have, is left out."""
    name = next((name for name, kind in kinds.items() if kind is type(value)), type(value).__name__)
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(value).items()}
    return {"name": name} | {key: v for key, v in settings.items() if v is not None}


SECTIONS: dict[str, Mapping[str, type]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "loss": LOSSES}
NAMED = ("model", "augment", *SECTIONS)
"""Settings that may be a name, beside which stand settings of what it names."""


def section(name: str) -> BeforeValidator:
    """Lets a section be given as a table or as an object."""
    return BeforeValidator(partial(from_table, SECTIONS[name], name))


def augmentation(value: Any) -> Any:
    """A table of settings, a kind of image such as "digits", or an object, as an Augment."""
    if isinstance(value, str):
        return default_augment(value)
    if isinstance(value, Mapping):
        return from_table({"augment": Augment}, "augment", {"name": "augment", **value})
    return value


class TrainConfig(BaseModel):
    """All that decides the result of a run, beside the data itself. 0 turns an optional bound off.

    data: what `glassnet.data.load` takes, with data_options: such as size = 96 or strict = true for photos.
    model: a name in `glassnet.models`, with model_options such as width = 48; or instead `layers`:
    tables with a type and its settings.
    early_stopping: epochs without a better validation, which is by `monitor` a lower "loss" or a higher
    "accuracy" (of equal ones, as few images give, the lower loss); the best weights are kept.
    sampling: each image once an epoch, or as many of each class ("balanced"): see BatchPlan.
    seed: of shuffling, hold-out and dropout; and of the first weights, unless init_seed is given.
    ema: decay of the moving average of weights that is evaluated and kept; after few steps it is shorter.
    processor: what the compiled engine makes code for. Another kind of processor sums in another order;
    "x86-64-v3" (any with AVX2) gives all x86 machines the same code, at some cost in speed.
    progressive: input sizes as parts of the whole, such as [0.5, 0.75]: the run is cut in as many parts and
    one, and the last is at the whole size.
    tta: "flip" averages predictions over an image and its mirror image, also those of the saved model.
    checkpoint_minutes, checkpoint_steps: how often a run with a folder can be resumed from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    data: str
    data_options: Table = {}
    model: str = ""
    model_options: Table = {}
    layers: list[Table] = []
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=1)
    optimizer: Annotated[InstanceOf[Optimizer], section("optimizer")] = SGD()
    schedule: Annotated[InstanceOf[Schedule], section("schedule")] = Constant()
    loss: Annotated[InstanceOf[Loss], section("loss")] = SoftmaxCrossEntropy()
    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    init_seed: int | None = Field(default=None, ge=0)
    clip_value: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    clip_norm: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    clip_on: Literal["mean", "sum"] = "mean"
    accumulate: int = Field(default=1, ge=1)
    early_stopping: int = Field(default=0, ge=0)
    monitor: Literal["loss", "accuracy"] = "loss"
    augment: Annotated[InstanceOf[Augment], BeforeValidator(augmentation)] = Augment()
    ema: float = Field(default=0.0, ge=0, lt=1)
    progressive: list[Annotated[float, Field(gt=0, lt=1)]] = []
    tta: Literal["none", "flip"] = "none"
    checkpoint_minutes: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    checkpoint_steps: int = Field(default=0, ge=0)
    backend: Literal["auto", "reference", "compiled"] = "auto"
    processor: Literal["host", "x86-64-v3"] = "host"

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise as_config_error(error) from None
        if self.clip_value and self.clip_norm:
            raise ConfigError("clip_value and clip_norm are both set. Use one of them.")
        if self.clip_on == "sum" and not self.clip_value:
            raise ConfigError(
                "clip_on='sum' concerns clip_value, which is not set. Set it, or leave clip_on='mean'."
            )

    @classmethod
    def resolve(cls, settings: Table, data: Dataset | None = None) -> Self:
        """What suits settings["data"], with these settings over it; `data` where it is read already.

        A table `augment` or `model_options` replaces all of it; other sections say only what differs.
        """
        plain = cls(data="").to_dict()
        del plain["data"]
        defaults = defaults_for(str(settings.get("data")), data)
        if "model_options" in settings:
            defaults.pop("model_options", None)
        return cls(**merged(merged(plain, defaults), with_tables(settings)))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], *, data: str | None = None) -> Self:
        """The settings in a TOML file over the defaults of its data; `data` is for files that name none."""
        settings = read_toml(path)
        return cls.resolve(settings if data is None else {"data": data} | settings)

    def override(self, *assignments: str) -> Self:
        """A copy with settings such as "epochs=3" or "optimizer.lr=0.1"; values are TOML, else plain text.

        Names such as "optimizer=adam" come first, wherever they stand: they drop the settings of another.
        """
        settings = self.to_dict()
        for key, value in sorted(map(assigned, assignments), key=lambda pair: not is_name(*pair)):
            change = value
            for part in reversed(key.split(".")):
                change = {part: change}
            settings = merged(settings, with_tables(change))
        return type(self)(**settings)

    def to_dict(self) -> Table:
        """Every setting as plain values, as TOML holds them."""
        plain = {key: getattr(self, key) for key in type(self).model_fields}
        for name, kinds in SECTIONS.items():
            plain[name] = to_table(kinds, plain[name])
        settings = to_table({}, plain["augment"])
        plain["augment"] = {key: v for key, v in settings.items() if v != to_table({}, Augment())[key]}
        return {key: value for key, value in plain.items() if value is not None}

    def to_toml(self) -> str:
        """The text of config.toml."""
        return tomli_w.dumps(self.to_dict())


def read_toml(path: str | os.PathLike[str]) -> Table:
    """The settings in a TOML file, and no others."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read: {error.strerror}.") from error
    except (RecursionError, ValueError) as error:  # of TOML, of UTF-8, of numbers too long to read
        raise ConfigError(f"The config {path} is not TOML: {error}.") from error


def with_tables(settings: Table) -> Table:
    """Settings with a table for each section that is given by its name alone."""
    tables: Table = {
        key: asdict(default_augment(name)) if key == "augment" else {"name": name}
        for key in ("augment", *SECTIONS)
        if isinstance(name := settings.get(key), str)
    }
    return settings | tables


def merged(base: Table, over: Table) -> Table:
    """`base` with the settings of `over`, section by section.

    A section of another name replaces the old one: Adam takes nothing over from SGD. Nor do layers, or
    another model.
    """
    result = dict(base)
    if over.get("layers"):
        result.pop("model", None)
    if over.get("layers") or over.get("model", base.get("model")) != base.get("model"):
        result.pop("model_options", None)
    if over.get("model"):
        result.pop("layers", None)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and same_name(old, value):
            value = merged(old, value)
        result[key] = value
    return result


def same_name(old: Table, new: Table) -> bool:
    """Whether a section goes on setting what it was about."""
    return "name" not in new or new["name"] == old.get("name")


def assigned(assignment: str) -> tuple[str, Any]:
    """The key and the value of a text such as "epochs=3"."""
    key, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(f"A setting is written key=value, such as optimizer.lr=0.1, got {assignment!r}.")
    return key.strip(), toml_value(text.strip())


def is_name(key: str, value: Any) -> bool:
    """Whether this says which optimizer, say, is meant, and nothing of its settings."""
    return isinstance(value, str) and key.removesuffix(".name") in NAMED


def toml_value(text: str) -> Any:
    """The TOML value of a text, or the text itself where it is none: adam needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (RecursionError, ValueError):
        return text
