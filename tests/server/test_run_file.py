"""The run file, as the server reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron_core.errors import ConfigError
from heron_core.spec.run_spec import RunSpec, ZoSpec
from heron_server.config import fitting_holdout, load_run_file, split_run_file


def test_another_method_for_one_call_leaves_out_what_the_file_says_for_its_own(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[method.zo]\nmu = 2e-3\n[method.optimizer]\nlr = 0.5\n")
    assert load_run_file(file)[0].method.zo.mu == 2e-3
    control, _ = load_run_file(file, ["method.name=frozen"])
    assert (control.method.name, control.method.zo, control.method.optimizer.lr) == ("frozen", ZoSpec(), 1e-3)
    with pytest.raises(ConfigError, match=r"method\.zo\.mu is not used"):
        load_run_file(file, ["method.name=frozen", "method.zo.mu=1e-2"])


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("heartbeat_s = 30", "heartbeat_s = 30 must be at most half of silence_s = 30"),
        ("heartbeat_s = 2\nsilence_s = 3", "heartbeat_s = 2 must be at most half of silence_s = 3, .* raise silence_s"),
        ("heartbeat_s = 0.01", r"server\.heartbeat_s: .* greater than or equal to 0\.05, got 0\.01"),
    ],
)
def test_heartbeats_that_would_come_too_late_or_too_often_are_refused(tmp_path: Path, server: str, says: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"[server]\n{server}\n")
    with pytest.raises(ConfigError, match=says):
        load_run_file(file)


@pytest.mark.parametrize(
    ("data", "test_data", "held_out"),
    [
        ({"source": "client"}, "csv", 0.0),
        ({"source": "client"}, "none", 0.1),
        ({"source": "client", "holdout": 0.1}, "csv", 0.1),
        ({"source": "digits"}, "csv", 0.1),
    ],
)
def test_clients_hold_nothing_out_unasked_where_the_server_has_a_test_set(
    data: dict[str, object], test_data: str, held_out: float
) -> None:
    spec, settings = split_run_file({"data": data, "server": {"test_data": test_data}}, "run.toml")
    assert spec.data.holdout == held_out
    assert fitting_holdout(RunSpec.model_validate({"data": data}), settings).data.holdout == held_out
