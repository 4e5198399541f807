from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_server.uploads.scheduler import Intake, Order, Turn, upload_slots


def credits_of(intake: Intake, names: Iterable[str]) -> dict[str, int]:
    return {name: intake.credit(name) for name in names}


def done(intake: Intake, names: Iterable[str]) -> bool:
    return intake.all_released and all(intake.client_done(name) for name in names)


def test_slots_are_what_the_budget_holds_at_least_two_and_no_more_than_clients_can_fill() -> None:
    assert upload_slots(1000, 100, 3) == 8
    assert upload_slots(350, 100, 3) == 3
    assert upload_slots(100, 100, 3) == 2


def test_canonical_order_takes_a_step_of_each_in_rank_order() -> None:
    intake = Intake({"b": 2, "a": 2}, slots=4)
    assert intake.complete("a", 0) == []
    assert intake.complete("b", 0) == [("b", 0), ("a", 0)]
    assert intake.complete("b", 1) == [("b", 1)]
    assert intake.complete("a", 1) == [("a", 1)]
    assert intake.all_released and not done(intake, "ab")


def test_arrival_order_takes_what_comes() -> None:
    intake = Intake({"a": 2, "b": 2}, slots=4, order="arrival")
    assert intake.complete("b", 0) == [("b", 0)]
    assert intake.complete("b", 1) == [("b", 1)]
    assert intake.complete("a", 0) == [("a", 0)]
    assert intake.blocked_on() is None


def test_the_gone_are_skipped_and_those_who_waited_for_them_go_on() -> None:
    intake = Intake({"a": 2, "b": 2, "c": 2}, slots=6)
    intake.complete("b", 0)
    intake.complete("c", 0)
    intake.complete("b", 1)
    assert intake.blocked_on() == "a"
    assert intake.drop("a") == [("b", 0), ("c", 0), ("b", 1)]
    intake.consumed("c", 0)
    assert intake.blocked_on() == "c"
    assert intake.drop("c") == []
    assert intake.all_released
    assert intake.drop("c") == intake.drop("nobody") == []


def test_a_dropped_client_s_unreleased_steps_are_discarded_and_its_released_ones_stay() -> None:
    intake = Intake({"a": 3, "b": 3}, slots=6)
    assert intake.complete("a", 0) == [("a", 0)]
    intake.complete("a", 1)
    intake.drop("a")
    assert intake.complete("b", 0) == [("b", 0)]
    assert intake.complete("b", 1) == [("b", 1)], "a's second step is no longer in the way"
    intake.consumed("a", 0)
    assert intake.client_done("a")


def test_all_are_dropped() -> None:
    intake = Intake({"a": 2, "b": 2}, slots=2)
    intake.drop("a")
    intake.drop("b")
    assert done(intake, "ab") and intake.blocked_on() is None


def test_credits_follow_canonical_order_within_the_slots() -> None:
    intake = Intake({"a": 5, "b": 5, "c": 5}, slots=4)
    assert credits_of(intake, "abc") == {"a": 2, "b": 1, "c": 1}
    intake.complete("a", 0)
    assert credits_of(intake, "abc") == {"a": 2, "b": 1, "c": 1}, "released, but the worker still holds it"
    intake.consumed("a", 0)
    assert credits_of(intake, "abc") == {"a": 2, "b": 2, "c": 1}


def test_a_dropped_client_s_slots_go_to_the_others() -> None:
    intake = Intake({"a": 5, "b": 5, "c": 5}, slots=4)
    intake.drop("a")
    assert credits_of(intake, "abc") == {"a": 0, "b": 2, "c": 2}


def test_a_client_without_credit_is_not_blamed_for_the_wait() -> None:
    intake = Intake({"a": 2, "b": 2}, slots=2)
    intake.complete("a", 0)
    intake.complete("b", 0)
    assert intake.blocked_on() is None, "the worker holds both slots"
    intake.consumed("a", 0)
    assert intake.blocked_on() == "a"


def test_a_client_that_waits_for_the_worker_is_not_blamed_for_the_wait() -> None:
    intake = Intake({"a": 2, "b": 2}, slots=6)
    intake.complete("a", 0)
    intake.complete("b", 0)
    assert intake.blocked_on() is None, "the cut gradients of its step 0 are not there yet"
    intake.consumed("a", 0)
    assert intake.blocked_on() == "a"


