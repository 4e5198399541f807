"""What is looked at, in which order, and what is not worth a look once something else has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from heron_client.doctor import network, own, work
from heron_client.doctor.visit import Visit
from heron_core.doctor.examination import Check, Finding


def checks(visit: Visit) -> list[Check]:
    """All but the versions."""

    def check(topic: str, look: Callable[[Visit], Iterable[Finding]], *needs: str) -> Check:
        return Check(topic, lambda: look(visit), needs)

    return [
        check("certificates", own.own_certificates),
        check("state folder", own.state_folder),
        check("own data", own.own_data),
        check("open files", own.own_files),
        check("name", network.name),
        check("proxy", network.proxy, "certificates"),
        check("port", network.port, "name"),
        check("handshake", network.handshake, "certificates", "port"),
        check("server", network.server, "proxy", "handshake"),
        check("model", work.model, "server"),
        check("data", work.data, "own data", "model"),
        check("one step", work.one_step, "data"),
    ]
