"""Class names, figures and software of clients that join: what the first says holds, and what differs is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny
from server.driven import PEER, Server, Start

from heron_core.data.facts import DataFacts
from heron_core.errors import CheckpointError, DataError, NameTaken
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.software import Software
from heron_server.run.joining.door import Door
from heron_server.run.joining.offer import Offer

FRUIT = ["apfel", "birne", "kirsche"]
OWN = {"source": "client"}


def joins(
    server: Server, name: str, names: Sequence[str] | None = None, run_id: str = "", **fields: Any
) -> pb.JoinReply:
    """`names`: None for a Join that brings no facts."""
    request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=b"k" * 16, **fields)
    if names is not None:
        request.data.CopyFrom(pb.DataFacts(run_id=run_id or server.coordinator.run_id, samples=9, class_names=names))
    return server.coordinator.join(PEER, request)


def notes(server: Server) -> list[str]:
    return [text for _, text in server.heard.of("note")]


def test_the_first_join_gives_the_run_and_no_place(start: Start) -> None:
    server = start(data={**OWN, "class_names": FRUIT})
    reply = joins(server, "a")
    assert not reply.session_id and reply.run_id and list(reply.class_names) == FRUIT
    assert joins(server, "a", FRUIT, run_id="another-run").session_id == ""
    assert joins(server, "a", FRUIT).session_id
    assert not joins(server, "b", FRUIT, dry_run=True).session_id


def test_a_name_that_is_taken_is_told_before_anything_is_loaded(start: Start) -> None:
    server = start(data=OWN)
    server.client("a")
    request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"x" * 16)
    with pytest.raises(NameTaken):
        server.coordinator.join(PEER, request)


def test_experiment_data_wants_one_join(start: Start) -> None:
    assert joins(start(), "a").session_id


def test_the_order_of_the_first_that_knows_names_holds_and_the_next_is_told(start: Start) -> None:
    server = start(data=OWN)
    assert list(joins(server, "nameless", []).class_names) == []
    assert joins(server, "a", FRUIT).session_id
    other = joins(server, "b", FRUIT[::-1])
    assert not other.session_id and list(other.class_names) == FRUIT, "it loads its data once more"
    assert joins(server, "b", FRUIT).session_id
    assert "classes, as a has them: apfel, birne, kirsche" in notes(server)


def test_what_a_dry_run_says_is_not_kept(start: Start) -> None:
    server = start(data=OWN)
    joins(server, "a", FRUIT[::-1], dry_run=True)
    assert server.coordinator.class_names == ()


def test_too_few_names_for_the_model_are_refused_where_nobody_knows_the_others(start: Start) -> None:
    server = start(data=OWN)
    with pytest.raises(DataError, match=r"classes apfel, birne, the model tells 3 apart.*set data\.class_names"):
        joins(server, "a", FRUIT[:2])
    with pytest.raises(DataError, match="has 4 class names"):
        joins(server, "a", [*FRUIT, "zwetschge"])


def test_a_test_set_with_other_classes_than_the_run_had_is_refused(start: Start) -> None:
    server = start(data=OWN)
    journal = server.coordinator._journal
    journal.class_names = tuple(FRUIT)
    own = DataFacts(("apfel", "birne", "zwetschge"), 3, ())
    with pytest.raises(CheckpointError, match="classes are apfel, birne, kirsche, and the server's test set has apfel"):
        Door(tiny.spec(data=OWN), server.coordinator.settings, 3, own, journal, "r", Offer(tiny.spec(), None))


def software(**changed: str) -> pb.Software:
    message = Software.here("cpu").message()
    for name, value in changed.items():
        setattr(message, name, value)
    return message


def test_versions_that_differ_are_one_line_and_never_refused(start: Start) -> None:
    server = start(federation={"clients": 5})
    for name, said in {"same": software(), "old": software(torch="2.4"), "gpu": software(backend="cuda")}.items():
        assert joins(server, name, software=said).session_id
    joins(server, "old", software=software(torch="2.4"))
    joins(server, "silent")
    here = Software.here("cpu")
    assert [text for text in notes(server) if "the bits may differ" in text] == [
        f"torch {here.torch} here, 2.4 at old: the bits may differ",
        "backend cpu at same, cuda at gpu: the bits may differ",
    ]


def test_what_a_peer_calls_its_software_is_cut_and_printable(start: Start) -> None:
    server = start()
    joins(server, "a", software=software(torch="\x1b[2J" + "9" * 1000))
    line = next(text for text in notes(server) if "the bits may differ" in text)
    assert line.isprintable() and len(line) < 200
