"""Every room and its floor: a file imports its own room or lower ones, and no files import each other in a circle.

A room is a folder, or the files of one that are named here. Imports inside functions count like all others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import pytest
from tree import PACKAGES, ROOT, imports_of, module_files, module_name, parsed

FLOORS: list[dict[str, tuple[str, ...]]] = [
    {
        "core: ground": (
            "heron_core.arrays",
            "heron_core.class_names",
            "heron_core.config",
            "heron_core.device",
            "heron_core.errors",
            "heron_core.files",
            "heron_core.json_text",
            "heron_core.labels",
            "heron_core.measures",
            "heron_core.own_code",
            "heron_core.pb",
            "heron_core.process",
            "heron_core.streams",
            "heron_core.version",
        ),
    },
    {"core: spec": ("heron_core.spec",), "core: trust": ("heron_core.trust",), "core: wire": ("heron_core.wire",)},
    {
        "core: replay": ("heron_core.replay",),
        "core: data": ("heron_core.data",),
        "core: graphs": ("heron_core.graphs",),
        "core: tasks": ("heron_core.models.tasks",),
        "core: lean passes and names": (
            "heron_core.models.digest",
            "heron_core.models.lean",
            "heron_core.models.names",
        ),
    },
    {"core: text": ("heron_core.data.text",)},
    {
        "core: doctor": ("heron_core.doctor",),
        "core: sources": ("heron_core.data.sources",),
        "core: the split model": ("heron_core.models.split_model",),
    },
    {"core: lint": ("heron_core.models.lint",)},
    {
        "core: experiments": ("heron_core.data.experiment",),
        "core: heads": ("heron_core.models.heads",),
        "core: adapt": ("heron_core.models.adapt",),
    },
    {"core: families": ("heron_core.models.families",), "core: language models": ("heron_core.models.language",)},
    {"core: models": ("heron_core.models",)},
    {"core: test kit": ("heron_core.testing",)},
    {
        "client: settings": ("heron_client.config",),
        "client: transport": ("heron_client.transport",),
        "server: settings": ("heron_server.config",),
        "server: text": ("heron_server.text",),
    },
    {
        "client: trust": ("heron_client.trust",),
        "client: uploads": ("heron_client.uploads",),
        "server: certs": ("heron_server.certs",),
        "server: metrics": ("heron_server.metrics",),
    },
    {
        "client: backends and arithmetic": ("heron_client.compute",),
        "server: graphs": ("heron_server.graphs",),
        "server: uploads": ("heron_server.uploads",),
        "server: aggregation": ("heron_server.aggregation",),
        "server: rounds": ("heron_server.rounds",),
        "server: storage": ("heron_server.storage",),
        "server: display": ("heron_server.display",),
    },
    {
        "client: steps": ("heron_client.compute.steps",),
        "server: planning": ("heron_server.planning",),
        "server: training": ("heron_server.training",),
    },
    {"server: samples": ("heron_server.samples",)},
    {
        "client: local round": ("heron_client.compute.local_round", "heron_client.compute.workspace"),
        "server: run": ("heron_server.run",),
    },
    {"client: session": ("heron_client.session",), "server: api": ("heron_server.api",)},
    {
        "client: check and doctor": (
            "heron_client.check",
            "heron_client.check_data",
            "heron_client.check_own",
            "heron_client.doctor",
        ),
        "server: doctor": ("heron_server.doctor", "heron_server.health"),
    },
    {"client: start-up": ("heron_client",), "server: start-up": ("heron_server",)},
    {"simulator": ("heron_simulator",)},
    {"simulator: sweep": ("heron_simulator.sweep",)},
    {"simulator: start-up": ("heron_simulator.cli", "heron_simulator.command", "heron_simulator.__main__")},
]
"""From the ground up. A module is in the room with its longest prefix."""

FACES = {module_name(path) for path in module_files() if path.name == "__init__.py"}
"""Packages: they hand names of their own rooms on, and nobody inside asks them."""

ROOMS = {prefix: room for floor in FLOORS for room, prefixes in floor.items() for prefix in prefixes}
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MODULES = {module_name(path): path for path in module_files()}


def room_of(module: str) -> str:
    parts = module.split(".")
    return next(ROOMS[p] for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in ROOMS)


def targets(module: str) -> Iterator[str]:
    """The written modules that `module` imports; a name that a face hands on counts as the face."""
    for found in imports_of(MODULES[module]):
        name = found.module if found.module in MODULES else found.module.rpartition(".")[0]
        if name in MODULES and name != module:
            yield name


GRAPH: Mapping[str, list[str]] = {module: sorted(set(targets(module))) for module in MODULES}


def test_every_module_has_a_room_and_every_room_a_module() -> None:
    inhabited = {room_of(module) for module in MODULES if module.split(".")[0] != "heron_core" or "." in module}
    assert inhabited == set(FLOOR)


@pytest.mark.parametrize("module", sorted(set(MODULES) - FACES))
def test_no_import_runs_uphill(module: str) -> None:
    mine = room_of(module)
    uphill = [
        f"{module} ({mine}) imports {other} ({room_of(other)})"
        for other in GRAPH[module]
        if other not in FACES and room_of(other) != mine and FLOOR[room_of(other)] >= FLOOR[mine]
    ]
    assert uphill == []


@pytest.mark.parametrize("module", sorted(set(MODULES) - FACES))
def test_nobody_asks_the_face_of_his_own_package(module: str) -> None:
    package = module.split(".")[0]
    asked = [f for f in GRAPH[module] if f in FACES and module.startswith(f"{f}.") and exports(f)]
    assert [f"{module} imports from {face}, which imports it" for face in asked if package] == []


def exports(face: str) -> bool:
    return any(isinstance(n, ast.ImportFrom | ast.FunctionDef) and getattr(n, "module", "") != "__future__"
               for n in parsed(MODULES[face]).body)  # fmt: skip


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles({m: [t for t in GRAPH[m] if t not in FACES] for m in MODULES if m not in FACES}) == []


def circles(graph: Mapping[str, list[str]]) -> list[str]:
    """Each file that can be reached from itself, with the way round."""
    found = []
    for start in graph:
        waiting, seen = [(start, [start])], set()
        while waiting:
            here, way = waiting.pop()
            for there in graph[here]:
                if there == start:
                    found.append(" -> ".join([*way, start]))
                elif there not in seen:
                    seen.add(there)
                    waiting.append((there, [*way, there]))
    return found


def test_the_search_for_circles_finds_one() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [
        "a -> b -> c -> a",
        "b -> c -> a -> b",
        "c -> a -> b -> c",
    ]


MOST_FILES = 12


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_holds_more_than_a_dozen_files_and_each_says_what_it_is_for(package: str) -> None:
    for folder in {path.parent for path in module_files() if path.relative_to(ROOT).parts[0] == package}:
        files = [path for path in folder.glob("*.py") if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))]
        written = [path for path in files if path.name not in ("__init__.py", "__main__.py")]
        assert len(written) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(written)} files"
        assert ast.get_docstring(parsed(folder / "__init__.py")), folder
