"""Nothing that tells of anybody's data passes in plain text: all bytes of a whole run are recorded and searched.

The same search over the same run without certificates finds everything, so it would find it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e.processes import Relay
from integration.test_transports import spec
from integration.worlds import GrpcWorld, InProcessWorld, Member
from secured import Secured

from heron_client.transport.interface import PushStream, Transport
from heron_client.transport.trust import PLAIN
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.frames import Bulk
from heron_server.certs.choice import OPEN
from heron_simulator.forwarding import Forwarding

NEEDLE = 24
"""Bytes: three labels, or six activations."""


class Tap(Relay):
    """Keeps all that passes, each direction of each connection for itself."""

    def __init__(self, target: str) -> None:
        self.streams: list[bytearray] = []
        super().__init__(target)

    def carry(self, up: bool) -> Any:
        stream = bytearray()
        self.streams.append(stream)
        return stream.extend

    def has(self, needle: bytes) -> bool:
        return any(needle in stream for stream in self.streams)


class Sent(Forwarding):
    """Keeps the payload of every frame that goes up."""

    def __init__(self, inner: Transport, payloads: list[bytes]) -> None:
        super().__init__(inner)
        self._payloads = payloads

    def open_push(self, opening: split.FrameHeader) -> PushStream:
        stream, payloads = super().open_push(opening), self._payloads

        class Push:
            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

            def send(self, frame: Bulk[split.ActivationFrame]) -> None:
                payloads.append(bytes(frame.payload))
                stream.send(frame)

        return Push()  # type: ignore[return-value]


def run_through(tap_of: list[Tap], folder: Path, secured: bool) -> tuple[list[bytes], dict[str, Any]]:
    """What was sent in the frames of a whole run, and its summary."""
    certs, payloads = Secured(folder / "certs"), []  # type: ignore[var-annotated]
    world = GrpcWorld(spec(), folder / "run", guard=certs.guard if secured else OPEN)
    tap = Tap(world.address)
    tap_of.append(tap)

    def member(name: str) -> Member:
        trust = certs.client(name) if secured else PLAIN
        return Member(name, through=lambda _: Sent(world.transport(trust, tap.address), payloads))

    with closing(world), closing(tap):
        return payloads, world.run(member("a"), member("b"))


def needles(payload: bytes) -> Iterator[bytes]:
    """The first, the middle and the last bytes: labels stand at the end."""
    for start in (0, len(payload) // 2, len(payload) - NEEDLE):
        yield payload[start : start + NEEDLE]


@pytest.mark.parametrize("secured", [True, False], ids=["certificates", "plain"])
def test_labels_and_activations_are_on_the_wire_in_plain_text_only_without_certificates(
    tmp_path: Path, secured: bool
) -> None:
    taps: list[Tap] = []
    payloads, summary = run_through(taps, tmp_path, secured)
    assert not summary["errors"] and len(payloads) >= 8
    assert sum(map(len, taps[0].streams)) > sum(map(len, payloads)), "the run went through the tap"
    found = [needle for payload in payloads for needle in needles(payload) if taps[0].has(needle)]
    if secured:
        assert found == []
        assert not any(taps[0].has(word) for word in (b"heron.v1", b"heron-reason", b"client_name", b"digits"))
    else:
        assert len(found) >= 3 * len(payloads)


def test_a_run_over_tls_ends_with_the_same_bits(tmp_path: Path) -> None:
    _, summary = run_through([], tmp_path, secured=True)
    plain = InProcessWorld(spec(), tmp_path / "plain")
    with closing(plain):
        assert plain.run(Member("a"), Member("b"))["model_sha256"] == summary["model_sha256"]
