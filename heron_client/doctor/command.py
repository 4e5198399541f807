"""`heron-client doctor`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from heron_client.compute.backends.choice import package_of
from heron_client.config import ClientSettings
from heron_core.doctor.course import examine
from heron_core.doctor.examination import Check

LIBRARIES = ("numpy", "grpcio", "protobuf", "pydantic")
"""Beside what runs the model."""


def run_doctor(
    settings: ClientSettings, say: Callable[[str], None], insecure: bool = False, now: datetime | None = None
) -> int:
    """Says a line for each thing that is looked at; returns the exit code. `now`: what the clock says, if not it."""

    def all_checks() -> list[Check]:
        from heron_client.doctor.checks import checks
        from heron_client.doctor.visit import Visit

        return checks(Visit(settings, insecure, now))

    return examine(LIBRARIES, all_checks, say, lambda: package_of(settings))
