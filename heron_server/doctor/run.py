"""The run itself: `validate`'s checks, and whether this machine has what they say that it needs."""

from __future__ import annotations

from collections.abc import Iterator

from heron_core.doctor.examination import Finding, ok, warning
from heron_core.doctor.machine import memory, open_files, space
from heron_server.api.gate.connections import MOST_IDLE
from heron_server.api.gate.descriptors import RESERVED
from heron_server.doctor.visit import Visit
from heron_server.planning.sections.disk import kept_samples, server_disk
from heron_server.planning.validate import share_sizes_of
from heron_server.storage.run_dir import RunDir, run_dir_of
from heron_server.storage.shelf import rounds_found

OWN_FILES = 64
"""What Python, torch and gRPC have open before the first connection, with room."""
PER_CLIENT = 2
"""Connections: one for what is small and one for what is large."""


def files(visit: Visit) -> Iterator[Finding]:
    """May the server open a connection for everybody? Raises ConfigError."""
    clients = visit.spec.federation.clients
    needed = PER_CLIENT * clients + MOST_IDLE + RESERVED + OWN_FILES
    return open_files(needed, f"a run of {clients} clients", raises=True)


def folder(visit: Visit) -> Iterator[Finding]:
    """Is the run directory this server's alone? Raises ConfigError or RunDirectoryBusy."""
    path = run_dir_of(visit.spec, visit.settings)
    if (path / "lock").exists():  # no run ever began where it is not, and none is made here
        RunDir(path).close()
    found = rounds_found(path / "checkpoints")
    if not found:
        yield ok(f"{path} is free")
    else:
        yield warning(f"{path} holds a run up to round {max(found)}: go on with --resume, or choose another run_dir")


def plan(visit: Visit) -> Iterator[Finding]:
    """Do settings, model, data and test set fit each other? Raises ConfigError, ModelError or DataError."""
    checked, spec = visit.checked, visit.spec
    tested = f"a test set of {len(checked.test)} samples" if checked.test is not None else "no test set of its own"
    yield ok(f"{spec.method.name} on {spec.model.name} ({checked.facts.task}), {checked.device}, {tested}")


def needed_memory(visit: Visit) -> Iterator[Finding]:
    """Is there what the run needs by `validate`'s count? Raises ConfigError."""
    items = visit.checked.memory
    needed = sum(item.size_bytes for item in items)
    return memory(needed, "the run, by validate's count,", f"lower {items[0].remedy or 'the model'}")


def needed_space(visit: Visit) -> Iterator[Finding]:
    """Is there room for the checkpoints and the model, by `validate`'s count? Raises ConfigError."""
    checked, spec, settings = visit.checked, visit.spec, visit.settings
    items = server_disk(spec, checked.facts, checked.memory, settings.keep_checkpoints)
    items += kept_samples(spec, checked.facts, settings.reuse_budget, share_sizes_of(spec, settings, checked.facts)[0])
    return space(
        run_dir_of(spec, settings), sum(item.size_bytes for item in items),
        "the run, with its checkpoints and its model,", "lower server.keep_checkpoints or choose another run_dir",
    )  # fmt: skip
