from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_client.uploads.upload import Upload
from heron_client.uploads.uploader import Uploader
from heron_core.errors import BadReply, StaleTerm, Unreachable
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.frames import Bulk
from heron_core.wire.window import MAX_UNACKNOWLEDGED, UNACKNOWLEDGED_BYTES

OPENING = pb.FrameHeader(run_id="r", session_id="s", term=4, round=2, purpose=pb.PURPOSE_TRAIN, steps=9)


class FakeStream:
    """A PushStream whose events the test puts; frames are kept, and `breaks_after` frames it breaks."""

    def __init__(self, breaks_after: int = 1 << 30) -> None:
        self.frames: list[Bulk[pb.ActivationFrame]] = []
        self.events: deque[Bulk[pb.PushEvent]] = deque()
        self.closed = False
        self._left = breaks_after

    def send(self, frame: Bulk[pb.ActivationFrame]) -> None:
        if not self._left:
            raise Unreachable("broken")
        self._left -= 1
        self.frames.append(frame)

    def receive(self, timeout_s: float) -> Bulk[pb.PushEvent] | None:
        return self.events.popleft() if self.events else None

    def close(self) -> None:
        self.closed = True

    def position(self, sequence: int, credit_steps: int) -> None:
        self._put(pb.PushEvent(position=pb.Position(sequence=sequence, credit_steps=credit_steps)))

    def acknowledge(self, sequence: int) -> None:
        self._put(pb.PushEvent(acknowledged=pb.Acknowledged(sequence=sequence)))

    def credit(self, steps: int) -> None:
        self._put(pb.PushEvent(credit=pb.Credit(steps=steps)))

    def _put(self, event: pb.PushEvent) -> None:
        self.events.append(Bulk(event))

    @property
    def sent(self) -> list[int]:
        """Sequence numbers of the micro-batches begun."""
        return [f.rest.header.sequence for f in self.frames if f.rest.header.HasField("manifest")]


def upload(sequence: int, rows_of_step: int = 1, width: int = 3) -> Upload:
    step, piece = divmod(sequence, rows_of_step)
    activations = np.full((2, width), sequence, dtype=np.float32)
    labels = np.array([sequence, 1], dtype=np.int64)
    return Upload(sequence, step, 2 * piece, 2 * rows_of_step, {"activations": activations, "labels": labels})


def waits(steps: Iterator[None]) -> bool:
    """Runs until it waits or ends; True if it waits."""
    return next(steps, "ended") is None


def attached(stream: FakeStream, uploader: Uploader | None = None, sequence: int = 0, credit: int = 100) -> Uploader:
    uploader = uploader or Uploader(OPENING)
    stream.position(sequence, credit)
    assert not waits(uploader.attach(stream, 0))
    return uploader


def test_attach_waits_for_the_position() -> None:
    stream, uploader = FakeStream(), Uploader(OPENING)
    attaching = uploader.attach(stream, 0)
    assert waits(attaching) and waits(attaching)
    stream.position(0, 1)
    assert not waits(attaching)


def test_at_most_two_micro_batches_are_unacknowledged() -> None:
    stream = FakeStream()
    uploader = attached(stream)
    for sequence in range(MAX_UNACKNOWLEDGED):
        assert not waits(uploader.push(upload(sequence), 0))
    third = uploader.push(upload(2), 0)
    assert waits(third) and waits(third)
    assert stream.sent == [0, 1]
    stream.acknowledge(1)
    assert not waits(third)
    assert stream.sent == [0, 1, 2]


def test_a_second_large_micro_batch_waits_for_the_first_one_s_acknowledgement() -> None:
    stream = FakeStream()
    uploader = attached(stream)
    width = UNACKNOWLEDGED_BYTES // (2 * 4)  # rows are 2 of float32: each alone reaches the bound
    assert not waits(uploader.push(upload(0, width=width), 0)), "a single one always goes"
    pushing = uploader.push(upload(1, width=width), 0)
    assert waits(pushing) and stream.sent == [0]
    stream.acknowledge(1)
    assert not waits(pushing) and stream.sent == [0, 1]


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    stream = FakeStream()
    uploader = attached(stream, sequence=2)
    stream.acknowledge(2)
    assert not waits(uploader.push(upload(2), 0))
    stream.acknowledge(4)
    with pytest.raises(BadReply, match="acknowledges 4 micro-batches, 3 were sent"):
        uploader.listen()


def test_nothing_is_sent_beyond_the_credit() -> None:
    stream = FakeStream()
    uploader = attached(stream, credit=1)
    for sequence in (0, 1):
        assert not waits(uploader.push(upload(sequence, rows_of_step=2), 0))
    stream.acknowledge(2)
    beyond = uploader.push(upload(2, rows_of_step=2), 0)
    assert waits(beyond)
    stream.credit(1)
    assert waits(beyond)
    stream.credit(2)
    assert not waits(beyond)
    assert stream.sent == [0, 1, 2]


def test_settle_waits_for_every_acknowledgement() -> None:
    stream = FakeStream()
    uploader = attached(stream)
    assert not waits(uploader.settle(0))
    for sequence in (0, 1):
        assert not waits(uploader.push(upload(sequence), 0))
    settling = uploader.settle(0)
    assert waits(settling)
    stream.acknowledge(1)
    assert waits(settling)
    stream.acknowledge(2)
    assert not waits(settling)


