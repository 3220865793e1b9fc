"""Base of all settings, and their loader: from YAML and `--set a.b=c` overrides; unknown keys are errors."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from pipeline.errors import ConfigError
from pipeline.fields import MOST_SEED
from pipeline.redaction import shown, without_secrets
from pipeline.safe_yaml import YamlError, read_yaml, read_yaml_file

log = logging.getLogger(__name__)

MOST_PX = 10_980
"""Side of a Sentinel-2 granule in pixels of 10 m."""
MOST_STEPS = 10_000_000
MOST_THREADS = 1024

SeedNumber = Annotated[int, Field(ge=0, le=MOST_SEED)]
_Pixel = Annotated[int, Field(ge=0, le=1_000_000)]
_Pixels = Annotated[int, Field(ge=1, le=1_000_000)]
PixelBlock = tuple[_Pixel, _Pixel, _Pixels, _Pixels]
"""First row, first column, rows and columns, in pixels of 10 m."""

_LONGEST = 10_000
"""Characters of a text."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SHOWN = 100
"""Characters of a wrong value in a message."""
_NUMBERS = (int, float)
_TEXTS = (str, Path, SecretStr)


class Settings(BaseModel):
    """Base of all groups of settings: immutable, without unknown keys, numbers finite.

    A number has bounds, so that none is accepted that the code behind it can't bear. A boolean is no number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    renamed: ClassVar[Mapping[str, str]] = {}
    """New names of settings by their old ones, which are accepted with a warning."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        for old in cls.renamed.keys() & given.keys():
            log.warning("Setting %s is now called %s.", old, cls.renamed[old])
        return {cls.renamed.get(name, name): value for name, value in given.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, of: ValidationInfo) -> Any:
        field = cls.model_fields[str(of.field_name)]
        takes = set(_kinds(field.annotation))
        if (
            takes & {*_NUMBERS}
            and not takes & {bool, Any}
            and any(isinstance(leaf, bool) for leaf in _leaves(value))
        ):
            raise ValueError(f"{_expected(field)} is expected, not true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _is_sensible_text(cls, value: Any) -> Any:
        for text in filter(lambda leaf: isinstance(leaf, str), _leaves(value)):
            if len(text) > _LONGEST:
                raise ValueError(f"a text of {len(text)} characters is too long; {_LONGEST} are accepted")
            if _CONTROL.search(text):
                raise ValueError("text with control characters is not accepted")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _has_no_negative_zero(cls, value: Any) -> Any:
        return value + 0.0 if type(value) is float else value  # -0.0 + 0.0 is 0.0, and nothing else changes


Model = TypeVar("Model", bound=BaseModel)


def load_settings(kind: type[Model], path: Path | None, overrides: Iterable[str] = ()) -> Model:
    """Return settings from a YAML file (the defaults without one), then `a.b=c` overrides in order.

    `kind` is any pydantic model; fields that are models are groups.

    Raises
    ------
    ConfigError
        If the file can't be read, a key is unknown (the message names the nearest valid one), or a value
        is of the wrong type or out of range.
    """
    tree = _without_empty_groups(read_tree(path), kind) if path else {}
    for override in overrides:
        _apply(tree, override, kind)
    return validated(kind, tree, f" (in {path})" if path else "")


def validated(kind: type[Model], tree: Mapping[str, Any], where: str = "") -> Model:
    """Return a tree of settings as a model; ConfigError if one is unknown, of the wrong type or out of range.

    `where` is inserted after the name of a setting in messages.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, where)) from error


def setting_names(kind: type[BaseModel]) -> list[str]:
    """Return every valid name of a setting: `key`, or `group.key`."""
    groups = _groups(kind)
    return [
        name if name == field else f"{field}.{name}"
        for field in kind.model_fields
        for name in (setting_names(groups[field]) if field in groups else [field])
    ]


def _groups(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the fields that are models."""
    annotations = {name: field.annotation for name, field in kind.model_fields.items()}
    return {
        name: group
        for name, group in annotations.items()
        if isinstance(group, type) and issubclass(group, BaseModel)
    }


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the plain types in an annotation, such as `float` and `None` of `tuple[float, ...] | None`."""
    if get_origin(annotation) is Literal:
        return
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        parts = parts[:1]
    if parts:
        for part in parts:
            yield from _kinds(part)
    else:
        yield annotation


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values in lists and mappings."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _without_empty_groups(tree: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Leave out groups that are null, such as a group with all keys commented out; they keep defaults."""
    groups = _groups(kind)
    return {name: value for name, value in tree.items() if value is not None or name not in groups}


def read_tree(path: Path) -> Mapping[str, Any]:
    """Return the settings in a YAML file, not validated; ConfigError if it can't be read or holds others."""
    try:
        tree = read_yaml_file(path)
    except OSError as error:
        raise ConfigError(f"Settings file can't be read: {path} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"Settings file is not UTF-8 text: {path}.") from error
    except YamlError as error:
        raise ConfigError(f"Settings file is not valid YAML: {path}: {error}.") from error
    if not isinstance(tree, Mapping | None):
        raise ConfigError(
            f"Settings file must hold `group: {{key: value}}`: {path} holds a {type(tree).__name__}."
        )
    return tree or {}


def _apply(tree: dict[str, Any], override: str, kind: type[BaseModel]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            "A setting must be group.key=value, e.g. tiling.tile_px=512. "
            f"Received: {without_secrets(override)[:_SHOWN]}"
        )
    try:
        value = read_yaml(text)
    except YamlError as error:
        raise ConfigError(
            f"The value of {key} is not valid YAML: {error}. Received: {shown(text)}"
        ) from error
    *groups, last = key.split(".")
    node, model = tree, kind
    for group in groups:
        child = node.setdefault(group, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"Setting {key}: {group} already has a value, so it can't be a group of settings."
            )
        node, model = child, _groups(model).get(group, BaseModel)
    is_number = isinstance(value, bool | int | float)
    node[last] = text.strip() if is_number and _is_text(model.model_fields.get(last)) else value


def _is_text(field: FieldInfo | None) -> bool:
    """Return True for a setting that is text, so that a name such as 010 stays as it is written."""
    return field is not None and set(_kinds(field.annotation)) - {type(None)} <= {*_TEXTS}


def _explain(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys([*setting_names(kind), *kind.model_fields]))
        nearest = difflib.get_close_matches(name[:_SHOWN], known, n=1, cutoff=0.3)
        hint = f" Did you mean {nearest[0]}?" if nearest else f" Known: {', '.join(known)}."
        return f"Unknown setting {name[:_SHOWN]}{where}.{hint}"
    message = first["msg"].removeprefix("Value error, ")
    field, names = _field(kind, first["loc"])
    if field is not None and set(_kinds(field.annotation)) & {*_NUMBERS} and first["type"] != "value_error":
        message = f"{_expected(field)} is expected"
        name = ".".join(names)
    return f"Setting {name[:_SHOWN]}{where}: {message}. Received: {shown(first['input'])}"


def _field(kind: type[BaseModel], loc: Sequence[Any]) -> tuple[FieldInfo | None, list[str]]:
    """Return the setting at a place in a tree, and the parts of its name, without those of a union."""
    names: list[str] = []
    field: FieldInfo | None = None
    model: type[BaseModel] | None = kind
    for part in loc:
        if isinstance(part, int):
            names.append(str(part))
        elif model is not None and part in model.model_fields:
            field = model.model_fields[part]
            names.append(part)
            models = [it for it in _kinds(field.annotation) if isinstance(it, type)]
            model = next((it for it in models if issubclass(it, BaseModel)), None)
        elif field is not None and get_origin(field.annotation) not in (Union, UnionType):
            names.append(str(part))
    return field, names


def _expected(field: FieldInfo) -> str:
    """Return the numbers that a setting takes, in words."""
    kinds, bounds = set(_kinds(field.annotation)), [*field.metadata, *_constraints(field.annotation)]
    text = "a number" if float in kinds else "an integer"
    lowest = [b.ge for b in bounds if isinstance(b, Ge)]
    above = [b.gt for b in bounds if isinstance(b, Gt)]
    highest = [b.le for b in bounds if isinstance(b, Le)]
    below = [b.lt for b in bounds if isinstance(b, Lt)]
    text += f" from {_plain(lowest[0])}" if lowest else f" above {_plain(above[0])}" if above else ""
    text += f" to {_plain(highest[0])}" if highest else f" and below {_plain(below[0])}" if below else ""
    text += "".join(f", a multiple of {b.multiple_of}" for b in bounds if isinstance(b, MultipleOf))
    return f"{text}{', or null,' if type(None) in kinds else ''}"


def _constraints(annotation: Any) -> Iterator[Any]:
    """Yield the constraints of the parts of an annotation, such as those of a tuple's values."""
    for part in get_args(annotation):
        if isinstance(part, FieldInfo):
            yield from part.metadata
        else:
            yield from _constraints(part)


def _plain(number: Any) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
