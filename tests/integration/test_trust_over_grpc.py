"""Certificates over a real port: renewed and withdrawn while everything runs, and what is wrong with one in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from integration.test_refused_callers import Run, join, push
from integration.worlds import GrpcWorld
from secured import Secured, today

from heron_client.transport.handshake import why_refused
from heron_client.transport.trust import PLAIN, Trust
from heron_core.errors import NotAdmitted, Unreachable
from heron_core.pb.v1 import split_pb2 as split
from heron_core.trust.folder import CertFolder, Side
from heron_server.certs.choice import Guard


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.world.close()


def test_who_comes_onto_the_deny_list_loses_the_open_streams_and_the_others_stay(run: Run) -> None:
    bob = run.world.transport(run.certs.client("bob"))
    session = join(bob, "bob").session_id
    bob.watch(session, 1.0, 30.0)
    begins = run.alice.next_event(20.0)
    while begins is None or begins.WhichOneof("event") != "round_begins":
        begins = run.alice.next_event(20.0)
    place = {"term": begins.round_begins.term, "round": begins.round_begins.round}
    opening = split.FrameHeader(
        run_id=run.world.coordinator.run_id, session_id=session, steps=2, purpose=split.PURPOSE_TRAIN, **place
    )
    pushing = bob.open_push(opening)
    assert pushing.receive(20.0) is not None
    run.certs.deny("bob")
    with pytest.raises(NotAdmitted, match="not let in any more"):
        while True:
            bob.next_event(20.0)
    with pytest.raises(NotAdmitted, match="not let in any more"):
        while True:
            pushing.receive(20.0)
    assert run.world.coordinator.clients_present == 1
    run.certs.deny()
    assert join(bob, "bob").session_id, "and may come back once the list does not name it"


def certificate_of(run: Run) -> str:
    """Serial number of the certificate that the server shows now, to somebody new."""
    folder = run.certs.client("probe").certs
    assert folder is not None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder.path / "ca.pem")
    context.set_alpn_protocols(["h2"])
    import socket

    host, _, port = run.world.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        shown = secure.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"]).lower()


def test_a_new_certificate_of_the_server_is_shown_without_a_restart_and_a_broken_one_never(run: Run) -> None:
    first = certificate_of(run)
    assert certificate_of(run) == first
    run.certs.serve()
    second = certificate_of(run)
    assert second != first
    key = run.certs.store.server / "key.pem"
    whole = key.read_bytes()
    key.write_bytes(whole[:40])
    assert certificate_of(run) == second, "half a file is none"
    key.write_bytes(whole)
    run.certs.serve()
    assert certificate_of(run) not in (first, second)
    assert run.world.coordinator.clients_present == 1, "who was here stays"


def test_a_client_takes_its_new_certificate_at_its_next_join(run: Run) -> None:
    bob = run.world.transport(run.certs.client("bob", days=1, age_days=3))
    with pytest.raises(Unreachable, match=r"this client's certificate .* expired on"):
        join(bob, "bob")
    run.certs.client("bob")
    assert join(bob, "bob").session_id


# -- what is wrong, in words -------------------------------------------------------------------------------------------


@pytest.fixture
def certs(tmp_path: Path) -> Secured:
    return Secured(tmp_path / "certs")


def told(guard: Guard | None, trust: Trust, folder: Path, host: str = "127.0.0.1") -> str:
    """What a client is told that joins a server behind this guard."""
    from integration.test_transports import spec

    world = GrpcWorld(spec(), folder / "run", **({"guard": guard} if guard else {}))
    with closing(world):
        transport = world.transport(trust, world.address.replace("127.0.0.1", host))
        with pytest.raises(Unreachable) as refused:
            join(transport, "a")
        return str(refused.value)


def test_a_server_under_a_name_that_its_certificate_has_not_is_named_with_those_it_has(
    certs: Secured, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    other = Secured(folder)
    (other.store.server / "cert.pem").unlink()
    guard = other.serve(("heron.example", "10.0.0.5"))
    said = told(guard, other.client("a"), tmp_path)
    assert "is not for '127.0.0.1' but for heron.example, 10.0.0.5" in said
    assert "heron-server certs server --host 127.0.0.1 --force" in said


def test_a_server_with_an_expired_certificate_is_named_with_the_clock(certs: Secured, tmp_path: Path) -> None:
    said = told(certs.serve(days=1, age_days=9), certs.client("a"), tmp_path)
    assert "the certificate of 127.0.0.1:" in said and "expired on" in said and "this machine's clock says" in said


def test_a_server_of_the_future_means_a_wrong_clock(certs: Secured, tmp_path: Path) -> None:
    said = told(certs.serve(age_days=-9), certs.client("a"), tmp_path)
    assert "is valid only from" in said and "that clock is wrong" in said


def test_a_client_s_own_clock_that_is_years_behind_is_named(run: Run) -> None:
    """The clock is an argument: the certificates are sound by the machine's own."""
    trust = run.certs.client("bob", days=1, age_days=3)
    said = why_refused(run.world.address, trust, now=today() - timedelta(days=9000))
    assert "is valid only from" in said and "(a box without a battery?)" in said
    said = why_refused(run.world.address, trust, now=today() - timedelta(days=3))
    assert "the server believes another CA, or its clock says" in said, "by this clock it is sound"


def test_a_server_without_certificates_is_told_from_one_that_is_away(certs: Secured, tmp_path: Path) -> None:
    assert "answers, but in plain text" in told(None, certs.client("a"), tmp_path)
    assert why_refused("127.0.0.1:1", certs.client("a")) == ""
    assert why_refused("unix:/nowhere", PLAIN) == ""


def test_a_client_s_certificate_does_not_make_a_server(certs: Secured, tmp_path: Path) -> None:
    """A member of the run cannot play the server to the others."""
    mallory = certs.client("mallory").certs
    assert mallory is not None
    said = told(Guard(CertFolder(mallory.path, Side.CLIENT), None), certs.client("a"), tmp_path)
    assert "is not of the CA in" in said or "is not for" in said or "unsuitable" in said


def test_a_push_of_a_stranger_is_not_answered(run: Run) -> None:
    with pytest.raises(Unreachable):
        push(run.world.transport(PLAIN), run.session)
