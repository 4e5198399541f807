from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save
from server.storage.saved import a_checkpoint

from heron_core.errors import CheckpointError
from heron_server.storage import checkpoint
from heron_server.storage.checkpoint import Checkpoint, load_checkpoint, write_checkpoint
from heron_server.storage.facts import Facts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "round-000001.safetensors"


def test_a_checkpoint_round_trips_bit_for_bit(path: Path) -> None:
    saved = a_checkpoint(3)
    write_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, array in saved.tensors.items():
        got = loaded.tensors[name]
        assert (got.dtype, got.shape) == (array.dtype, array.shape) and np.array_equal(got, array), name
    assert loaded.facts.keys() == saved.facts.keys()
    assert loaded.facts["rounds_done"] == 3 and loaded.facts["table"] == {"a": 0}
    assert math.isnan(loaded.facts["records"]["passes_per_step"])


def test_the_header_of_the_file_is_one_json_object_with_the_version_and_its_digest_beside_it(path: Path) -> None:
    write_checkpoint(path, a_checkpoint(1))
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"heron", "digest"}
    header = json.loads(metadata["heron"])
    assert list(header) == ["run_id", "rounds_done", "table", "owners", "ledger", "class_names", "records", "version"]


def test_a_header_without_one_of_its_facts_is_torn(path: Path) -> None:
    whole = a_checkpoint(1)
    lacking = {key: value for key, value in whole.facts.items() if key != "ledger"}
    write_checkpoint(path, Checkpoint(cast(Facts, lacking), whole.tensors))
    with pytest.raises(CheckpointError, match=r"is torn \(the header lacks 'ledger'\)"):
        load_checkpoint(path)


def test_another_version_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 99)
    write_checkpoint(path, a_checkpoint())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has version 99, this Heron reads 4"):
        load_checkpoint(path)


def test_what_is_no_checkpoint_at_all_is_torn_however_odd(path: Path) -> None:
    deep = save({"a": np.ones(2)}, metadata={"heron": "[" * 100_000, "digest": ""})
    for odd in (save({"a": np.ones(2)}), save({}, metadata={"heron": "3"}), deep, b"[" * 8 + b"[" * 99):
        path.write_bytes(odd)
        with pytest.raises(CheckpointError, match=r"is torn \("):
            load_checkpoint(path)


def test_no_flipped_bit_of_the_header_is_accepted(path: Path) -> None:
    """Each byte of the header with one of its bits flipped: facts, names, shapes, places and the digest itself."""
    write_checkpoint(path, a_checkpoint(3))
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "checkpoint"
    write_checkpoint(path, a_checkpoint(3))
    return path.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_none_that_was_cut_short_lengthened_or_had_bits_flipped_is_accepted(
    path: Path, whole: bytes, data: st.DataObject
) -> None:
    spoiled = bytearray(whole)
    places = st.integers(0, len(spoiled) - 1)
    match data.draw(st.sampled_from(["cut", "lengthened", "flipped", "zeros"])):
        case "cut":
            del spoiled[data.draw(places) :]
        case "lengthened":
            spoiled += data.draw(st.binary(min_size=1, max_size=9))
        case "flipped":
            for place in data.draw(st.sets(places, min_size=1, max_size=4)):
                spoiled[place] ^= data.draw(st.integers(1, 255))
        case "zeros":  # what a power cut leaves of a file whose length was written, and its data not
            begin = data.draw(places)
            spoiled[begin:] = bytes(len(spoiled) - begin)
    if spoiled == whole:
        return
    path.write_bytes(spoiled)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


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
def test_facts_of_another_type_are_refused_by_name_though_the_digest_is_right(path: Path, harm: str) -> None:
    keys, value, says = HARMS[harm]
    whole = a_checkpoint(1)
    spoiled: dict[str, object] = json.loads(json.dumps(whole.facts))
    inner = spoiled
    for key in keys[:-1]:
        inner = cast(dict[str, object], inner[key])
    inner[keys[-1]] = value
    write_checkpoint(path, Checkpoint(cast(Facts, spoiled), whole.tensors))
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def test_a_ledger_without_one_of_its_kinds_is_refused(path: Path) -> None:
    whole = a_checkpoint(1)
    del whole.facts["ledger"]["wire_up"]
    write_checkpoint(path, whole)
    with pytest.raises(CheckpointError, match="the ledger lacks 'wire_up'"):
        load_checkpoint(path)


