from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_client.session.session import ENDED, Assignment, IllegalEvent, Session, State
from heron_core.errors import JoinRefused
from heron_core.pb.v1 import federation_pb2 as pb

MINE = Assignment(term=2, round=3, rank=1, clients=4, version=2)
LIVE = {State.IDLE, State.TRAINING, State.EVALUATING}


def begins(term: int = 2, round_number: int = 3) -> pb.RoundEvent:
    return pb.RoundEvent(
        round_begins=pb.RoundBegins(term=term, round=round_number, rank=1, clients=4, version=round_number - 1)
    )


def evaluation(term: int = 2, round_number: int = 3) -> pb.RoundEvent:
    begun = pb.EvaluationBegins(term=term, round=round_number, rank=1, clients=4, version=round_number)
    return pb.RoundEvent(evaluation_begins=begun)


def ends(term: int = 2, round_number: int = 3) -> pb.RoundEvent:
    return pb.RoundEvent(round_ends=pb.RoundEnds(term=term, round=round_number))


def dropped(term: int = 2, round_number: int = 3) -> pb.RoundEvent:
    return pb.RoundEvent(dropped=pb.Dropped(term=term, round=round_number, reason="late"))


WAITING = pb.RoundEvent(waiting=pb.Waiting(reason="1 of 2"))
DRAINING = pb.RoundEvent(draining=pb.Draining(reason="stopped"))
FINISHED = pb.RoundEvent(finished=pb.Finished(summary="over"))


def in_state(state: State) -> Session:
    assigned = MINE if state in (State.TRAINING, State.EVALUATING) else None
    session_id = "" if state is State.OFFLINE else "s"
    return Session(state, session_id=session_id, run_id="r", assignment=assigned)


def facts(session: Session) -> dict[str, object]:
    return dict(vars(session))


EVENTS: dict[str, Callable[[Session], None]] = {
    "joined": lambda s: s.joined("s2", "r"),
    "unreachable": lambda s: s.unreachable(),
    "refused": lambda s: s.refused(JoinRefused("no")),
    "connection_lost": lambda s: s.connection_lost(),
    "work_done": lambda s: s.work_done(),
    "begins": lambda s: s.server_event(begins()),
    "begins anew": lambda s: s.server_event(begins(term=3)),
    "evaluation": lambda s: s.server_event(evaluation()),
    "ends": lambda s: s.server_event(ends()),
    "ends another": lambda s: s.server_event(ends(round_number=2)),
    "dropped": lambda s: s.server_event(dropped()),
    "dropped of another term": lambda s: s.server_event(dropped(term=1)),
    "waiting": lambda s: s.server_event(WAITING),
    "draining": lambda s: s.server_event(DRAINING),
    "finished": lambda s: s.server_event(FINISHED),
    "unknown": lambda s: s.server_event(pb.RoundEvent()),
}
ALL_LIVE = {
    "refused": State.FAILED, "connection_lost": State.OFFLINE, "begins": State.TRAINING, "begins anew": State.TRAINING,
    "evaluation": State.EVALUATING, "draining": State.OFFLINE, "finished": State.DONE,
}  # fmt: skip
AT_WORK = {**ALL_LIVE, "work_done": State.IDLE, "ends": State.IDLE, "dropped": State.IDLE}
TABLE: dict[State, dict[str, State]] = {
    State.OFFLINE: {
        "joined": State.IDLE, "unreachable": State.OFFLINE, "refused": State.FAILED, "connection_lost": State.OFFLINE,
    },
    State.IDLE: {**ALL_LIVE, "ends": State.IDLE, "dropped": State.IDLE},
    State.TRAINING: AT_WORK,
    State.EVALUATING: AT_WORK,
    State.DONE: {}, State.FAILED: {}, State.STOPPED: {},
}  # fmt: skip
STAYS = {"ends another", "dropped of another term", "waiting", "unknown"}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state_does_what_the_table_says(state: State, event: str) -> None:
    session = in_state(state)
    before = facts(session)
    wanted = TABLE[state].get(event, state if event in STAYS and state in LIVE else None)
    if wanted is None:
        with pytest.raises(IllegalEvent):
            EVENTS[event](session)
        assert facts(session) == before, "an illegal event changes nothing"
        return
    EVENTS[event](session)
    assert session.state is wanted
    if wanted in (State.IDLE, State.DONE) and event != "joined":
        assert session.assignment is None


