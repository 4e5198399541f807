"""The run directory: run.toml (frozen), run_id, term, metrics.jsonl, checkpoints/, summary.json, model/, and a lock.

kept/ has samples that are used again (codec.reuse), and unsaved.json is there while rounds are done that no checkpoint
holds.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from heron_core.config import load_toml, validate
from heron_core.errors import CheckpointError, ConfigError, RunDirectoryBusy, RunFailed
from heron_core.files import replace_file
from heron_core.json_text import to_json
from heron_core.spec.methods import schedules
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import file_tables
from heron_server.config import ServerSettings
from heron_server.metrics.figures import RoundRecord, Summary
from heron_server.storage.checkpoint import Checkpoint
from heron_server.storage.durable import append_line, storing, write_durably
from heron_server.storage.facts import Facts
from heron_server.storage.shelf import Shelf, rounds_found
from heron_server.storage.unsaved import with_unsaved, write_unsaved
from heron_server.text.toml import to_toml


def run_dir_of(spec: RunSpec, settings: ServerSettings) -> Path:
    """Where the run's folder is."""
    return settings.run_dir or Path("runs") / spec.name


class RunDir:
    """One run's folder, held by one server at a time.

    Every write raises RunFailed where the disk will not take it, OutOfSpace among them, and where the folder is no
    longer the one that this server holds: what another server or a person has put there is not touched.
    """

    def __init__(self, path: Path, keep_checkpoints: int = 2) -> None:
        self.path, self._shelf = path, Shelf(path / "checkpoints", keep_checkpoints)
        self._unsaved = path / "unsaved.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (path / "lock").open("a")
        except OSError as error:
            raise ConfigError(f"run_dir {path} cannot be used: {error.strerror}; choose another") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RunDirectoryBusy(f"another server works in {path}; stop it, or choose another run_dir") from None

    def begin(self, spec: RunSpec) -> str:
        """Freezes the run spec in an empty folder; returns the new run id."""
        if rounds_found(self._shelf.folder):
            raise ConfigError(
                f"{self.path} already holds a run; add --resume to go on with it, or choose another run_dir"
            )
        run_id = f"{spec.name}-{uuid.uuid4().hex[:8]}"
        self._freeze(spec)
        write_durably(self.path / "run_id", run_id.encode())
        write_durably(self.path / "metrics.jsonl", b"")
        with storing(self._shelf.folder):
            self._shelf.folder.mkdir(exist_ok=True)
        return run_id

    def resume(self, spec: RunSpec) -> Checkpoint:
        """The last checkpoint; its ledger has what was sent after it, too. Raises CheckpointError if there is none, it
        cannot be used, or the run spec is another one. It may have other rounds, not fewer than are done: the run goes
        on to those."""
        checkpoint = self._load(max(self._there()))
        frozen = self._check_spec(spec)
        done = checkpoint.facts["rounds_done"]
        if spec.rounds < done:
            raise CheckpointError(
                f"in {self.path} {done} rounds are done, rounds = {spec.rounds} is fewer; raise it, or take back those "
                f"after it with --resume-after {spec.rounds}"
            )
        if spec.rounds == done:
            _check_ends(checkpoint.facts, spec.evaluate_every)
        if spec.rounds != frozen.rounds:
            self._freeze(spec)
        if spec.rounds > done:
            self._remove(self.path / "summary.json")  # of an end that is none any more
        return replace(checkpoint, facts=with_unsaved(checkpoint.facts, self._unsaved))

    def go_back(self, spec: RunSpec, rounds_done: int) -> None:
        """Sets all checkpoints aside that are newer than this one, from which `resume` goes on then.

        Raises CheckpointError as `resume` does, and then changes nothing.
        """
        there = self._there()
        if rounds_done not in there:
            raise CheckpointError(
                f"{self._shelf.folder} holds no checkpoint after round {rounds_done}; there are those after "
                f"{', '.join(map(str, there))}"
            )
        self._load(rounds_done)
        self._check_spec(spec)
        self._remove(self.path / "summary.json")
        self._remove(self._unsaved)
        self._shelf.set_aside_after(rounds_done)

    def save(self, checkpoint: Checkpoint) -> None:
        """Makes it durable."""
        self.check_held()
        self._shelf.save(checkpoint)
        self._remove(self._unsaved)

    def note_unsaved(self, facts: Facts) -> None:
        """A round is done that no checkpoint holds yet."""
        self.check_held()
        write_unsaved(self._unsaved, facts)

    def last(self) -> Checkpoint:
        """The last checkpoint of a run that has begun; raises CheckpointError if it cannot be used or is gone."""
        there = rounds_found(self._shelf.folder)
        if not there:
            raise CheckpointError(f"{self._shelf.folder} held this run's last checkpoint and is empty; start a new run")
        return self._load(max(there))

    def _there(self) -> list[int]:
        there = list(rounds_found(self._shelf.folder))
        if not there:
            raise CheckpointError(f"{self._shelf.folder} holds no checkpoint to resume from; run without --resume")
        return there

    def _load(self, rounds_done: int) -> Checkpoint:
        path = self.path / "run_id"
        try:
            run_id = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} must hold the run's id and cannot be read ({error}); write the id into it that the header of "
                "the run's checkpoints has, or start a new run"
            ) from None
        return self._shelf.load(rounds_done, run_id)

    def _freeze(self, spec: RunSpec) -> None:
        self.check_held()
        write_durably(self.path / "run.toml", to_toml(file_tables(spec)).encode())

    def _remove(self, path: Path) -> None:
        self.check_held()
        with storing(path):
            path.unlink(missing_ok=True)

    def _check_spec(self, spec: RunSpec) -> RunSpec:
        """The frozen one, which differs in no more than its rounds; else raises CheckpointError. Not even in those
        where a schedule comes down over them."""
        frozen = validate(RunSpec, load_toml(self.path / "run.toml"), str(self.path / "run.toml"))
        changed = _differences(frozen.model_dump(mode="json", exclude={"rounds"}),
                               spec.model_dump(mode="json", exclude={"rounds"}))  # fmt: skip
        if changed:
            raise CheckpointError(
                f"the checkpoint in {self.path} is of another run: {'; '.join(changed)}. "
                "Restore these settings, or start a new run in another run_dir"
            )
        moving = [table for table, (optimizer, _) in schedules(spec).items() if optimizer.schedule != "constant"]
        if moving and spec.rounds != frozen.rounds:
            raise CheckpointError(
                f"the learning rates of the run in {self.path} come down over its rounds = {frozen.rounds} "
                f"({' and '.join(f'{table}.schedule' for table in moving)}), got rounds = {spec.rounds}, for which the "
                "rounds done would have had other rates; leave rounds as they were, or begin a new run with the "
                "trained model (--from)"
            )
        return frozen

    def raise_term(self) -> int:
        """The next term, durable before it is used: stale work is recognised even after a crash."""
        self.check_held()
        path = self.path / "term"
        try:
            with storing(path):
                term = int(path.read_text()) + 1 if path.exists() else 1
        except ValueError:
            raise CheckpointError(f"{path} must hold a number, it is damaged; start a new run") from None
        write_durably(path, str(term).encode())
        return term

    def restore_log(self, history: Sequence[RoundRecord]) -> None:
        """metrics.jsonl as the checkpoint knows it: a crash may have come between the two."""
        self.check_held()
        write_durably(self.path / "metrics.jsonl", "".join(to_json(record) + "\n" for record in history).encode())

    def log_round(self, record: RoundRecord) -> None:
        """One more line of metrics.jsonl, or none where the disk will not take all of it."""
        self.check_held()
        append_line(self.path / "metrics.jsonl", to_json(record))

    def write_summary(self, summary: Summary) -> None:
        """Writes summary.json."""
        self.check_held()
        write_durably(self.path / "summary.json", to_json(summary, indent=2).encode())

    def write_story(self, story: str) -> Path:
        """Writes story.txt and returns its path; raises OSError."""
        path = self.path / "story.txt"
        replace_file(path, lambda beside: beside.write_text(story, encoding="utf-8"))
        return path

    def check_held(self) -> None:
        """Raises RunFailed where the folder was deleted, moved or put there anew since this server took it."""
        try:
            found, held = (self.path / "lock").stat(), os.fstat(self._lock.fileno())
            if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino):
                return
            what = "is no longer the folder that this run began in"
        except OSError as error:
            what = f"cannot be found any more ({error.strerror})"
        raise RunFailed(
            f"run_dir {self.path} {what}: it was deleted, moved or replaced while the run was on; "
            "put it back and go on with --resume, or start a new run"
        )

    def close(self) -> None:
        """Another server may work in this folder now."""
        self._lock.close()


def _check_ends(facts: Facts, every: int) -> None:
    """CheckpointError where the run would be over with a round that was not evaluated."""
    done, history = facts["rounds_done"], facts["records"]["history"]
    if done % every and history[-1]["metric"]["value"] is None:
        before = done - done % every
        raise CheckpointError(
            f"round {done} was not evaluated (evaluate_every = {every}), and a run that ends with it would have no "
            f"figure; set rounds to {done + 1} or more"
            + (f", or to {before} and take back what came after with --resume-after {before}" if before else "")
        )


def _differences(was: Mapping[str, object], now: Mapping[str, object], prefix: str = "") -> list[str]:
    """Keys that differ, with both values, in order of their names."""
    found: list[str] = []
    for key in was.keys() | now.keys():
        a, b = was.get(key), now.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a!r}, is {b!r}")
    return sorted(found)
