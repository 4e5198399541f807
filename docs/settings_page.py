"""The reference page of a settings file, from its model: each key's type, default and line of documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

NUMBERS = {int: "integer", float: "number"}
PLAIN = {**NUMBERS, str: "text", bool: "true or false", Path: "path"}
BOUNDS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}


@dataclass(frozen=True)
class Setting:
    """One key of a file."""

    table: str
    """Dotted name of its table; empty at the top of the file."""
    key: str
    field: FieldInfo

    @property
    def documentation(self) -> str:
        """Its text as one line, safe in markdown outside of code."""
        return " ".join((self.field.description or "").split()).replace("<", "&lt;")


def settings(model: type[BaseModel], table: str = "") -> Iterator[Setting]:
    """Every key of the file, a table's own keys before its sub-tables'."""
    nested: list[tuple[str, type[BaseModel]]] = []
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested.append((f"{table}.{key}" if table else key, kind))
            continue
        yield Setting(table, key, field)
        if (inner := _table_of_list(kind)) is not None:
            nested.append((f"[{table}.{key}]", inner))
    for name, kind in nested:
        yield from settings(kind, name)


def _table_of_list(kind: Any) -> type[BaseModel] | None:
    """Of a list of tables, such as `[[data.table.columns]]`."""
    inner = get_args(kind)[0] if get_origin(kind) is tuple else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def render(model: type[BaseModel], title: str) -> str:
    """A markdown section: one table of keys for each table of the file."""
    lines = [f"## {title}"]
    table = None
    for setting in settings(model):
        if setting.table != table:
            table = setting.table
            lines += ["", f"### `[{table}]`" if table else "### At the top of the file", ""]
            lines += ["| key | type | default | |", "|---|---|---|---|"]
        cells = [f"`{setting.key}`", type_text(setting.field), default_text(setting.field), setting.documentation]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def default_text(field: FieldInfo) -> str:
    """The default as it would stand in the file."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    return "(empty)" if value is None else f"`{_toml(value)}`"


def type_text(field: FieldInfo) -> str:
    """`integer ≥ 1`, `"adam" or "sgd"`, `list of text`."""
    return _with_limits(_kind(field.annotation), field.metadata)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _with_limits(_kind(arguments[0]), _flat(arguments[1:]))
    if origin is Literal:
        return " or ".join(f"`{_toml(choice)}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_kind(a) for a in arguments if a is not NoneType)
    if origin in (tuple, list):
        return "list of tables" if _table_of_list(annotation) else f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "table"
    return PLAIN[annotation]


def _with_limits(kind: str, metadata: Any) -> str:
    limits = [
        f"{sign} {_limit(getattr(item, name))}"
        for item in metadata
        for limit, (name, sign) in BOUNDS.items()
        if isinstance(item, limit)
    ]
    return " ".join([kind, " and ".join(limits)]).rstrip()


def _flat(metadata: Any) -> Iterator[Any]:
    """The constraints inside pydantic's Field(...) of an Annotated type."""
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else [item]


def _limit(value: Any) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
