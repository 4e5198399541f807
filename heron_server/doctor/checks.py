"""What is looked at, in which order, and what is not worth a look once something else has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from heron_core.doctor.examination import Check, Finding
from heron_server.doctor import port, run
from heron_server.doctor.visit import Visit


def checks(visit: Visit) -> list[Check]:
    """All but the versions."""

    def check(topic: str, look: Callable[[Visit], Iterable[Finding]], *needs: str) -> Check:
        return Check(topic, lambda: look(visit), needs)

    return [
        check("certificates", port.own_certificates),
        check("address", port.address),
        check("open files", run.files),
        check("run folder", run.folder),
        check("run", run.plan),
        check("memory", run.needed_memory, "run"),
        check("disk", run.needed_space, "run"),
    ]
