from __future__ import annotations

import pytest

from heron_core.errors import NameTaken
from heron_server.text.story import MOST_EVENTS, Story, told


class Door:
    """A machine of two states."""

    def __init__(self, clock: object = None) -> None:
        self.story, self.open, self.time = Story(lambda: self.time), False, 0.0

    def where(self) -> str:
        return "open" if self.open else "closed"

    @told
    def opens(self, who: str, now: float) -> list[str]:
        if who == "stranger":
            raise NameTaken("not you")
        assert not self.open, "it is open"
        self.open = True
        return [f"greet {who}"]

    @told
    def passes(self, who: str) -> list[str]:
        return [*self.opens(who, 5.0), *self.closes()]

    @told
    def closes(self) -> list[str]:
        self.open = False
        return []

    @told
    def tick(self, now: float) -> list[str]:
        return ["creak"] if now > 9 else []


def test_each_event_is_a_line_with_its_time_where_the_machine_stood_and_what_came_of_it() -> None:
    door = Door()
    door.opens("ann", 2.5)
    door.time = 3.0
    door.closes()
    assert door.story.tell() == "2.50 closed: opens(ann, 2.5) -> greet ann\n3.00 open: closes() -> nothing"


def test_an_event_that_one_makes_of_others_is_one_and_a_tick_that_comes_to_nothing_is_none() -> None:
    door = Door()
    door.passes("bob")
    door.tick(now=9.0)
    door.tick(now=9.5)
    assert door.story.tell() == "0.00 closed: passes(bob) -> greet bob\n9.50 closed: tick(9.5) -> creak"


def test_a_refusal_is_told_and_our_own_bug_carries_the_story() -> None:
    door = Door()
    with pytest.raises(NameTaken) as refused:
        door.opens("stranger", 1.0)
    assert not hasattr(refused.value, "__notes__")
    door.opens("ann", 2.0)
    with pytest.raises(AssertionError) as bug:
        door.opens("bob", 3.0)
    (note,) = bug.value.__notes__
    lines = note.splitlines()
    assert lines[:3] == [
        "what came before:", "1.00 closed: opens(stranger, 1.0) -> NameTaken: not you",
        "2.00 closed: opens(ann, 2.0) -> greet ann",
    ]  # fmt: skip
    assert lines[3].startswith("3.00 open: opens(bob, 3.0) -> AssertionError: it is open")


def test_a_story_can_be_of_one_client_alone_and_sessions_are_shown_as_theirs() -> None:
    door = Door()
    door.story.call("0123456789abcdef", "ann")
    for who in ("0123456789abcdef", "ann-2", "bob"):
        door.passes(who)
    assert door.story.tell("ann") == "0.00 closed: passes(ann/01234567) -> greet ann/01234567"
    assert door.story.tell("ann-2").count("\n") == 0 and "bob" not in door.story.tell("ann-2")
    assert door.story.tell("nobody") == ""


def test_a_story_is_bounded() -> None:
    door = Door()
    for number in range(MOST_EVENTS + 50):
        door.story.call(f"session {number}", "ann")
        door.closes()
    assert len(door.story.tell().splitlines()) == MOST_EVENTS and len(door.story._aliases) < MOST_EVENTS
