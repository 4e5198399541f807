"""Settings survive being written as TOML and read again."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heron_server.text.toml import to_toml

LEAF = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)  # fmt: skip
KEY = st.text('aé ."\n', max_size=3)
VALUES = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3))


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), VALUES, max_size=4))
def test_any_options_survive_toml(tables: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml({"model": {"options": tables}}))["model"]["options"] == tables
