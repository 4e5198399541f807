"""The table of methods: whose each tensor is, and who uploads."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from heron_core.spec.methods import method_of, place_of
from heron_core.spec.run_spec import MethodSpec

NAMES = get_args(MethodSpec.model_fields["name"].annotation)


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
