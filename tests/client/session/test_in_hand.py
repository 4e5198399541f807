"""A round in hand computes on after an upload until it needs what the server answers, and then waits for that."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from heron_client.session.in_hand import RoundInHand
from heron_client.session.session import Assignment
from heron_client.uploads.upload import CutGradients, Upload

UPLOAD = Upload(0, 3, 0, 4, {}, [("activations", "float32", (4, 6))])
LATER = Upload(1, 4, 0, 4, {})


class Local:
    """Computes between its upload and where it needs the answer, and then steps."""

    def __init__(self) -> None:
        self.did: list[Any] = []

    def uploads(self) -> Generator[Upload | None, CutGradients | None, None]:
        self.did.append((yield UPLOAD))
        self.did.append("probes")
        self.did.append((yield None))
        yield LATER
        yield None


class Uploader:
    def listen(self) -> None:
        pass


def test_what_needs_no_answer_is_computed_before_the_wait() -> None:
    local: Any = Local()
    uploader: Any = Uploader()
    work = RoundInHand(Assignment(1, 1, 0, 2, 0), local, uploader, None)
    assert work.advance() and work.pending is UPLOAD
    work.handed_over()
    assert work.awaiting is None and work.advance()
    assert work.awaiting == 3 and local.did == [None, "probes"]
    assert work.advance() and local.did == [None, "probes"], "it waits: nothing more is computed"
    work.answered((2.0, []))
    assert work.advance() and local.did[2] == (2.0, []) and work.pending is LATER
    work.handed_over()
    assert work.advance() and work.awaiting is None, "an upload that wants nothing is not waited for"
    assert not work.advance()
