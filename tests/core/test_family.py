"""The table of methods: settings that a method ignores are refused, and a control drops them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from heron_core.config import validate
from heron_core.errors import ConfigError
from heron_core.methods import USERS, as_method, file_tables, method_of, place_of, refuse_unused
from heron_core.run_spec import MethodSpec, RunSpec

NAMES = get_args(MethodSpec.model_fields["name"].annotation)
GIVEN: dict[str, Any] = {
    "zo": {"mu": 1e-3},
    "auxiliary_update": "zo",
    "alignment": {"every_rounds": 2},
    "moments": "kept",
    "optimizer": {"lr": 0.1},
    "upload_period": 1,
    "running_statistics": "keep",
}
USED = {
    "heron": {"zo", "auxiliary_update", "moments", "optimizer", "upload_period"},
    "cse_fsl": {"moments", "optimizer", "upload_period"},
    "fsl_sage": {"alignment", "moments", "optimizer", "upload_period"},
    "sflv1": {"moments", "optimizer", "upload_period"},
    "sflv2": {"moments", "optimizer", "upload_period"},
    "fedavg": {"moments", "optimizer"},
    "frozen": {"upload_period", "running_statistics"},
}


def check(tables: dict[str, Any]) -> None:
    refuse_unused(validate(RunSpec, tables, "run.toml"), tables, "run.toml")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", GIVEN)
def test_a_setting_is_refused_where_the_method_does_not_use_it_even_at_its_default(name: str, key: str) -> None:
    tables = {"method": {"name": name, key: GIVEN[key]}}
    if key in USED[name]:
        check(tables)
        return
    with pytest.raises(ConfigError, match=rf"run\.toml: method\.{key}[a-z_.]* is not used by {name}, only by"):
        check(tables)


def test_every_setting_that_some_method_ignores_is_tried_here() -> None:
    assert USERS.keys() == GIVEN.keys() and set(NAMES) == USED.keys()


def test_alignment_is_used_by_heron_with_aligned_heads() -> None:
    check({"method": {"auxiliary_update": "aligned", "alignment": {"passes": 3}}})


def test_adapters_rank_and_last_layers_are_refused_where_they_do_nothing() -> None:
    check({"model": {"trainable": "lora", "lora_rank": 2}})
    with pytest.raises(ConfigError, match=r'model\.last_layers is not used with trainable = "norm"'):
        check({"model": {"trainable": "norm", "last_layers": 2}})


def rich() -> RunSpec:
    return RunSpec.model_validate(
        {"method": {"zo": {"mu": 0.5}, "auxiliary_update": "aligned", "moments": "kept", "optimizer": {"lr": 0.1}}}
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_with_another_method_says_nothing_that_this_one_ignores(name: str) -> None:
    other = as_method(rich(), name)
    assert other.method.name == name
    assert validate(RunSpec, file_tables(other), "again") == other
    check(file_tables(other))


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_run_file_says_the_whole_spec(name: str) -> None:
    odd = RunSpec.model_validate({"method": {"name": name, "zo": {"mu": 0.5}}})
    assert validate(RunSpec, file_tables(odd), "again") == odd, "also what its method ignores, if it was set"


@pytest.mark.parametrize(
    ("method", "name", "place"),
    [
        ({}, "auxiliary.linear.weight", "averaged"),
        ({"auxiliary_update": "server"}, "auxiliary.linear.weight", "shared"),
        ({"auxiliary_update": "aligned"}, "auxiliary.linear.weight", "own"),
        ({"name": "fsl_sage"}, "auxiliary.linear.weight", "own"),
        ({"name": "fedavg"}, "back.linear.weight", "averaged"),
        ({"name": "frozen"}, "front.conv.weight", "shared"),
        ({"moments": "kept"}, "moments.first", "kept"),
        ({"moments": "averaged"}, "moments.first", "averaged"),
    ],
)
def test_every_tensor_has_its_place(method: dict[str, Any], name: str, place: str) -> None:
    assert place_of(MethodSpec.model_validate(method), name) == place


def test_a_frozen_client_s_running_statistics_go_up_only_where_it_updates_them() -> None:
    for told, place in (("update", "averaged"), ("keep", "shared")):
        spec = MethodSpec.model_validate({"name": "frozen", "running_statistics": told})
        assert place_of(spec, "front.norm.running_mean", buffer=True) == place


def test_only_methods_with_a_back_upload() -> None:
    assert [name for name in NAMES if not method_of(MethodSpec.model_validate({"name": name})).uploads] == ["fedavg"]
