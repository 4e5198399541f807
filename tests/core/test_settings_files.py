"""Settings files: one ConfigError that names the place and the nearest right key."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_core.config import apply_overrides, load_toml, validate
from heron_core.errors import ConfigError
from heron_core.spec.run_spec import RunSpec


def refused(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(RunSpec, tables, "run.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"round": 3}, "run.toml: unknown key round (did you mean rounds?)"),
        ({"method": {"zo": {"nu": 1e-3}}}, "unknown key method.zo.nu (did you mean mu?)"),
        ({"method": {"optimiser": {}}}, "unknown key method.optimiser (did you mean optimizer?)"),
        ({"federation": {"client": 4}}, "unknown key federation.client (did you mean clients?)"),
        ({"batch_size": 8}, "unknown key batch_size (did you mean method.batch_size or method.alignment.batch_size?)"),
        ({"method": {"lr": 1.0}}, "(did you mean method.alignment.lr or method.optimizer.lr or server_optimizer.lr"),
        ({"threads": {"xyzzy": 4}}, "unknown key threads.xyzzy (known keys: client, server)"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_right_one(
    tables: dict[str, Any], message: str
) -> None:
    assert message in refused(tables)


def test_every_wrong_key_is_named_at_once() -> None:
    message = refused({"rounds": 0, "sed": 1, "method": {"local_step": 2}})
    assert all(part in message for part in ("rounds: ", "unknown key sed", "unknown key method.local_step"))
    assert "\n" not in message


def test_a_number_such_as_1e_4_is_a_float_in_file_and_override(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[method.zo]\nmu = 1e-4\n")
    assert validate(RunSpec, load_toml(file), "x").method.zo.mu == 1e-4
    assert validate(RunSpec, apply_overrides({}, ["method.zo.mu=1e-4"]), "x").method.zo.mu == 1e-4


def test_a_whole_number_serves_where_a_float_is_wanted() -> None:
    assert validate(RunSpec, {"data": {"alpha": 2}}, "x").data.alpha == 2.0


@pytest.mark.parametrize(
    ("override", "tables"),
    [
        ("rounds=3", {"rounds": 3}),
        ("a.b.c=true", {"a": {"b": {"c": True}}}),
        ("name=digits", {"name": "digits"}),
        ('name="digits"', {"name": "digits"}),
        ('name="3"', {"name": "3"}),
        ("server=10.0.0.5:50051", {"server": "10.0.0.5:50051"}),
        ("factory=my.models:make", {"factory": "my.models:make"}),
        ("path=/data/x=y", {"path": "/data/x=y"}),
        ("name=", {"name": ""}),
        ("shape=[3, 32, 32]", {"shape": [3, 32, 32]}),
        ("options={depth = 3}", {"options": {"depth": 3}}),
        (" rounds = 3 ", {"rounds": 3}),
        ("torn=[3,", {"torn": "[3,"}),
        ("two=1\nrounds = 2", {"two": "1\nrounds = 2"}),
    ],
)
def test_set_reads_a_toml_value_or_plain_text(override: str, tables: dict[str, Any]) -> None:
    assert apply_overrides({}, [override]) == tables


def test_set_keeps_the_rest_of_the_file_and_the_last_one_wins() -> None:
    tables = {"rounds": 1, "method": {"local_steps": 5, "zo": {"mu": 1.0}}}
    got = apply_overrides(tables, ["method.zo.mu=2", "method.zo.mu=3.5", "method.batch_size=4"])
    assert got == {"rounds": 1, "method": {"local_steps": 5, "batch_size": 4, "zo": {"mu": 3.5}}}


@pytest.mark.parametrize("override", ["rounds", "=3", "", " = 3", "method..mu=1", ".rounds=1", "rounds.=1"])
def test_set_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"--set wants a\.b=value, got"):
        apply_overrides({}, [override])


def test_set_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set rounds\.x=1: rounds is a value, not a table"):
        apply_overrides({"rounds": 3}, ["rounds.x=1"])


@given(text=st.text(max_size=20))
def test_set_raises_nothing_but_config_errors(text: str) -> None:
    with suppress(ConfigError):
        apply_overrides({}, [text, f"a.b={text}"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no settings file at .*absent\.toml; check the path"):
        load_toml(tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [b"rounds = ", b"[method\n", b"rounds = 1\nrounds = 2\n", b"name = '\xff'\n"])
def test_a_torn_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "torn.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"torn\.toml cannot be read as TOML: "):
        load_toml(file)


def test_a_folder_in_place_of_a_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_toml(tmp_path)
