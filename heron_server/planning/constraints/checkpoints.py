"""What checkpoints that are rarer than the rounds need of a run.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator

from heron_core.spec.run_spec import RunSpec


def rare(spec: RunSpec, every: int) -> Iterator[str]:
    """One falls within the run, and what a kill takes back can be made up for. `every`: rounds from one to the next."""
    asked = f"server.checkpoint_every = {every}"
    if every > spec.rounds:
        yield (
            f"{asked} is more than rounds = {spec.rounds}: no checkpoint would fall within the run, and a kill would "
            "cost all of it; lower it"
        )
    if every > 1 and spec.method.moments == "kept":
        yield (
            f'{asked} lets a kill take back rounds, and with method.moments = "kept" what each client\'s optimiser has '
            "gathered in them: a client that is not there when they are done again never makes up for it; set "
            'checkpoint_every = 1, or moments = "averaged" or "reset"'
        )