def test_rounds_without_uploads_are_over_at_once() -> None:
    for order in ("canonical", "arrival"):
        intake = Intake({"a": 0, "b": 0}, 2, order)
        assert done(intake, "ab") and intake.blocked_on() is None
        assert credits_of(intake, "ab") == {"a": 0, "b": 0}


def test_with_fewer_slots_than_clients_arrival_order_keeps_the_budget_and_lets_everyone_through() -> None:
    intake = Intake(dict.fromkeys("abcde", 2), slots=2, order="arrival")
    assert sum(credits_of(intake, "abcde").values()) == 2
    served: list[str] = []
    while not done(intake, "abcde"):
        credits = credits_of(intake, "abcde")
        name = next(n for n in credits if credits[n] > served.count(n))
        step = served.count(name)
        intake.complete(name, step)
        intake.consumed(name, step)
        served.append(name)
    assert sorted(served) == sorted("abcde" * 2)


class World:
    """Clients that send whatever their credit allows, in any order; a worker that consumes in its own time."""

    def __init__(self, steps: dict[str, int], slots: int, order: Order, seed: int) -> None:
        self.intake, self.slots, self.steps = Intake(steps, slots, order), slots, steps
        self.random = random.Random(seed)
        self.sent = dict.fromkeys(steps, 0)
        self.dropped: set[str] = set()
        self.queue: list[Turn] = []
        self.released: list[Turn] = []
        self.done = 0
        self.credits = credits_of(self.intake, self.steps)

    def release(self, turns: list[Turn]) -> None:
        self.queue += turns
        self.released += turns

    def step(self, drops: bool) -> bool:
        """One thing that can happen; False if nothing can."""
        alive = [n for n in self.steps if n not in self.dropped]
        can_send = [n for n in alive if self.sent[n] < self.credits[n]]
        choices = [("send", n) for n in can_send] + [("consume", "")] * bool(self.queue)
        if drops and self.random.random() < 0.1 and alive:
            choices = [("drop", self.random.choice(alive))]
        if not choices:
            return False
        what, name = self.random.choice(choices)
        if what == "send":
            self.sent[name] += 1
            self.release(self.intake.complete(name, self.sent[name] - 1))
        elif what == "consume":
            self.intake.consumed(*self.queue.pop(0))
            self.done += 1
        else:
            self.dropped.add(name)
            self.release(self.intake.drop(name))
        self.check()
        return True

    def check(self) -> None:
        credits = credits_of(self.intake, self.steps)
        alive = [n for n in self.steps if n not in self.dropped]
        assert all(credits[n] >= self.credits[n] for n in alive), "credits never fall"
        assert all(credits[n] <= self.steps[n] for n in alive)
        self.credits = credits
        outstanding = len(self.queue) + sum(credits[n] - self.count(n) for n in alive)
        assert outstanding <= self.slots, "held by the worker, or granted and not yet released"
        blocked = self.intake.blocked_on()
        assert blocked is None or (blocked not in self.dropped and self.sent[blocked] < credits[blocked])

    def count(self, name: str) -> int:
        return sum(n == name for n, _ in self.released)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(2, 9), st.sampled_from(["canonical", "arrival"]),
    st.integers(0, 1 << 32), st.booleans(),
)  # fmt: skip
def test_whatever_the_order_of_sending_every_step_gets_through(
    steps: list[int], slots: int, order: Order, seed: int, drops: bool
) -> None:
    names = [f"client-{i}" for i in range(len(steps))]
    world = World(dict(zip(names, steps, strict=True)), slots, order, seed)
    world.check()
    while world.step(drops):
        pass
    assert done(world.intake, world.steps), "nobody can move: a deadlock"
    for name in names:
        if name not in world.dropped:
            assert world.count(name) == world.steps[name]
        own = [step for n, step in world.released if n == name]
        assert own == list(range(len(own)))
    if order == "canonical" and not drops:
        assert world.released == sorted(world.released, key=lambda turn: (turn[1], names.index(turn[0])))


@pytest.mark.parametrize("slots", [0, 1])
def test_fewer_than_two_slots_is_our_own_bug(slots: int) -> None:
    with pytest.raises(AssertionError):
        Intake({"a": 1}, slots)
