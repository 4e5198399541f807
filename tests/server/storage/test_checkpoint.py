from __future__ import annotations

import errno
import json
import math
import os
import random
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from safetensors import safe_open

from heron_core import files
from heron_core.arrays import Array
from heron_core.errors import CheckpointError, RunFailed
from heron_server.metrics.figures import SavedRecords
from heron_server.metrics.ledger import Ledger
from heron_server.storage import checkpoint
from heron_server.storage.checkpoint import (
    Checkpoint,
    load_checkpoint,
    newest,
    path_of,
    save_checkpoint,
)
from heron_server.storage.facts import Facts


def facts(rounds_done: int, passes_per_step: float = 2.0) -> Facts:
    records: SavedRecords = {
        "history": [], "clients": {}, "step_seconds": [0.5], "peaks": [7], "passes_per_step": passes_per_step,
    }  # fmt: skip
    ledger = Ledger(control=1).as_dict()
    return {"run_id": "r", "rounds_done": rounds_done, "table": {"a": 0}, "ledger": ledger, "records": records}


def a_checkpoint(rounds_done: int = 0) -> Checkpoint:
    tensors: dict[str, Array] = {
        "client.front.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T + rounds_done,
        "client.tracked": np.array(rounds_done, dtype=np.int64),
        "optimizer.0.step": np.array(2.0, dtype=np.float32),
        "back.empty": np.empty((0, 3), dtype=np.float32),
        "back.flag": np.array([True, False]),
        "back.half": np.array([1.5, -2], dtype=np.float16),
    }
    return Checkpoint(facts(rounds_done, math.nan), tensors)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", refuse)
    return monkeypatch


def test_a_checkpoint_round_trips_bit_for_bit(tmp_path: Path) -> None:
    saved = a_checkpoint(3)
    (tmp_path / "checkpoints").mkdir()
    path = save_checkpoint(tmp_path / "checkpoints", saved, keep=2)
    assert path == path_of(tmp_path / "checkpoints", 3) == newest(tmp_path / "checkpoints")
    loaded = load_checkpoint(path)
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, array in saved.tensors.items():
        got = loaded.tensors[name]
        assert (got.dtype, got.shape) == (array.dtype, array.shape) and np.array_equal(got, array), name
    assert loaded.facts.keys() == saved.facts.keys()
    assert loaded.facts["rounds_done"] == 3 and loaded.facts["table"] == {"a": 0}
    assert math.isnan(loaded.facts["records"]["passes_per_step"])


def test_the_header_of_the_file_is_one_json_object_with_the_version_and_its_digest_beside_it(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, a_checkpoint(1), keep=2)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"heron", "digest"}
    header = json.loads(metadata["heron"])
    assert list(header) == ["run_id", "rounds_done", "table", "ledger", "records", "version"]


def test_a_header_without_one_of_its_facts_is_torn(tmp_path: Path) -> None:
    whole = a_checkpoint(1)
    lacking = {key: value for key, value in whole.facts.items() if key != "ledger"}
    path = save_checkpoint(tmp_path, Checkpoint(cast(Facts, lacking), whole.tensors), keep=2)
    with pytest.raises(CheckpointError, match=r"is torn \(the header lacks 'ledger'\)"):
        load_checkpoint(path)


