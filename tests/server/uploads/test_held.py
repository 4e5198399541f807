"""What the server has of a client's samples in one round, ahead of the worker that keeps them."""

from __future__ import annotations

import numpy as np
import pytest

from heron_core.errors import TensorError
from heron_core.wire.versions import Uploads, as_told, digest
from heron_server.uploads.held import SamplesHere

FIRST, SECOND = b"1" * 16, b"2" * 16


def kept(numbering: bytes, samples: int) -> Uploads:
    """Of the first numbering sample 3."""
    return np.array([4 * (numbering == FIRST and number == 3) for number in range(samples)], dtype=np.uint32)


def bits(held: bytes, samples: int = 10) -> list[int]:
    return np.flatnonzero(np.unpackbits(np.frombuffer(held, np.uint8), count=samples)).tolist()


def take(here: SamplesHere, *numbers: int, new: int) -> None:
    here.take(np.array(numbers, dtype=np.int32), new, 0, "upload 0")


def test_what_came_in_the_round_and_before_need_not_come_again() -> None:
    here = SamplesHere("edge", kept)
    assert bits(here.open(FIRST, 10)) == [3]
    take(here, 3, 5, 7, new=2)
    take(here, 7, 5, 3, new=0)
    assert bits(here.open(FIRST, 10)) == [3, 5, 7], "a stream that broke goes on"


def test_a_process_that_numbers_anew_within_the_round_has_nothing_here_and_so_has_one_that_comes_back() -> None:
    here = SamplesHere("edge", kept)
    here.open(FIRST, 10)
    take(here, 1, new=1)
    assert bits(here.open(SECOND, 10)) == []
    take(here, 1, new=1)
    assert bits(here.open(FIRST, 10)) == [], "the worker will have forgotten it by then"


@pytest.mark.parametrize(
    ("numbers", "new", "words"),
    [
        ((3, 5), 0, "lacks 1 of its 2 samples, activations of 0 came"),
        ((3, 5), 2, "lacks 1 of its 2 samples, activations of 2 came"),
        ((5, 5), 1, r"none twice, got 5..5, 1 different of 2"),
        ((3, 10), 1, r"must lie in 0..9, none twice, got 3..10"),
        ((-1, 3), 1, r"got -1..3"),
    ],
)
def test_numbers_that_cannot_be_are_refused_and_change_nothing(numbers: tuple[int, ...], new: int, words: str) -> None:
    here = SamplesHere("edge", kept)
    here.open(FIRST, 10)
    with pytest.raises(TensorError, match=words):
        take(here, *numbers, new=new)
    assert bits(here.open(FIRST, 10)) == [3]


@pytest.mark.parametrize(
    ("numbering", "samples", "words"),
    [(b"", 10, "got 0 bytes and 10"), (FIRST, 0, "16 bytes and 0;"), (FIRST, 9, "10 samples have .*, got 9")],
)
def test_an_opening_without_numbers_is_refused_by_its_client_s_name(
    numbering: bytes, samples: int, words: str
) -> None:
    here = SamplesHere("edge", kept)
    here.open(FIRST, 10)
    with pytest.raises(TensorError, match=f"client 'edge': .*{words}"):
        here.open(numbering, samples)


def moving() -> SamplesHere:
    here = SamplesHere("edge", kept, before=10, moving=True)
    here.open(FIRST, 10)
    return here


def announced(here: SamplesHere, upload: int, *sent: bool, new: int) -> tuple[list[bool], list[int]]:
    """Of samples 3, 4, ...: which came, and which upload brought each."""
    numbers = np.arange(3, 3 + len(sent), dtype=np.int32)
    came, brought = here.take(numbers, new, upload, f"upload {upload}", np.array(sent))
    return came.tolist(), brought.tolist()


def test_what_has_moved_comes_again_and_the_client_is_told_by_which_upload_it_is_here() -> None:
    here = moving()
    assert announced(here, 0, False, True, new=1) == ([False, True], [4, 11])
    assert announced(here, 2, True, False, new=1) == ([True, False], [13, 11])
    told = as_told(np.array([0, 0, 0, 13, 11, 0, 0, 0, 0, 0], np.uint32))
    assert here.open(FIRST, 10) == told, "a stream that broke goes on"
    assert here.open(FIRST, 10, digest(told)) == b""


@pytest.mark.parametrize(
    ("sent", "new", "words"),
    [
        ((False, False), 0, "lacks 1 of its 2 samples, .* 0 were announced and 1 of the others are not here"),
        ((True, False), 1, "activations of 1 came, 1 were announced and 1 of the others"),
        ((True, True), 1, "activations of 1 came, 2 were announced and 0 of the others"),
        ((False, True), 2, "activations of 2 came, 1 were announced"),
    ],
)
def test_a_sample_that_is_said_to_be_here_and_is_not_is_refused_and_nothing_changes(
    sent: tuple[bool, ...], new: int, words: str
) -> None:
    here = moving()
    with pytest.raises(TensorError, match=f"upload 0: .*{words}"):
        announced(here, 0, *sent, new=new)
    assert announced(here, 0, False, True, new=1) == ([False, True], [4, 11])
