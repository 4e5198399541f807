"""check_transport says in one line what is wrong with a transport."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from integration.test_transports import spec
from integration.worlds import InProcessWorld

from heron_client.testing import check_transport, transports
from heron_client.transport.received import from_server
from heron_core.errors import HeronError, Internal, NameTaken
from heron_core.wire.codec import manifest_of


class Through:
    """Hands everything on; what is broken is a subclass's."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class OneErrorForAll(Through):
    def join(self, request: Any) -> Any:
        try:
            return self.inner.join(request)
        except HeronError as error:
            raise Internal("500\nserver error") from error


class NoText(Through):
    def join(self, request: Any) -> Any:
        try:
            return self.inner.join(request)
        except HeronError as error:
            raise type(error)("refused") from error


class OneReply(Through):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.replies = REPLIES

    def join(self, request: Any) -> Any:
        key = (request.protocol_version, request.instance_key)
        if key not in self.replies:
            self.replies[key] = self.inner.join(request)
        return self.replies[key]


REPLIES: dict[Any, Any] = {}


class NoEvents(Through):
    def next_event(self, timeout_s: float) -> Any:
        return None


class NoEnd(Through):
    def next_event(self, timeout_s: float) -> Any:
        try:
            return self.inner.next_event(timeout_s)
        except NameTaken:
            return None


class OneState(Through):
    state: Any = None

    def fetch_model(self, request: Any, accept: Any) -> Any:
        if self.state is None:
            self.state = self.inner.fetch_model(request, accept)
        else:
            with from_server():
                accept(manifest_of(self.state))
        return self.state


class AnyState(Through):
    def fetch_model(self, request: Any, accept: Any) -> Any:
        return self.inner.fetch_model(request, lambda manifest: None)


class NoFrames(Through):
    def open_push(self, opening: Any) -> Any:
        stream = Through(self.inner.open_push(opening))
        stream.send = lambda frame: None
        return stream


class NoLeave(Through):
    def leave(self, request: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (OneErrorForAll, "Join with .* must raise VersionMismatch, got Internal: 500 server error; raise"),
        (NoText, "the refusal must name versions .*, got refused; keep its text"),
        (NoEvents, "the event round_begins must come, nothing like it came"),
        (OneState, r"\S+ must be the caller's own to write to, two fetches share it; copy it"),
        (AnyState, "accept must be called once, it was 0 times; call it before allocating anything"),
        (OneReply, "a second Join must give another session, got .* again; ask the server each time"),
        (NoEnd, "next_event in a session that was taken over must raise NameTaken, got .*finished must come"),
        (NoLeave, "Leave in a session that the server does not know must raise UnknownSession, got None; raise what"),
        (NoFrames, "the run must end, the client was TRAINING after .*; see what it waits for"),
    ],
)
def test_a_broken_transport_is_refused_in_one_line(
    kind: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "PATIENCE_S", 1.0)
    REPLIES.clear()
    with closing(InProcessWorld(spec(federation={"clients": 1}), tmp_path)) as world:
        with pytest.raises(Internal, match=rf"^{kind.__name__}: {says}") as caught:
            check_transport(lambda: kind(world.transport()), world.turn)
        assert "\n" not in str(caught.value)
