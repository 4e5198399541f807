"""What the calls of a client may go on with, as the run stands, and what a client loses that takes too much."""

from __future__ import annotations

from heron_core.errors import StaleTerm
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.aggregation.client_states import ClientStates
from heron_server.rounds.machine import Rounds
from heron_server.run.loop import Loop
from heron_server.run.peer import Peer
from heron_server.run.phases.phases import Phases
from heron_server.run.phases.reports import ClientFailed
from heron_server.run.sessions import Sessions

MOST_WORDS = 500
"""Letters of a reason that are kept: a peer may have a say in it."""


class Standing:
    """Of one run."""

    def __init__(
        self, run_id: str, rounds: Rounds, phases: Phases, sessions: Sessions, states: ClientStates, loop: Loop
    ) -> None:
        self._run_id, self._rounds, self._phases = run_id, rounds, phases
        self._sessions, self._states, self._loop = sessions, states, loop

    @property
    def place(self) -> tuple[int, int]:
        """Term and round that the run is at."""
        return self._rounds.term, self._rounds.rounds_done + 1

    def name_of(self, peer: Peer, session_id: str) -> str:
        """Whose session it is; raises UnknownSession unless `peer` opened it and it is still valid."""
        return self._sessions.member(peer, session_id).name

    def check_version(self, peer: Peer, request: pb.FetchModelRequest) -> str:
        """Who asks for this client state; raises UnknownSession, or StaleTerm for one that is not current."""
        name = self.name_of(peer, request.session_id)
        if request.version not in self._states.versions:
            raise StaleTerm(f"client state {request.version} is not the current one; wait for the next event")
        return name

    def check_update(self, peer: Peer, header: pb.UpdateHeader) -> str:
        """Whose update this is; raises UnknownSession, or StaleTerm where it is not, or not any more, to be had."""
        name = self.name_of(peer, header.session_id)
        self.check_place(header)
        if not self._phases.has_update(name) and not self._rounds.is_active(name):
            raise StaleTerm(f"client {name!r} has no part in round {header.round} any more; wait for the next")
        return name

    def check_place(self, header: pb.UpdateHeader) -> None:
        """Raises StaleTerm for the update of another round."""
        now = (self._run_id, *self.place)
        if self._rounds.restoring:
            raise StaleTerm(f"round {now[2]} was abandoned; drop its work and wait for the next event")
        if (header.run_id, header.term, header.round) != now:
            raise StaleTerm(
                f"the server is at term {now[1]}, round {now[2]}; the update is of {header.term}, {header.round}"
            )

    def loses_round(self, name: str, reason: str) -> None:
        """The client is out of this round, the others go on."""
        self._loop.report(ClientFailed(name, reason[:MOST_WORDS]))

    def loses_place(self, name: str, reason: str) -> None:
        """The client's session ends with this reason."""
        self._loop.perform(self._rounds.expel(name, reason))
