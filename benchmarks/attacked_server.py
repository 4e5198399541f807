"""A server in a process of its own that notes what it accepts, and connections to it that take messages as bytes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
from common import MIB, REPO, wait_until
from grpc._cython import cygrpc

sys.path.insert(0, str(REPO / "tests"))
sys.path.insert(0, str(REPO / "tests" / "server" / "mutations"))
from attack import HONEST, HOSTILE, Role
from links import PATIENCE_S, STREAMS_UP, UNARY_DOWN, Answer, without_limits
from players import Shape

from heron_core.errors import REASON_KEY
from heron_core.wire.channel import of_session

SHAPE = Shape(rows=4, width=8, classes=10)
WAIT_S = 300.0
"""How long a server may take to end after its last round, on a machine that is busy with other things."""


def tables(role: Role, rounds: int, folder: Path) -> dict[str, Any]:
    """The run file. Nobody is late, whatever else this machine does."""
    places = {"outsider": HONEST, "member": HONEST + 1, "participant": HONEST + HOSTILE}[role]
    return {
        "rounds": rounds,
        "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [SHAPE.width, 8]},
        "method": {"local_steps": SHAPE.steps, "batch_size": SHAPE.rows},
        "federation": {"clients": places, "min_clients": HONEST, "aggregation": "samples"},
        "server": {
            "address": "127.0.0.1:0", "run_dir": str(folder / "run"), "quorum": 0.01, "start_wait_s": 1.0,
            "heartbeat_s": 1800.0, "silence_s": 3600.0, "grace_s": 3600.0, "step_deadline_s": 3600.0,
            "abandoned_pause_s": 0.0,
        },
    }  # fmt: skip


def serve(folder: Path) -> None:
    """Runs the file in `folder` without limits on a client's share; what it accepts goes into a file beside it."""
    from accepted import Recording

    from heron_server.config import load_run_file
    from heron_server.launch import run_server

    recorded = patch("heron_server.serve.Coordinator", Recording)
    with (folder / "accepted.jsonl").open("w") as file, recorded, without_limits():
        Recording.sink = staticmethod(lambda event: file.write(json.dumps(event) + "\n"))
        spec, settings = load_run_file(folder / "run.toml")
        run_server(spec, settings, resume=False, log_format="json")


class Server:
    """A child that serves, and what the system says of its memory."""

    def __init__(self, role: Role, rounds: int, folder: Path) -> None:
        from heron_server.text.toml import to_toml

        folder.mkdir()
        (folder / "run.toml").write_text(to_toml(tables(role, rounds, folder)))
        self.folder, self.memory = folder, dict[int, float]()
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            self._process = subprocess.Popen([sys.executable, __file__, str(folder)], stdout=out, stderr=err)
        self.address = ""
        wait_until(self._listens, WAIT_S, "the server to listen")

    def _listens(self) -> bool:
        for line in (self.folder / "out").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "listening":
                self.address = str(event["address"])
        return bool(self.address)

    def round_done(self, number: int) -> None:
        """Notes its memory after this round, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        self.memory[number] = int(status.partition("VmRSS:")[2].split()[0]) * 1024 / MIB

    def end(self) -> dict[str, Any]:
        """Waits for it, and gives its summary; an empty one where it failed."""
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            return {}
        return dict(json.loads((self.folder / "run" / "summary.json").read_text()))

    @property
    def said(self) -> str:
        """On stderr."""
        return (self.folder / "err").read_text()

    @property
    def failure(self) -> str:
        """How it ended."""
        return f"exit code {self._process.returncode}\n{self.said[-3000:]}"


class GrpcLink:
    """One connection; messages go as the bytes that they are."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._calls: dict[str, Any] = {}

    def open(self, rpc: str, session_id: str) -> GrpcStream:
        return GrpcStream(self._channel.stream_stream(rpc)(metadata=of_session(session_id)))

    async def call(self, rpc: str, messages: Sequence[bytes], session_id: str) -> Answer:
        up, down = ("stream" if rpc in STREAMS_UP else "unary"), ("unary" if rpc in UNARY_DOWN else "stream")
        if rpc not in self._calls:
            self._calls[rpc] = getattr(self._channel, f"{up}_{down}")(rpc)
        request = () if up == "stream" else (messages[0],)
        call = self._calls[rpc](*request, timeout=PATIENCE_S, metadata=of_session(session_id))
        try:
            if up == "stream":
                await send_all(call, messages)
            return Answer("OK", replies=(await call,) if down == "unary" else tuple([each async for each in call]))
        except grpc.aio.AioRpcError as error:
            return answer_of(error)


class GrpcStream:
    """One call that stays open."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, data: bytes) -> None:
        await self._call.write(data)

    async def read(self) -> bytes | None:
        try:
            data = await asyncio.wait_for(self._call.read(), PATIENCE_S)
        except grpc.aio.AioRpcError:
            return None
        return None if data is grpc.aio.EOF else data

    async def end(self) -> Answer:
        try:
            await self._call.done_writing()
            while await self.read() is not None:
                pass
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        code = await self._call.code()
        return answer_of(grpc.aio.AioRpcError(
            code, await self._call.initial_metadata(), await self._call.trailing_metadata(), await self._call.details()
        ))  # fmt: skip


async def send_all(call: Any, messages: Sequence[bytes]) -> None:
    """Until the server takes no more. grpc.aio's own `write` puts an INTERNAL of its own into the place of the status
    with which the server has ended the call meanwhile, so this goes to what is below it."""
    await call._metadata_sent.wait()
    with suppress(cygrpc.InternalError):
        for message in messages:
            await call._cython_call.send_serialized_message(message)
        await call.done_writing()


def answer_of(error: grpc.aio.AioRpcError) -> Answer:
    code = "HUNG" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else error.code().name
    reason = next((str(value) for key, value in error.trailing_metadata() or () if key == REASON_KEY), "")
    return Answer(code, reason, error.details() or "")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
