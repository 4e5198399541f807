"""How a client comes into a run: what it asks, what it loads before it is let in, and what it says of that."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from heron_client.compute.backend import BuildBackend
from heron_client.compute.backends.choice import kind_of
from heron_client.compute.workspace import Workspace
from heron_client.config import ClientSettings
from heron_client.session.answers import class_names_of, run_spec_of
from heron_client.session.building import Building
from heron_client.transport.interface import Transport
from heron_core.data.facts import DataFacts, InputFacts
from heron_core.errors import BadReply
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.process.console import in_one_line
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.software import Software

if TYPE_CHECKING:
    from heron_core.data import Shares

log = logging.getLogger("heron.client")

MOST_JOINS = 4
"""Without a session in between: once to hear of the run, once more where another named the classes meanwhile."""
MOST_NAME_BYTES = 32 << 10
"""Of class names in one Join; more are said by the run file alone."""
MOST_CONTRACT_BYTES = 16 << 10
MOST_WARNINGS, MOST_LETTERS = 8, 1000


class Joining:
    """Keeps what was built for a run, so that a client that comes back to the same run builds nothing anew."""

    def __init__(
        self, settings: ClientSettings, transport: Transport, instance_key: bytes,
        build_backend: BuildBackend | None = None, shares: Shares | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._transport, self._key = settings, transport, instance_key
        self.building, self._shares = Building(settings, transport, build_backend), shares
        self.workspace: Workspace | None = None
        self._run_id = self._graphs = ""
        """Of the run that the workspace is for, and the hash of its graphs."""
        self._fresh = False

    def ask(self) -> pb.JoinReply:
        """The answer to a Join. Where clients bring their own data, that is loaded under the run's class names before
        a place is asked for. Raises as `Transport.join`, and DataError, ModelError, ConfigError or BadReply."""
        for _ in range(MOST_JOINS):
            reply = self._transport.join(self._request())
            if reply.session_id or run_spec_of(reply).data.source != "client":
                for text in doubts_of(reply):
                    log.warning("%s", text)
                return reply
            self._load(reply)
        raise BadReply("the server was told of this client's data and gives no session; look at what answers at server")

    def build(self, reply: pb.JoinReply) -> bool:
        """Makes the workspace ready for the run that the client is in; True where it is a new one."""
        made_for = (self._run_id, self._graphs, self.workspace and self.workspace.spec)
        if made_for != (reply.run_id, reply.graphs, run_spec_of(reply)):
            self._load(reply)  # the same run with another spec was resumed for more rounds
        fresh, self._fresh = self._fresh, False
        return fresh

    def _load(self, reply: pb.JoinReply) -> None:
        spec, names = run_spec_of(reply), class_names_of(reply)
        self.workspace = None  # its memory is free before another takes any
        backend = self.building.backend(spec, reply.graphs)
        if names and len(names) != backend.labels.classes:
            raise BadReply(
                f"the server names {len(names)} classes, and its run's model tells {backend.labels.classes} apart; "
                "look at what answers at server"
            )
        self.workspace = Workspace(self._settings, spec, backend, self._shares, names)
        self._run_id, self._graphs, self._fresh = reply.run_id, reply.graphs, True

    def _request(self) -> pb.JoinRequest:
        facts = self.workspace.facts if self.workspace else None
        return join_request(self._settings, self._key, self._run_id, facts)


def join_request(
    settings: ClientSettings, key: bytes, run_id: str = "", facts: DataFacts | None = None, *, dry_run: bool = False
) -> pb.JoinRequest:
    """`facts`: of data that was loaded for this run."""
    request = pb.JoinRequest(
        protocol_version=PROTOCOL_VERSION, client_name=settings.name, instance_key=key, dry_run=dry_run,
        software=Software.here(kind_of(settings)).message(),
    )  # fmt: skip
    if facts is not None:
        request.data.CopyFrom(_message(run_id, facts))
    return request


def _message(run_id: str, facts: DataFacts) -> pb.DataFacts:
    names = facts.class_names if sum(len(n.encode()) for n in facts.class_names) <= MOST_NAME_BYTES else ()
    return pb.DataFacts(
        run_id=run_id, class_names=names, samples=facts.samples, inputs=[_input(each) for each in facts.inputs],
        input_contract=_contract(facts),
    )  # fmt: skip


def _contract(facts: DataFacts) -> str:
    """As JSON; empty where it is longer than a server takes."""
    text = "" if facts.contract is None else facts.contract.model_dump_json(exclude_defaults=True)
    return text if len(text.encode()) <= MOST_CONTRACT_BYTES else ""


def _input(facts: InputFacts) -> pb.InputFacts:
    return pb.InputFacts(
        name=facts.name, stored_dtype=facts.stored_dtype, shape=facts.shape, looked_at=facts.looked_at, least=facts.low,
        most=facts.high, mean=facts.mean, std=facts.std,
    )  # fmt: skip


def doubts_of(reply: pb.JoinReply) -> list[str]:
    """What the server, which compared this client's data with others', finds doubtful."""
    texts = [in_one_line(text[:MOST_LETTERS]) for text in reply.warnings[:MOST_WARNINGS]]
    return [f"the server compared the data: {text}" for text in texts]
