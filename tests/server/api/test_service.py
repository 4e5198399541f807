"""The handlers without a socket: what they do with a peer that keeps to no rule."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from server.driven import PEER, Start

from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk
from heron_server.api.peer import Call
from heron_server.api.service import Service

STEPS = 100


def test_a_client_that_reads_no_cut_gradients_is_not_read_from_either(start: Start) -> None:
    server = start(rounds=1, federation={"clients": 1}, method={"name": "sflv2", "local_steps": STEPS})
    (client,) = server.clients("a")
    place: Any = {"term": client.begins.term, "round": 1, "purpose": split.PURPOSE_TRAIN}
    opening = split.FrameHeader(run_id=client.reply.run_id, session_id=client.session, steps=STEPS, **place)
    taken: list[int] = []

    async def frames() -> AsyncIterator[Bulk[split.ActivationFrame]]:
        yield Bulk(split.ActivationFrame(header=opening))
        for step in range(STEPS):
            taken.append(step)
            tensors = client.tensors(step)
            ((_, parts),) = chunks(list(tensors.values()))
            header = split.FrameHeader(step=step, sequence=step, batch_rows=4, **place)
            header.manifest.CopyFrom(manifest_of(tensors))
            yield Bulk(split.ActivationFrame(header=header), parts)

    async def scenario() -> None:
        reading = asyncio.Event()

        async def write(event: Bulk[split.PushEvent]) -> None:
            await reading.wait()

        call = asyncio.create_task(Service(server.coordinator).push_activations(frames(), Call(PEER, write)))
        for _ in range(10 * STEPS):
            await asyncio.sleep(0)  # it runs until it waits
        assert 0 < len(taken) < STEPS and not call.done()
        reading.set()
        await asyncio.wait_for(call, 10)
        assert len(taken) == STEPS

    asyncio.run(scenario())
