"""Who may come in with which data, and what is said of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from heron_core.class_names import listed
from heron_core.data.contract import InputContract
from heron_core.data.facts import DataFacts
from heron_core.device import resolve_device
from heron_core.errors import CheckpointError, DataError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.software import UNSAID, Software, differences
from heron_server.config import ServerSettings
from heron_server.run.joining.comparing import doubts
from heron_server.run.joining.offer import Offer
from heron_server.run.joining.reading import read_facts
from heron_server.run.journal import Journal

SPARE_NAMES = 64
"""Clients whose software is remembered beside those that the run is planned for."""
LEAVE = 'if both are right, the server may say check_inputs = "warn"'
NAMED = "set data.class_names in the run file to the run's classes, in the order of their labels"


@dataclass(frozen=True)
class Met:
    """A client that asks for a place."""

    may_enter: bool
    """Else it shall load its data, under the class names that it is told, and ask again."""
    facts: DataFacts | None = None
    warnings: tuple[str, ...] = ()


class Door:
    """Of one run. Keeps the class names in the journal, so that a resumed run has the same order."""

    def __init__(
        self, spec: RunSpec, settings: ServerSettings, classes: int, own: DataFacts | None, journal: Journal,
        run_id: str, offer: Offer,
    ) -> None:  # fmt: skip
        """`own`: facts of the server's test set, where it has one and clients bring their own data. Raises
        CheckpointError where that set's class names are not those of the run so far."""
        self._own_data, self._classes, self._check = spec.data.source == "client", classes, settings.check_inputs
        self._journal, self._run_id, self._offer = journal, run_id, offer
        self._compared: tuple[str, DataFacts] | None = ("the server's test set", own) if own else None
        self.software = Software.here(resolve_device(settings.device).type)
        self._software: dict[str, Software] = {}
        self._first = ""
        """Who said first where its model runs."""
        self._contracts: dict[str, InputContract] = {}
        self._most_names = spec.federation.clients + SPARE_NAMES
        self._know(spec.data.class_names or (own.class_names if own else ()))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The run's, in the order of the labels; empty where nobody knows them yet."""
        return self._journal.class_names

    def meet(self, request: pb.JoinRequest) -> Met:
        """Looks at what the client says; changes nothing. Raises DataError where its data cannot be of this run, and
        ConfigError or JoinRefused where it has no torch and finds no graphs here."""
        self._offer.check(request)
        if not self._own_data:
            return Met(may_enter=True)
        if not request.HasField("data") or request.data.run_id != self._run_id:
            return Met(may_enter=False)
        facts = read_facts(request.data, self._classes)
        if facts.class_names and self.class_names and facts.class_names != self.class_names:
            return Met(may_enter=False)  # it was loaded before anybody knew the names
        if facts.class_names and len(facts.class_names) != self._classes:
            raise DataError(
                f"the client's data has the classes {listed(facts.class_names)}, the model tells {self._classes} "
                f"apart, and nobody has named the run's classes yet; {NAMED}"
            )
        return Met(True, facts, tuple(self._compare(facts)))

    def _compare(self, facts: DataFacts) -> list[str]:
        """Warnings; raises DataError for what is refused."""
        if self._compared is None or self._check == "off":
            return []
        whose, ours = self._compared
        found = list(doubts(facts, ours, whose))
        for doubt in found:
            if doubt.refuses and self._check == "refuse":
                raise DataError(f"{doubt.text}; {LEAVE}")
        return [doubt.text for doubt in found]

    def came(self, name: str, met: Met, request: pb.JoinRequest) -> None:
        """The client is in: what it is the first to know holds for those to come."""
        for text in met.warnings:
            self._journal.said(f"{name}: {text}")
        if met.facts is not None:
            if met.facts.class_names and not self.class_names:
                self._know(met.facts.class_names)
                self._journal.note(f"classes, as {name} has them: {listed(self.class_names)}")
            if self._compared is None:
                self._compared = f"the data of {name}, the first client", met.facts
            if met.facts.contract is not None and len(self._contracts) < self._most_names:
                self._contracts[name] = met.facts.contract
        self._hear(name, Software.read(request.software))

    @property
    def contract(self) -> InputContract | None:
        """How stored values become the model's inputs, as most clients say; of equally many, as the first does."""
        found = Counter(self._contracts.values()).most_common(1)
        return found[0][0] if found else None

    def _know(self, names: tuple[str, ...]) -> None:
        known = self._journal.class_names
        if known and names and names != known:
            raise CheckpointError(
                f"the run's classes are {listed(known)}, and the server's test set has {listed(names)}; give it the "
                "folders of before, or start a new run"
            )
        self._journal.class_names = known or names

    def _hear(self, name: str, software: Software) -> None:
        """One line for each client that computes with another software than the server, or elsewhere than the first."""
        if self._software.get(name) == software or len(self._software) >= self._most_names:
            return
        self._software[name] = software
        self._journal.records.backends[name] = software.backend
        found = [differences(self.software, software, name)]
        if software.runs_graphs:
            found.append(f"ONNX Runtime instead of torch at {name}")
        if not self._first and software.backend != UNSAID:
            self._first = name
        first, backend = self._first, self._software[self._first].backend if self._first else UNSAID
        if software.backend not in (backend, UNSAID):
            found.append(f"backend {backend} at {first}, {software.backend} at {name}")
        if any(found):
            self._journal.said(f"{', '.join(filter(None, found))}: the bits may differ")
