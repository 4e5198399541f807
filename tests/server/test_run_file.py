"""The run file, as the server reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron_core.errors import ConfigError
from heron_core.spec.run_spec import ZoSpec
from heron_server.config import load_run_file


def test_another_method_for_one_call_leaves_out_what_the_file_says_for_its_own(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[method.zo]\nmu = 2e-3\n[method.optimizer]\nlr = 0.5\n")
    assert load_run_file(file)[0].method.zo.mu == 2e-3
    control, _ = load_run_file(file, ["method.name=frozen"])
    assert (control.method.name, control.method.zo, control.method.optimizer.lr) == ("frozen", ZoSpec(), 1e-3)
    with pytest.raises(ConfigError, match=r"method\.zo\.mu is not used"):
        load_run_file(file, ["method.name=frozen", "method.zo.mu=1e-2"])
