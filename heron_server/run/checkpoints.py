"""A run's checkpoints: what is saved of client states and trainer, and how both go back to it."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.errors import CheckpointError
from heron_core.spec.run_spec import RunSpec
from heron_server.aggregation.client_states import ClientStates
from heron_server.run.journal import Journal
from heron_server.storage.checkpoint import Checkpoint
from heron_server.storage.facts import Facts
from heron_server.storage.run_dir import RunDir
from heron_server.training.commands import Commands


@dataclass(frozen=True)
class Start:
    """Where a run begins, or goes on."""

    run_id: str
    rounds_done: int
    table: dict[str, int]
    """name -> rank, of clients that have one."""
    owners: dict[str, str]
    """name -> SHA-256 of the instance key that it came with, hexadecimal."""


class Checkpoints:
    """Of one run: written after each round, read at a resumption and after an abandoned round."""

    def __init__(self, run_dir: RunDir, states: ClientStates, trainer: Commands) -> None:
        self._run_dir, self._states, self._trainer = run_dir, states, trainer

    def begin(self, spec: RunSpec, journal: Journal) -> Start:
        """A new run: its first checkpoint is on the disk before its first round."""
        start = Start(self._run_dir.begin(spec), 0, {}, {})
        self.save(facts(start, journal))
        return start

    def resume(self, spec: RunSpec, journal: Journal) -> Start:
        """Goes on from the last checkpoint on the disk. Raises CheckpointError if it cannot be used."""
        checkpoint = self._run_dir.resume(spec)
        self._load(checkpoint)
        journal.restore(checkpoint.facts)
        found = checkpoint.facts
        return Start(found["run_id"], found["rounds_done"], found["table"], found["owners"])

    def save(self, facts: Facts) -> None:
        """Makes what the facts tell of durable. Raises RunFailed where the disk will not take it."""
        tensors = {**self._states.tensors(facts["rounds_done"]), **self._trainer.save()}
        self._run_dir.save(Checkpoint(facts, tensors))

    def commit(self, facts: Facts) -> None:
        """Makes the round that the facts tell of durable: its checkpoint, then its line in the log. May be called again
        where the disk was full. Raises RunFailed."""
        self.save(facts)
        self._run_dir.log_round(facts["records"]["history"][-1])

    def saved(self, rounds_done: int) -> None:
        """This one is durable: the client states of the round before can be forgotten."""
        self._states.forget(rounds_done - 1)

    def go_back(self) -> int:
        """To the last checkpoint, after an abandoned round. The term it returns is durable before anything is loaded,
        so that nothing stale is taken."""
        term = self._run_dir.raise_term()
        self._load(self._run_dir.last())
        return term

    def _load(self, checkpoint: Checkpoint) -> None:
        done, tensors = checkpoint.facts["rounds_done"], checkpoint.tensors
        odd = [*self._states.mismatches(tensors), *self._trainer.mismatches(tensors)]
        if odd:
            raise CheckpointError(
                f"the checkpoint in {self._run_dir.path} does not fit the model: its code has changed since "
                f"({', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}); restore it, or start a new run in another "
                "run_dir"
            )
        self._states.load(done, tensors)
        self._trainer.load(self._states.common(done), tensors)


def facts(now: Start, journal: Journal) -> Facts:
    """What a checkpoint says of a run beside its tensors: copies, for the worker writes them while the run goes on."""
    return {
        "run_id": now.run_id, "rounds_done": now.rounds_done, "table": now.table, "owners": now.owners,
        "ledger": journal.ledger.as_dict(), "records": journal.records.as_dict(),
        "class_names": list(journal.class_names),
    }  # fmt: skip
