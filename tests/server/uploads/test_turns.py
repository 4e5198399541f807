from __future__ import annotations

from math import inf
from typing import Any

from heron_server.uploads.turns import Patience, Turns


def turns(straggler: Any = "wait", steps: int = 1, step_s: dict[str, float] | None = None) -> Turns:
    return Turns(Patience(straggler, step_deadline_s=120, round_deadline_s=3600, steps=steps), 0.0, step_s or {})


def test_a_client_that_owes_is_late_once_it_has_made_no_progress_for_the_deadline() -> None:
    clocks = turns()
    assert clocks.late({"a": 0}, 100) == {}, "its clock begins as it begins to owe"
    assert clocks.late({"a": 0}, 220) == {}
    assert clocks.late({"a": 0}, 220.5) == {
        "a": "late: no progress for 120 s while it was its turn; if one local step of it takes longer, raise "
        "server.step_deadline_s"
    }


def test_a_place_further_on_is_progress_and_the_same_place_again_is_none() -> None:
    clocks = turns()
    clocks.late({"a": 0}, 0)
    assert not clocks.reached("a", "uploads", (0, 0), 50), "a byte"
    assert clocks.reached("a", "uploads", (0, 1), 60), "a MiB"
    assert clocks.reached("a", "uploads", (1, 0), 70), "a whole micro-batch"
    assert not clocks.reached("a", "uploads", (0, 1), 80), "sent again after a break"
    assert not clocks.reached("a", "uploads", (1, 0), 90)
    assert clocks.reached("b", "uploads", (9, 0), 100), "another's"
    assert clocks.late({"a": 0}, 190) == {} and "a" in clocks.late({"a": 0}, 190.5)


def test_while_a_client_owes_nothing_its_clock_stands() -> None:
    clocks = turns("drop")
    clocks.late({"a": 0, "b": 0}, 0)
    assert clocks.late({"b": 0}, 100) == {}, "a waits for the worker"
    assert clocks.late({"a": 0, "b": 0}, 110) == {}
    assert clocks.late({"a": 0, "b": 1}, 121) == {}, "b owes its next upload: a turn of its own"
    assert clocks.late({"a": 0, "b": 1}, 230.5).keys() == {"a"}
    assert clocks.late({"a": 0, "b": 1}, 241.5).keys() == {"a", "b"}


def test_a_beat_is_progress_once_for_each_local_step() -> None:
    clocks = turns(steps=20)
    clocks.late({"a": 0}, 0)
    for now in range(0, 200, 5):  # a local step takes 10 s, and a beat comes every 5 s
        clocks.stepped("a", "session", now // 10, now)
        assert clocks.late({"a": 0}, now) == {}
    assert clocks.late({"a": 0}, 190 + 4 * 20 * 10) == {}, "4 times what its own steps of an upload take"
    late = clocks.late({"a": 0}, 190.5 + 4 * 20 * 10)
    assert late == {"a": "late: no progress for 800 s while it was its turn"}


def test_beats_that_say_the_same_or_less_renew_nothing_and_a_new_session_begins_anew() -> None:
    clocks = turns()
    clocks.late({"a": 0}, 0)
    clocks.stepped("a", "first", 3, 1)
    for now, step in ((50, 3), (60, 2), (70, 3)):
        clocks.stepped("a", "first", step, now)
    assert clocks.late({"a": 0}, 121) == {} and clocks.late({"a": 0}, 122) != {}
    clocks.stepped("a", "second", 1, 130)
    assert clocks.late({"a": 0}, 131) == {}, "restarted, it computes its steps again"


def test_what_steps_took_in_the_last_round_counts_from_the_first_and_never_beyond_the_round_s_deadline() -> None:
    slow = turns(steps=5, step_s={"a": 100.0, "b": inf})
    slow.late({"a": 0, "b": 0}, 0)
    assert slow.late({"a": 0, "b": 0}, 2000) == {}
    assert slow.late({"a": 0, "b": 0}, 2000.5).keys() == {"a"}, "4 x 5 x 100 s"


def test_with_drop_a_turn_lasts_the_step_deadline_whatever_comes() -> None:
    clocks = turns("drop")
    clocks.late({"a": 0}, 0)
    for now in range(120):
        clocks.stepped("a", "session", now, now)
    assert clocks.late({"a": 0}, 120) == {}
    assert clocks.late({"a": 0}, 120.5) == {"a": 'late: its turn took more than 120 s (server.straggler = "drop")'}


def test_after_the_round_s_deadline_each_is_judged_from_when_it_began_to_owe() -> None:
    clocks = turns()
    clocks.late({"trickler": 0}, 0)
    for now in range(0, 3600, 100):
        clocks.reached("trickler", "uploads", (now + 1, 0), now)
        assert clocks.late({"trickler": 0}, now) == {}
    assert clocks.late({"trickler": 0}, 3600) == {}
    reason = "late: the round's 3600 s are over, and its turn took more than 120 s"
    assert clocks.late({"trickler": 0}, 3600.5) == {"trickler": reason}
    assert clocks.late({"honest": 3}, 3601) == {} == clocks.late({"honest": 3}, 3721)
    clocks.reached("honest", "uploads", (9, 0), 3700)
    assert clocks.late({"honest": 3}, 3721.5) == {"honest": reason}


def test_a_deadline_of_a_turn_longer_than_the_round_s_is_the_round_s() -> None:
    clocks = Turns(Patience("wait", step_deadline_s=120, round_deadline_s=10, steps=1), 0.0, {})
    assert clocks.late({"a": 0}, 0) == {} == clocks.late({"a": 0}, 10)
    assert clocks.late({"a": 0}, 10.5).keys() == {"a"}


def test_a_run_without_deadlines_has_nobody_late() -> None:
    clocks = Turns(Patience("drop", inf, inf, steps=1), 0.0, {})
    assert clocks.late({"a": 0}, 0) == {} == clocks.late({"a": 0}, 1e12)
