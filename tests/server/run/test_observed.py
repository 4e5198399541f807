"""What observers hear of a run: who came and went, how far each client is, and the rounds."""

from __future__ import annotations

from server.driven import PEER, Client, Start, play_round

from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.run.journal import SPARE_LINES


def beat(client: Client, number: int, step: int) -> None:
    client.coordinator.beat(PEER, pb.Beat(session_id=client.session, term=1, round=number, step=step))


def test_clients_are_heard_by_name_as_they_join_come_and_go(start: Start) -> None:
    server = start()
    first, second = server.clients("ab")
    server.coordinator.watch_lost(second.session)
    server.coordinator.watch(PEER, second.session, second.events.append, lambda _: None)
    first.leave()
    assert server.heard.of("joined", "present", "lost") == [
        ("joined", "a"), ("present", "a"), ("joined", "b"), ("present", "b"), ("lost", "b"), ("present", "b"),
        ("lost", "a"),
    ]  # fmt: skip


def test_a_beat_is_the_progress_of_a_participant_that_has_not_submitted(start: Start) -> None:
    server = start()
    first, second = server.clients("ab")
    beat(first, 0, 0)  # idle
    beat(first, 1, 2)
    beat(first, 2, 1)  # no round yet
    beat(second, 1, 99)
    assert server.heard.of("progress") == [("progress", "a", 1, 2, 4), ("progress", "b", 1, 4, 4)]
    play_round([first, second])
    beat(first, 1, 4)  # the round is over
    assert len(server.heard.of("progress")) == 2
    beat(first, 2, 1)
    assert server.heard.of("progress")[-1] == ("progress", "a", 2, 1, 4)


def test_rounds_are_heard_with_their_participants_and_each_upload_with_its_client(start: Start) -> None:
    server = start(rounds=1)
    play_round(server.clients("ab"))
    heard = server.heard.of("round_began", "upload_consumed", "round_done")
    assert heard[0] == ("round_began", 1, 1, ("a", "b"), 8) and heard[-1] == ("round_done", 1)
    assert sorted(heard[1:-1]) == [("upload_consumed", "a")] * 4 + [("upload_consumed", "b")] * 4


def test_a_client_that_fails_is_noted_with_the_reason(start: Start) -> None:
    server = start(federation={"clients": 3, "min_clients": 2})
    clients = server.clients("abc")
    server.coordinator.client_failed("b", "its activations are NaN")
    assert ("note", "b is dropped from round 1: its activations are NaN") in server.heard.events
    clients[0].leave()
    assert ("note", "a left: enough") in server.heard.events


def test_comings_and_goings_without_end_are_a_line_a_second_with_a_count_of_the_rest(start: Start) -> None:
    server = start()
    for _ in range(50):
        server.client("a").leave()
    said = server.heard.of("joined", "note")
    assert len(said) == 2 + SPARE_LINES and said[-1] == ("note", "a left: enough")
    server.now += 1.5
    server.client("a").leave()
    assert server.heard.of("joined", "note")[len(said) :] == [
        ("note", f"{100 - len(said)} more lines of clients that came, left or were dropped are left out here"),
        ("joined", "a"),
    ]
