"""`heron-server validate`: the plan as text."""

from __future__ import annotations

from typing import Any

import pytest
from plans import digits, paper

from heron_server.config import ServerSettings
from heron_server.planning.validate import describe

JOINT = {"auxiliary_update": "zo"}
"""The paper's estimator: front and head together."""


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_plan_of_the_papers_run_as_text() -> None:
    text = lines(describe(paper(**JOINT), ServerSettings(device="cpu")))
    for line in (
        "crosses the cut activations float32 [256, 64, 32, 32]",
        "one local step 39.896 G MACs, of needed gradients only",
        "forward passes 2 (q + 1, q = 1)",
        "RMS change per weight 1.17e-06",
        "optimiser steps 195 a round, 3,900 in all, on cpu",
        "activations up 64.00 MiB 12.19 GiB 243.75 GiB",
        "evaluation by the clients, on 10.00 % of their own samples, held out",
    ):
        assert line in text


def test_the_plan_of_a_block_wise_step_says_what_each_probe_counts() -> None:
    spec = digits(method={**JOINT, "local_steps": 4, "zo": {"num_directions": 4, "block_wise": True}})
    line = "forward passes 9 (1 whole, and q from each of 3 stages on, counted as shares of 3 stages; q = 4)"
    assert line in lines(describe(spec, ServerSettings(device="cpu")))


def test_the_servers_side_and_the_data_of_a_digits_run() -> None:
    text = lines(describe(digits(), ServerSettings(device="cpu")))
    assert "evaluation by the server, on its own 360 samples" in text
    assert "samples a client smallest 479, median 479, largest 479" in text
    assert any(line.startswith("majority-class accuracy 10.28 %") for line in text)
    assert text[-2:] == ["Warnings", "none"]


@pytest.mark.parametrize("name", ["heron", "cse_fsl", "fsl_sage", "sflv1", "sflv2", "fedavg", "frozen"])
def test_every_method_is_described_by_what_it_does(name: str) -> None:
    text = "\n".join(lines(describe(digits(method={"name": name, "local_steps": 4}), ServerSettings(device="cpu"))))
    assert ("cut gradients down" in text) == (name in ("sflv1", "sflv2"))
    assert ("activations up" in text) == (name != "fedavg")
    assert ("RMS change per weight" in text) == ("losses of random probes" in text) == (name == "heron")
    assert (f"auxiliary head none with {name}" in text) == (name in ("sflv1", "sflv2", "fedavg"))
    assert ("a back for each client" in text) == (name == "sflv1")
    assert ("alignment buffers" in text) == ("aligned heads" in text) == (name == "fsl_sage")


def test_slopes_on_the_cut_gradient_are_described_by_what_is_kept_for_them() -> None:
    method = {"objective": "cut_gradient", "local_steps": 4, "zo": {"num_directions": 3, "mu": 1e-6}}
    text = "\n".join(lines(describe(digits(method=method), ServerSettings(device="cpu"))))
    assert "front learns by random probes along the gradient that the server returns" in text
    assert 'auxiliary head none with objective = "cut_gradient"' in text and "cut gradients down" in text
    assert "kept until the answer 96.00 KiB: how each of 3 directions moves the activations" in text
    assert "loss difference" not in text, "what rounding does to a difference of losses is said for losses alone"


def test_drawn_clients_are_what_a_round_is_charged_for() -> None:
    spec = digits(federation={"clients": 6, "clients_per_round": 2}, method={"local_steps": 2, "batch_size": 16})
    text = lines(describe(spec, ServerSettings(device="cpu")))
    assert "rounds 10 of 2 local steps, 2 of 6 clients, drawn anew for each (1 at least)" in text
    assert "optimiser steps 4 a round, 40 in all, on cpu" in text


def test_both_learning_rates_are_said_with_their_schedules() -> None:
    moving = {"lr": 1e-2, "schedule": "linear", "warm_up": 5}
    text = lines(describe(digits(method={"optimizer": moving, "local_steps": 4}), ServerSettings(device="cpu")))
    assert "learning rate linear from 0.01 to 0.001, after a warm-up of 5 local steps" in text
    assert "its learning rate 0.001" in text
    control = lines(describe(digits(method={"name": "frozen"}, server_optimizer=moving), ServerSettings(device="cpu")))
    assert [line for line in control if "learning rate" in line] == [
        "its learning rate linear from 0.01 to 0.001, after a warm-up of 5 uploads a client"
    ]


def test_shares_that_cannot_be_checked_here_are_said_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERON_DATA", str(tmp_path))
    spec = digits(data={"source": "cifar10"}, model={"name": "resnet18"})
    text = describe(spec, ServerSettings(device="cpu", test_data="none"))
    assert "the clients' shares are not checked here" in text


def test_what_becomes_of_a_slow_client_is_said() -> None:
    spec = digits(method={"local_steps": 40, "upload_period": 20})
    waits = "\n".join(lines(describe(spec, ServerSettings(device="cpu"))))
    assert "a slow client dropped from the round after a turn without progress for 120 s, or for 80 of its own" in waits
    drops = lines(describe(spec, ServerSettings(device="cpu", straggler="drop", step_deadline_s=30.0)))
    assert "a slow client dropped from the round after a turn of 30 s" in drops


def test_a_rule_says_what_it_bears() -> None:
    federation = {"clients": 10, "min_clients": 9, "aggregation": "multi_krum", "hostile": 3}
    text = lines(describe(digits(federation=federation), ServerSettings(device="cpu")))
    assert "aggregation multi_krum, bears 3 hostile clients with 9 in a round or more" in text
    assert "aggregation uniform" in lines(describe(digits(), ServerSettings(device="cpu")))
