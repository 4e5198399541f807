"""`heron-server validate`: the plan agrees with the paper, and refuses what the run itself would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import paper

from heron_core.errors import ConfigError, DataError, ModelError
from heron_core.spec.run_spec import RunSpec, ZoSpec
from heron_server.config import ServerSettings, load_run_file
from heron_server.planning.validate import describe
from heron_server.run.prepare import prepare

JOINT = {"auxiliary_update": "zo"}
"""The paper's estimator: front and head together."""


def digits(**tables: Any) -> RunSpec:
    return RunSpec.model_validate({"name": "d", "method": {"local_steps": 4}, **tables})


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


@pytest.mark.parametrize(
    ("tables", "settings", "words"),
    [
        ({"method": {"local_steps": 7, "upload_period": 3}}, {}, "nothing is uploaded from the last local step of"),
        ({"method": {"local_steps": 8, "upload_period": 3}}, {}, "nothing is uploaded from the last 2 local steps of"),
        ({"method": {"zo": {"mu": 1e-6}}}, {}, "float32 rounding is about"),
        ({"method": {"zo": {"mu": 0.1, "distribution": "gaussian"}}}, {}, "curvature may outweigh the slope"),
        ({"method": {"local_steps": 30}}, {}, "they pass over their data more than once a round"),
        ({}, {"test_data": "none"}, "nobody evaluates"),
        ({}, {"address": "0.0.0.0:1"}, "refused unless started with --insecure"),
        ({}, {"order": "arrival"}, "will not end with the same bits"),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(tables: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    text = describe(digits(**tables), ServerSettings(device="cpu", **settings))
    assert words in text.partition("\nWarnings\n")[2]


def test_a_frozen_run_has_no_perturbation_to_warn_of() -> None:
    spec = digits(method={"name": "frozen", "zo": {"mu": 1e-9}, "local_steps": 4})
    text = describe(spec, ServerSettings(device="cpu"))
    assert "RMS change" not in text
    assert lines(text)[-1] == "none"


@pytest.mark.parametrize(
    ("tables", "settings", "error", "words"),
    [
        ({"method": {"batch_size": 480}}, {}, ConfigError, "batch_size = 480 samples, got 479 for rank 0"),
        ({}, {"byte_budget": 1000}, ConfigError, "byte_budget must hold two whole steps"),
        ({"method": {"local_steps": 4, "upload_period": 5}}, {}, ConfigError, "the server would never train"),
        ({"model": {"name": "nonsense"}}, {}, ModelError, "nonsense"),
        ({"model": {"cut": "nowhere"}}, {}, ModelError, "nowhere"),
        ({"model": {"name": "resnet18"}}, {}, DataError, "3, 32, 32"),
    ],
)
def test_validate_refuses_what_prepare_refuses_with_the_same_words(
    tables: dict[str, Any], settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    spec, server = digits(**tables), ServerSettings(device="cpu", **settings)
    with pytest.raises(error, match=words) as refused:
        describe(spec, server)
    with pytest.raises(error) as also:
        prepare(spec, server)
    assert str(also.value) == str(refused.value)


MICRO = {"batch_size": 32, "micro_batch": 8}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"method": {"zo": {"scope": "sample"}, **JOINT}}, 'auxiliary_update = "zo" perturbs the head with it'),
        (
            {"method": {"zo": {"scope": "sample"}}},
            r'which front\.conv1\.conv\.weight cannot have: .* set model\.trainable = "norm"',
        ),
        ({"method": {"zo": {"scope": "micro_batch"}}}, "with one micro-batch a step"),
        ({"method": {"zo": {"scope": "micro_batch"}, "batch_size": 8, "micro_batch": 8}}, "with one micro-batch"),
        ({"method": {"zo": {"scope": "micro_batch", "block_wise": True}, **MICRO}}, "remove one of the two"),
        ({"method": {"zo": {"normalise": True}}}, "needs two or more, here there is 1; raise num_directions"),
        ({"method": {"name": "sflv2", **MICRO}}, "micro_batch = 8 cannot be used with sflv2"),
        ({"method": {"name": "sflv1", "upload_period": 2}}, "upload_period = 2 cannot be used with sflv1"),
    ],
)
def test_settings_that_contradict_each_other_or_the_model_are_refused(tables: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        describe(digits(**tables), ServerSettings(device="cpu"))


@pytest.mark.parametrize(
    "tables",
    [
        {"method": {"zo": {"scope": "sample"}}, "model": {"trainable": "norm"}},
        {"method": {"zo": {"scope": "sample", "normalise": True}}, "model": {"trainable": "norm"}},
        {"method": {"zo": {"scope": "micro_batch", "normalise": True}, **MICRO}},
        {"method": {"zo": {"block_wise": True, "normalise": True}}},
        {"method": {"zo": {"num_directions": 2, "normalise": True, "difference": "central"}}},
        {"method": {"name": "sflv2", "batch_size": 32, "micro_batch": 32}},
        {"method": {"name": "fedavg"}},
    ],
)
def test_what_fits_together_is_described(tables: dict[str, Any]) -> None:
    describe(digits(**tables), ServerSettings(device="cpu"))


def test_block_wise_directions_want_a_front_of_stages(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from torch import nn\nfrom heron_core.models import CutModule\n"
        "def net():\n    whole = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))\n"
        "    return CutModule(whole, '2', (1, 8, 8), 10)\n"
    )
    (tmp_path / "plain_net.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    spec = digits(model={"name": "plain_net:net"}, method={"zo": {"block_wise": True}})
    with pytest.raises(ConfigError, match=r"needs a front made of stages.*that of plain_net:net is a "):
        describe(spec, ServerSettings(device="cpu"))


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"method": {"name": "frozen", "running_statistics": "keep"}}, "has no running statistics"),
        ({"method": {"zo": {"scope": "micro_batch"}, "local_steps": 4, **MICRO}}, "want moments that persist"),
        ({"method": {"name": "fsl_sage", "alignment": {"every_rounds": 11}}}, "no head is ever aligned"),
    ],
)
def test_what_is_odd_but_allowed_is_a_warning(tables: dict[str, Any], words: str) -> None:
    assert words in describe(digits(**tables), ServerSettings(device="cpu")).partition("\nWarnings\n")[2]


