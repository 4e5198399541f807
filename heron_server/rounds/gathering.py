"""Who has a place in the run, whom the next round waits for, and how long an abandoned one waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from heron_core.errors import JoinRefused, NameTaken, Unreachable
from heron_server.rounds.members import Member, Members
from heron_server.rounds.rules import Rules


def check_place(name: str, table: Mapping[str, int], members: Members, rules: Rules) -> None:
    """JoinRefused where ranks in the table and places of those who wait for one are `clients` without this name.

    So whoever is here can take part: where the table is full, nobody else is let in.
    """
    if rules.open_ended or name in table or name in members or len(table) + len(members) < rules.clients:
        return
    taken = table.keys() | members.names
    if len(taken) < rules.clients:
        return
    raise JoinRefused(
        f"the run is dealt to {rules.clients} clients and has them ({', '.join(sorted(taken))}); {name!r} has "
        "no part in it. Use one of these names, or raise federation.clients in a new run"
    )


def check_name_free(holder: Member, proved: bool) -> None:
    """May another process than the one that joined take its name? NameTaken while that one is here.

    While it is away for a moment, or loads its data, only who is `proved` to be this client may. Raises Unreachable for
    others: a client whose key is lost gets its name back by waiting.
    """
    if holder.connected:
        raise NameTaken(
            f"another live client holds the name {holder.name!r}; give this one another name, or stop the other"
        )
    if not proved:
        raise kept(holder.name, "is away for a moment or loads its data")


def kept(name: str, owner: str) -> Unreachable:
    """What somebody else than the owner of this name is told."""
    return Unreachable(
        f"the name {name!r} is kept for the client that has it, which {owner}; if this is the same client, it gets its "
        "name back soon (a state_dir or a certificate would prove it)"
    )


@dataclass
class Owners:
    """By name, the key (hexadecimal) of the client that has a rank. A server that goes on keeps each name for its key,
    until the clients that were there have had `rejoin_s` to come back."""

    keys: dict[str, str] = field(default_factory=dict)
    _awaited: set[str] = field(init=False)
    _until: float = inf

    def __post_init__(self) -> None:
        self._awaited = set(self.keys)

    def check(self, name: str, key: bytes, proved: bool) -> None:
        """Raises Unreachable where the name is kept for another."""
        if name in self._awaited and self.keys[name] != key.hex() and not proved:
            raise kept(name, "was there before the server was started again")

    def came(self, name: str) -> None:
        """Its owner is back: from now on it is a member that has the name."""
        self._awaited.discard(name)

    def tick(self, now: float, rules: Rules) -> None:
        """Time passes, from the first tick on."""
        if self._until == inf:
            self._until = now + rules.rejoin_s
        if now >= self._until:
            self._awaited.clear()


def all_here(table: Mapping[str, int], members: Members, rules: Rules, between_rounds: bool) -> bool:
    """Is everyone here whom the next round waits for?

    Before the first round `clients` of them; then those in the table, between rounds without those taken for lost.
    """
    if not table:
        return members.num_connected >= rules.clients
    if between_rounds:
        return all(m.connected for m in members if m.watched and m.name in table)
    return members.num_connected >= len(table) and all(map(members.is_connected, table))


LONGEST_PAUSE_S = 60.0


@dataclass
class Abandoned:
    """How often in a row the present round was abandoned, and who was dropped from it. A committed round clears it."""

    times: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def once_more(self, dropped: Iterable[str]) -> None:
        """The round was abandoned for want of these clients."""
        self.times += 1
        self.dropped.update(dropped)

    def pause_s(self, rules: Rules) -> float:
        """Before the round begins again: each time twice as long, 60 s at most."""
        if not self.times:
            return 0.0
        return min(rules.abandoned_pause_s * 2.0 ** min(self.times - 1, 16), LONGEST_PAUSE_S)

    def described(self, rules: Rules) -> str:
        """When the round begins again and, where it was not the first time, whose doing it was."""
        again = f"it begins again after {self.pause_s(rules):g} s"
        if self.times == 1:
            return again
        who = ", ".join(f"{name} {count} times" for name, count in self.dropped.most_common(3))
        return f"{again}; abandoned {self.times} times in a row, dropped most often: {who}"
