"""Lines of the client's log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from heron_client.logs import set_up_logging

FORGED = "server gone\x1b[2J\n12:00:00 INFO round 7 is done"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    logger = logging.getLogger("heron")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers = handlers
    logger.setLevel(level)


def test_what_a_server_wrote_forges_no_line_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", "text")
    logging.getLogger("heron.client").warning("lost the server: %s", FORGED)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING lost the server: server gone?[2J?12:00:00 INFO round 7 is done")


def test_a_json_line_has_the_text_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", "json")
    logging.getLogger("heron.client").warning("lost the server: %s", FORGED)
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == f"lost the server: {FORGED}"
