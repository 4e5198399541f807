"""The ledger against a relay that counts every byte between three client processes and the server."""

from __future__ import annotations

import pytest
from processes import Bench

CLIENTS = 3


def test_the_ledger_agrees_with_the_bytes_that_a_relay_counted(bench: Bench) -> None:
    federation = {"clients": CLIENTS, "min_clients": CLIENTS}
    server = bench.server({"rounds": 3, "method": {"local_steps": 10}, "federation": federation})
    relay = bench.relay(server.address())
    clients = bench.clients(CLIENTS, relay.address)
    assert [program.ends() for program in (*clients, server)] == [0] * (CLIENTS + 1)
    ledger = server.summary_on_disk()["ledger"]
    up, down = relay.carried()
    assert ledger["wire_up"] == pytest.approx(up, rel=0.01)
    assert ledger["wire_down"] == pytest.approx(down, rel=0.02)  # half of it is acknowledgements: timing shows
    assert ledger["wire_up"] + ledger["wire_down"] == pytest.approx(up + down, rel=0.01)
    kinds = sum(count for kind, count in ledger.items() if not kind.startswith("wire_"))
    assert kinds == ledger["wire_up"] + ledger["wire_down"]