@pytest.mark.parametrize("name", ["heron", "cse_fsl", "fsl_sage", "sflv1", "sflv2", "fedavg", "frozen"])
def test_every_method_is_described_by_what_it_does(name: str) -> None:
    text = "\n".join(lines(describe(digits(method={"name": name, "local_steps": 4}), ServerSettings(device="cpu"))))
    assert ("cut gradients down" in text) == (name in ("sflv1", "sflv2"))
    assert ("activations up" in text) == (name != "fedavg")
    assert ("RMS change per weight" in text) == ("losses of random probes" in text) == (name == "heron")
    assert (f"auxiliary head none with {name}" in text) == (name in ("sflv1", "sflv2", "fedavg"))
    assert ("a back for each client" in text) == (name == "sflv1")
    assert ("alignment buffers" in text) == ("aligned heads" in text) == (name == "fsl_sage")


def test_drawn_clients_are_what_a_round_is_charged_for() -> None:
    spec = digits(federation={"clients": 6, "clients_per_round": 2}, method={"local_steps": 2, "batch_size": 16})
    text = lines(describe(spec, ServerSettings(device="cpu")))
    assert "rounds 10 of 2 local steps, 2 of 6 clients, drawn anew for each (1 at least)" in text
    assert "optimiser steps 4 a round, 40 in all, on cpu" in text


def test_shares_that_cannot_be_checked_here_are_said_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERON_DATA", str(tmp_path))
    spec = digits(data={"source": "cifar10"}, model={"name": "resnet18"})
    text = describe(spec, ServerSettings(device="cpu", test_data="none"))
    assert "the clients' shares are not checked here" in text


def test_another_method_for_one_call_leaves_out_what_the_file_says_for_its_own(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[method.zo]\nmu = 2e-3\n[method.optimizer]\nlr = 0.5\n")
    assert load_run_file(file)[0].method.zo.mu == 2e-3
    control, _ = load_run_file(file, ["method.name=frozen"])
    assert (control.method.name, control.method.zo, control.method.optimizer.lr) == ("frozen", ZoSpec(), 1e-3)
    with pytest.raises(ConfigError, match=r"method\.zo\.mu is not used"):
        load_run_file(file, ["method.name=frozen", "method.zo.mu=1e-2"])
