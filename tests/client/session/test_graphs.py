"""The run's graphs are kept in the state folder, and nothing of a server's is taken for them that is not."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.graphs.test_graph_set import made

from heron_client.config import ClientSettings
from heron_client.session.graphs import MOST_GRAPH_BYTES, accept, graphs_for
from heron_client.transport.interface import Accept, Room
from heron_core.arrays import Array
from heron_core.errors import BadReply, ConfigError, TensorError
from heron_core.graphs.graph_set import CONSTANTS, FILES, MANIFEST, TRAINING, graphs_of
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.codec import expected_of, manifest_of

SHA256 = made().manifest.sha256


class Serving:
    """Gives these files, and counts how often."""

    def __init__(self, **changed: bytes) -> None:
        self.files = {**made().files(), **{name: np.frombuffer(text, np.uint8) for name, text in changed.items()}}
        self.asked: list[pb.FetchGraphsRequest] = []

    def fetch_graphs(self, request: pb.FetchGraphsRequest, accept: Accept, room: Room) -> dict[str, Array]:
        self.asked.append(request)
        accept(manifest_of(self.files))
        self.came = room(expected_of(self.files))
        for name, array in self.came.items():
            array[:] = self.files[name]
        return self.came


def fetched(server: Any, folder: Path | None = None, sha256: str = SHA256) -> Any:
    return graphs_for(ClientSettings(name="edge", state_dir=folder), server, sha256)


def test_what_was_fetched_is_kept_and_only_the_present_run_s(tmp_path: Path) -> None:
    (tmp_path / "graphs" / "of-an-earlier-run").mkdir(parents=True)
    server = Serving()
    first, again = fetched(server, tmp_path), fetched(server, tmp_path)
    assert [(each.client_name, each.graphs) for each in server.asked] == [("edge", SHA256)]
    assert first.manifest == again.manifest == made().manifest
    assert isinstance(again.constants, np.memmap) and np.array_equal(again.constants, made().constants)
    assert [each.name for each in (tmp_path / "graphs").iterdir()] == [SHA256]


def test_constants_come_into_a_file_where_there_is_a_state_folder_and_the_disk_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    server = Serving()
    fetched(server)
    assert not isinstance(server.came[CONSTANTS], np.memmap)
    fetched(server, tmp_path / "one")
    assert isinstance(server.came[CONSTANTS], np.memmap)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert fetched(server, tmp_path / "other").manifest == made().manifest
    assert not isinstance(server.came[CONSTANTS], np.memmap)


def test_without_a_state_folder_each_start_fetches(tmp_path: Path) -> None:
    server = Serving()
    assert fetched(server).training == fetched(server).training == b"training"
    assert len(server.asked) == 2


def test_a_stored_file_that_was_damaged_is_fetched_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Serving()
    fetched(server, tmp_path)
    (tmp_path / "graphs" / SHA256 / TRAINING).write_bytes(b"trainin9")
    with caplog.at_level(logging.WARNING):
        assert fetched(server, tmp_path).training == b"training"
    assert f"{TRAINING} is not what its manifest says; it is fetched again" in caplog.text
    assert fetched(server, tmp_path).training == b"training" and len(server.asked) == 2


def test_a_folder_that_takes_nothing_costs_the_next_start_a_fetch_only(tmp_path: Path) -> None:
    (tmp_path / "graphs").write_text("no folder")
    assert fetched(Serving(), tmp_path).training == b"training"


@pytest.mark.parametrize(("sha256", "kind", "said"), [
    ("", ConfigError, "offers no graphs.*set server.graphs = true there, or here backend = \"torch\""),
    ("../../etc", BadReply, "must be 64 hex digits"),
    ("0" * 64, BadReply, "manifest.json is not the one whose hash the server names"),
])  # fmt: skip
def test_a_hash_that_is_none_or_another_s_is_refused(sha256: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        fetched(Serving(), sha256=sha256)


@pytest.mark.parametrize("name", FILES)
def test_each_file_must_be_the_one_that_was_promised(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadReply, match=f"{name} is not"):
        fetched(Serving(**{name: b"another"}), tmp_path)
    assert not (tmp_path / "graphs").exists()


@pytest.mark.parametrize(("change", "said"), [
    (lambda t: t.pop(), "must be manifest.json, training.onnx"),
    (lambda t: setattr(t[0], "name", "../x"), "must be manifest.json, training.onnx"),
    (lambda t: setattr(t[1], "dtype", tensors.DTYPE_FLOAT32), "each as bytes"),
    (lambda t: t[1].shape.append(1), "each as bytes"),
    (lambda t: t[1].shape.__setitem__(0, MOST_GRAPH_BYTES + 1), "training.onnx has .*, and at most 256 MiB"),
    (lambda t: t[3].shape.__setitem__(0, 1 << 50), "constants.bin has 1,073,741,824 MiB"),
])  # fmt: skip
def test_nothing_is_allocated_for_what_cannot_be_a_set(change: Any, said: str) -> None:
    manifest = manifest_of(made().files())
    change(manifest.tensors)
    with pytest.raises(TensorError, match=said):
        accept(manifest)


@pytest.mark.parametrize("spelt", [b"\x0a\x08location", b"\x8a\x00\x88\x80\x00location"])
def test_a_graph_that_would_read_a_file_of_this_machine_is_refused(spelt: bytes) -> None:
    evil = made(training=b"..." + spelt + b"\x12\x0binstance_key")
    with pytest.raises(BadReply, match=r"training\.onnx names another file to read values from"):
        graphs_of(evil.files(), evil.manifest.sha256, "the server's graphs")


def test_the_constants_have_a_place_of_their_own() -> None:
    assert list(made().files()) == list(FILES) and FILES[0] == MANIFEST and FILES[-1] == CONSTANTS
