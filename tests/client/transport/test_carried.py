"""A client state that comes with RoundBegins is checked as one that is fetched, and is there once."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from heron_client.transport.carried import CarriedState
from heron_core.errors import ServerTensorError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.bulk import whole_state
from heron_core.wire.codec import check_manifest, expected_of

STATE = {"front.w": np.arange(6, dtype=np.float32).reshape(2, 3), "front.n": np.array(7)}
accept = partial(check_manifest, expected=expected_of(STATE), origin="state")


def carried(version: int = 4, **state: object) -> CarriedState:
    """What is held after a RoundBegins that brings STATE, but for the changes."""
    chunk = whole_state(STATE, 1 << 20)
    assert chunk is not None
    for field, value in state.items():
        setattr(chunk, field, value)
    held = CarriedState()
    held.look_at(pb.RoundEvent(round_begins=pb.RoundBegins(version=version, state=chunk)))
    return held


def test_it_is_there_once_and_for_its_version_alone() -> None:
    held = carried()
    held.look_at(pb.RoundEvent(waiting=pb.Waiting()))
    held.look_at(None)
    assert held.take(3, accept) is None
    found = held.take(4, accept)
    assert found is not None and all(np.array_equal(found[name], tensor) for name, tensor in STATE.items())
    assert held.take(4, accept) is None


@pytest.mark.parametrize("begins", [None, pb.RoundBegins(version=4)])
def test_a_new_session_or_a_round_that_brings_none_makes_an_older_one_void(begins: pb.RoundBegins | None) -> None:
    held = carried()
    if begins is None:
        held.forget()
    else:
        held.look_at(pb.RoundEvent(round_begins=begins))
    assert held.take(4, accept) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"payload": bytes(31)}, "what came as its round began ended after 31 bytes"),
        ({"payload": bytes(33)}, "32 bytes were announced, got 33"),
        ({"payload": b""}, "a chunk has 1 to"),
        ({"offset": 8}, "expected the chunk at byte 0"),
    ],
)
def test_what_cannot_be_that_state_is_the_server_s_fault(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ServerTensorError, match=words):
        carried(**changes).take(4, accept)


def test_another_model_s_state_is_refused_before_anything_is_allocated() -> None:
    other = partial(check_manifest, expected=[("front.w", "float32", (9, 9))], origin="state")
    with pytest.raises(ServerTensorError, match=r"front\.n|2 tensors"):
        carried().take(4, other)


def test_a_state_that_is_too_large_is_not_made_into_one_message() -> None:
    assert whole_state(STATE, 31) is None
