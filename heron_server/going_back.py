"""`--resume-after N`: a command goes back to an older checkpoint, and says how where its newest cannot be used."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from heron_core.errors import CheckpointError
from heron_core.spec.run_spec import RunSpec
from heron_server.storage.run_dir import RunDir
from heron_server.storage.shelf import UnusableCheckpoint

OPTION = "--resume-after"


@contextmanager
def going_back(folder: Path, spec: RunSpec, resume_after: int | None) -> Iterator[None]:
    """Goes back, if asked to, before the block runs. A checkpoint that cannot be used, here or in the block, ends both
    with a CheckpointError that holds the whole command by which this run goes on from the newest good one."""
    try:
        if resume_after is not None:
            with closing(RunDir(folder)) as directory:
                directory.go_back(spec, resume_after)
        yield
    except UnusableCheckpoint as error:
        if error.newest_good is None:
            raise
        command = command_after(sys.argv, error.newest_good)
        raise CheckpointError(f"{error}; go on from it with: {command}") from None


def command_after(command: Sequence[str], rounds_done: int) -> str:
    """This command line, for a shell, such that it goes on after so many rounds."""
    program, *arguments = command
    path = Path(program)
    words = ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
    given = iter(arguments)
    for argument in given:
        if argument == OPTION:
            next(given, None)
        elif argument != "--resume" and not argument.startswith(f"{OPTION}="):
            words.append(argument)
    return shlex.join([*words, OPTION, str(rounds_done)])
