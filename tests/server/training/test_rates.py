"""The learning rate of a server step follows from round and upload alone."""

from __future__ import annotations

import tiny
import torch
from torch import nn

from heron_server.training.optimizers import Rates, make_optimizer


def test_the_rate_follows_from_the_place_of_an_upload_among_those_of_one_client() -> None:
    moving = {"lr": 0.5, "schedule": "linear"}
    spec = tiny.spec(rounds=2, method={"local_steps": 5, "upload_period": 2}, server_optimizer=moving)
    optimizers = [make_optimizer(spec.server_optimizer, [nn.Parameter(torch.zeros(1))]) for _ in range(2)]
    found = []
    for round_number, upload in [(1, 0), (1, 1), (1, 0), (2, 0), (2, 1)]:  # a client comes late in the first round
        Rates(spec).set(optimizers, round_number, upload)
        back, head = (optimizer.param_groups[0]["lr"] for optimizer in optimizers)
        assert back == head
        found.append(back)
    assert found == [0.5 * (1 - 0.9 * t / 4) for t in (0, 1, 0, 2, 3)]
