from __future__ import annotations

from heron_server.uploads.turn import Turn


def test_the_client_whose_turn_it_is_is_late_once_nothing_has_come_for_longer_than_the_deadline() -> None:
    turn = Turn(deadline_s=5)
    assert not turn.is_late("a", 100)
    assert not turn.is_late("a", 105)
    assert turn.is_late("a", 105.5)


def test_what_it_sends_counts_and_what_others_send_does_not() -> None:
    turn = Turn(deadline_s=5)
    turn.is_late("a", 0)
    turn.sent("b", 4)
    assert turn.is_late("a", 6)
    turn.sent("a", 6)
    assert not turn.is_late("a", 11)


def test_another_s_turn_begins_when_it_is_first_waited_for() -> None:
    turn = Turn(deadline_s=5)
    turn.is_late("a", 0)
    assert not turn.is_late(None, 100), "the worker is waited for"
    assert not turn.is_late("a", 200)
    assert not turn.is_late("b", 204)
    assert turn.is_late("b", 210)
