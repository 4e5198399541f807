"""What a round does on the server: take uploads, average, evaluate, commit, or go back to the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from heron_core.arrays import Array
from heron_core.errors import CheckpointError, HeronError, Internal, TensorError
from heron_core.models.digest import state_sha256
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.methods import uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_server.aggregation.client_states import ClientStates
from heron_server.aggregation.rules import RULES
from heron_server.config import ServerSettings
from heron_server.metrics.counts import Counts
from heron_server.metrics.ledger import Ledger
from heron_server.metrics.observers import Observer
from heron_server.metrics.records import Records
from heron_server.rounds.actions import Action
from heron_server.rounds.machine import Phase, Rounds
from heron_server.storage.checkpoint import Checkpoint
from heron_server.storage.run_dir import RunDir
from heron_server.training.commands import Commands
from heron_server.training.worker import Worker
from heron_server.uploads.assembly import Room, Staging, Upload
from heron_server.uploads.cut_gradients import CutGradients
from heron_server.uploads.scheduler import upload_slots
from heron_server.uploads.uploads import Uploads

T = TypeVar("T")


@dataclass
class Update:
    """One client's submission."""

    num_samples: int
    held_out_samples: int
    state: dict[str, Array]
    figures: pb.ClientFigures


class RoundWork:
    """Performs a round's phases with the trainer, on the worker; reports each end to the rounds machine."""

    def __init__(
        self, spec: RunSpec, settings: ServerSettings, trainer: Commands, run_dir: RunDir, worker: Worker,
        observer: Observer, perform: Callable[[list[Action]], None], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._spec, self._settings, self.trainer, self._run_dir, self._worker = spec, settings, trainer, run_dir, worker
        self._observer, self._perform, self._clock = observer, perform, clock
        self.rounds: Rounds
        """Set once the run has begun or is resumed."""
        self.ledger = Ledger()
        self.records = Records(spec, trainer.metrics)
        self.uploads: Uploads | None = None
        self._room = Room(trainer.uploaded, spec.method.batch_size)
        most_steps = spec.rounds * spec.method.local_steps
        start = trainer.client_tensors()
        self.states = ClientStates(spec.method, most_steps, start.tensors, start.buffers)
        self.failure: HeronError | None = None
        self._run_id = ""
        self._counts = Counts()
        self._waiting: dict[str, Update] = {}
        """Updates whose client still has uploads in the queue."""
        self._updates: dict[str, Update] = {}

    # -- beginning and resuming ----------------------------------------------------------------------------------

    def begin(self) -> dict[str, Any]:
        """A new run: its first checkpoint is on the disk before its first round."""
        self._run_id = self._run_dir.begin(self._spec)
        checkpoint = self._checkpoint(0, {})
        self._run_dir.save(checkpoint)
        return checkpoint.facts

    def resume(self) -> dict[str, Any]:
        """Goes on from the last checkpoint on the disk; returns its facts."""
        checkpoint = self._run_dir.resume(self._spec)
        facts = checkpoint.facts
        self._run_id = facts["run_id"]
        self.ledger.__dict__.update(facts["ledger"])
        self.records.restore(facts["records"])
        self._run_dir.restore_log(self.records.history)
        self._load(checkpoint)
        self._observer.note(f"resumed {self._run_id} after round {facts['rounds_done']} of {self._spec.rounds}")
        return facts

    def model_sha256(self) -> str:
        """SHA-256 over what is one for all of the client states, without moments, and the back's state."""
        common = self.states.common(self.rounds.rounds_done)
        client = {f"client.{n}": t for n, t in common.items() if not n.startswith("moments.")}
        return state_sha256({**client, **self.trainer.back_tensors()})

    # -- training ------------------------------------------------------------------------------------------------

    def open_round(self, term: int, number: int, participants: tuple[str, ...]) -> None:
        """Room for the participants' uploads; where the method has none, updates count at once."""
        steps = uploads_per_round(self._spec.method)
        self._updates, self._waiting = {}, {}
        self.uploads = self._make_uploads(
            split.PURPOSE_TRAIN, term, number, dict.fromkeys(participants, steps),
            lambda name, upload: self._train(number, name, upload),
        )  # fmt: skip
        self.records.round_began(number, self._clock())
        self._observer.round_began(number, self._spec.rounds, len(participants), max(1, steps) * len(participants))

    def drop(self, name: str, reason: str) -> None:
        """A participant is out of the round; what was applied of it stays."""
        self._observer.note(f"{name} is dropped from round {self.rounds.rounds_done + 1}: {reason}")
        self.records.dropped(name, reason)
        self._waiting.pop(name, None)
        if self.uploads is not None:
            self.uploads.drop(name)

    def has_update(self, name: str) -> bool:
        return name in self._updates or name in self._waiting

    def update(self, name: str, update: Update) -> None:
        """A whole update; it counts once all its client's uploads are consumed."""
        self._waiting[name] = update
        if self.uploads is not None:
            self.uploads.finished(name)
        self._settle(name)

    def _make_uploads(
        self,
        purpose: split.Purpose,
        term: int,
        number: int,
        steps: dict[str, int],
        on_upload: Callable[[str, Upload], None],
    ) -> Uploads:
        method, uploaded = self._spec.method, self.trainer.uploaded
        exact = purpose == split.PURPOSE_TRAIN
        stagings = {
            name: Staging(name, uploaded, count, method.batch_size, method.micro_batch_rows, exact, self._room)
            for name, count in steps.items()
        }
        slots = upload_slots(self._settings.byte_budget, self._room.upload_bytes, len(steps))
        order = self._settings.order if exact else "arrival"
        return Uploads(purpose, term, number, stagings, slots, order, self.ledger, on_upload)

    def _end_uploads(self) -> None:
        if self.uploads is not None:
            self.uploads.end()
        self.uploads = None

    def _train(self, number: int, name: str, upload: Upload) -> None:
        rank = self.rounds.table[name]

        def done(returned: CutGradients | None) -> None:
            if returned is not None and self.uploads is not None:
                self.uploads.return_gradients(name, returned)

        self._consume(name, upload, lambda: self.trainer.train(name, rank, number, upload), done)

    def _consume(self, name: str, upload: Upload, command: Callable[[], T], taken: Callable[[T], None]) -> None:
        """Runs an upload's command; a bad tensor costs its client the phase, any other error ends the run."""
        uploads, number = self.uploads, upload.number
        assert uploads is not None

        def work() -> T:
            try:
                return command()
            finally:
                self._room.give(upload)

        def done(result: T) -> None:
            if uploads is self.uploads:
                taken(result)
                uploads.consumed(name, number)
                self._observer.step_done()
                self._settle(name)

        def failed(error: Exception) -> None:
            if uploads is not self.uploads:
                return
            if isinstance(error, TensorError):
                uploads.consumed(name, number)
                self._perform(self.rounds.client_failed(name, str(error)))
            else:
                self._fail(error)

        self._worker.submit(work, done, failed)

    def _settle(self, name: str) -> None:
        """Takes a client's part of the phase as done once all its uploads are consumed."""
        if self.uploads is None or not self.uploads.intake.client_done(name):
            return
        if self.uploads.purpose == split.PURPOSE_EVALUATE:
            if self.rounds.phase is Phase.EVALUATING:
                self._perform(self.rounds.client_evaluated(name))
        elif name in self._waiting and self.rounds.is_active(name):
            self._updates[name] = self._waiting.pop(name)
            if not uploads_per_round(self._spec.method):
                self._observer.step_done()
            self.records.client_figures(name, self._updates[name].figures)
            self._perform(self.rounds.update_received(name))

    # -- after training ------------------------------------------------------------------------------------------

    def aggregate(self, names: tuple[str, ...]) -> None:
        """The Fed-Server's average, in rank order, in float64.  Eq. 8."""
        updates = {self.rounds.table[name]: self._updates[name] for name in names}
        samples = {rank: update.num_samples for rank, update in updates.items()}
        version = self.rounds.rounds_done

        def command() -> float | None:
            given = {rank: update.state for rank, update in updates.items()}
            parts = {rank: self.states.averaged_part(state) for rank, state in given.items()}
            made = RULES[self._spec.federation.aggregation].aggregate(parts, samples)
            end = self.trainer.end_round(version + 1, made.state, made.weights)
            self.states.advance(version, made.state, end.client_state, given)
            if end.heads_due:
                heads = {rank: self.states.own(version + 1, rank) for rank in end.heads_due}
                for rank, head in self.trainer.align(version + 1, heads).items():
                    self.states.set_own(version + 1, rank, head)
            return end.mean_loss

        def done(mean_loss: float | None) -> None:
            self.records.server_loss = mean_loss
            self._end_uploads()
            self._perform(self.rounds.aggregated(self._clock()))

        self._worker.submit(command, done, self._fail)

    def evaluate(self, names: tuple[str, ...]) -> None:
        """On the server's own test set, or by the clients on their held-out samples."""
        if self.trainer.has_test_set:
            self._worker.submit(self.trainer.evaluate, self._counted, self._fail)
            return
        rows = self._spec.method.batch_size
        steps = {n: -(-self._updates[n].held_out_samples // rows) for n in names if self._updates[n].held_out_samples}
        self._counts = Counts()
        if not steps:
            self._counted(self._counts)
            return
        self.uploads = self._make_uploads(
            split.PURPOSE_EVALUATE, self.rounds.term, self.rounds.rounds_done + 1, steps, self._count
        )
        self._perform(self.rounds.clients_evaluate(tuple(steps)))

    def skip_evaluation(self, name: str) -> None:
        """The client is lost: its room goes to the others."""
        if self.uploads is not None:
            self.uploads.drop(name)

    def _count(self, name: str, upload: Upload) -> None:
        self._consume(name, upload, lambda: self.trainer.evaluate_upload(name, upload), self._counts.add)

    def _counted(self, counts: Counts) -> None:
        self._counts = counts
        self._perform(self.rounds.evaluated())

    def commit(self) -> None:
        """Makes the round durable; only then is it over."""
        self._end_uploads()
        done_rounds = self.rounds.rounds_done + 1
        names = [n for n in self.rounds.lineup.participants if n in self._updates]
        record = self.records.round_done(done_rounds, names, self._counts, self._clock())

        def done(_: None) -> None:
            self.states.forget(done_rounds - 1)
            self._updates = {}
            self._run_dir.log_round(record)
            self._observer.round_done(record)
            self._perform(self.rounds.committed(self._clock()))

        table = dict(self.rounds.table)
        self._worker.submit(lambda: self._run_dir.save(self._checkpoint(done_rounds, table)), done, self._fail)

    def restore(self, reason: str) -> None:
        """Back to the last checkpoint; the term is raised, durably, so that nothing stale is taken."""
        self._observer.note(reason)
        self._end_uploads()
        self._waiting, self._updates = {}, {}

        def job() -> int:
            term = self._run_dir.raise_term()
            self._load(self._run_dir.last())
            return term

        self._worker.submit(job, lambda term: self._perform(self.rounds.restored(term, self._clock())), self._fail)

    def _checkpoint(self, rounds_done: int, table: dict[str, int]) -> Checkpoint:
        facts = {
            "run_id": self._run_id, "rounds_done": rounds_done, "table": table,
            "ledger": self.ledger.as_dict(), "records": self.records.as_dict(),
        }  # fmt: skip
        return Checkpoint(facts, {**self.states.tensors(rounds_done), **self.trainer.save()})

    def _load(self, checkpoint: Checkpoint) -> None:
        done, tensors = checkpoint.facts["rounds_done"], checkpoint.tensors
        odd = [*self.states.mismatches(tensors), *self.trainer.mismatches(tensors)]
        if odd:
            raise CheckpointError(
                f"the checkpoint in {self._run_dir.path} does not fit the model: its code has changed since "
                f"({', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}); restore it, or start a new run in another "
                "run_dir"
            )
        self.states.load(done, tensors)
        self.trainer.load(self.states.common(done), tensors)

    def _fail(self, error: Exception) -> None:
        """The run cannot go on; the last checkpoint stays usable."""
        self.failure = error if isinstance(error, HeronError) else Internal(f"a bug in the server: {error!r}")
        self.failure.__cause__ = error
