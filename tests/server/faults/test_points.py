"""The list of points at which faults are injected: made from the code, complete, each with a name of its own."""

from __future__ import annotations

import ast

from points import every_point, instrumented, modules

CODE = """
async def serve(call, outbox, beats):
    task = create_task(pump(outbox, call))
    async for beat in beats:
        await call.write(beat, key=lambda b: b.round)
    outbox.each(pump, other)
    return partial(pump, call)

async def pump(outbox, call): ...

class Log(Observer):
    def note(self, text):
        with (self.path / "log").open("a") as file:
            file.write(text.replace("a", "b"))
        (self.path / "new").replace(self.path / "log")
        (self.path / "log").open()
"""


def test_awaits_callbacks_observers_and_writes_are_points() -> None:
    tree, points = instrumented("heron_server.example", CODE)
    assert sorted((p.line, p.kind) for p in points) == [
        (3, "callback"), (4, "await"), (5, "await"), (5, "callback"), (6, "callback"), (7, "callback"), (7, "callback"),
        (12, "observer"), (13, "write"), (14, "write"), (15, "write"),
    ]  # fmt: skip
    compile(tree, "example", "exec")
    assert ast.unparse(tree).count("heron_") == 2 * len(points)


def test_of_core_only_the_writes_are_points() -> None:
    _, points = instrumented("heron_core.example", CODE)
    assert [p.line for p in points] == [13, 14, 15]


def test_every_point_has_a_name_of_its_own() -> None:
    names = [point.name for point in every_point()]
    assert len(set(names)) == len(names)


def test_no_module_of_a_running_server_is_left_out() -> None:
    found = modules()
    assert {"heron_server.serve", "heron_server.run.loop", "heron_server.api.service", "heron_core.files"} <= set(found)
    per_package = {point.module.partition(".")[0] for point in every_point()}
    assert per_package == {"heron_server", "heron_core"}
