from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_server.uploads.scheduler import Order, Scheduler, Turn, fewest_slots, upload_slots


def credits_of(scheduler: Scheduler, names: Iterable[str]) -> dict[str, int]:
    return {name: scheduler.credit(name) for name in names}


def done(scheduler: Scheduler, names: Iterable[str]) -> bool:
    return scheduler.all_released and all(scheduler.client_done(name) for name in names)


def test_slots_are_what_the_budget_holds_at_least_two_and_no_more_than_clients_can_fill() -> None:
    assert upload_slots(1000, 100, 3) == 8
    assert upload_slots(350, 100, 3) == 3
    assert upload_slots(100, 100, 3) == 2


def test_canonical_order_takes_an_upload_of_each_in_rank_order() -> None:
    scheduler = Scheduler({"b": 2, "a": 2}, slots=4)
    assert scheduler.complete("a", 0) == []
    assert scheduler.complete("b", 0) == [("b", 0), ("a", 0)]
    assert scheduler.complete("b", 1) == [("b", 1)]
    assert scheduler.complete("a", 1) == [("a", 1)]
    assert scheduler.all_released and not done(scheduler, "ab")


def test_arrival_order_takes_what_comes() -> None:
    scheduler = Scheduler({"a": 2, "b": 2}, slots=4, order="arrival")
    assert scheduler.complete("b", 0) == [("b", 0)]
    assert scheduler.complete("b", 1) == [("b", 1)]
    assert scheduler.complete("a", 0) == [("a", 0)]
    assert scheduler.owing() == {}, "all that came waits for the worker"


def test_the_gone_are_skipped_and_those_who_waited_for_them_go_on() -> None:
    scheduler = Scheduler({"a": 2, "b": 2, "c": 2}, slots=6)
    scheduler.complete("b", 0)
    scheduler.complete("c", 0)
    scheduler.complete("b", 1)
    assert scheduler.owing() == {"a": 0}
    assert scheduler.drop("a") == [("b", 0), ("c", 0), ("b", 1)]
    scheduler.consumed("c")
    assert scheduler.owing() == {"c": 1}
    assert scheduler.drop("c") == []
    assert scheduler.all_released
    assert scheduler.drop("c") == scheduler.drop("nobody") == []


def test_a_dropped_client_s_unreleased_uploads_are_discarded_and_its_released_ones_stay() -> None:
    scheduler = Scheduler({"a": 3, "b": 3}, slots=6)
    assert scheduler.complete("a", 0) == [("a", 0)]
    scheduler.complete("a", 1)
    scheduler.drop("a")
    assert scheduler.complete("b", 0) == [("b", 0)]
    assert scheduler.complete("b", 1) == [("b", 1)], "a's second upload is no longer in the way"
    scheduler.consumed("a")
    assert scheduler.client_done("a")


def test_all_are_dropped() -> None:
    scheduler = Scheduler({"a": 2, "b": 2}, slots=2)
    scheduler.drop("a")
    scheduler.drop("b")
    assert done(scheduler, "ab") and scheduler.owing() == {}


def test_credits_follow_canonical_order_within_the_slots() -> None:
    scheduler = Scheduler({"a": 5, "b": 5, "c": 5}, slots=4)
    assert credits_of(scheduler, "abc") == {"a": 2, "b": 1, "c": 1}
    scheduler.complete("a", 0)
    assert credits_of(scheduler, "abc") == {"a": 2, "b": 1, "c": 1}, "released, but the worker still holds it"
    scheduler.consumed("a")
    assert credits_of(scheduler, "abc") == {"a": 2, "b": 2, "c": 1}


def test_a_dropped_client_s_slots_go_to_the_others() -> None:
    scheduler = Scheduler({"a": 5, "b": 5, "c": 5}, slots=4)
    scheduler.drop("a")
    assert credits_of(scheduler, "abc") == {"a": 0, "b": 2, "c": 2}


def test_a_client_without_credit_is_not_blamed_for_the_wait() -> None:
    scheduler = Scheduler({"a": 2, "b": 2}, slots=2)
    scheduler.complete("a", 0)
    scheduler.complete("b", 0)
    assert scheduler.owing() == {}, "the worker holds both slots"
    scheduler.consumed("a")
    assert scheduler.owing() == {"a": 1}


def test_a_client_that_waits_for_the_worker_is_not_blamed_for_the_wait() -> None:
    scheduler = Scheduler({"a": 2, "b": 2}, slots=6)
    scheduler.complete("a", 0)
    scheduler.complete("b", 0)
    assert scheduler.owing() == {}, "the cut gradients of its upload 0 are not there yet"
    scheduler.consumed("a")
    assert scheduler.owing() == {"a": 1}


def test_in_arrival_order_everyone_owes_its_next_upload_once_nothing_of_it_waits_for_the_worker() -> None:
    scheduler = Scheduler({"a": 2, "b": 1}, slots=4, order="arrival")
    assert scheduler.owing() == {"a": 0, "b": 0}
    scheduler.complete("a", 0)
    assert scheduler.owing() == {"b": 0}
    scheduler.consumed("a")
    assert scheduler.owing() == {"a": 1, "b": 0}
    scheduler.complete("b", 0)
    scheduler.consumed("b")
    assert scheduler.owing() == {"a": 1, "b": 1}, "its uploads are all consumed: now what comes after them"


def test_rounds_without_uploads_are_over_at_once() -> None:
    for order in ("canonical", "arrival"):
        scheduler = Scheduler({"a": 0, "b": 0}, 2, order)
        assert done(scheduler, "ab") and scheduler.owing() == {"a": 0, "b": 0}, "what comes after their uploads"
        assert credits_of(scheduler, "ab") == {"a": 0, "b": 0}


