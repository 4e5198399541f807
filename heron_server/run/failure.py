"""What ends a run that cannot go on: the class of its error, and so the exit code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from heron_core.errors import CheckpointError, ConfigError, DataError, HeronError, ModelError, RunFailed

log = logging.getLogger("heron.server")

AS_THEY_ARE = (ConfigError, DataError, ModelError, CheckpointError, RunFailed)
"""They say what is wrong outside the program. Any other error at this place is one of the program's own."""


def failure_of(error: BaseException) -> HeronError:
    """The error that the run ends with: RunFailed, on one line, for what nobody expected; the log has its traceback."""
    if isinstance(error, AS_THEY_ARE):
        return error
    log.error("the server has failed", exc_info=error)
    said = str(error).partition("\n")[0]
    failure = RunFailed(
        f"a bug in the server: {type(error).__name__}{said and f': {said}'}; "
        "the last checkpoint is usable, go on with --resume"
    )
    failure.__cause__ = error
    return failure


@contextmanager
def failing() -> Iterator[None]:
    """Around all of a run: what nobody expected ends it as RunFailed, too."""
    try:
        yield
    except HeronError:
        raise
    except Exception as error:
        raise failure_of(error) from error
