"""The graphs of a run: from the state folder, where they are kept, else from the server; checked first."""

from __future__ import annotations

import logging
import os
import re
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from heron_client.config import ClientSettings
from heron_client.transport.interface import Transport
from heron_core.arrays import Array
from heron_core.errors import BadReply, ConfigError, TensorError
from heron_core.graphs.graph_set import CONSTANTS, FILES, MANIFEST, GraphSet, graphs_of, read_graphs
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.process.console import printable
from heron_core.process.memory import free_memory, mib
from heron_core.wire.codec import Expected, announced, empty_arrays

log = logging.getLogger("heron.client")

HASH = re.compile(r"[0-9a-f]{64}")
SENT = "the server's graphs"
MOST_MANIFEST_BYTES, MOST_GRAPH_BYTES = 16 << 20, 256 << 20
"""Weights are no part of a graph: one of a thousand layers has a few MiB."""


def graphs_for(settings: ClientSettings, transport: Transport, sha256: str) -> GraphSet:
    """The set of this hash, which the server has named in its answer to Join.

    Raises ConfigError where it has named none, BadReply or ServerTensorError for what is not that set, and as
    `Transport.fetch_graphs`.
    """
    if not sha256:
        raise ConfigError(
            "the server offers no graphs, and this client runs nothing else: set server.graphs = true there, or here "
            "backend = \"torch\", which needs pip install 'heron-sfl[torch]'"
        )
    if not HASH.fullmatch(sha256):
        raise BadReply("the server's hash of its graphs must be 64 hex digits; look at what answers at server")
    folder = settings.state_dir / "graphs" if settings.state_dir else None
    if folder is not None and (kept := _kept(folder / sha256)):
        return kept
    request = pb.FetchGraphsRequest(client_name=settings.name, graphs=sha256)
    files = transport.fetch_graphs(request, accept, partial(room, settings.state_dir))
    found = graphs_of(files, sha256, SENT)
    log.info("fetched the run's graphs, %d bytes", sum(array.nbytes for array in files.values()))
    return found if folder is None else _keep(found, folder)


def accept(manifest: tensors.Manifest) -> None:
    """Raises TensorError for a bundle that cannot be the files of a set, or has no room in memory here."""
    coming = announced(manifest, SENT)
    if [(name, dtype, len(shape)) for name, dtype, shape in coming] != [(name, "uint8", 1) for name in FILES]:
        raise TensorError(f"{SENT} must be {', '.join(FILES)}, each as bytes; run the same Heron on both sides")
    free = free_memory()
    for name, _, (size,) in coming:
        most = {MANIFEST: MOST_MANIFEST_BYTES, CONSTANTS: free}.get(name, MOST_GRAPH_BYTES)
        if size > most:
            raise TensorError(f"{SENT}: {name} has {mib(size)}, and at most {mib(most)} are taken here")


def room(folder: Path | None, coming: Expected) -> dict[str, Array]:
    """Memory for the files that come; the constants, which may be as large as a model, are written to a file without a
    name in `folder`, so that they are never memory of this process alone."""
    made = empty_arrays([each for each in coming if each[0] != CONSTANTS])
    ((size,),) = [shape for name, _, shape in coming if name == CONSTANTS]
    constants = _on_disk(size, folder) if folder is not None and size else np.empty(size, np.uint8)
    return {name: made.get(name, constants) for name, _, _ in coming}


def _on_disk(size: int, folder: Path) -> Array:
    """Pages of a file, uint8 [size]; memory where the disk does not take it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a write to a page that a full disk lacks would end the process
            return np.memmap(file, np.uint8, "r+", shape=(size,))
    except (OSError, AttributeError):  # not every system can promise room on its disk
        return np.empty(size, np.uint8)


def _kept(home: Path) -> GraphSet | None:
    """What an earlier start has stored; None where there is nothing, or not that."""
    if not (home / MANIFEST).exists():
        return None
    try:
        return read_graphs(home)
    except (BadReply, OSError) as error:
        log.warning("%s; it is fetched again", printable(str(error)))
        return None


def _keep(found: GraphSet, folder: Path) -> GraphSet:
    """Stored, and mapped from there instead of held in memory."""
    try:
        return read_graphs(found.write(folder))
    except OSError as error:
        log.warning("the run's graphs cannot be kept in %s: %s; the next start fetches them again", folder, error)
        return found
