"""What a client leaves out of its uploads, as the server has it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from heron_client.compute.reuse.sent_once import SentOnce
from heron_client.compute.reuse.sketches import Sketches
from heron_core.arrays import Array
from heron_core.errors import BadReply
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.versions import as_told, digest

KEPT = np.packbits([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]).tobytes()
"""Of ten samples the fourth and the last."""


def sent(*numbers: int, sequence: int, of: SentOnce) -> list[int]:
    """The samples whose rows travel with an upload of two micro-batches."""
    halves: list[tuple[list[Array], NDArray[np.bool_]] | None] = []
    for half in np.split(np.array(numbers), 2):
        rows = [half[:, None].astype(np.float32)]
        halves.append(of.gather(sequence, np.array(numbers), rows, half.astype(np.int64)))
        assert rows == [], "a suspended step holds nothing"
    assert halves[0] is None and halves[1] is not None
    (cut, labels), which = halves[1]
    assert np.array(numbers)[which].tolist() == labels.tolist()
    assert cut[:, 0].tolist() == labels.tolist()
    return [int(label) for label in labels]


def test_each_sample_travels_once_and_none_that_the_server_says_it_has() -> None:
    of = SentOnce(b"n" * 16, 10)
    of.hear(0, KEPT)
    assert sent(3, 1, 9, 0, sequence=0, of=of) == [1, 0]
    of.hear(1, np.packbits([0] * 10).tobytes())  # the stream came back, within the round
    assert sent(0, 1, 3, 4, sequence=1, of=of) == [4]
    assert sent(0, 1, 3, 4, sequence=2, of=of) == []


def test_uploads_that_an_earlier_process_has_sent_count_for_nothing_under_these_numbers() -> None:
    of = SentOnce(b"n" * 16, 10)
    of.hear(1, np.packbits([0] * 10).tobytes())
    assert sent(0, 1, 2, 3, sequence=0, of=of) == [0, 1, 2, 3]
    assert sent(0, 1, 2, 4, sequence=1, of=of) == [0, 1, 2, 4]


def test_a_round_without_a_server_sends_all_once() -> None:
    assert sent(0, 1, 2, 3, sequence=0, of=SentOnce(b"n" * 16, 10)) == [0, 1, 2, 3]


@pytest.mark.parametrize("held", [b"", b"1", b"123"])
def test_a_server_that_speaks_of_other_samples_is_no_server_of_this_run(held: bytes) -> None:
    with pytest.raises(BadReply, match=f"each of 10 samples whether it has it, in 2 bytes, got {len(held)}"):
        SentOnce(b"n" * 16, 10).hear(0, held)


def moving(of: Sketches, before: int = 0) -> SentOnce:
    return SentOnce(b"n" * 16, 3, of, before)


def gathered(of: SentOnce, sequence: int, *values: float) -> list[bool]:
    """Which of the three samples travel that have these activations."""
    found = of.gather(sequence, np.arange(3), [np.array(values, np.float32)[:, None]], np.zeros(3, np.int64))
    assert found is not None
    (cut, _), which = found
    assert cut[:, 0].tolist() == np.array(values, np.float32)[which].tolist()
    return which.tolist()


def test_activations_travel_again_once_they_have_moved_from_what_was_sent_last() -> None:
    sketches = Sketches(3, 1, 0.1, seed=0)
    of = moving(sketches)
    of.hear(0, b"")
    assert gathered(of, 0, 1, 1, 1) == [True, True, True]
    assert gathered(of, 1, 1.05, 1.2, 1) == [False, True, False]
    assert gathered(of, 2, 1.11, 1.2, 1) == [True, False, False]


def told(*uploads: int) -> bytes:
    return as_told(np.array(uploads, np.uint32))


def test_a_client_goes_on_from_what_the_server_has_and_says_in_16_bytes_what_it_thinks_that_is() -> None:
    sketches = Sketches(3, 1, 0.1, seed=0)
    of = moving(sketches)
    of.hear(0, told(0, 0, 0))
    gathered(of, 0, 1, 1, 1)
    of = moving(sketches, before=4)
    opening = pb.FrameHeader()
    of.sign(opening)
    assert opening.kept == digest(told(1, 1, 1))
    of.hear(0, b"")
    assert gathered(of, 0, 2, 2, 1) == [True, True, False]
    again = moving(sketches, before=4)  # the round is repeated, and the first sample's place was spoiled
    again.hear(0, told(0, 1, 1))
    assert gathered(again, 0, 1, 1, 2) == [True, False, True]


def test_uploads_that_are_there_change_nothing_of_what_was_sent() -> None:
    sketches = Sketches(3, 1, 0.1, seed=0)
    of = moving(sketches)
    of.hear(1, told(0, 0, 0))  # under the numbers of an earlier process
    gathered(of, 0, 1, 1, 1)
    assert sketches.sent.tolist() == [0, 0, 0]
    assert gathered(of, 1, 1, 1, 1) == [True, True, True] and sketches.sent.tolist() == [2, 2, 2]


def test_a_server_that_tells_of_other_samples_than_there_are_is_refused() -> None:
    with pytest.raises(BadReply, match="each of 3 samples whether it has it, in 12 bytes, got 1"):
        moving(Sketches(3, 1, 0.1, seed=0)).hear(0, b"1")
