"""Settings files: TOML in, one validated frozen model out, or one ConfigError that names the place."""

from __future__ import annotations

import codecs
import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, PlainSerializer, ValidationError
from pydantic.fields import FieldInfo

from heron_core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def load_toml(path: Path) -> dict[str, Any]:
    """The file's tables; raises ConfigError if it is missing or not TOML."""
    try:
        return tomllib.loads(_decoded(path.read_bytes()))
    except FileNotFoundError:
        raise ConfigError(f"no settings file at {path}; check the path") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None


def _decoded(raw: bytes) -> str:
    """The text of UTF-8, with or without the mark that Windows puts before it. ValueError names another encoding."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in raw[:4]:
        raise ValueError("it is UTF-16, which Notepad calls Unicode and PowerShell's > writes; save it as UTF-8")
    try:
        text = raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        byte, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not UTF-8; byte 0x{byte:02x} is {chr(byte)!r} in Latin-1: save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True)
class Placed:
    """Marks a type of settings that names a place."""

    at: Callable[[str, Path], object]
    """The value of the text in a file in this folder. Raises ValueError for a text that names none."""


def expanded(text: str) -> Path:
    """The path, with ~ and $VARIABLES replaced; $$ is a dollar. Raises ValueError for one that names no place."""
    try:
        found = Template(text).substitute(os.environ)
    except KeyError as error:
        raise ValueError(f"the variable ${error.args[0]} is not set; set it, or write the path out") from None
    except ValueError:
        raise ValueError("a $ begins the name of an environment variable; write $$ for a dollar") from None
    if not found or "\0" in found:
        raise ValueError("expected a path; leave the key out for its default")
    try:
        return Path(found).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder {found.partition('/')[0]}; write the path out") from None


def text_of(path: Path) -> str:
    """The path as settings say it: `expanded` makes it of that again."""
    return str(path).replace("$", "$$")


def written(value: object) -> object:
    """A setting as a file in any folder says it: what `expanded` gives back wherever it names a place."""
    if isinstance(value, Path):
        return text_of(value.absolute())
    if isinstance(value, Mapping):
        return {key: written(item) for key, item in value.items()}
    return [written(item) for item in value] if isinstance(value, list | tuple) else value


LocalPath = Annotated[
    Path,
    Placed(lambda text, folder: folder / expanded(text)),
    BeforeValidator(lambda value: expanded(value) if isinstance(value, str) else value),
    PlainSerializer(lambda path: text_of(path), when_used="json"),
]
"""A path of this machine: with ~ and $VARIABLES, and relative to the file that names it, or to the current folder where
no file does."""


def load_tables(model: type[BaseModel], path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What the file and the overrides say, for `validate`: the places in the file are relative to it, those in the
    overrides to the current folder. Raises ConfigError."""
    return apply_overrides(placed(model, load_toml(path), path.parent), overrides)


def placed(model: type[BaseModel], tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`tables` of a file in `folder`, not yet checked, with all that is Placed by the model's types at its place."""
    return {
        key: _placed(model.model_fields[key], value, folder) if key in model.model_fields else value
        for key, value in tables.items()
    }


def _placed(field: FieldInfo, value: Any, folder: Path) -> Any:
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return placed(kind, value, folder) if isinstance(value, dict) else value
    mark = next(_marks(kind, field.metadata), None)
    if mark is None:
        return value
    if isinstance(value, list):
        return [_placed(field, each, folder) for each in value]
    if isinstance(value, dict):
        return {key: _placed(field, each, folder) for key, each in value.items()}
    try:
        return mark.at(value, folder) if isinstance(value, str) else value
    except ValueError:
        return value  # `validate` says what is wrong with it, and where


def _marks(kind: object, metadata: Sequence[object]) -> Iterator[Placed]:
    """In a type and all that it is made of."""
    yield from (item for item in metadata if isinstance(item, Placed))
    for part in get_args(kind):
        yield from _marks(part, [part])


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
