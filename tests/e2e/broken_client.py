"""A client that joins well and then sends what it should not: `python broken_client.py ADDRESS NAME shape|nan|labels`.

Prints the server's answer. It speaks through the product's own transport.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

import numpy as np

from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.interface import PushStream
from heron_core.errors import HeronError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk

PATIENCE_S = 60.0
ROWS, CUT, STEPS = 8, (6,), 4
"""As own_parts.py and the tests' run file have them."""


def main(address: str, name: str, fault: str) -> None:
    transport = GrpcTransport(address, rpc_deadline_s=20.0)
    request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=os.urandom(16))
    request.data.CopyFrom(pb.DataFacts(run_id=transport.join(request).run_id, samples=40))
    joined = transport.join(request)
    transport.watch(joined.session_id, joined.heartbeat_s, joined.silence_s)
    begins = next_event(transport, "round_begins").round_begins
    header = split.FrameHeader(
        run_id=joined.run_id, session_id=joined.session_id, term=begins.term, round=begins.round,
        purpose=split.PURPOSE_TRAIN, steps=STEPS,
    )  # fmt: skip
    try:
        send(transport.open_push(header), header, bad_batch(fault))
        told = next_event(transport, "dropped").dropped.reason
    except HeronError as error:
        told = str(error)
    print("told:", told, flush=True)
    transport.leave(pb.LeaveRequest(session_id=joined.session_id, reason="made its point"))
    transport.close()


def bad_batch(fault: str) -> dict[str, np.ndarray]:
    activations = np.zeros((ROWS, *CUT, 1) if fault == "shape" else (ROWS, *CUT), dtype=np.float32)
    labels = np.zeros(ROWS, dtype=np.int64)
    if fault == "nan":
        activations[3, 2] = np.nan
    if fault == "labels":
        labels[5] = 1000
    return {"activations": activations, "labels": labels}


def send(stream: PushStream, header: split.FrameHeader, tensors: dict[str, np.ndarray]) -> None:
    deadline = monotonic() + PATIENCE_S
    credit = 0
    while not credit and monotonic() < deadline:
        bulk = stream.receive(1.0) or Bulk(split.PushEvent())
        event = bulk.rest
        credit = max(event.position.credit_steps, event.credit.steps)
    header.row_start, header.batch_rows = 0, ROWS
    header.manifest.CopyFrom(manifest_of(tensors))
    for offset, parts in chunks(list(tensors.values())):
        header.offset = offset
        stream.send(Bulk(split.ActivationFrame(header=header), parts))


def next_event(transport: GrpcTransport, kind: str) -> pb.RoundEvent:
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        event = transport.next_event(1.0)
        if event is not None and event.WhichOneof("event") == kind:
            return event
    raise SystemExit(f"no {kind} came")


main(*sys.argv[1:])
