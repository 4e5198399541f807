"""What a client leaves out of its uploads, as the server has it."""

from __future__ import annotations

import numpy as np
import pytest

from heron_client.compute.reuse.sent_once import SentOnce
from heron_core.arrays import Array
from heron_core.errors import BadReply

KEPT = np.packbits([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]).tobytes()
"""Of ten samples the fourth and the last."""


def sent(*numbers: int, sequence: int, of: SentOnce) -> list[int]:
    """The samples whose rows travel with an upload of two micro-batches."""
    halves: list[list[Array] | None] = []
    for half in np.split(np.array(numbers), 2):
        rows = [half[:, None].astype(np.float32)]
        halves.append(of.gather(sequence, np.array(numbers), rows, half.astype(np.int64)))
        assert rows == [], "a suspended step holds nothing"
    assert halves[0] is None and halves[1] is not None
    cut, labels = halves[1]
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
