"""Whatever a client says of its data, a Join is answered, or refused with a reason, and a sound one comes in."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import DecodeError
from server.driven import PEER, Start
from server.mutations.mutating import Mutator

from heron_core.data.contract import InputContract, StoredInput
from heron_core.errors import HeronError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.software import Software

MUTATIONS = 1000
INPUT = pb.InputFacts(
    name="input", stored_dtype="uint8", shape=[1, 8, 8], looked_at=9, least=[0], most=[1], mean=[0.5], std=[0.3]
)


def test_mutated_facts_are_answered_or_refused(start: Start) -> None:
    server = start(data={"source": "client"}, federation={"clients": 2})
    stored = StoredInput(
        name="input", shape=(1, 8, 8), layout="[B, C, H, W]", stored="uint8", dtype="float32", divide=255.0
    )
    contract = InputContract(inputs=(stored,)).model_dump_json()
    facts = pb.DataFacts(
        run_id=server.coordinator.run_id, samples=9, inputs=[INPUT], class_names=["apfel", "birne", "kirsche"],
        input_contract=contract,
    )  # fmt: skip
    join = pb.JoinRequest(
        protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"k" * 16, data=facts,
        software=Software.here("cpu").message(),
    )  # fmt: skip
    assert server.coordinator.join(PEER, join).session_id, "the others are compared with this one"
    join.client_name, join.dry_run = "b", True
    mutator, sound = Mutator(random.Random(0)), join.SerializeToString()
    refused = 0
    for _ in range(MUTATIONS):
        try:
            request = pb.JoinRequest.FromString(mutator.mutated(pb.JoinRequest, sound, facts.SerializeToString()))
        except DecodeError:
            continue
        try:
            server.coordinator.join(PEER, request)
        except HeronError:
            refused += 1
    assert MUTATIONS / 10 < refused < MUTATIONS
    join.dry_run = False
    assert server.coordinator.join(PEER, join).session_id


@pytest.mark.parametrize("least, most, mean", [(-1e308, 1e308, 1e200), (0, 1e39, 0), (-1e300, 0, -1e300)])
def test_figures_that_no_input_has_are_refused(start: Start, least: float, most: float, mean: float) -> None:
    server = start(data={"source": "client"})
    facts = pb.DataFacts(run_id=server.coordinator.run_id, samples=9, inputs=[INPUT, INPUT])
    for column, value in (("least", least), ("most", most), ("mean", mean), ("std", 1.0)):
        getattr(facts.inputs[1], column)[:] = [value, value]
    join = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"k" * 16, data=facts)
    with pytest.raises(HeronError, match="finite in float32"):
        server.coordinator.join(PEER, join)
