"""A run as it stands, for whoever wonders what it waits for: its tables, and the last events of its state machines."""

from __future__ import annotations

from heron_core.process.console import printable
from heron_server.rounds.machine import Rounds
from heron_server.run.deadlines import Deadlines
from heron_server.uploads.uploads import Uploads


def run_story(rounds: Rounds, uploads: Uploads | None, deadlines: Deadlines, now: float) -> str:
    """Several lines. Seconds are those of the run's own clock."""
    parts = [f"At {now:.2f} s of the server's clock: {rounds.where()}", "Clients", _clients(rounds, now)]
    if uploads is not None:
        parts += ["Uploads", str(uploads.scheduler), "Owed", str(deadlines) or "nothing"]
        parts += ["Last events of the uploads", uploads.scheduler.story.tell()]
    parts += ["Last events of the rounds", rounds.story.tell()]
    return "\n".join(parts) + "\n"


def _clients(rounds: Rounds, now: float) -> str:
    names = [*rounds.table, *sorted(rounds.members.names - rounds.table.keys())]
    return "\n".join(f"{name}: {', '.join(_client(rounds, name, now))}" for name in names) or "none"


def _client(rounds: Rounds, name: str, now: float) -> list[str]:
    member, lineup = rounds.members.get(name), rounds.lineup
    said = [f"rank {rounds.table[name]}" if name in rounds.table else "no rank yet"]
    if member is None:
        said.append("not here")
    else:
        here = "connected" if member.connected else "not connected"
        said.append(f"{here}, heard {now - member.last_seen:.2f} s ago")
    if name in lineup.dropped:
        said.append(f"dropped: {printable(lineup.dropped[name])}")
    elif name in lineup.participants:
        said.append("its update counts" if name in lineup.submitted else "its update is awaited")
    if name in lineup.evaluating:
        said.append("evaluates")
    return said
