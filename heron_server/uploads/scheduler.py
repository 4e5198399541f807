"""Which upload the server takes next, and who may send how far: pure bookkeeping, no tensors.

Canonical order takes upload 0 of every client in rank order, then upload 1, and so on; a client that is gone is
skipped. Pooled, it takes one upload of each at once: when the last of them is whole, or whoever is missing is gone.
Credits are whole uploads. The budget holds `slots` uploads: those released to the worker and not yet consumed,
and the next ones in order. The upload whose turn it is comes first in that window, so canonical order cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Literal

from heron_server.text.story import Story, told

Order = Literal["canonical", "arrival"]
Turn = tuple[str, int]
"""(client name, number of the upload)"""


def fewest_slots(clients: int, pooled: bool) -> int:
    """Whole uploads that the budget must hold: two; a pool of one of each of these clients, and one on its way."""
    return clients + 1 if pooled else 2


def upload_slots(byte_budget: int, upload_bytes: int, clients: int) -> int:
    """Whole uploads the server holds at once: what the budget allows, and no more than two a client need."""
    return max(2, min(byte_budget // upload_bytes, 2 * clients + 2))


class Scheduler:
    """One round's (or evaluation's) uploads."""

    def __init__(
        self, counts: Mapping[str, int], slots: int, order: Order = "canonical",
        clock: Callable[[], float] | None = None, *, pooled: bool = False,
    ) -> None:  # fmt: skip
        """`pooled`: one upload of each is released at once. `clock`: seconds, for the story alone."""
        fewest = max(2, fewest_slots(len(counts), pooled))
        assert slots >= fewest, f"a budget below {fewest} whole uploads is refused by validate"
        assert order == "canonical" or not pooled, "a pool in order of arrival is refused by validate"
        self.story = Story(clock)
        """The last events."""
        self._names = list(counts)
        self._counts = dict(counts)
        self._slots = slots
        self._order, self._pooled = order, pooled
        self._complete: set[Turn] = set()
        self._released: dict[str, int] = dict.fromkeys(self._names, 0)
        self._consumed: dict[str, int] = dict.fromkeys(self._names, 0)
        self._granted: dict[str, int] = dict.fromkeys(self._names, 0)
        self._unreleased = sum(self._counts.values())
        self._free = slots
        """Slots that nobody holds: one is held from the grant of an upload to its consumption."""
        self._lap = self._turn = 0  # canonical order is at this number, of the client with this index
        self._raised: dict[str, None] = {}
        self._gone: set[str] = set()
        self._index = {name: index for index, name in enumerate(self._names)}
        self._waiting = [(0, index) for index in range(len(self._names))]  # a heap of (next number, client's index)
        self._wanting = [(0, 0, index) for index in range(len(self._names))]
        """In arrival order, a heap of (slots held, uploads granted, client's index), with entries that are outdated."""
        self._skip_finished()
        self._grant()

    @told
    def complete(self, name: str, number: int) -> list[Turn]:
        """A whole upload is here; returns what the worker shall take now, in order."""
        self._complete.add((name, number))
        return self._release()

    @told
    def consumed(self, name: str) -> None:
        """The worker is done with a released upload; its bytes are free."""
        self._consumed[name] += 1
        self._free += 1
        self._wants(name)
        self._grant()

    @told
    def drop(self, name: str) -> list[Turn]:
        """The client is gone: its unreleased uploads are discarded; returns what its absence releases."""
        if name not in self._counts:
            return []
        self._gone.add(name)
        self._unreleased -= self._counts[name] - self._released[name]
        self._free += self._granted[name] - self._released[name]
        self._counts[name] = self._granted[name] = self._released[name]
        self._complete = {turn for turn in self._complete if turn[0] != name}
        self._skip_finished()
        ready = self._release()
        self._grant()
        return ready

    def owing(self) -> dict[str, int]:
        """By client, the number of the upload that is wanted of it now, which it may send and for which it waits for
        nothing from the worker; past the last for a client whose uploads are all consumed.

        In canonical order an upload is wanted only of the client whose turn it is; pooled, of each that the pool lacks.
        """
        done = {name: count for name, count in self._counts.items() if self.client_done(name)}
        canonical = self._order == "canonical"
        turns = ([] if self.all_released else self._awaited()) if canonical else self._released.items()
        wanted = {
            name: number for name, number in turns
            if self._granted[name] > number == self._consumed[name] and (name, number) not in self._complete
        }  # fmt: skip
        return {name: number for name, number in (done | wanted).items() if name not in self._gone}

    @property
    def all_released(self) -> bool:
        """Has the worker been given every upload?"""
        return self._unreleased == 0

    def client_done(self, name: str) -> bool:
        """Every upload of the client is consumed."""
        return self._consumed[name] >= self._counts[name]

    def credit(self, name: str) -> int:
        """How many uploads from the round's start the client may have sent; never falls."""
        return self._granted[name]

    def where(self) -> str:
        """Whose turn it is."""
        if self.all_released or self._order == "arrival":
            return f"{self._unreleased} uploads to come"
        return "upload {1} of {0} is next".format(*self._next())

    def __str__(self) -> str:
        """A line for each client."""
        return "\n".join(
            f"{name}: of {self._counts[name]} uploads {self._granted[name]} may come, {self._released[name]} went to "
            f"the worker, {self._consumed[name]} are consumed{', gone' if name in self._gone else ''}"
            for name in self._names
        )

    def check(self) -> None:
        """AssertionError, with the story, where something does not hold that always must."""
        for holds, claim in self._claims():
            assert holds, f"{claim} does not hold\n{self}\nwhat came before:\n{self.story.tell()}"

    def _claims(self) -> Iterator[tuple[bool, str]]:
        held = {name: self._granted[name] - self._consumed[name] for name in self._names}
        for name in self._names:
            numbers = (0, self._consumed[name], self._released[name], self._granted[name], self._counts[name])
            yield list(numbers) == sorted(numbers), f"{name}: nothing is consumed, released or granted out of order"
        yield self._free >= 0 and self._free + sum(held.values()) == self._slots, "a slot is free, or one upload's"
        left = sum(self._counts[name] - self._released[name] for name in self._names)
        yield self._unreleased == left, "what is to come is what was not released"
        for name, number in self._complete:
            yield self._released[name] <= number < self._granted[name], f"{name}: what waits was granted"
        if self._unreleased and not any(self._released[n] - self._consumed[n] for n in self._names):
            wanted = [name for name, number in self.owing().items() if number < self._counts[name]]
            yield bool(wanted), "somebody owes an upload while the worker has nothing to do"

    def take_raised(self) -> list[str]:
        """Clients whose credit has risen since the last call."""
        raised, self._raised = list(self._raised), {}
        return raised

    def _grant(self) -> None:
        """Gives every free slot away.

        Canonical: to the next uploads in order. Arrival: to the client with the fewest slots, at most its share each.
        """
        choose = self._next_in_order if self._order == "canonical" else self._least_served
        while self._free > 0 and (name := choose()) is not None:
            self._granted[name] += 1
            self._free -= 1
            self._raised[name] = None
            self._wants(name)

    def _next_in_order(self) -> str | None:
        while self._waiting:
            number, index = heappop(self._waiting)
            name = self._names[index]
            if number < self._counts[name]:
                heappush(self._waiting, (number + 1, index))
                return name
        return None

    def _least_served(self) -> str | None:
        share = max(1, self._slots // len(self._names))
        while self._wanting:
            held, granted, index = heappop(self._wanting)
            name = self._names[index]
            outdated = (held, granted) != (self._granted[name] - self._consumed[name], self._granted[name])
            if not outdated and held < share and granted < self._counts[name]:
                return name
        return None

    def _wants(self, name: str) -> None:
        """What the client holds has changed."""
        if self._order == "arrival" and name not in self._gone:
            granted = self._granted[name]
            heappush(self._wanting, (granted - self._consumed[name], granted, self._index[name]))

    def _release(self) -> list[Turn]:
        ready: list[Turn] = []
        if self._order == "arrival":
            for turn in sorted(self._complete, key=lambda turn: (turn[1], self._index[turn[0]])):
                self._complete.discard(turn)
                self._released[turn[0]] += 1
                self._unreleased -= 1
                ready.append(turn)
            return ready
        while not self.all_released and all(turn in self._complete for turn in self._awaited()):
            for turn in list(self._awaited()):
                self._complete.discard(turn)
                self._released[turn[0]] += 1
                self._unreleased -= 1
                self._turn += 1
                self._skip_finished()
                ready.append(turn)
        return ready

    def _awaited(self) -> Iterator[Turn]:
        """In canonical order: what must be whole before anything is released, in rank order."""
        name, lap = self._next()
        if not self._pooled:
            yield name, lap
            return
        yield from ((n, lap) for n in self._names if self._released[n] == lap < self._counts[n])

    def _next(self) -> Turn:
        name = self._names[self._turn]
        return name, self._released[name]

    def _skip_finished(self) -> None:
        """Moves the turn on to the next client, in rank order and around, that has an upload left in this lap."""
        while not self.all_released:
            if self._turn == len(self._names):
                self._turn, self._lap = 0, self._lap + 1
            name = self._names[self._turn]
            if self._order == "arrival" or self._released[name] == self._lap < self._counts[name]:
                return
            self._turn += 1
