"""One hostile traffic against a server, in a process of its own.

    python benchmarks/flood.py NAME ADDRESS SECONDS

goes on for so long and prints one line: what was sent, and how it was answered.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress

from hostile_members import idle_members
from traffics import MEMBERS, OUTSIDERS, Target

IDLE = "idle-members"
TRAFFICS = {**OUTSIDERS, **MEMBERS}


def main() -> None:
    name, address, seconds = sys.argv[1:]
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    target = Target(address, time.monotonic() + float(seconds))

    async def run() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for({**TRAFFICS, IDLE: idle_members}[name](target), float(seconds) + 1)

    asyncio.run(run())
    print(", ".join(f"{what} {count}" for what, count in target.answers.most_common()) or "nothing was answered")


if __name__ == "__main__":
    main()