def test_with_fewer_slots_than_clients_arrival_order_keeps_the_budget_and_lets_everyone_through() -> None:
    scheduler = Scheduler(dict.fromkeys("abcde", 2), slots=2, order="arrival")
    assert sum(credits_of(scheduler, "abcde").values()) == 2
    served: list[str] = []
    while not done(scheduler, "abcde"):
        credits = credits_of(scheduler, "abcde")
        name = next(n for n in credits if credits[n] > served.count(n))
        scheduler.complete(name, served.count(name))
        scheduler.consumed(name)
        served.append(name)
    assert sorted(served) == sorted("abcde" * 2)


def test_a_pool_is_released_in_rank_order_once_the_last_of_it_is_whole() -> None:
    scheduler = Scheduler({"b": 2, "a": 2, "c": 2}, slots=4, pooled=True)
    assert scheduler.complete("a", 0) == scheduler.complete("c", 0) == []
    assert scheduler.owing() == {"b": 0}
    assert scheduler.complete("b", 0) == [("b", 0), ("a", 0), ("c", 0)]
    assert scheduler.owing() == {}, "the worker has it"
    for name in "bac":
        scheduler.consumed(name)
    assert scheduler.owing() == {"b": 1, "a": 1, "c": 1}


def test_without_those_who_are_gone_the_pool_shrinks_and_keeps_its_order() -> None:
    scheduler = Scheduler({"b": 2, "a": 2, "c": 2}, slots=4, pooled=True)
    scheduler.complete("c", 0)
    scheduler.complete("b", 0)
    assert scheduler.drop("a") == [("b", 0), ("c", 0)]
    assert scheduler.complete("c", 1) == []
    assert scheduler.drop("b") == [("c", 1)]


class World:
    """Clients that send whatever their credit allows, in any order; a worker that consumes in its own time."""

    def __init__(self, counts: dict[str, int], slots: int, order: Order, seed: int, pooled: bool = False) -> None:
        self.scheduler, self.slots, self.counts = Scheduler(counts, slots, order, pooled=pooled), slots, counts
        self.random = random.Random(seed)
        self.sent = dict.fromkeys(counts, 0)
        self.dropped: set[str] = set()
        self.queue: list[Turn] = []
        self.released: list[Turn] = []
        self.done = 0
        self.credits = credits_of(self.scheduler, self.counts)

    def release(self, turns: list[Turn]) -> None:
        self.queue += turns
        self.released += turns

    def happen(self, drops: bool) -> bool:
        """One thing that can happen; False if nothing can."""
        alive = [n for n in self.counts if n not in self.dropped]
        can_send = [n for n in alive if self.sent[n] < self.credits[n]]
        choices = [("send", n) for n in can_send] + [("consume", "")] * bool(self.queue)
        if drops and self.random.random() < 0.1 and alive:
            choices = [("drop", self.random.choice(alive))]
        if not choices:
            return False
        what, name = self.random.choice(choices)
        if what == "send":
            self.sent[name] += 1
            self.release(self.scheduler.complete(name, self.sent[name] - 1))
        elif what == "consume":
            self.scheduler.consumed(self.queue.pop(0)[0])
            self.done += 1
        else:
            self.dropped.add(name)
            self.release(self.scheduler.drop(name))
        self.check()
        return True

    def check(self) -> None:
        credits = credits_of(self.scheduler, self.counts)
        alive = [n for n in self.counts if n not in self.dropped]
        assert all(credits[n] >= self.credits[n] for n in alive), "credits never fall"
        assert all(credits[n] <= self.counts[n] for n in alive)
        self.credits = credits
        outstanding = len(self.queue) + sum(credits[n] - self.count(n) for n in alive)
        assert outstanding <= self.slots, "held by the worker, or granted and not yet released"
        owing = self.scheduler.owing()
        for name, number in owing.items():
            assert name in alive and number == self.sent[name] == self.count(name) <= self.counts[name]
            assert number == self.counts[name] or number < credits[name], "it may send what it owes"
        if not self.queue and any(self.sent[n] < self.counts[n] for n in alive):
            assert any(number < self.counts[n] for n, number in owing.items()), "nobody owes, and nothing goes on"

    def count(self, name: str) -> int:
        return sum(n == name for n, _ in self.released)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(2, 9),
    st.sampled_from(["canonical", "arrival", "pooled"]), st.integers(0, 1 << 32), st.booleans(),
)  # fmt: skip
def test_whatever_the_order_of_sending_every_upload_gets_through(
    counts: list[int], slots: int, taking: Literal["canonical", "arrival", "pooled"], seed: int, drops: bool
) -> None:
    names = [f"client-{i}" for i in range(len(counts))]
    pooled, order = taking == "pooled", "canonical" if taking == "pooled" else taking
    slots = max(slots, fewest_slots(len(names), pooled))
    world = World(dict(zip(names, counts, strict=True)), slots, order, seed, pooled)
    world.check()
    while world.happen(drops):
        pass
    assert done(world.scheduler, world.counts), "nobody can move: a deadlock"
    for name in names:
        if name not in world.dropped:
            assert world.count(name) == world.counts[name]
        own = [number for n, number in world.released if n == name]
        assert own == list(range(len(own)))
    if order == "canonical" and not drops:
        assert world.released == sorted(world.released, key=lambda turn: (turn[1], names.index(turn[0])))


@pytest.mark.parametrize("slots", [0, 1])
def test_fewer_than_two_slots_is_our_own_bug(slots: int) -> None:
    with pytest.raises(AssertionError):
        Scheduler({"a": 1}, slots)
