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
    """Of one run: written after each `every` rounds and after the last, read at a resumption and after an abandoned
    round. What is done and not yet written is held in memory: an abandoned round goes back to it, and a stop writes it.
    """

    def __init__(
        self, run_dir: RunDir, states: ClientStates, trainer: Commands, rounds: int = 1, every: int = 1
    ) -> None:
        self.run_dir, self._states, self._trainer = run_dir, states, trainer
        self._rounds, self._every = rounds, every
        self._held: Checkpoint | None = None
        self._tried = 0
        """The round that was to be committed last."""

    def begin(self, spec: RunSpec, journal: Journal) -> Start:
        """A new run: its first checkpoint is on the disk before its first round."""
        start = Start(self.run_dir.begin(spec), 0, {}, {})
        self.save(facts(start, journal))
        return start

    def resume(self, spec: RunSpec, journal: Journal) -> Start:
        """Goes on from the last checkpoint on the disk. Raises CheckpointError if it cannot be used."""
        checkpoint = self.run_dir.resume(spec)
        self._load(checkpoint)
        journal.restore(checkpoint.facts)
        found = checkpoint.facts
        return Start(found["run_id"], found["rounds_done"], found["table"], found["owners"])

    def save(self, facts: Facts) -> None:
        """Makes what the facts tell of durable. Raises RunFailed where the disk will not take it."""
        self.run_dir.save(self._copied(facts))
        self._held = None

    def commit(self, facts: Facts) -> None:
        """The round that the facts tell of is done: its checkpoint, if one is due, then its line in the log. May be
        called again where the disk was full, and is written then in any case. Raises RunFailed."""
        done = facts["rounds_done"]
        again, self._tried = self._tried == done, done
        if again or done % self._every == 0 or done == self._rounds:
            self.save(facts)
        else:
            self._held = self._copied(facts)
            self.run_dir.note_unsaved(facts)
        self.run_dir.log_round(facts["records"]["history"][-1])

    def save_held(self) -> None:
        """Before the run is left: makes durable what is done and not yet written. Raises RunFailed."""
        if self._held is not None:
            self.run_dir.save(self._held)
            self._held = None

    @property
    def all_saved(self) -> bool:
        """Is every round that is done on the disk?"""
        return self._held is None

    def _copied(self, facts: Facts) -> Checkpoint:
        return Checkpoint(facts, {**self._states.tensors(facts["rounds_done"]), **self._trainer.save()})

    def committed(self, rounds_done: int) -> None:
        """This round is over: the client states of the round before can be forgotten."""
        self._states.forget(rounds_done - 1)

    def go_back(self) -> int:
        """To the end of the last round, after an abandoned one. The term it returns is durable before anything is
        loaded, so that nothing stale is taken."""
        term, held = self.run_dir.raise_term(), self._held
        if held is None:
            self._load(self.run_dir.last())
        else:  # copies: what was gone back to once trains on
            self._load(Checkpoint(held.facts, {name: tensor.copy() for name, tensor in held.tensors.items()}))
        return term

    def _load(self, checkpoint: Checkpoint) -> None:
        done, tensors = checkpoint.facts["rounds_done"], checkpoint.tensors
        odd = [*self._states.mismatches(tensors), *self._trainer.mismatches(tensors)]
        if odd:
            raise CheckpointError(
                f"the checkpoint in {self.run_dir.path} does not fit the model: its code has changed since "
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
