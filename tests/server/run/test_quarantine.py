"""An upload that is not trained on is noted, counted, and costs its client nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from server.driven import Start


@pytest.mark.parametrize("name", ["heron", "sflv2"])
def test_outliers_are_said_in_the_log_and_counted_in_the_round_s_record(start: Start, name: str) -> None:
    server = start(rounds=1, method={"name": name}, federation={"clients": 3}, guard={"loss_outlier": 6.0})
    clients = server.clients("abc")
    with torch.no_grad():
        list(server.trainer.back.parameters())[-1][0] = -40.0  # of the last bias: class 0 has an outrageous loss
    for client in clients:
        client.open()
    rng = np.random.Generator(np.random.Philox(0))
    for step in range(4):
        for client in clients:
            honest = client is not clients[2]
            labels = 1 + np.arange(4) % 2 if honest else np.zeros(4, np.int64)
            client.push(step, {"activations": rng.standard_normal((4, 6)).astype(np.float32), "labels": labels})
    for client in clients:
        client.submit()
    assert server.coordinator.finished
    record = server.history[0]
    assert record["participants"] == 3 and record["quarantined"] == 2, "once six of the others' are here"
    assert ("note", "2 uploads were not trained on in round 1: c's loss was an outlier") in server.heard.events
