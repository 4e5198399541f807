"""A client that cannot use slopes asks for the weights, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny

from heron_client.compute.replica import Replica
from heron_client.session.fetching import fetch_state
from heron_core.arrays import Array
from heron_core.errors import ServerTensorError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.replay.bundle import Averaged, Seeds
from heron_core.replay.seeds import Replay
from heron_core.wire.codec import expected_of, manifest_of

STATE: dict[str, Array] = {"front.weight": np.ones((40, 5), np.float32), "auxiliary.bias": np.ones(3, np.float32)}
SPEC = tiny.spec(method={"auxiliary_update": "zo", "zo": {"distribution": "rademacher"}})
REPLAY = Replay(SPEC, [(name, tensor.shape) for name, tensor in STATE.items()])
SLOPES = Seeds(b"a" * 16, b"b" * 16, (Averaged({0: 1.0}, {0: np.ones(REPLAY.slopes_shape)}),)).tensors(REPLAY)


class Server:
    """Gives slopes that nobody can use, and then `second`, or never anything else."""

    def __init__(self, second: dict[str, Array] = STATE, *, stubborn: bool = False) -> None:
        self._second, self._stubborn = second, stubborn
        self.asked: list[bytes] = []

    def fetch_model(self, request: pb.FetchModelRequest, accept: Any) -> dict[str, Array]:
        self.asked.append(request.holds)
        given = SLOPES if self._stubborn or len(self.asked) == 1 else self._second
        accept(manifest_of(given))
        return dict(given)


def replica() -> Replica:
    made = Replica(expected_of(STATE), REPLAY)
    assert made.take(STATE, 0) is not None
    return made


def test_slopes_of_another_state_are_followed_by_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    server, mine = Server(), replica()
    before = mine.digest
    found = fetch_state(server, mine, "session", 1, list)  # type: ignore[arg-type]
    assert all(np.array_equal(found[name], STATE[name]) for name in STATE)
    assert server.asked == [before, before] and mine.digest == before
    assert "the slopes of client state 1 do not lead there" in caplog.text


def test_slopes_that_were_brought_for_another_state_are_followed_by_those_that_lead_there() -> None:
    """A replay that was broken off, for its round was over, leaves a client with less than its server believes."""
    mine = replica()
    server = Server(Seeds(mine.digest, mine.digest).tensors(REPLAY))
    found = fetch_state(server, mine, "session", 1, list)  # type: ignore[arg-type]
    assert all(np.array_equal(found[name], STATE[name]) for name in STATE)
    assert server.asked == [mine.digest, mine.digest]


def test_a_server_that_has_nothing_but_slopes_is_named() -> None:
    with pytest.raises(ServerTensorError, match="the weights of version 1 were asked for, and slopes came"):
        fetch_state(Server(stubborn=True), replica(), "session", 1, list)  # type: ignore[arg-type]
