"""`heron-server doctor`: the libraries first, without which what follows may not even be imported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from heron_core.doctor.examination import Check, Examination
from heron_core.doctor.versions import versions
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings

LIBRARIES = ("torch", "numpy", "grpcio", "grpcio-health-checking", "protobuf", "pydantic", "safetensors", "typer")


def run_doctor(
    spec: RunSpec, settings: ServerSettings, say: Callable[[str], None], insecure: bool = False,
    now: datetime | None = None,
) -> int:  # fmt: skip
    """Says a line for each thing that is looked at; returns the exit code. `now`: what the clock says, if not it."""
    examination = Examination(say)
    examination.run([Check("versions", partial(versions, LIBRARIES))])
    if not examination.exit_code:
        from heron_server.doctor.checks import checks
        from heron_server.doctor.visit import Visit

        examination.run(checks(Visit(spec, settings, insecure, now)))
    examination.conclude()
    return examination.exit_code