def test_a_micro_batch_goes_out_as_one_manifest_and_pieces_in_order() -> None:
    stream = FakeStream()
    uploader = attached(stream)
    big = upload(0, width=200_000)  # 1.6 MB
    assert not waits(uploader.push(big, 0))
    first, second = stream.frames
    header = first.rest.header
    assert (header.term, header.round, header.purpose) == (4, 2, pb.PURPOSE_TRAIN)
    assert (header.step, header.sequence, header.row_start, header.batch_rows, header.offset) == (0, 0, 0, 2, 0)
    assert [(t.name, list(t.shape)) for t in header.manifest.tensors] == [
        ("activations", [2, 200_000]),
        ("labels", [2]),
    ]
    assert not second.rest.header.HasField("manifest") and second.rest.header.offset == 1 << 20
    assert first.payload_bytes == 1 << 20
    wanted = big.tensors["activations"].tobytes() + big.tensors["labels"].tobytes()
    assert bytes(first.payload) + bytes(second.payload) == wanted


def test_after_a_break_what_the_server_lacks_is_sent_again_from_its_position() -> None:
    broken = FakeStream()
    uploader = attached(broken)
    for sequence in (0, 1):
        assert not waits(uploader.push(upload(sequence), 0))
    fresh = FakeStream()
    attached(fresh, uploader, sequence=1)
    assert fresh.sent == [1]
    assert bytes(fresh.frames[0].payload) == bytes(broken.frames[1].payload)
    assert not waits(uploader.push(upload(2), 0))
    assert fresh.sent == [1, 2]


def test_a_send_that_breaks_half_way_is_sent_once_more_and_once_only() -> None:
    broken = FakeStream(breaks_after=1)
    uploader = attached(broken)
    big = upload(0, width=200_000)
    with pytest.raises(Unreachable):
        list(uploader.push(big, 0))
    fresh = FakeStream()
    attached(fresh, uploader)
    assert not waits(uploader.push(big, 0)), "the runner hands over again what it could not finish"
    assert fresh.sent == [0] and len(fresh.frames) == 2


def test_what_the_server_has_already_is_skipped() -> None:
    stream = FakeStream()
    uploader = attached(stream, sequence=3)  # an earlier life of this client sent them
    for sequence in range(5):
        assert not waits(uploader.push(upload(sequence), 0))
    assert stream.sent == [3, 4]


@pytest.mark.parametrize("still_unacknowledged", [True, False])
def test_a_position_behind_an_acknowledgement_is_a_stale_term(still_unacknowledged: bool) -> None:
    stream = FakeStream()
    uploader = attached(stream)
    for sequence in (0, 1):
        assert not waits(uploader.push(upload(sequence), 0))
    stream.acknowledge(1 if still_unacknowledged else 2)
    waits(uploader.settle(0))
    fresh = FakeStream()
    fresh.position(0, 100)
    with pytest.raises(StaleTerm):
        list(uploader.attach(fresh, 0))
    assert not fresh.frames


def test_credit_is_the_new_stream_s_own() -> None:
    uploader = attached(FakeStream(), credit=100)
    fresh = FakeStream()
    attached(fresh, uploader, credit=0)
    assert waits(uploader.push(upload(0), 0))


def test_close_ends_the_stream_and_is_safe_without_one() -> None:
    Uploader(OPENING).close()
    stream = FakeStream()
    attached(stream).close()
    assert stream.closed


class Server:
    """The other end, played by a drawn seed: takes whole micro-batches in order, breaks streams at will."""

    def __init__(self, seed: int) -> None:
        self.taken: list[int] = []
        self.acknowledged = self.credit = 0
        self._random = random.Random(seed)

    def act(self, stream: FakeStream) -> bool:
        """Does one thing; False if it breaks the stream."""
        action = self._random.choice(["take", "take", "take", "acknowledge", "credit", "credit", "break"])
        if action == "break":
            return False
        self.take(stream)
        if action == "acknowledge" or len(self.taken) - self.acknowledged >= MAX_UNACKNOWLEDGED:
            self.acknowledged = len(self.taken)
            stream.acknowledge(self.acknowledged)
        if action == "credit":
            self.credit += 1
            stream.credit(self.credit)
        return True

    def take(self, stream: FakeStream) -> None:
        for frame in stream.frames:
            header = frame.rest.header
            assert header.step < self.credit
            if header.sequence == len(self.taken):
                self.taken.append(header.sequence)
            else:
                assert header.sequence < len(self.taken), "a gap"
        stream.frames.clear()


@given(st.integers(0, 1 << 32), st.integers(0, 8), st.integers(1, 3))
def test_whatever_breaks_the_server_gets_each_micro_batch_in_order(seed: int, steps: int, rows: int) -> None:
    server = Server(seed)
    uploader, stream, breaks = Uploader(OPENING), FakeStream(), 0

    def pump(doing: Iterator[None]) -> bool:
        nonlocal breaks
        for _ in doing:
            assert len(uploader._unacknowledged) <= MAX_UNACKNOWLEDGED
            if not server.act(stream) and breaks < 5:
                breaks += 1
                return False
        return True

    def attach() -> None:
        nonlocal stream
        stream = FakeStream()
        stream.position(len(server.taken), server.credit)
        server.acknowledged = len(server.taken)
        assert not waits(uploader.attach(stream, 0))

    attach()
    for sequence in range(steps * rows):
        while not pump(uploader.push(upload(sequence, rows), 0)):
            attach()
    while not pump(uploader.settle(0)):
        attach()
    assert server.taken == list(range(steps * rows))
