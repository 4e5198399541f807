"""What is allowed but probably not meant is a warning."""

from __future__ import annotations

from typing import Any

import pytest
from plans import digits

from heron_server.config import ServerSettings
from heron_server.planning.validate import describe

MICRO = {"batch_size": 32, "micro_batch": 8}


def warnings_of(text: str) -> str:
    return text.partition("\nWarnings\n")[2]


@pytest.mark.parametrize(
    ("tables", "settings", "words"),
    [
        ({"method": {"local_steps": 7, "upload_period": 3}}, {}, "nothing is uploaded from the last local step of"),
        ({"method": {"local_steps": 8, "upload_period": 3}}, {}, "nothing is uploaded from the last 2 local steps of"),
        ({"method": {"zo": {"mu": 1e-6}}}, {}, "float32 rounding is about"),
        ({"method": {"zo": {"mu": 0.1, "distribution": "gaussian"}}}, {}, "curvature may outweigh the slope"),
        ({"method": {"local_steps": 30}}, {}, "they pass over their data more than once a round"),
        ({}, {"test_data": "none"}, "nobody evaluates"),
        ({}, {"address": "0.0.0.0:1"}, "the run is refused as it stands: server.address = '0.0.0.0:1'"),
        ({}, {"order": "arrival"}, "will not end with the same bits"),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(tables: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    text = describe(digits(**tables), ServerSettings(device="cpu", **settings))
    assert words in warnings_of(text)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"method": {"name": "frozen", "running_statistics": "keep"}}, "has no running statistics"),
        ({"method": {"zo": {"scope": "micro_batch"}, "local_steps": 4, **MICRO}}, "want moments that persist"),
        ({"method": {"name": "fsl_sage", "alignment": {"every_rounds": 11}}}, "no head is ever aligned"),
    ],
)
def test_what_is_odd_but_allowed_is_a_warning(tables: dict[str, Any], words: str) -> None:
    assert words in warnings_of(describe(digits(**tables), ServerSettings(device="cpu")))


def test_a_frozen_run_has_no_perturbation_to_warn_of() -> None:
    spec = digits(method={"name": "frozen", "zo": {"mu": 1e-9}, "local_steps": 4})
    text = describe(spec, ServerSettings(device="cpu"))
    assert "RMS change" not in text
    assert warnings_of(text).split() == ["none"]
