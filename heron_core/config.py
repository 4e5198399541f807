"""Settings files: TOML in, one validated frozen model out, or one ConfigError that names the place."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from heron_core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def load_toml(path: Path) -> dict[str, Any]:
    """The file's tables; raises ConfigError if it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no settings file at {path}; check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """`a.b=c` for each override: c is read as a TOML value, or as plain text where it is none. Raises ConfigError."""
    for override in overrides:
        key, equals, text = override.partition("=")
        *parents, leaf = (part.strip() for part in key.split("."))
        if not equals or not leaf or not all(parents):
            raise ConfigError(f"{flag} wants a.b=value, got {override!r}")
        try:
            value = tomllib.loads(f"v = {text.strip()}")["v"] if "\n" not in text else text
        except tomllib.TOMLDecodeError:
            value = text
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{flag} {override}: {parent} is a value, not a table")
        table[leaf] = value
    return tables


def host_and_port(value: str) -> str:
    """The value, if it has the form host:port or unix:PATH; for the validators of both sides."""
    if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s/]+):\d{1,5}|unix:\S+", value):
        raise ValueError('expected host:port such as "10.0.0.5:50051", or unix:PATH')
    return value


def validate(model: type[M], tables: dict[str, Any], origin: str) -> M:
    """The typed settings; raises ConfigError with each wrong key's place and, for unknown ones, the nearest."""
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        lines = [_explain(model, details) for details in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from None


def _explain(model: type[BaseModel], details: Any) -> str:
    place = ".".join(str(part) for part in details["loc"]) or "settings"
    if details["type"] == "extra_forbidden":
        table = _table_at(model, details["loc"][:-1])
        known = sorted(table.model_fields) if table else []
        leaf = str(details["loc"][-1])
        near = difflib.get_close_matches(leaf, known, n=1, cutoff=0.5) or _places_of(leaf, model)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {place} ({hint})"
    if details["type"] == "missing":
        return f"{place} is missing; set it in the file, or with --set {place}=..."
    message = details["msg"].removeprefix("Value error, ")
    got = details["input"]
    shown = "" if isinstance(got, dict | BaseModel) else f", got {got!r}"
    return f"{place}: {message}{shown}"


def _places_of(key: str, model: type[BaseModel], above: str = "") -> list[str]:
    """Where `key` stands in the tables of `model`, e.g. ["method.zo.mu"]."""
    found = [above + key] if above and key in model.model_fields else []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _places_of(key, field.annotation, f"{above}{name}.")
    return found


def _table_at(model: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    for part in path:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        model = annotation
    return model
