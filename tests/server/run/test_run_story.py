"""A run that can be asked what it waits for."""

from __future__ import annotations

from server.driven import Start


def test_a_run_tells_its_tables_and_its_last_events(start: Start) -> None:
    server = start(federation={"clients": 3, "min_clients": 1}, server={"quorum": 0.1})
    turn, sent, failed = server.clients("abc")
    for client in (turn, sent):
        client.open()
    sent.push(0)
    server.coordinator.client_failed("c", "NaN\nof all")
    server.now = 2.0
    server.coordinator.tick()
    lines = server.coordinator.story().splitlines()
    assert lines[0] == "At 2.00 s of the server's clock: round 1, term 1, TRAINING"
    for line in (
        "a: rank 0, connected, heard 2.00 s ago, its update is awaited",
        "c: rank 2, connected, heard 2.00 s ago, dropped: NaN?of all",
        "a: of 4 uploads 4 may come, 0 went to the worker, 0 are consumed",
        "c: of 0 uploads 0 may come, 0 went to the worker, 0 are consumed, gone",
        "a owes 0 since 2.00, last progress at 2.00, 0 s a local step",
        "0.00 upload 0 of a is next: complete(b, 0) -> nothing",
    ):
        assert line in lines, line
    assert any(line.startswith("0.00 round 1, term 1, TRAINING: client_failed(c, NaN?of all) -> ") for line in lines)
    assert failed.session not in server.coordinator.story(), "sessions are shown as their clients'"


def test_the_story_of_a_client_and_of_a_round(start: Start) -> None:
    server = start(server={"quorum": 1.0})
    leaver, _ = server.clients("ab")
    leaver.leave()
    story = server.coordinator._rounds.story
    assert [line.split(": ")[1].split("(")[0] for line in story.tell("a").splitlines()] == [
        "join", "watch_opened", "watch_opened", "leave",
    ]  # fmt: skip
    assert "restored" in story.tell("round 1") and story.tell("round 2") == ""


def test_a_bug_that_ends_the_run_tells_what_came_before(start: Start) -> None:
    server = start()
    server.clients("ab")
    with server.coordinator._loop.owning_errors():
        server.coordinator._rounds.evaluated()
    failure = server.coordinator.failure
    assert failure is not None and failure.__cause__ is not None
    assert "TRAINING: evaluated() -> IllegalEvent" in failure.__cause__.__notes__[0]
