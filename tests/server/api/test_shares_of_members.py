"""What one client may take of the server: with the interceptor alone, and over a real port."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from server.api.toy import reason_of
from server.driven import PEER, Client, Server, Start, play_round

from heron_core.errors import Busy, HeronError, StaleTerm, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.channel import of_session
from heron_core.wire.codec import manifest_of
from heron_core.wire.frames import Bulk
from heron_server.api import updates
from heron_server.api.peer import Call
from heron_server.api.server import listen
from heron_server.api.shares import BEATS, CALLS, CALLS_A_ROUND, JOINS, Shares

FEDERATION = "/heron.v1.FederationService/"
PATIENCE_S, CONCURRENT = 10.0, 24


async def nothing(_: Any) -> None: ...


async def never(*_: Any) -> None:
    await asyncio.Event().wait()


async def at_once(*_: Any) -> None: ...


class Desk:
    """The interceptor over a run of a and b; calls are a's."""

    def __init__(self, start: Start, **settings: Any) -> None:
        self.server: Server = start(rounds=9, server={"step_deadline_s": 5, "silence_s": 1000, **settings})
        self.a, self.b = self.server.clients("ab")
        self.shares = Shares(self.server.coordinator)

    def first(self, rpc: str) -> Any:
        """What a's call of this kind begins with."""
        session, run = self.a.session, self.a.reply.run_id
        place: Any = {"run_id": run, "session_id": session, "term": self.a.begins.term, "round": self.a.begins.round}
        return {
            "FetchModel": pb.FetchModelRequest(session_id=session, version=self.a.begins.version),
            "SubmitUpdate": Bulk(pb.UpdateChunk(header=pb.UpdateHeader(**place))),
            "PushActivations": Bulk(split.ActivationFrame(header=split.FrameHeader(**place))),
            "WatchRounds": pb.Beat(session_id=session),
            "Leave": pb.LeaveRequest(session_id=session),
        }[rpc]

    async def call(self, rpc: str, proceed: Callable[..., Awaitable[Any]], *more: Any) -> None:
        await self.shares.around(rpc, each(self.first(rpc), *more), Call(PEER, nothing, self.a.session), proceed)

    async def begin(self, rpc: str, proceed: Callable[..., Awaitable[Any]] = never) -> asyncio.Task[None]:
        """A call that has reached its handler."""
        task = asyncio.create_task(self.call(rpc, proceed))
        await turns()
        assert not task.done()
        return task

    async def join(self, name: str = "a") -> pb.JoinReply:
        request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=b"k" * 16)

        async def proceed(*_: Any) -> pb.JoinReply:
            return self.server.coordinator.join(PEER, request)

        reply = await self.shares.around("Join", each(request), Call(PEER, nothing), proceed)
        assert isinstance(reply, pb.JoinReply)
        return reply


async def each(*messages: Any) -> AsyncIterator[Any]:
    for message in messages:
        yield message


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def refusal(task: asyncio.Task[None]) -> HeronError:
    with pytest.raises(HeronError) as refused:
        await asyncio.wait_for(task, PATIENCE_S)
    return refused.value


@pytest.mark.parametrize("rpc", ["FetchModel", "SubmitUpdate", "PushActivations", "WatchRounds"])
def test_a_call_takes_the_place_of_an_older_one_of_its_kind_and_of_no_other(start: Start, rpc: str) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        other = await desk.begin("SubmitUpdate" if rpc == "FetchModel" else "FetchModel")
        older = [await desk.begin(rpc)]
        for _ in range(5):
            older.append(await desk.begin(rpc))
            error = await refusal(older[-2])
            assert type(error) is StaleTerm and "only the newer one goes on" in str(error)
        assert not older[-1].done() and not other.done()
        older[-1].cancel()
        other.cancel()
        await asyncio.gather(older[-1], other, return_exceptions=True)
        await desk.call(rpc, at_once)

    asyncio.run(scenario())


