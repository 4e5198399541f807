"""Tables of settings as TOML text; the standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping


def to_toml(tables: Mapping[str, object], prefix: str = "") -> str:
    """The tables as TOML, without the keys that are None."""
    lines = [f"{_key(k)} = {_value(v)}" for k, v in tables.items() if not isinstance(v, Mapping) and v is not None]
    for key, table in tables.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{prefix}{_key(key)}]", to_toml(table, f"{prefix}{_key(key)}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: object) -> str:
    """JSON's strings, numbers and booleans are TOML's, but for DEL, which TOML wants escaped."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
