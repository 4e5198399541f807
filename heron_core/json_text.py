"""JSON as any reader takes it: without NaN and Inf, which standard JSON has no words for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def to_json(value: object, indent: int | None = None) -> str:
    """`value` as JSON text; NaN and Inf become null. TypeError for what JSON cannot say."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
