"""What a run has done and sent since its newest checkpoint, beside it on the disk, where not each round is saved.

A kill takes those rounds back. They are done again, and what they had sent is charged twice: nobody else would know.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from heron_core.json_text import to_json
from heron_server.metrics.figures import Repeated
from heron_server.metrics.records import NONE_REPEATED
from heron_server.storage.durable import write_quickly
from heron_server.storage.facts import Facts, mistyped


class Unsaved(TypedDict):
    """Of the newest round that is done."""

    run_id: str
    rounds_done: int
    ledger: dict[str, int]
    repeated: Repeated
    """Of earlier kills."""


def write_unsaved(path: Path, facts: Facts) -> None:
    """Replaces the file. A kill leaves the old one or the new one; it is not flushed, so a power cut may leave neither.
    Raises RunFailed where the disk will not take it."""
    repeated = facts["records"].get("repeated", NONE_REPEATED)
    unsaved: Unsaved = {
        "run_id": facts["run_id"], "rounds_done": facts["rounds_done"], "ledger": facts["ledger"], "repeated": repeated,
    }  # fmt: skip
    write_quickly(path, to_json(unsaved).encode())


def with_unsaved(facts: Facts, path: Path) -> Facts:
    """A checkpoint's facts with what was sent after it; as they are where the file is not there, is torn or older."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return facts
    if list(mistyped(found, Unsaved, "the file")) or not _is_after(facts, found):
        return facts
    before, ledger = facts["records"].get("repeated", NONE_REPEATED), facts["ledger"]
    repeated: Repeated = {
        "rounds": found["repeated"]["rounds"] + found["rounds_done"] - facts["rounds_done"],
        "wire_up": before["wire_up"] + found["ledger"]["wire_up"] - ledger["wire_up"],
        "wire_down": before["wire_down"] + found["ledger"]["wire_down"] - ledger["wire_down"],
    }
    return {**facts, "ledger": found["ledger"], "records": {**facts["records"], "repeated": repeated}}


def _is_after(facts: Facts, found: Unsaved) -> bool:
    more = found["rounds_done"] > facts["rounds_done"]
    charged = all(found["ledger"].get(kind, -1) >= count for kind, count in facts["ledger"].items())
    return more and charged and found["run_id"] == facts["run_id"]
