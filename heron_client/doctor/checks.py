"""What is looked at, in which order, and what is not worth a look once something else has failed."""

from __future__ import annotations

from heron_client.doctor import network, own, work
from heron_client.doctor.visit import Visit
from heron_core.doctor.examination import Check, checks_of


def checks(visit: Visit) -> list[Check]:
    """All but the versions."""
    return checks_of(visit, [
        ("certificates", own.own_certificates),
        ("state folder", own.state_folder),
        ("own data", own.own_data),
        ("open files", own.own_files),
        ("name", network.name),
        ("proxy", network.proxy, "certificates"),
        ("port", network.port, "name"),
        ("handshake", network.handshake, "certificates", "port"),
        ("server", network.server, "proxy", "handshake"),
        ("model", work.model, "server"),
        ("data", work.data, "own data", "model"),
        ("one step", work.one_step, "data"),
    ])
