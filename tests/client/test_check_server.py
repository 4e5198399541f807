"""`heron-client check` of a server that answers nonsense: one error, not a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client.transport.odd_server import odd_server

from heron_client.check import run_check
from heron_client.config import ClientSettings
from heron_core.errors import BadReply, DataError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec


def answering(reply: pb.JoinReply) -> Callable[[Any, Any], Iterator[bytes]]:
    return lambda requests, context: iter([reply.SerializeToString()])


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (pb.JoinReply(run_id="r", heartbeat_s=0.0, silence_s=30.0), "a heartbeat every 0 s"),
        (pb.JoinReply(run_id="r", heartbeat_s=5.0, silence_s=30.0, run_spec_json="{"), "run spec must be JSON"),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_said(reply: pb.JoinReply, says: str) -> None:
    with odd_server(Join=answering(reply)) as (_, address), pytest.raises(BadReply, match=says):
        run_check(ClientSettings(name="a", server=address, device="cpu"), print)


def own_run(folder: Path, class_names: list[str]) -> tuple[pb.JoinReply, ClientSettings]:
    """A run of eight-by-eight digits on clients' own images, and a client that has 20 of them."""
    image = pytest.importorskip("PIL.Image")
    for number in range(20):
        file = folder / "digits" / f"class-{number % 10}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (8, 8), 12 * number).save(file)
    (folder / "digits" / ".DS_Store").touch()
    spec = RunSpec.model_validate(
        {"model": {"name": "digits_cnn"}, "data": {"source": "client", "holdout": 0.0}, "method": {"batch_size": 4}}
    )
    reply = pb.JoinReply(run_id="r", heartbeat_s=5.0, silence_s=30.0, run_spec_json=spec.model_dump_json())
    reply.class_names.extend(class_names)
    own = {"source": "image_folder", "path": folder / "digits"}
    return reply, ClientSettings.model_validate({"name": "a", "device": "cpu", "data": own})


def checked(reply: pb.JoinReply, settings: ClientSettings) -> list[str]:
    said: list[str] = []
    with odd_server(Join=answering(reply)) as (_, address):
        try:
            run_check(settings.model_copy(update={"server": address}), said.append)
        except DataError as error:
            said.append(f"refused: {error}")
    return said


def test_every_sample_of_own_data_is_opened_and_what_is_in_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "heron.client")
    names = [f"class-{number}" for number in reversed(range(10))]
    said = checked(*own_run(tmp_path, names))
    assert [line for line in said if line.startswith("samples")] == [
        "samples      input: uint8 [1, 8, 8], from -1 to 0.7882, mean -0.1059, standard deviation 0.5427",
        f"samples      classes: {', '.join(f'{name} 2' for name in names)}",
        "samples      passed over 1 hidden (first: .DS_Store)",
    ]
    assert said[-1].startswith("one step")
    assert [record.message for record in caplog.records] == ["own data: passed over 1 hidden (first: .DS_Store)"]


def test_all_that_is_wrong_with_own_data_is_said_together(tmp_path: Path) -> None:
    reply, settings = own_run(tmp_path, [])
    for number in range(3, 9):
        (tmp_path / "digits" / f"class-{number}" / f"{number}.png").write_bytes(b"torn")
    said = checked(reply, settings)
    assert "6 of 20 samples:" in said and said[-2] == "  and 3 more such"
    assert said[-1].startswith("refused: 6 of 20 samples cannot be used, listed above; the first: ")
    skipping = settings.model_copy(update={"data": settings.data.model_copy(update={"on_bad_sample": "skip"})})
    said = checked(reply, skipping)
    assert any("6 samples that cannot be read (first: " in line for line in said) and said[-1].startswith("one step")
