"""The run spec: typed, frozen, and refusing what cannot be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heron_core.config import validate
from heron_core.errors import ConfigError
from heron_core.spec.kinds import Settings
from heron_core.spec.run_spec import MethodSpec, RunSpec


def refused(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(RunSpec, tables, "run.toml")
    return str(caught.value)


def tables_of(model: type[Settings]) -> list[type[Settings]]:
    inner = [f.annotation for f in model.model_fields.values()]
    below = [t for t in inner if isinstance(t, type) and issubclass(t, Settings)]
    return [model, *(table for child in below for table in tables_of(child))]


def test_every_setting_has_a_default_and_a_line_of_documentation() -> None:
    for table in tables_of(RunSpec):
        for name, field in table.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
            assert not field.is_required(), f"{table.__name__}.{name} has no default"
            assert nested or field.description, f"{table.__name__}.{name}"


def test_a_run_spec_survives_its_way_through_json_bit_for_bit() -> None:
    spec = RunSpec.model_validate(
        {"seed": 2**63 - 1, "model": {"input_shape": [3, 32, 32]}, "method": {"zo": {"mu": 0.1 + 0.2}}}
    )
    assert validate(RunSpec, json.loads(spec.model_dump_json()), "join") == spec
    assert RunSpec.model_validate(spec.model_dump()) == spec


def test_a_run_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunSpec().rounds = 3  # type: ignore[misc]


@pytest.mark.parametrize("micro_batch", [1, 8, 16, 32, 0])
def test_a_micro_batch_that_divides_the_batch_is_accepted(micro_batch: int) -> None:
    method = MethodSpec(batch_size=32, micro_batch=micro_batch)
    assert method.micro_batch_rows == (micro_batch or 32)


@pytest.mark.parametrize("micro_batch", [3, 31, 33, 64])
def test_a_micro_batch_that_does_not_divide_the_batch_is_refused(micro_batch: int) -> None:
    message = refused({"method": {"batch_size": 32, "micro_batch": micro_batch}})
    assert f"method: micro_batch must divide batch_size, got {micro_batch} and 32" in message


def test_batch_norm_with_micro_batches_is_refused_unless_ghost_batch_norm_is_said() -> None:
    tables: dict[str, Any] = {"model": {"norm": "batch"}, "method": {"batch_size": 32, "micro_batch": 8}}
    assert 'use norm = "group", micro_batch = 0, or say ghost_batch_norm = true' in refused(tables)
    tables["method"]["ghost_batch_norm"] = True
    assert validate(RunSpec, tables, "run.toml").method.ghost_batch_norm


@pytest.mark.parametrize(("norm", "micro_batch"), [("batch", 0), ("batch", 32), ("group", 8)])
def test_whole_batches_or_group_norm_need_no_such_word(norm: str, micro_batch: int) -> None:
    validate(RunSpec, {"model": {"norm": norm}, "method": {"batch_size": 32, "micro_batch": micro_batch}}, "x")


def test_more_min_clients_than_clients_is_refused() -> None:
    assert "min_clients = 4 is more than clients = 3" in refused({"federation": {"clients": 3, "min_clients": 4}})


@pytest.mark.parametrize(
    ("tables", "place"),
    [
        ({"rounds": 0}, "rounds"),
        ({"rounds": 2.5}, "rounds"),
        ({"rounds": "3"}, "rounds"),
        ({"rounds": True}, "rounds"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"name": "../up"}, "name"),
        ({"name": ""}, "name"),
        ({"method": {"name": "herron"}}, "method.name"),
        ({"method": {"ghost_batch_norm": "yes"}}, "method.ghost_batch_norm"),
        ({"method": {"zo": {"mu": 0.0}}}, "method.zo.mu"),
        ({"method": {"zo": {"mu": float("nan")}}}, "method.zo.mu"),
        ({"method": {"zo": {"mu": float("inf")}}}, "method.zo.mu"),
        ({"method": {"zo": {"mu": "1e-3"}}}, "method.zo.mu"),
        ({"method": {"optimizer": {"beta1": 1.0}}}, "method.optimizer.beta1"),
        ({"method": {"optimizer": {"beta1": float("nan")}}}, "method.optimizer.beta1"),
        ({"model": {"input_shape": [3, 0, 32]}}, "model.input_shape.1"),
        ({"method": 3}, "method"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_came(tables: dict[str, Any], place: str) -> None:
    message = refused(tables)
    assert message.startswith(f"run.toml: {place}: ")
    value: Any = tables
    for part in place.split("."):
        value = value[int(part) if part.isdigit() else part]
    assert message.endswith(f", got {value!r}")


def test_the_example_settings_are_valid() -> None:
    from heron_core.config import load_toml
    from heron_server.config import RunFile

    folder = Path(__file__).parents[3] / "deploy" / "examples"
    found = sorted(folder.glob("*run.toml"))
    assert found
    for path in found:
        validate(RunFile, load_toml(path), str(path))
