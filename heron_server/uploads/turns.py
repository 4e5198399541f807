"""Who is late: a clock for what each client owes, and the places that it has come to. No clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from heron_core.spec.methods import uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings

Straggler = Literal["wait", "drop"]
OWN_STEPS = 4
"""So many times as long as its own local steps take may a client be without progress."""


@dataclass(frozen=True)
class Patience:
    """How long a client may take. Seconds are those of the caller's clock."""

    straggler: Straggler
    step_deadline_s: float
    round_deadline_s: float
    steps: int
    """Local steps for each upload, or of the round where nothing is uploaded."""

    @property
    def turn_s(self) -> float:
        """A turn's longest, where progress does not renew it."""
        return min(self.step_deadline_s, self.round_deadline_s)

    def without_progress_s(self, step_s: float) -> float:
        """For a client whose local steps take `step_s`; 0 where that is not known."""
        own_s = OWN_STEPS * self.steps * step_s if step_s else 0.0
        return min(max(self.turn_s, own_s), self.round_deadline_s)

    def __str__(self) -> str:
        """What becomes of a slow client, for `validate`."""
        turn = f"{self.turn_s:g} s"
        if self.straggler == "drop":
            return f"dropped from the round after a turn of {turn}"
        return (
            f"dropped from the round after a turn without progress for {turn}, or for {OWN_STEPS * self.steps} of its "
            f"own local steps where that is longer; progress counts until a round has lasted {self.round_deadline_s:g} "
            f"s, then a turn lasts {turn}"
        )


def patience(spec: RunSpec, settings: ServerSettings) -> Patience:
    """How long a client of this run may take."""
    method = spec.method
    steps = method.upload_period if uploads_per_round(method) else method.local_steps
    return Patience(settings.straggler, settings.step_deadline_s, settings.round_deadline_s, steps)


@dataclass
class _Debt:
    """What a client owes now."""

    number: int
    since: float
    progress: float
    """When it last came to a new place, or `since`."""


class Turns:
    """One phase's clocks: they begin and end with it. While a client owes nothing, its clock stands."""

    def __init__(self, patience: Patience, opened: float, step_seconds: Mapping[str, float]) -> None:
        """`step_seconds`: what a local step took of clients, as far as it is known."""
        self._patience, self._opened = patience, opened
        self._step_s = dict(step_seconds)
        self._debts: dict[str, _Debt] = {}
        self._places: dict[tuple[str, str], tuple[int, ...]] = {}
        self._stepped: dict[str, float] = {}
        """When each client's newest local step was heard of."""

    def reached(self, name: str, way: str, place: tuple[int, ...], now: float) -> bool:
        """Progress is a place further along one of the client's ways than it ever was; the origin is none."""
        if place <= self._places.get((name, way), (0,) * len(place)):
            return False
        self._places[name, way] = place
        if name in self._debts:
            self._debts[name].progress = now
        return True

    def stepped(self, name: str, session_id: str, step: int, now: float) -> None:
        """The client says how many local steps it has done, which is progress once for each. A new session begins
        anew: the client may have been restarted."""
        before = self._places.get((name, session_id), (0,))[0]
        if not self.reached(name, session_id, (step,), now):
            return
        debt = self._debts.get(name)
        if debt is not None:
            took_s = (now - max(debt.since, self._stepped.get(name, debt.since))) / (step - before)
            self._step_s[name] = max(took_s, self._step_s.get(name, 0.0))
        self._stepped[name] = now

    def late(self, owing: Mapping[str, int], now: float) -> dict[str, str]:
        """Whose time is over, and why. `owing`: by name, the number of what each owes now."""
        for name in self._debts.keys() - owing.keys():
            del self._debts[name]
        for name, number in owing.items():
            if name not in self._debts or self._debts[name].number != number:
                self._debts[name] = _Debt(number, now, now)
        judged = {name: self._judged(name, debt, now) for name, debt in self._debts.items()}
        return {name: reason for name, reason in judged.items() if reason is not None}

    def _judged(self, name: str, debt: _Debt, now: float) -> str | None:
        patience = self._patience
        turn_s, over = patience.turn_s, now - self._opened > patience.round_deadline_s
        if patience.straggler == "wait" and not over:
            step_s = self._step_s.get(name, 0.0)
            allowed_s = patience.without_progress_s(step_s)
            if now - debt.progress <= allowed_s:
                return None
            advice = "" if step_s else "; if one local step of it takes longer, raise server.step_deadline_s"
            return f"late: no progress for {allowed_s:g} s while it was its turn{advice}"
        if now - debt.since <= turn_s:
            return None
        took = f"its turn took more than {turn_s:g} s"
        if over:
            return f"late: the round's {patience.round_deadline_s:g} s are over, and {took}"
        return f'late: {took} (server.straggler = "drop")'

    def __str__(self) -> str:
        """A line for each client that owes something."""
        return "\n".join(
            f"{name} owes {debt.number} since {debt.since:.2f}, last progress at {debt.progress:.2f}, "
            f"{self._step_s.get(name, 0.0):.3g} s a local step"
            for name, debt in self._debts.items()
        )
