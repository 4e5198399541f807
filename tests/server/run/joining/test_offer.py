"""Clients without torch are let in where there are graphs for them, and are told what to set where there are none."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
from core.graphs.test_graph_set import made

from heron_core.errors import ConfigError, JoinRefused, NotAdmitted, StaleTerm
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.software import Software
from heron_server.run.joining.offer import Offer
from heron_server.run.peer import Peer


def asks(backend: str) -> pb.JoinRequest:
    return pb.JoinRequest(client_name="edge", software=Software.here(backend).message())


def fetches(sha256: str, identity: str = "") -> Any:
    return Peer("ipv4:1", identity), pb.FetchGraphsRequest(client_name="edge", graphs=sha256)


def test_a_client_without_torch_is_refused_where_there_are_no_graphs_and_only_there() -> None:
    offer = Offer(tiny.spec(), None)
    assert offer.sha256 == ""
    offer.check(asks("cpu"))
    with pytest.raises(JoinRefused, match=r"set server.graphs = true there \(pip install 'heron-sfl\[export\]'\)"):
        offer.check(asks("onnx"))
    Offer(tiny.spec(), made()).check(asks("onnx"))


def test_where_graphs_would_not_help_the_method_is_named() -> None:
    with pytest.raises(ConfigError, match='"sflv2" needs the gradient of the front'):
        Offer(tiny.spec(method={"name": "sflv2"}), None).check(asks("onnx"))


def test_the_files_go_to_who_the_caller_is_and_only_those_of_this_run() -> None:
    offer = Offer(tiny.spec(), made())
    for identity in ("", "edge"):
        assert offer.files(*fetches(offer.sha256, identity)).keys() == made().files().keys()
    with pytest.raises(NotAdmitted, match="calls itself 'edge'"):
        offer.files(*fetches(offer.sha256, "mallory"))
    for each, sha256 in ((offer, "0" * 64), (Offer(tiny.spec(), None), offer.sha256), (Offer(tiny.spec(), None), "")):
        with pytest.raises(StaleTerm, match="no graphs by this hash; join again"):
            each.files(*fetches(sha256))
