from __future__ import annotations

from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.frames import Bulk
from heron_server.metrics.charges import TARIFFS, Charges
from heron_server.metrics.ledger import Ledger

PAYLOAD = b"x" * 1000


def test_every_rpc_has_its_tariff() -> None:
    services = [*pb.DESCRIPTOR.services_by_name.values(), *split.DESCRIPTOR.services_by_name.values()]
    assert TARIFFS.keys() == {method.name for service in services for method in service.methods}


def test_a_payload_goes_to_its_rpcs_kind_and_the_rest_to_control() -> None:
    ledger = Ledger()
    charges = Charges(ledger)
    charges.call("FetchModel").down(Bulk(pb.StateChunk(), (PAYLOAD,)))
    assert ledger.client_state_down == len(PAYLOAD)
    charges.call("SubmitUpdate").up(Bulk(pb.UpdateChunk(), (PAYLOAD,)))
    assert ledger.client_state_up == len(PAYLOAD)
    charges.call("PushActivations").down(Bulk(split.PushEvent(), (PAYLOAD,)))
    assert ledger.cut_gradients_down == len(PAYLOAD)
    begins = pb.RoundBegins(round=1, state=pb.StateChunk(payload=PAYLOAD))
    for event in (pb.RoundEvent(round_begins=begins), pb.RoundEvent(waiting=pb.Waiting(reason="x"))):
        charges.call("WatchRounds").down(event)
    assert ledger.client_state_down == 2 * len(PAYLOAD)


def test_frames_after_the_opening_are_left_to_who_takes_them() -> None:
    ledger = Ledger()
    call = Charges(ledger).call("PushActivations")
    call.up(Bulk(split.ActivationFrame(header=split.FrameHeader(run_id="r"))))
    opened = ledger.as_dict()
    call.up(Bulk(split.ActivationFrame(), (PAYLOAD,)))
    assert ledger.as_dict() == opened and ledger.activations_up == 0


def test_only_a_join_is_charged_a_client_s_connections() -> None:
    ledgers = {rpc: Ledger() for rpc in TARIFFS}
    for rpc, ledger in ledgers.items():
        Charges(ledger).call(rpc)
    call, session = Ledger(), Ledger()
    call.charge_call()
    session.charge_call()
    session.charge_session()
    assert ledgers == {rpc: session if rpc == "Join" else call for rpc in TARIFFS}
