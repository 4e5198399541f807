from __future__ import annotations

import json
import math

import pytest

from heron_core.json_text import to_json


def test_json_is_strict_and_what_is_not_finite_is_null_however_deep() -> None:
    value = {"a": math.nan, "b": [math.inf, 1.5, (-math.inf, "x")], "c": {"d": None, "e": True}}
    read = json.loads(to_json(value), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [None, 1.5, [None, "x"]], "c": {"d": None, "e": True}}


def test_what_json_cannot_say_is_an_error() -> None:
    with pytest.raises(TypeError, match="set"):
        to_json({"a": {1, 2}})
