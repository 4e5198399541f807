"""The contract of `heron_client.transport.interface.Transport`, as a plain function."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from time import monotonic

import numpy as np

from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.transport.interface import Transport
from heron_core.config import validate
from heron_core.errors import (
    HeronError,
    Internal,
    NameTaken,
    ServerTensorError,
    StaleTerm,
    TensorError,
    UnknownSession,
    VersionMismatch,
)
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1.tensors_pb2 import Manifest
from heron_core.spec.run_spec import RunSpec
from heron_core.testing.report import Checks, Report, one_line
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import check_finite, check_manifest, expected_of

PATIENCE_S = 60.0
NAME, KEY, OTHER_KEY = "check", b"k" * 16, b"x" * 16
Make = Callable[[], Transport]
Turn = Callable[[], None]


def check_transport(make: Make, turn: Turn = lambda: None) -> Report:
    """Speaks to a server over transports of this kind: two clients quarrel about a name, then one does a whole run.

    `make` gives a new client's way to one and the same server, whose run is for one client (federation.clients = 1),
    on experiment data, and joined by nobody yet. `turn` lets a server in this thread act; a server elsewhere needs
    none. Raises Internal, one line, for the first claim that does not hold.
    """
    talk = _Talk(make(), make(), turn)
    checks = Checks(type(talk.first).__name__, Internal)
    checks.run("another protocol version is refused, both named", talk.check_version)
    checks.run("Join gives a session and the run", talk.check_join)
    checks.run("events come, and none is None", talk.check_events)
    checks.run("the client state comes whole, and is the caller's own", talk.check_state)
    checks.run("a client state that is not the current one is stale", talk.check_stale)
    checks.run("the name of a live client is taken", talk.check_name)
    checks.run("its own key takes the session over, and the old one is told", talk.check_takeover)
    checks.run("a session that the server does not know is refused in every call", talk.check_unknown)
    checks.run("after disconnect it joins again, and leaving ends the session", talk.check_again)
    checks.run("a whole run goes through", lambda: check_run(make(), turn))
    return checks.report()


class _Talk:
    """Two transports, and what the first has been told."""

    def __init__(self, first: Transport, second: Transport, turn: Turn) -> None:
        self.first, self.second, self._turn = first, second, turn
        self._session, self._version = "", 0

    def check_version(self) -> None:
        other = PROTOCOL_VERSION + 1
        what = f"Join with protocol version {other}"
        error = _refusal(VersionMismatch, what, lambda: self._join(self.first, version=other))
        if not {str(other), str(PROTOCOL_VERSION)} <= set(re.findall(r"\d+", str(error))):
            raise Internal(f"the refusal must name versions {other} and {PROTOCOL_VERSION}, got {error}; keep its text")

    def check_join(self) -> None:
        reply = self._join(self.first)
        if not reply.session_id or not reply.run_id:
            raise Internal(f"Join must give a session_id and a run_id, got {_short(reply)}; hand the reply on")
        validate(RunSpec, json.loads(reply.run_spec_json), "the server's run spec")
        self._session = reply.session_id

    def check_events(self) -> None:
        self.first.watch(self._session, 1.0, 30.0)
        self._version = self._event(self.first, "round_begins").round_begins.version
        asked = monotonic()
        while self.first.next_event(0) is not None:
            self._turn()
        if monotonic() - asked > 1.0:
            raise Internal("next_event(0) must return at once, it waited; look at what has come, and no longer")

    def check_state(self) -> None:
        request = pb.FetchModelRequest(session_id=self._session, version=self._version)
        seen: list[Manifest] = []
        arrays = self.first.fetch_model(request, seen.append)
        if len(seen) != 1:
            raise Internal(f"accept must be called once, it was {len(seen)} times; call it before allocating anything")
        check_manifest(seen[0], expected_of(arrays), "the client state")
        check_finite(arrays, "the client state")
        _refusal(ServerTensorError, "a state not accepted", lambda: self.first.fetch_model(request, _no_state))
        again = self.first.fetch_model(request, _any_state)
        for name, array in arrays.items():
            if not np.array_equal(array, again[name]):
                raise Internal(f"{name} must have the same bits in each fetch, got others; copy the bytes unchanged")
            if np.shares_memory(array, again[name]) or not array.flags.writeable:
                raise Internal(f"{name} must be the caller's own to write to, two fetches share it; copy it")

    def check_stale(self) -> None:
        request = pb.FetchModelRequest(session_id=self._session, version=self._version + 5)
        _refusal(StaleTerm, "FetchModel of a later version", lambda: self.first.fetch_model(request, _any_state))

    def check_name(self) -> None:
        _refusal(NameTaken, "Join by another key", lambda: self._join(self.second, key=OTHER_KEY))

    def check_takeover(self) -> None:
        session = self._join(self.second).session_id
        if session == self._session:
            raise Internal(f"a second Join must give another session, got {session} again; ask the server each time")
        request = pb.FetchModelRequest(session_id=self._session, version=self._version)
        what = "FetchModel in a session that was taken over"
        _refusal(UnknownSession, what, lambda: self.first.fetch_model(request, _any_state))
        _refusal(NameTaken, "next_event in a session that was taken over", lambda: self._event(self.first, "finished"))

    def check_unknown(self) -> None:
        nobody = "no-such-session"
        opening = split.FrameHeader(session_id=nobody, steps=1, purpose=split.PURPOSE_TRAIN)
        calls: dict[str, Callable[[], object]] = {
            "WatchRounds": lambda: self._watched(nobody),
            "FetchModel": lambda: self.second.fetch_model(pb.FetchModelRequest(session_id=nobody), _any_state),
            "PushActivations": lambda: self._answer(opening),
            "SubmitUpdate": lambda: self.second.submit(pb.UpdateHeader(session_id=nobody), {}),
            "Leave": lambda: self.second.leave(pb.LeaveRequest(session_id=nobody)),
        }
        for call, ask in calls.items():
            _refusal(UnknownSession, f"{call} in a session that the server does not know", ask)

    def check_again(self) -> None:
        for transport in (self.first, self.second):
            transport.disconnect()
        session = self._join(self.first).session_id
        self.first.watch(session, 1.0, 30.0)
        self._event(self.first, "round_begins")
        self.first.leave(pb.LeaveRequest(session_id=session, reason="checked"))
        again = pb.LeaveRequest(session_id=session, reason="checked")
        _refusal(UnknownSession, "Leave in a session that was left", lambda: self.first.leave(again))
        self.first.disconnect()

    def _join(self, transport: Transport, key: bytes = KEY, version: int = PROTOCOL_VERSION) -> pb.JoinReply:
        return transport.join(pb.JoinRequest(protocol_version=version, client_name=NAME, instance_key=key))

    def _event(self, transport: Transport, kind: str) -> pb.RoundEvent:
        """The next event of this kind."""
        deadline = monotonic() + PATIENCE_S
        while monotonic() < deadline:
            self._turn()
            event = transport.next_event(0.1)
            if event is not None and event.WhichOneof("event") == kind:
                return event
        raise Internal(f"the event {kind} must come, nothing like it came in {PATIENCE_S:g} s; hand all events on")

    def _watched(self, session: str) -> object:
        """Where an event stream is opened in the background, its refusal comes in place of an event."""
        self.second.watch(session, 1.0, 30.0)
        return self._event(self.second, "finished")

    def _answer(self, opening: split.FrameHeader) -> object:
        stream, deadline = self.second.open_push(opening), monotonic() + PATIENCE_S
        try:
            while monotonic() < deadline:
                self._turn()
                event = stream.receive(0.1)
                if event is not None:
                    return event
        finally:
            stream.close()
        return None


def check_run(transport: Transport, turn: Turn) -> None:
    """One client does all that the run asks for, over `transport`."""
    runner = Runner(ClientSettings(name=NAME, device="cpu"), transport, KEY, measure_memory=False)
    deadline = monotonic() + PATIENCE_S
    turn()
    for _ in runner.run():
        turn()
        if monotonic() > deadline:
            state = runner.session.state.name
            raise Internal(f"the run must end, the client was {state} after {PATIENCE_S:g} s; see what it waits for")


def _any_state(manifest: Manifest) -> None:
    """Accepts it."""


def _no_state(manifest: Manifest) -> None:
    raise TensorError("no client state is wanted")


def _refusal(kind: type[HeronError], what: str, call: Callable[[], object]) -> HeronError:
    """The error that the call must raise."""
    try:
        got = _short(call())
    except kind as error:
        return error
    except Exception as error:
        got = f"{type(error).__name__}: {one_line(error)}"
    raise Internal(f"{what} must raise {kind.__name__}, got {got}; raise what the server meant, by its heron-reason")


def _short(value: object) -> str:
    return " ".join(str(value).split())[:80] or "nothing"
