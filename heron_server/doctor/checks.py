"""What is looked at, in which order, and what is not worth a look once something else has failed."""

from __future__ import annotations

from heron_core.doctor.examination import Check, checks_of
from heron_server.doctor import port, run
from heron_server.doctor.visit import Visit


def checks(visit: Visit) -> list[Check]:
    """All but the versions."""
    return checks_of(visit, [
        ("certificates", port.own_certificates),
        ("address", port.address),
        ("open files", run.files),
        ("run folder", run.folder),
        ("run", run.plan),
        ("memory", run.needed_memory, "run"),
        ("disk", run.needed_space, "run"),
    ])
