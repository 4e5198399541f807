from __future__ import annotations

from collections import deque

import pytest

from heron_client.config import ClientSettings
from heron_client.runner import Runner, _Abandoned
from heron_client.session import Assignment, Session, State
from heron_core.pb.v1 import federation_pb2 as pb

MINE = Assignment(term=1, round=1, rank=0, clients=2, version=0)


class Events:
    """A Transport that only has events."""

    def __init__(self, *events: pb.RoundEvent) -> None:
        self.events = deque(events)
        self.disconnected = False

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        return self.events.popleft() if self.events else None

    def disconnect(self) -> None:
        self.disconnected = True


def at_work(transport: Events) -> Runner:
    runner = Runner(ClientSettings(name="a"), transport, b"k" * 16)
    runner.session = Session(State.TRAINING, session_id="s", run_id="r", assignment=MINE)
    return runner


ENDS = pb.RoundEvent(round_ends=pb.RoundEnds(term=1, round=1))


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (pb.RoundEvent(draining=pb.Draining(reason="stopped")), State.OFFLINE),
        (pb.RoundEvent(finished=pb.Finished(rounds_done=1)), State.DONE),
    ],
)
def test_what_follows_the_end_of_a_session_is_left_alone(event: pb.RoundEvent, state: State) -> None:
    transport = Events(event, ENDS)
    runner = at_work(transport)
    with pytest.raises(_Abandoned):
        runner._check_still_mine(MINE)
    assert runner.session.state is state
    assert transport.disconnected == (state is State.OFFLINE)


def test_work_goes_on_while_the_news_is_of_others() -> None:
    runner = at_work(
        Events(pb.RoundEvent(waiting=pb.Waiting(reason="x")), pb.RoundEvent(round_ends=pb.RoundEnds(term=9)))
    )
    runner._check_still_mine(MINE)
    assert runner.session.state is State.TRAINING


def test_a_newer_round_ends_the_work_in_hand_and_is_taken_up() -> None:
    runner = at_work(Events(pb.RoundEvent(round_begins=pb.RoundBegins(term=2, round=1, clients=2))))
    with pytest.raises(_Abandoned):
        runner._check_still_mine(MINE)
    assert runner.session.assignment == Assignment(2, 1, 0, 2, 0)
