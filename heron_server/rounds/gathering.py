"""Who has a place in the run, and whom the next round waits for."""

from __future__ import annotations

from collections.abc import Mapping

from heron_core.errors import JoinRefused
from heron_server.rounds.members import Members
from heron_server.rounds.rules import Rules


def check_place(name: str, table: Mapping[str, int], members: Members, rules: Rules) -> None:
    """JoinRefused where ranks in the table and places of those who wait for one are `clients` without this name."""
    taken = table.keys() | members.names
    if rules.open_ended or name in taken or len(taken) < rules.clients:
        return
    raise JoinRefused(
        f"the run is dealt to {rules.clients} clients and has them ({', '.join(sorted(taken))}); {name!r} has "
        "no part in it. Use one of these names, or raise federation.clients in a new run"
    )


def candidates(table: Mapping[str, int], members: Members, rules: Rules) -> list[str]:
    """Who is here and can take part in the next round."""
    full = len(table) >= rules.clients and not rules.open_ended
    return [member.name for member in members.connected if member.name in table or not full]


def all_here(here: list[str], table: Mapping[str, int], members: Members, rules: Rules, between_rounds: bool) -> bool:
    """Is everyone `here` whom the next round waits for?

    Before the first round `clients` of them; then those in the table, between rounds without those taken for lost.
    """
    if not table:
        return len(here) >= rules.clients
    expected = {m.name for m in members if m.watched and m.name in table} if between_rounds else set(table)
    return expected <= set(here)
