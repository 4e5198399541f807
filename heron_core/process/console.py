"""What commands say, and how one ends: one clear line on an error, and the documented exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from heron_core.errors import MEANINGS, ConfigError, HeronError, RunFailed, meaning_of
from heron_core.process.libraries import fault_of
from heron_core.process.open_files import raise_limit
from heron_core.process.signals import AT_ONCE, last_line, leaving

EXIT_CODES = """Exit codes: 0 done, 2 usage or config, 3 cannot reach or was refused by the peer, 4 data or model error,
5 interrupted with state saved, 6 a part of the program or its storage failed, the last checkpoint is usable,
130 ended at once by a second Ctrl-C."""


def printable(text: str) -> str:
    """One line without control characters: what a peer wrote must not steer a terminal or forge a log line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def in_one_line(text: str) -> str:
    """As `printable`, with a space for each line break."""
    return printable(" ".join(text.split()))


def run_command(program: str, command: Callable[[], object]) -> NoReturn:
    """Runs a typer app to its end; a HeronError becomes one line on stderr and its exit code.

    So does a library that is missing or broken, with what to install, and an error that nobody expected: its
    traceback, a line, and the exit code of RunFailed.

    Whatever does not stop then, the process ends soon after, if its signals are installed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines on stderr would stand beside ours
    os.environ.setdefault("GRPC_DNS_RESOLVER", "native")  # its own asks name servers alone, not what this machine knows
    raise_limit()
    code = AT_ONCE  # of what nobody sees end here: a KeyboardInterrupt
    try:
        command()
        code = 0
    except HeronError as error:
        with last_line():
            print(f"{program}: {in_one_line(str(error))}", file=sys.stderr)
        code = meaning_of(error).exit_code
    except Exception as error:
        if fault := fault_of(error):
            print(f"{program}: {in_one_line(fault)}", file=sys.stderr)
            code = MEANINGS[ConfigError].exit_code
            sys.exit(code)
        sys.excepthook(type(error), error, error.__traceback__)
        said = str(error).partition("\n")[0]
        print(f"{program}: a bug: {type(error).__name__}{said and f': {said}'}", file=sys.stderr)
        code = MEANINGS[RunFailed].exit_code
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        leaving(code)
    sys.exit(code)
