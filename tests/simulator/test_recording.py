"""The recorder alone, over a transport that answers from a list."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from heron_client.transport.interface import Accept, PushStream
from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import update_chunks
from heron_core.wire.frames import Bulk
from heron_server.metrics.ledger import framed
from heron_simulator.network_model import Recording
from heron_simulator.recording import RecordingTransport

BEGINS = pb.RoundEvent(round_begins=pb.RoundBegins(term=1, round=1, rank=2, clients=3))


class Answers:
    """A Transport and PushStream that hand out what they were given, and keep what they get."""

    def __init__(self, *events: pb.RoundEvent, pushed: tuple[Bulk[split.PushEvent], ...] = ()) -> None:
        self.events, self.pushed = deque(events), deque(pushed)
        self.frames: list[Bulk[split.ActivationFrame]] = []

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        return self.events.popleft() if self.events else None

    def open_push(self, opening: split.FrameHeader) -> PushStream:
        return self

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        return pb.SubmitUpdateReply()

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        return {"front.w": np.zeros(25, np.float32)}

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        self.frames.append(frame)

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        return self.pushed.popleft() if self.pushed else None

    def close(self) -> None:
        """Nothing to close."""


def frame(step: int, offset: int, size: int) -> Bulk[split.ActivationFrame]:
    header = split.FrameHeader(step=step, offset=offset)
    return Bulk(split.ActivationFrame(header=header), (bytes(size),))


def gradients(step: int, size: int) -> Bulk[split.PushEvent]:
    return Bulk(split.PushEvent(cut_gradients=split.CutGradients(step=step)), (bytes(size),))


def test_frames_are_noted_by_upload_and_micro_batch_and_handed_on() -> None:
    recording: Recording = {}
    inner = Answers(BEGINS)
    transport = RecordingTransport(inner, recording)
    transport.next_event(0)
    push = transport.open_push(split.FrameHeader(term=1))
    frames = [frame(0, 0, 10), frame(0, 10, 5), frame(0, 0, 7), frame(1, 0, 3)]
    for each in frames:
        push.send(each)
    a, b, c, d = (framed(each.message_bytes) for each in frames)
    assert recording[1, 1][2].uploads == [[a + b, c], [d]]
    assert inner.frames == frames


def test_cut_gradients_are_noted_by_the_upload_that_they_answer() -> None:
    recording: Recording = {}
    events = (gradients(0, 4), gradients(1, 6), gradients(1, 2))
    transport = RecordingTransport(Answers(BEGINS, pushed=events), recording)
    transport.next_event(0)
    push = transport.open_push(split.FrameHeader())
    assert [push.receive(0) for _ in range(4)] == [*events, None]
    first, second, third = (framed(event.message_bytes) for event in events)
    assert recording[1, 1][2].gradients == [first, second + third]


def test_what_evaluation_sends_is_no_rounds() -> None:
    recording: Recording = {}
    evaluation = pb.RoundEvent(evaluation_begins=pb.EvaluationBegins(term=1, round=1))
    transport = RecordingTransport(Answers(BEGINS, evaluation), recording)
    header, arrays = pb.UpdateHeader(round=1), {"front.w": np.zeros(3, np.float32)}
    transport.next_event(0)
    transport.submit(header, arrays)
    transport.next_event(0)
    transport.open_push(split.FrameHeader()).send(frame(0, 0, 100))
    sent = recording[1, 1][2]
    assert sent.uploads == [] and sent.opening == 0
    assert sent.update == sum(framed(chunk.message_bytes) for chunk in update_chunks(header, arrays))


def test_a_state_that_comes_with_the_round_is_noted_once_and_no_fetch() -> None:
    recording: Recording = {}
    event = pb.RoundEvent()
    event.CopyFrom(BEGINS)
    event.round_begins.state.payload = bytes(100)
    transport = RecordingTransport(Answers(event), recording)
    transport.next_event(0)
    for fetches in (0, 1):  # the second time it is fetched: an earlier attempt had taken what came
        transport.fetch_model(pb.FetchModelRequest(session_id="s"), lambda manifest: None)
        sent = recording[1, 1][2]
        assert (sent.messages_up, bool(sent.fetch)) == (fetches, bool(fetches))
        if not fetches:
            assert sent.state == framed(event.ByteSize())