def test_only_the_newest_are_kept_also_past_the_millionth(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10):
        save_checkpoint(tmp_path, a_checkpoint(number), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["round-000002.safetensors", "round-000010.safetensors"]


def test_a_full_disk_is_an_error_that_leaves_the_last_good_state(tmp_path: Path, full_disk: pytest.MonkeyPatch) -> None:
    with full_disk.context() as undone:
        undone.setattr(files.os, "fsync", lambda _: None)
        save_checkpoint(tmp_path, a_checkpoint(1), keep=1)
    with pytest.raises(RunFailed, match="No space left on device; free some space and go on with --resume"):
        save_checkpoint(tmp_path, a_checkpoint(2), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["round-000001.safetensors"]
    assert load_checkpoint(path_of(tmp_path, 1)).facts["rounds_done"] == 1


def test_a_crash_before_the_rename_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, a_checkpoint(1), keep=2)

    class PowerCut(BaseException): ...

    def cut(self: Path, target: Path) -> None:
        raise PowerCut

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(PowerCut):
        save_checkpoint(tmp_path, a_checkpoint(2), keep=2)
    assert newest(tmp_path) == path_of(tmp_path, 1), "what is left lying about is no checkpoint"


@pytest.mark.parametrize("harm", ["cut short", "emptied", "a bit flipped", "not a checkpoint", "no header"])
def test_a_torn_checkpoint_is_an_error_that_names_the_previous_good_one(tmp_path: Path, harm: str) -> None:
    save_checkpoint(tmp_path, a_checkpoint(1), keep=9)
    path = save_checkpoint(tmp_path, a_checkpoint(2), keep=9)
    data = bytearray(path.read_bytes())
    if harm == "cut short":
        data = data[:-20]
    elif harm == "a bit flipped":
        data[-1] ^= 1
    elif harm == "not a checkpoint":
        data = bytearray(b"hello" * 100)
    elif harm == "no header":
        from safetensors.numpy import save

        data = bytearray(save({"a": np.ones(2)}))
    else:
        data = bytearray()
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is torn .*remove it to resume from round-000001\.safetensors"):
        load_checkpoint(path)


def test_a_torn_checkpoint_without_an_older_one_says_so(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, a_checkpoint(0), keep=2)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="no older one is left; start a new run"):
        load_checkpoint(path)


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 99)
    path = save_checkpoint(tmp_path, a_checkpoint(), keep=2)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has version 99, expected 3"):
        load_checkpoint(path)


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path) is None and newest(tmp_path / "nowhere") is None


def test_no_flipped_bit_of_the_header_is_accepted(tmp_path: Path) -> None:
    """Each byte of the header with one of its bits flipped: facts, names, shapes, places and the digest itself."""
    path = save_checkpoint(tmp_path, a_checkpoint(3), keep=2)
    whole, rng = path.read_bytes(), random.Random(0)
    header_size = 8 + int.from_bytes(whole[:8], "little")
    accepted = []
    for place in range(header_size):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            load_checkpoint(path)
        except CheckpointError:
            continue
        accepted.append((place, bytes(flipped[max(0, place - 10) : place + 10])))
    assert header_size > 900 and accepted == []


HARMS = {
    "a negative count of bytes": (("ledger", "control"), -228, r"ledger's control is -228, expected a count"),
    "bytes that are no number": (("ledger", "wire_up"), "7", "wire_up is 7, expected a count"),
    "a rank that is none": (("table", "a"), -1, "the header's table's a is -1, expected a count"),
    "a negative number of rounds": (("rounds_done",), -1, "rounds_done is -1, expected a count"),
    "a truth for a number": (("rounds_done",), True, "rounds_done is True, expected a count"),
    "records that are none": (("records",), [], r"records is \[\], expected SavedRecords"),
    "a peak that is none": (("records", "peaks"), [7, None], "peaks's 1 is None, expected a count"),
    "figures of nobody": (("records", "clients"), {"a": {}}, "a lacks 'step_seconds_median'"),
    "seconds that are text": (("records", "step_seconds"), ["1"], "step_seconds's 0 is 1, expected float"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_facts_of_another_type_are_refused_by_name_though_the_digest_is_right(tmp_path: Path, harm: str) -> None:
    place, value, says = HARMS[harm]
    whole = a_checkpoint(1)
    spoiled: dict[str, object] = json.loads(json.dumps(whole.facts))
    inner = spoiled
    for key in place[:-1]:
        inner = cast(dict[str, object], inner[key])
    inner[place[-1]] = value
    path = save_checkpoint(tmp_path, Checkpoint(cast(Facts, spoiled), whole.tensors), keep=2)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def test_a_ledger_without_one_of_its_kinds_is_refused(tmp_path: Path) -> None:
    whole = a_checkpoint(1)
    del whole.facts["ledger"]["wire_up"]
    path = save_checkpoint(tmp_path, whole, keep=2)
    with pytest.raises(CheckpointError, match="the ledger lacks 'wire_up'"):
        load_checkpoint(path)


def test_an_old_checkpoint_that_is_gone_already_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, a_checkpoint(1), keep=9)
    found = list(tmp_path.glob("*"))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [tmp_path / "round-000000.safetensors", *found])
    save_checkpoint(tmp_path, a_checkpoint(2), keep=1)
