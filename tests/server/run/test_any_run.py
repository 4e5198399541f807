"""A whole run under any sequence of what clients, worker, disk and time may do: it goes on, and then it ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from server.driven import HELD_OUT, Client, QueuedWorker, Server, spoil
from server.run.paced import beat

from heron_core import files
from heron_core.errors import HeronError
from heron_core.pb.v1 import split_pb2 as split
from heron_server.rounds.phase import Phase

NAMES = "abc"
NAME = st.sampled_from(NAMES)
UPLOAD_BYTES = 4 * (6 * 4 + 8)
NAN = spoil("activations", np.nan)


class Player:
    """One client, which knows what the server wants of it next."""

    def __init__(self, client: Client) -> None:
        self.client, self.coordinator, self.name = client, client.coordinator, client.name
        self._open_in: object = None

    @property
    def connected(self) -> bool:
        member = self.coordinator._rounds.members.find(self.client.session)
        return member is not None and member.connected

    def moves(self, harm: bool = False) -> None:
        """Opens its stream, sends its next upload or its update, whichever is due."""
        rounds, uploads = self.coordinator._rounds, self.coordinator.uploads
        evaluates = rounds.phase is Phase.EVALUATING and self.name in rounds.lineup.evaluating
        if uploads is None or not (rounds.is_active(self.name) or evaluates):
            return
        steps = -(-HELD_OUT // 4) if evaluates else 4
        if self._open_in is not uploads:
            self.client.answers.clear()
            self.client.open(split.PURPOSE_EVALUATE if evaluates else split.PURPOSE_TRAIN, steps)
            self._open_in = uploads
        number = uploads.place(self.name)[0]
        if number < min(steps, self.client.credit):
            rows = HELD_OUT - 4 * number if evaluates and number == steps - 1 else 4
            tensors = self.client.tensors(number, rows)
            self.client.push(number, NAN(tensors) if harm else tensors, rows)
        elif number == steps and not evaluates:
            self.client.submit()


class AnyRun(RuleBasedStateMachine):
    """Two rounds of three clients over a coordinator, its clock and its worker in hand."""

    @initialize(
        method=st.sampled_from(["heron", "sflv2"]), order=st.sampled_from(["canonical", "arrival"]),
        min_clients=st.integers(1, 3), source=st.sampled_from(["digits", "client"]),
        straggler=st.sampled_from(["wait", "drop"]), uploads_held=st.sampled_from([2, 8]), mixing=st.booleans(),
    )  # fmt: skip
    def begin(
        self, method: str, order: str, min_clients: int, source: str, straggler: str, uploads_held: int, mixing: bool
    ) -> None:
        mixing = mixing and order == "canonical" and uploads_held > 3
        self.folder, self.disk, self.worker = TemporaryDirectory(), pytest.MonkeyPatch(), QueuedWorker()
        spec = tiny.spec(
            method={"name": method, "mixing": mixing}, data={"source": source},
            federation={"clients": 3, "min_clients": min_clients},
        )  # fmt: skip
        self.server = Server(
            Path(self.folder.name) / "run", spec, worker=self.worker, order=order, straggler=straggler,
            byte_budget=uploads_held * UPLOAD_BYTES, quorum=0.1,
            step_deadline_s=50.0, round_deadline_s=5000.0, space_wait_s=1e6, abandoned_pause_s=1.0,
        )  # fmt: skip
        self.players: dict[str, Player] = {}
        for name in NAMES:
            self.comes(name, b"k" * 16)

    @property
    def coordinator(self) -> Any:
        return self.server.coordinator

    def may(self, act: Callable[[], object]) -> None:
        """What the server may refuse a peer, which changes nothing for the others."""
        with suppress(HeronError):
            act()

    # -- clients -------------------------------------------------------------------------------------------------

    @rule(name=NAME, key=st.sampled_from([b"k" * 16, b"k" * 16, b"x" * 16]))
    def comes(self, name: str, key: bytes) -> None:
        self.may(lambda: self.players.update({name: Player(Client(self.coordinator, name, key))}))

    @rule(name=NAME)
    def is_cut_off(self, name: str) -> None:
        if name in self.players:
            self.coordinator.watch_lost(self.players[name].client.session)

    @rule(name=NAME)
    def leaves(self, name: str) -> None:
        if name in self.players:
            self.may(self.players[name].client.leave)

    @rule(names=st.sets(NAME, min_size=1), times=st.integers(1, 6))
    def go_on(self, names: set[str], times: int) -> None:
        for _ in range(times):
            for name in sorted(names & self.players.keys()):
                self.may(self.players[name].moves)

    @rule()
    def all_go_on(self) -> None:
        """A good while in which nothing happens."""
        for _ in range(3):
            self.go_on(set(NAMES), 2)
            self.beat(set(NAMES), 0)
            self.worker.run(6)
            self.time_passes(1.0)

    @rule(name=NAME)
    def sends_rubbish(self, name: str) -> None:
        if name in self.players:
            self.may(lambda: self.players[name].moves(harm=True))

    @rule(names=st.sets(NAME), step=st.integers(0, 4))
    def beat(self, names: set[str], step: int) -> None:
        for name in names & self.players.keys():
            if self.players[name].client.heard("round_begins"):
                self.may(lambda name=name: beat(self.players[name].client, step))  # type: ignore[misc]

    # -- the server ----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.25, 1.0, 6.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.server.now += seconds
        self.coordinator.tick()

    @rule(count=st.integers(1, 6))
    def worker_works(self, count: int) -> None:
        self.worker.run(count)

    @rule(full=st.booleans())
    def disk_is(self, full: bool) -> None:
        def refused(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.disk.undo()
        if full:
            self.disk.setattr(files.os, "fsync", refused)

    # -- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def goes_on_or_has_ended(self) -> None:
        if hasattr(self, "server"):
            assert self.coordinator.failure is None, self.coordinator.story()
            self.coordinator._rounds.check()
            if self.coordinator.uploads is not None:
                self.coordinator.uploads.scheduler.check()

    def teardown(self) -> None:
        """Everybody comes and goes on, and there is space: the run ends within some minutes."""
        if not hasattr(self, "server"):
            return
        try:
            self.disk_is(full=False)
            for _ in range(300):
                self.everybody_goes_on()
                self.goes_on_or_has_ended()
                if self.coordinator.finished:
                    return
            raise AssertionError(f"the run has not ended\n{self.coordinator.story()}")
        finally:
            self.disk.undo()
            self.server.close()
            self.folder.cleanup()

    def everybody_goes_on(self) -> None:
        for name in NAMES:
            if name not in self.players or not self.players[name].connected:
                self.comes(name, b"k" * 16)
        self.all_go_on()


TestAnyRun: Any = AnyRun.TestCase
TestAnyRun.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