def test_too_many_calls_cost_the_round_then_the_place_for_a_minute(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        for _ in range(CALLS):
            await desk.call("FetchModel", at_once)
        with pytest.raises(Busy, match=r"more than 128 calls at once, and then 8 a second.* It costs the round"):
            await desk.call("FetchModel", at_once)
        assert "costs the round" in desk.a.heard("dropped")[0].reason and not desk.a.cut
        desk.server.now += 1
        for _ in range(8):
            await desk.call("FetchModel", at_once)
        with pytest.raises(Busy, match="It costs the place in the run for 60 s"):
            await desk.call("FetchModel", at_once)
        assert desk.a.cut and not desk.b.cut and not desk.b.heard("dropped")
        with pytest.raises(UnknownSession):
            await desk.call("FetchModel", at_once)
        desk.server.now += 59
        with pytest.raises(Busy, match="'a' took more than its share and lost its place; it may join again in 1 s"):
            await desk.join()
        assert (await desk.join("b")).session_id, "the others come and go"
        desk.server.now += 1
        assert (await desk.join()).session_id

    asyncio.run(scenario())


def test_two_mistakes_a_minute_apart_cost_no_place(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        for _ in range(2):
            with pytest.raises(Busy, match="It costs the round"):
                while True:
                    await desk.call("FetchModel", at_once)
            desk.server.now += 61
        assert not desk.a.cut

    asyncio.run(scenario())


def test_a_round_that_begins_gives_calls_back(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        for _ in range(CALLS):
            await desk.call("FetchModel", at_once)
        play_round([desk.a, desk.b])
        for _ in range(int(CALLS_A_ROUND)):
            await desk.call("FetchModel", at_once)
        with pytest.raises(Busy):
            await desk.call("FetchModel", at_once)

    asyncio.run(scenario())


def test_who_joins_again_and_again_loses_its_place(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        with pytest.raises(Busy, match="more than 60 Joins at once"):
            for _ in range(JOINS + 1):
                await desk.join()

    asyncio.run(scenario())


def test_nobody_is_charged_for_joins_in_its_name_that_are_refused(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        refused = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"x" * 16)

        async def proceed(*_: Any) -> Any:
            return desk.server.coordinator.join(PEER, refused)

        for _ in range(JOINS + 1):
            with pytest.raises(HeronError, match="another live client holds the name"):
                await desk.shares.around("Join", each(refused), Call(PEER, nothing), proceed)
        assert (await desk.join()).session_id

    asyncio.run(scenario())


def test_beats_beyond_those_that_are_wanted_end_the_stream(start: Start) -> None:
    async def reading(requests: AsyncIterator[Any], _: Any) -> None:
        async for _ in requests:
            pass

    async def scenario() -> None:
        desk = Desk(start, heartbeat_s=2.0)
        beats = [desk.first("WatchRounds")] * BEATS
        await desk.call("WatchRounds", reading, *beats)
        with pytest.raises(Busy, match="more than 1000 heartbeats at once, and then 2 a second"):
            await desk.call("WatchRounds", reading, *beats[:1])
        assert desk.a.heard("dropped")
        desk.server.now += 100
        await desk.call("WatchRounds", reading, *beats[:200])

    asyncio.run(scenario())


@pytest.mark.parametrize("rpc", ["FetchModel", "SubmitUpdate"])
def test_a_state_whose_bytes_stand_still_is_given_up_and_one_that_moves_is_not(start: Start, rpc: str) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        moving = asyncio.Event()

        async def one_more(requests: Any, call: Call[Any]) -> None:
            await moving.wait()
            await (call.write(None) if rpc == "FetchModel" else anext(requests))
            await anext(requests) if rpc != "FetchModel" else None
            await never()

        task = asyncio.create_task(desk.call(rpc, one_more, *[desk.first(rpc)] * 3))
        await turns()
        desk.server.now += 4
        moving.set()
        await turns()
        desk.server.now += 4
        desk.shares.tick()
        await turns()
        assert not task.done()
        desk.server.now += 2
        desk.shares.tick()
        error = await refusal(task)
        assert type(error) is Busy and "nothing moved for 5 s (server.step_deadline_s)" in str(error)

    asyncio.run(scenario())


def test_what_nobody_wants_any_more_is_given_up(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        update, push = await desk.begin("SubmitUpdate"), await desk.begin("PushActivations")
        desk.shares.tick()
        await turns()
        assert not update.done() and not push.done()
        desk.server.coordinator.client_failed("a", "NaN")
        desk.shares.tick()
        assert "has no part in round 1 any more" in str(await refusal(update))
        fetch, watch = await desk.begin("FetchModel"), await desk.begin("WatchRounds")
        play_round([desk.b])
        play_round([desk.a, desk.b])
        desk.shares.tick()
        assert "client state 0 is not the current one" in str(await refusal(fetch))
        assert not push.done() and not watch.done()
        desk.a.leave()
        desk.shares.tick()
        assert type(await refusal(push)) is UnknownSession
        assert not watch.done(), "it ends in the run's own words"
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    asyncio.run(scenario())


def test_who_has_been_gone_for_a_minute_is_forgotten(start: Start) -> None:
    async def scenario() -> None:
        desk = Desk(start)
        await desk.call("Leave", at_once)
        desk.shares.tick()
        assert set(desk.shares._shares) == {"a"}
        desk.server.now += 61
        desk.shares.tick()
        assert not desk.shares._shares

    asyncio.run(scenario())


# -- over a real port --------------------------------------------------------------------------------------------------


async def told(call: Any) -> tuple[str, str]:
    """Reason and words that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in call:
                pass
    return reason_of(failure.value), str(failure.value.details())


async def first_and_no_more(message: bytes) -> AsyncIterator[bytes]:
    yield message
    await never()


def test_of_many_updates_that_never_end_one_is_held(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty held forty times the model."""
    made: list[weakref.ref[Any]] = []
    arrays_of = updates.empty_arrays

    def counted(expected: Any) -> Any:
        arrays = arrays_of(expected)
        made.append(weakref.ref(next(iter(arrays.values()))))
        return arrays

    monkeypatch.setattr(updates, "empty_arrays", counted)

    def update(client: Client) -> bytes:
        place: Any = {"run_id": client.reply.run_id, "term": client.begins.term, "round": 1, "num_samples": 1}
        chunk = pb.UpdateChunk(header=pb.UpdateHeader(session_id=client.session, **place), payload=b"\0" * 8)
        chunk.manifest.CopyFrom(manifest_of(client.state()))
        return chunk.SerializeToString()

    async def scenario() -> None:
        server = start()
        (client, _) = server.clients("ab")
        message, session = update(client), of_session(client.session)
        port, address = await listen(server.coordinator, "127.0.0.1:0", False)
        async with grpc.aio.insecure_channel(address) as channel:
            submit = channel.stream_stream(FEDERATION + "SubmitUpdate")
            calls = [submit(first_and_no_more(message), metadata=session) for _ in range(CONCURRENT)]
            ends = [asyncio.create_task(told(call)) for call in calls]
            async with asyncio.timeout(PATIENCE_S):
                while sum(end.done() for end in ends) < CONCURRENT - 1:
                    await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)
            assert {end.result()[0] for end in ends if end.done()} <= {"stale_term", "busy"}
            gc.collect()
            assert sum(each() is not None for each in made) == 1
            for call in calls:
                call.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        await port.stop(0)

    asyncio.run(scenario())


def test_who_floods_with_beats_is_told_why_and_then_has_no_place(start: Start) -> None:
    async def beats(message: bytes, count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield message
        await never()

    async def scenario() -> None:
        server = start(rounds=9)
        a, b = server.clients("ab")
        beat, session = pb.Beat(session_id=a.session).SerializeToString(), of_session(a.session)
        port, address = await listen(server.coordinator, "127.0.0.1:0", False)
        async with grpc.aio.insecure_channel(address) as channel:
            watch = channel.stream_stream(FEDERATION + "WatchRounds")
            reason, said = await told(watch(beats(beat, BEATS + 2), metadata=session))
            assert reason == "busy" and "heartbeats at once" in said and "It costs the round" in said
            reason, said = await told(watch(beats(beat, 2), metadata=session))
            assert reason == "busy" and "It costs the place" in said
            assert (await told(watch(beats(beat, 1), metadata=session)))[0] == "unknown_session"
        await port.stop(0)
        assert server.coordinator.clients_present == 1
        assert [r["dropped"] for r in server.history] == [] and not b.heard("dropped")

    asyncio.run(scenario())
