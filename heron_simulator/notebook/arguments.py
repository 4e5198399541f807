"""What `simulate` was called with, as the settings of server and clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heron_core.config import load_tables, validate
from heron_core.errors import ConfigError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import RunFile, ServerSettings, begun, split_run_file
from heron_simulator.notebook.given import DATA, TEST, Given, code_name

ClientTables = Mapping[str, object]
"""What a client's file may say, not yet checked."""
RunTables = RunSpec | Mapping[str, object] | Path | str
"""A run spec, the tables of a run file, or the path of one."""


def settings_of(
    run_spec: RunTables, settings: ServerSettings | Mapping[str, object] | None, given: Given
) -> tuple[RunSpec, ServerSettings]:
    """The run spec and the server's settings; raises ConfigError, for tables as for a file, and DataError."""
    if settings is None or isinstance(settings, ServerSettings):
        server = settings
    else:
        server = validate(ServerSettings, dict(settings), "settings")
    if not isinstance(run_spec, RunSpec):
        origin = "run_spec" if isinstance(run_spec, Mapping) else str(run_spec)
        tables = dict(run_spec) if isinstance(run_spec, Mapping) else load_tables(RunFile, Path(run_spec))
        return split_run_file(_with_objects(_with_server(tables, server), given), origin)
    server = server or ServerSettings()
    if server.start_from is None and given == Given():
        return run_spec, server
    tables = run_spec.model_dump(exclude_unset=True)
    if server.start_from is not None:
        tables = begun(tables, server.start_from)
    tables = _with_objects(tables, given)
    if tables.pop("server", None):
        server = server.model_copy(update={"test_data": TEST})
    return validate(RunSpec, tables, "run_spec"), server


def client_tables(
    clients: int | None, given: Given, tables: ClientTables | Sequence[ClientTables] | None
) -> ClientTables | Sequence[ClientTables]:
    """Every client's settings, with its own object for its data. ConfigError: other numbers of clients are named."""
    count = len(given.data)
    if count and clients is not None and clients != count:
        raise ConfigError(f"data holds {count} entries, clients = {clients}; leave clients out, or give as many")

    def whole(table: ClientTables, number: int) -> dict[str, Any]:
        if given.model is not None:
            table = {"allow_model_code": [code_name(given.model)], **table}
        if given.data:
            table = _with(_with(table, "data", "source", DATA), "data", "options", {"client": number})
        return dict(table)

    if isinstance(tables, Sequence):
        return [whole(table, number) for number, table in enumerate(tables)]
    return [whole(tables or {}, i) for i in range(count)] if count else whole(tables or {}, 0)


def _with_server(tables: dict[str, Any], server: ServerSettings | None) -> dict[str, Any]:
    if tables.get("simulate"):
        raise ConfigError(
            "[simulate] is read by the command heron-simulate alone; leave it out, or give simulate() the around of "
            "heron_simulator.conditions.Conditions"
        )
    if server is None:
        return tables
    if tables.get("server"):
        raise ConfigError("the server's settings come both as settings= and as the [server] table; leave one out")
    return {**tables, "server": server.model_dump(exclude_unset=True)}


def _with_objects(tables: dict[str, Any], given: Given) -> dict[str, Any]:
    """The tables with names for what was given: objects take the place of model.name, data.source, server.test_data."""
    if given.model is not None:
        tables = _with(tables, "model", "name", code_name(given.model))
    if given.data:
        tables = _with(_with(tables, "data", "source", "client"), "federation", "clients", len(given.data))
    return tables if given.test is None else _with(tables, "server", "test_data", TEST)


def _with(tables: Mapping[str, Any], table: str, key: str, value: object) -> dict[str, Any]:
    """What is no table is left for those who check it."""
    inner = tables.get(table, {})
    return {**tables, table: {**inner, key: value} if isinstance(inner, Mapping) else inner}