def test_a_round_gives_its_assignment_word_for_word() -> None:
    session = in_state(State.IDLE)
    session.server_event(begins())
    assert session.assignment == MINE
    session.server_event(begins(term=5, round_number=9))
    assert session.assignment == Assignment(5, 9, 1, 4, 8)
    session.server_event(evaluation(term=5, round_number=9))
    assert session.assignment == Assignment(5, 9, 1, 4, 9)


@pytest.mark.parametrize("news", [ends(round_number=2), ends(term=1), dropped(term=1), WAITING])
def test_news_of_another_round_leaves_the_work_in_hand(news: pb.RoundEvent) -> None:
    session = in_state(State.TRAINING)
    session.server_event(news)
    assert (session.state, session.assignment) == (State.TRAINING, MINE)


def test_a_broken_connection_keeps_the_work_for_the_same_term() -> None:
    session = in_state(State.TRAINING)
    session.connection_lost()
    session.unreachable()
    session.unreachable()
    assert (session.session_id, session.failed_joins, session.assignment) == ("", 2, MINE)
    session.joined("s2", "r")
    assert (session.state, session.failed_joins, session.assignment) == (State.IDLE, 0, MINE)
    session.server_event(begins())
    assert (session.state, session.assignment) == (State.TRAINING, MINE)


def test_work_that_ended_while_the_client_was_away_is_forgotten() -> None:
    session = in_state(State.TRAINING)
    session.connection_lost()
    session.joined("s2", "r")
    session.server_event(ends())
    assert (session.state, session.assignment) == (State.IDLE, None)


def test_a_server_that_was_killed_may_go_back_to_rounds_that_the_client_has_seen_end() -> None:
    session = in_state(State.TRAINING)
    session.work_done()
    session.server_event(ends(term=2, round_number=3))
    session.server_event(begins(term=2, round_number=4))
    session.connection_lost()
    session.joined("later", "run")
    session.server_event(begins(term=3, round_number=2))
    assert (session.state, session.assignment) == (State.TRAINING, Assignment(3, 2, 1, 4, 1))
    session.server_event(ends(term=2, round_number=2))
    assert session.state is State.TRAINING, "that was the round of another term"


def test_what_the_server_said_last_is_kept_for_the_operator() -> None:
    for event, notice in [(WAITING, "1 of 2"), (dropped(), "late"), (DRAINING, "stopped"), (FINISHED, "over")]:
        session = in_state(State.IDLE)
        session.server_event(event)
        assert session.notice == notice


@pytest.mark.parametrize("state", State)
def test_stop_ends_a_live_session_and_leaves_an_ended_one(state: State) -> None:
    session = in_state(state)
    session.stop()
    assert session.state is (state if state in ENDED else State.STOPPED)


@given(st.lists(st.sampled_from([*EVENTS, "stop"]), max_size=40))
def test_any_sequence_of_events_is_legal_or_refused_without_a_trace(names: list[str]) -> None:
    session = Session()
    for name in names:
        before = facts(session)
        if name == "stop":
            session.stop()
            continue
        try:
            EVENTS[name](session)
        except IllegalEvent:
            assert facts(session) == before
        if session.state in (State.TRAINING, State.EVALUATING):
            assert session.assignment is not None
        assert (session.error is not None) == (session.state is State.FAILED) or session.state is State.STOPPED
        if session.state in LIVE:
            assert session.session_id and session.run_id
        if before["state"] in ENDED:
            assert facts(session) == before, "an end is final"
