"""A disk that is full pauses the run, whatever was being written; it goes on with the same bits once there is space."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

import pytest
from server.driven import Client, Server, Start, play_round

from heron_core import files
from heron_core.errors import RunFailed, StaleTerm, meaning_of
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.rounds.phase import Phase
from heron_server.storage import run_dir
from heron_server.storage.durable import OutOfSpace

Writes = pytest.MonkeyPatch


def refuse(monkeypatch: Writes, number: int, *, only_the_log: bool = False) -> None:
    """From now on the disk takes nothing, or no line of the log."""

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def no_line(path: Any, line: str) -> None:
        raise OutOfSpace(f"{path} cannot be written: no space")

    if only_the_log:
        monkeypatch.setattr(run_dir, "append_line", no_line)
    else:
        monkeypatch.setattr(files.os, "fsync", full)


def wait(server: Server, seconds: float, *clients: Client) -> None:
    """Time passes, and the clients beat."""
    for _ in range(int(seconds)):
        server.now += 1
        for client in clients:
            server.coordinator.beat(client.peer, pb.Beat(session_id=client.session))
        server.coordinator.tick()


def phase(server: Server) -> Phase:
    return server.coordinator._rounds.phase


def log_lines(server: Server) -> int:
    return len((server.directory.path / "metrics.jsonl").read_text().splitlines())


@pytest.fixture
def undisturbed(start: Start) -> str:
    server = start("undisturbed")
    clients = server.clients("ab")
    for _ in range(2):
        play_round(clients)
    return server.coordinator.model_sha256()


@pytest.mark.parametrize("only_the_log", [False, True])
def test_a_commit_that_finds_no_space_is_tried_again_until_it_succeeds(
    start: Start, monkeypatch: Writes, undisturbed: str, only_the_log: bool
) -> None:
    server = start()
    clients = server.clients("ab")
    with monkeypatch.context() as disk:
        refuse(disk, errno.ENOSPC, only_the_log=only_the_log)
        play_round(clients)
        assert phase(server) is Phase.PAUSED and server.coordinator.failure is None
        wait(server, 60, *clients)
        assert phase(server) is Phase.PAUSED and server.coordinator.rounds_done == 0 and log_lines(server) == 0
    wait(server, 5, *clients)
    assert server.coordinator.rounds_done == 1 and log_lines(server) == 1 == len(server.history)
    play_round(clients)
    assert server.coordinator.finished and server.coordinator.model_sha256() == undisturbed
    assert [r["round"] for r in server.history] == [1, 2] and log_lines(server) == 2


def test_a_pause_is_said_once_to_the_operator_and_to_every_client_and_so_is_its_end(
    start: Start, monkeypatch: Writes
) -> None:
    server = start()
    clients = server.clients("ab")
    with monkeypatch.context() as disk:
        refuse(disk, errno.ENOSPC)
        play_round(clients)
        wait(server, 20, *clients)
        clients.append(server.client("a"))
    wait(server, 5, *clients[1:])
    ((_, why),) = server.heard.of("paused")
    assert "No space left on device; tried again every 5 s, for at most 600 s" in why
    assert ("note", "there is space on the disk again; the run goes on") in server.heard.events
    said = [[w.reason for w in client.heard("waiting") if "disk is full" in w.reason] for client in clients]
    assert [len(each) for each in said] == [1, 1, 1], "also to one that comes meanwhile"


def test_an_abandoned_round_that_finds_no_space_goes_back_once_there_is(
    start: Start, monkeypatch: Writes, undisturbed: str
) -> None:
    server = start(server={"quorum": 1.0})
    failing, stayer = server.clients("ab")
    stayer.open()
    stayer.push(0)
    term = stayer.begins.term
    with monkeypatch.context() as disk:
        refuse(disk, errno.EDQUOT)
        server.coordinator.client_failed("a", "told so")
        assert phase(server) is Phase.PAUSED and server.coordinator.failure is None
        with pytest.raises(StaleTerm, match="was abandoned"):
            stayer.submit(stayer.state())
        wait(server, 30, failing, stayer)
        assert int((server.directory.path / "term").read_text()) == term
    wait(server, 6, failing, stayer)
    assert failing.begins.term == stayer.begins.term > term
    for _ in range(2):
        play_round([failing, stayer])
    assert server.coordinator.finished and server.coordinator.model_sha256() == undisturbed


@pytest.mark.parametrize("only_the_log", [False, True])
def test_after_a_stated_time_the_run_ends_and_can_be_resumed(
    start: Start, monkeypatch: Writes, undisturbed: str, only_the_log: bool
) -> None:
    server = start(server={"space_wait_s": 30})
    clients = server.clients("ab")
    play_round(clients)
    with monkeypatch.context() as disk:
        refuse(disk, errno.ENOSPC, only_the_log=only_the_log)
        play_round(clients)
        wait(server, 29, *clients)
        assert server.coordinator.failure is None
        wait(server, 2, *clients)
    failure = server.coordinator.failure
    assert isinstance(failure, RunFailed) and meaning_of(failure).exit_code == 6
    assert "in 30 s (server.space_wait_s) no space came free" in str(failure) and "--resume" in str(failure)
    assert server.coordinator.rounds_done == 1 and not server.coordinator.finished
    server.close()
    again = start(resume=True)
    if not again.coordinator.finished:  # the checkpoint may have been written, only its line was not
        assert not only_the_log
        play_round(again.clients("ab"))
    assert again.coordinator.finished and again.coordinator.model_sha256() == undisturbed
    assert log_lines(again) == len(again.history) == 2


@pytest.mark.parametrize("only_the_log", [False, True])
def test_any_other_failure_of_the_disk_ends_the_run_at_once(
    start: Start, monkeypatch: Writes, only_the_log: bool
) -> None:
    server = start()
    with monkeypatch.context() as disk:
        refuse(disk, errno.EIO)
        if only_the_log:
            disk.undo()
            (server.directory.path / "metrics.jsonl").unlink()
        play_round(server.clients("ab"))
    assert type(server.coordinator.failure) is RunFailed and "cannot be written" in str(server.coordinator.failure)


def test_a_run_that_cannot_even_begin_for_want_of_space_says_so_at_once(start: Start, monkeypatch: Writes) -> None:
    with monkeypatch.context() as disk:
        refuse(disk, errno.ENOSPC)
        with pytest.raises(OutOfSpace, match="No space left"):
            start()
    assert not start().coordinator.finished


def test_a_run_directory_deleted_in_mid_run_ends_the_run_and_is_not_half_rebuilt(start: Start) -> None:
    server = start()
    clients = server.clients("ab")
    play_round(clients)
    shutil.rmtree(server.directory.path)
    play_round(clients)
    assert isinstance(server.coordinator.failure, RunFailed)
    assert "it was deleted, moved or replaced while the run was on" in str(server.coordinator.failure)
    assert not server.directory.path.exists()


def test_what_the_worker_saves_is_not_what_the_run_goes_on_to_change(start: Start, monkeypatch: Writes) -> None:
    server = start()
    saved: list[Any] = []
    monkeypatch.setattr(server.directory, "save", lambda checkpoint: saved.append(checkpoint.facts))
    clients = server.clients("ab")
    play_round(clients)
    first = repr(saved[0])
    play_round(clients)
    assert repr(saved[0]) == first != repr(saved[1])
