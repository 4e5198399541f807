"""A client process that replays prepared uploads over the product's transport: `python replay.py ADDRESS NAME ...`.

Joins, and for every round fetches the client state, pushes its uploads and submits what it fetched. NumPy only.
Each round waits for a line on stdin, unless --free; "tcp PORT BYTES" sends as many bytes over a plain socket instead.
Every answer begins with the monotonic clock, which processes of one machine share.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import exhaust  # puts the repository on the path

from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.trust import PLAIN, Trust
from heron_client.uploads.upload import Upload
from heron_client.uploads.uploader import Uploader
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.trust.folder import CertFolder, Side
from heron_core.version import PROTOCOL_VERSION

CHUNK = 1 << 20
WAIT_S = 0.5


class Replay:
    """One session."""

    def __init__(
        self, address: str, name: str, batches: list[dict[str, np.ndarray]], steps: int, pieces: int, trust: Trust
    ) -> None:
        self._transport = GrpcTransport(address, 20.0, trust)
        self._batches, self._steps, self._pieces = batches, steps, pieces
        request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=os.urandom(16))
        self._reply = self._transport.join(request)
        self._transport.watch(self._reply.session_id, self._reply.heartbeat_s, self._reply.silence_s)

    def next_round(self) -> pb.RoundBegins | None:
        """None: the run is over."""
        while True:
            event = self._transport.next_event(WAIT_S)
            if event is None:
                continue
            if event.WhichOneof("event") == "round_begins":
                return event.round_begins
            if event.WhichOneof("event") == "finished":
                return None

    def round(self, begins: pb.RoundBegins) -> float:
        """Replays one round; returns the clock at its first upload byte."""
        run_id, session_id = self._reply.run_id, self._reply.session_id
        ids = {"run_id": run_id, "session_id": session_id, "term": begins.term, "round": begins.round}
        request = pb.FetchModelRequest(session_id=session_id, version=begins.version)
        state = self._transport.fetch_model(request, lambda manifest: None)
        started = time.monotonic()
        opening = split.FrameHeader(purpose=split.PURPOSE_TRAIN, steps=self._steps, **ids)
        uploader = Uploader(opening)
        exhaust(uploader.attach(self._transport.open_push(opening), WAIT_S))
        for upload in self._uploads():
            exhaust(uploader.push(upload, WAIT_S))
        exhaust(uploader.settle(WAIT_S))
        uploader.close()
        self._transport.submit(pb.UpdateHeader(num_samples=1, **ids), state)
        return started

    def close(self) -> None:
        self._transport.leave(pb.LeaveRequest(session_id=self._reply.session_id, reason="replayed"))
        self._transport.close()

    def _uploads(self) -> Iterator[Upload]:
        for step in range(self._steps):
            batch = self._batches[step % len(self._batches)]
            rows = len(batch["labels"])
            part = rows // self._pieces
            for i in range(self._pieces):
                tensors = {name: array[i * part : (i + 1) * part] for name, array in batch.items()}
                yield Upload(step * self._pieces + i, step, i * part, rows, tensors)


def send_raw(port: int, total: int, arrays: list[np.ndarray]) -> float:
    """The rival: sendall of the same bytes; returns the clock before the first."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sent = 0
        while sent < total:
            for array in arrays:
                view = memoryview(array.reshape(-1).view(np.uint8))
                for start in range(0, len(view), CHUNK):
                    sock.sendall(view[start : start + CHUNK])
                    sent += len(view[start : start + CHUNK])
    return started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("name")
    parser.add_argument("--recorded", help=".npz of activations [N, B, ...] and labels [N, B]; else random ones")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--pieces", type=int, default=1)
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--certs", type=Path, help="folder of the client's certificate: mutual TLS")
    args = parser.parse_args()
    trust = Trust(tls=True, certs=CertFolder(args.certs, Side.CLIENT)) if args.certs else PLAIN
    if args.recorded:
        with np.load(args.recorded) as stored:
            activations, labels = stored["activations"], stored["labels"]
    else:
        rng = np.random.default_rng(0)
        activations = rng.standard_normal((2, args.rows, 64, 32, 32), dtype=np.float32)
        labels = rng.integers(0, 10, (2, args.rows))
    batches = [{"activations": a, "labels": b} for a, b in zip(activations, labels, strict=True)]
    replay: Replay | None = None
    print("ready", flush=True)
    while args.free or (words := sys.stdin.readline().split()):
        if not args.free and words[0] == "tcp":
            print(send_raw(int(words[1]), int(words[2]), list(activations)), flush=True)
            continue
        if replay is None:
            replay = Replay(args.address, args.name, batches, args.steps, args.pieces, trust)
        begins = replay.next_round()
        if begins is None:
            break
        print(replay.round(begins), flush=True)
    if replay is not None:
        replay.close()


if __name__ == "__main__":
    main()
