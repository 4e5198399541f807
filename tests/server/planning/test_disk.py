from __future__ import annotations

from pathlib import Path

from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.checks import check_run
from heron_server.planning.sections.disk import server_disk
from heron_simulator.simulator import simulate

SPEC = RunSpec.model_validate({
    "rounds": 3, "model": {"name": "mlp", "input_shape": [1, 8, 8]}, "method": {"local_steps": 1, "batch_size": 8},
    "data": {"train_limit": 60, "test_limit": 20}, "federation": {"clients": 2},
})  # fmt: skip


def test_what_lies_in_a_run_directory_is_what_was_counted(tmp_path: Path) -> None:
    settings = ServerSettings(keep_checkpoints=3)
    summary = simulate(SPEC, settings=settings, run_dir=tmp_path).summary
    checked = check_run(SPEC, settings)
    checkpoints, model = server_disk(SPEC, checked.facts, checked.memory, 3)
    there = [path.stat().st_size for path in (tmp_path / "checkpoints").iterdir()]
    assert len(there) == 3 and summary["best_round"] in (1, 2, 3)
    assert 0.7 * checkpoints.size_bytes < 5 * max(there) < 1.1 * checkpoints.size_bytes
    assert 0.9 * model.size_bytes < (tmp_path / "model" / "model.safetensors").stat().st_size < 1.2 * model.size_bytes
