"""The checkpoints of one run on the disk: which are there, which stay, and which one the run may go on from."""

from __future__ import annotations

import re
from pathlib import Path

from heron_core.errors import CheckpointError
from heron_server.metrics.best import best_round
from heron_server.storage.checkpoint import Checkpoint, load_checkpoint, write_checkpoint
from heron_server.storage.durable import storing
from heron_server.storage.facts import Facts

NAME = re.compile(r"round-(\d{6,})\.safetensors")
ASIDE = ".aside"


class UnusableCheckpoint(CheckpointError):
    """The run does not go on from this checkpoint; it may from an older one."""

    def __init__(self, why: str, newest_good: int | None) -> None:
        """`why` names the file; `newest_good`: the rounds of the newest other one that can be used."""
        if newest_good is None:
            offer = "no other one is good; start a new run in another run_dir"
        else:
            offer = f"the newest good one is that after round {newest_good}"
        super().__init__(f"{why}; {offer}")
        self.newest_good = newest_good


class Shelf:
    """A folder of checkpoints. Those of the `keep` last rounds stay there, and the one whose evaluation was best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes it, and before and after removes those that need not stay. Before: a kill may have left some over, or
        fewer are to stay than until now, and the disk may be full. Raises RunFailed where it will not take the file."""
        self._prune(checkpoint.facts)
        write_checkpoint(path_of(self.folder, checkpoint.facts["rounds_done"]), checkpoint)
        self._prune(checkpoint.facts)

    def load(self, rounds_done: int, run_id: str) -> Checkpoint:
        """One that is there, verified. Raises UnusableCheckpoint, which names the newest good one."""
        found = rounds_found(self.folder)
        try:
            return _of_run(found[rounds_done], rounds_done, run_id)
        except CheckpointError as error:
            others = [number for number in reversed(found) if number != rounds_done]
            good = next((number for number in others if _is_good(found[number], number, run_id)), None)
            raise UnusableCheckpoint(str(error), good) from None

    def set_aside_after(self, rounds_done: int) -> None:
        """Renames all later ones, oldest first: until the last is renamed, the newest is still the one that it was."""
        for number, path in rounds_found(self.folder).items():
            if number > rounds_done:
                with storing(path):
                    path.replace(path.with_name(path.name + ASIDE))

    def _prune(self, facts: Facts) -> None:
        found = rounds_found(self.folder)
        stay = {*list(found)[-self._keep :], best_round(facts["records"]["history"], found)}
        over = [path for number, path in found.items() if number not in stay and path.is_file()]
        for path in [*over, *self.folder.glob(".round-*.tmp")]:
            with storing(path):
                path.unlink(missing_ok=True)


def rounds_found(folder: Path) -> dict[int, Path]:
    """Whatever has the name of a checkpoint there, by rounds done, oldest first."""
    matches = ((NAME.fullmatch(path.name), path) for path in folder.glob("round-*"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def path_of(folder: Path, rounds_done: int) -> Path:
    """The file of the checkpoint after so many rounds."""
    return folder / f"round-{rounds_done:06d}.safetensors"


def _of_run(path: Path, rounds_done: int, run_id: str) -> Checkpoint:
    checkpoint = load_checkpoint(path)
    found = checkpoint.facts
    if found["run_id"] != run_id:
        raise CheckpointError(f"checkpoint {path} is of another run, {found['run_id']}; this folder holds {run_id}")
    if found["rounds_done"] != rounds_done:
        raise CheckpointError(f"checkpoint {path} holds round {found['rounds_done']}, and not what its name says")
    return checkpoint


def _is_good(path: Path, rounds_done: int, run_id: str) -> bool:
    try:
        _of_run(path, rounds_done, run_id)
    except CheckpointError:
        return False
    return True
