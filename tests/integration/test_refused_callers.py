"""Who may not, may not do anything: every RPC of a server with certificates, asked by all who should not be heard.

Over real gRPC. The callers are refused while the client whose place they want is in the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from integration.test_transports import spec
from integration.worlds import GrpcWorld
from secured import Secured

from heron_client.transport.interface import Transport
from heron_client.transport.trust import Trust
from heron_core.errors import HeronError, NotAdmitted, UnknownSession, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.channel import CLIENT_OPTIONS
from heron_server.certs.choice import Guard

Ask = Callable[[Transport, str], object]


def join(transport: Transport, name: str) -> pb.JoinReply:
    request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=b"k" * 16)
    return transport.join(request)


def watch(transport: Transport, session: str) -> object:
    transport.watch(session, 1.0, 30.0)
    return transport.next_event(20.0)


def push(transport: Transport, session: str) -> object:
    stream = transport.open_push(split.FrameHeader(session_id=session, steps=1, purpose=split.PURPOSE_TRAIN))
    try:
        return stream.receive(20.0)
    finally:
        stream.close()


CALLS: dict[str, Ask] = {
    "Join": lambda transport, session: join(transport, "alice"),
    "WatchRounds": watch,
    "FetchModel": lambda transport, session: transport.fetch_model(
        pb.FetchModelRequest(session_id=session), lambda manifest: None
    ),
    "FetchGraphs": lambda transport, session: transport.fetch_graphs(
        pb.FetchGraphsRequest(client_name="alice"), lambda manifest: None
    ),
    "PushActivations": push,
    "SubmitUpdate": lambda transport, session: transport.submit(pb.UpdateHeader(session_id=session), {}),
    "Leave": lambda transport, session: transport.leave(pb.LeaveRequest(session_id=session, reason="mallory")),
}
WITHOUT_SESSION = ("Join", "FetchGraphs")
"""Their requests say whose they are."""
each_call = pytest.mark.parametrize("rpc", CALLS)


class RunOfAlice:
    """A server that asks who calls, and alice in it."""

    def __init__(self, folder: Path, guard: Guard, alice: Trust) -> None:
        self.world = GrpcWorld(spec(federation={"clients": 2}), folder / "run", guard=guard)
        self.alice = self.world.transport(alice)
        self.session = join(self.alice, "alice").session_id
        self.alice.watch(self.session, 1.0, 30.0)
        assert self.alice.next_event(20.0) is not None

    def refusal(self, rpc: str, trust: Trust, kind: type[HeronError]) -> str:
        """What a caller with this proof is told, asking for what is alice's; she goes on undisturbed."""
        transport = self.world.transport(trust)
        with pytest.raises(HeronError) as refused:
            CALLS[rpc](transport, self.session)
        assert type(refused.value) is kind, refused.value
        assert self.world.coordinator.clients_present == 1
        return str(refused.value)


class Run(RunOfAlice):
    """By certificates."""

    def __init__(self, folder: Path) -> None:
        self.certs = Secured(folder / "certs")
        super().__init__(folder, self.certs.guard, self.certs.client("alice"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("guarded"))
    yield run
    run.world.close()


@each_call
def test_without_a_certificate_nothing_is_answered(run: Run, rpc: str) -> None:
    folder = run.certs.root / "clients" / "nobody"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes((run.certs.root / "ca.pem").read_bytes())
    of_folder = run.certs.client("alice").certs
    assert of_folder is not None
    said = run.refusal(rpc, Trust(tls=True, certs=type(of_folder)(folder, of_folder.side)), Unreachable)
    if rpc == "Join":
        assert "wants a client's certificate, and this client has none" in said


@each_call
def test_plain_text_is_not_answered(run: Run, rpc: str) -> None:
    said = run.refusal(rpc, Trust(), Unreachable)
    if rpc == "Join":
        assert "speaks TLS, and this client was told of no certificates" in said


@each_call
def test_a_certificate_of_another_ca_is_not_answered(run: Run, rpc: str, tmp_path: Path) -> None:
    other = Secured(tmp_path).client("alice")
    assert other.certs is not None
    said = run.refusal(rpc, other, Unreachable)
    if rpc == "Join":
        assert "is not of the CA in" in said and "copy this client's folder from the server again" in said


@each_call
def test_who_believes_the_ca_but_has_a_certificate_of_another_is_not_answered(
    run: Run, rpc: str, tmp_path: Path
) -> None:
    """Whoever gets hold of ca.pem, which is no secret."""
    trust = run.certs.client("mallory")
    assert trust.certs is not None
    forged = Secured(tmp_path).client("mallory").certs
    assert forged is not None
    for name in ("cert.pem", "key.pem"):
        (trust.certs.path / name).write_bytes((forged.path / name).read_bytes())
    blind = Blind(tls=True, certs=trust.certs)
    said = run.refusal(rpc, blind, Unreachable)
    if rpc == "Join":
        assert "cert.pem is no client's certificate of the CA in ca.pem" in said


class Blind(Trust):
    """Does not look whether its files fit each other."""

    def channel(self, address: str, *more: tuple[str, str | int]) -> grpc.Channel:
        assert self.certs is not None
        ca, key, cert = ((self.certs.path / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), [*CLIENT_OPTIONS, *more])


@each_call
def test_an_expired_certificate_is_not_answered(run: Run, rpc: str) -> None:
    said = run.refusal(rpc, run.certs.client("bob", days=1, age_days=3), Unreachable)
    if rpc == "Join":
        assert "this client's certificate" in said and "expired on " in said and "clock says" in said


@each_call
def test_a_certificate_of_the_future_is_not_answered_and_the_clock_is_named(run: Run, rpc: str) -> None:
    said = run.refusal(rpc, run.certs.client("bob", age_days=-3), Unreachable)
    if rpc == "Join":
        assert "is valid only from" in said and "that clock is wrong" in said


@each_call
def test_a_denied_client_is_told_that_and_no_more(run: Run, rpc: str) -> None:
    trust = run.certs.client("bob")
    run.certs.deny("bob")
    try:
        said = run.refusal(rpc, trust, NotAdmitted)
    finally:
        run.certs.deny()
    assert said == "this client is not let in any more; ask the server's operator"


@each_call
def test_a_denied_serial_number_is_refused_and_another_certificate_of_the_name_is_not(run: Run, rpc: str) -> None:
    lost = run.certs.client("bob")
    assert lost.certs is not None
    run.certs.deny(f"0x{lost.certs.read().facts.serial.upper()}  # stolen")
    try:
        run.refusal(rpc, lost, NotAdmitted)
        again = run.certs.client("bob")
        kind = NotAdmitted if rpc in WITHOUT_SESSION else UnknownSession  # bob's certificate is no alice's
        assert "not let in" not in run.refusal(rpc, again, kind)
    finally:
        run.certs.deny()


def test_another_name_than_the_certificate_s_is_refused(run: Run) -> None:
    said = run.refusal("Join", run.certs.client("bob"), NotAdmitted)
    assert "is 'bob''s, and the client calls itself 'alice'; set its name to 'bob'" in said


@pytest.mark.parametrize("rpc", [rpc for rpc in CALLS if rpc not in WITHOUT_SESSION])
def test_another_client_s_session_is_as_unknown_as_one_that_is_nobody_s(run: Run, rpc: str) -> None:
    bob = run.certs.client("bob")
    said = run.refusal(rpc, bob, UnknownSession)
    with pytest.raises(UnknownSession) as unknown:
        CALLS[rpc](run.world.transport(bob), "nobody")
    assert said == str(unknown.value)
