"""`heron-server doctor`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from heron_core.doctor.course import examine
from heron_core.doctor.examination import Check
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings

LIBRARIES = ("numpy", "grpcio", "grpcio-health-checking", "protobuf", "pydantic", "safetensors", "typer")


def run_doctor(
    spec: RunSpec, settings: ServerSettings, say: Callable[[str], None], insecure: bool = False,
    now: datetime | None = None,
) -> int:  # fmt: skip
    """Says a line for each thing that is looked at; returns the exit code. `now`: what the clock says, if not it."""

    def all_checks() -> list[Check]:
        from heron_server.doctor.checks import checks
        from heron_server.doctor.visit import Visit

        return checks(Visit(spec, settings, insecure, now))

    return examine(LIBRARIES, all_checks, say)
