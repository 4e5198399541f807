"""`heron-client doctor`: the libraries first, without which what follows may not even be imported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from heron_client.config import ClientSettings
from heron_core.doctor.examination import Check, Examination
from heron_core.doctor.versions import versions

LIBRARIES = ("torch", "numpy", "grpcio", "protobuf", "pydantic", "typer")


def run_doctor(
    settings: ClientSettings, say: Callable[[str], None], insecure: bool = False, now: datetime | None = None
) -> int:
    """Says a line for each thing that is looked at; returns the exit code. `now`: what the clock says, if not it."""
    examination = Examination(say)
    examination.run([Check("versions", partial(versions, LIBRARIES))])
    if not examination.exit_code:
        from heron_client.doctor.checks import checks
        from heron_client.doctor.visit import Visit

        examination.run(checks(Visit(settings, insecure, now)))
    examination.conclude()
    return examination.exit_code
