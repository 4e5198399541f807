"""What disturbs a run, and what the run must have come to in the end.

What can be said of acknowledged uploads: no client tells the harness what was acknowledged to it, and what a killed
server had counted since its last checkpoint is gone with the round that it was in, whose uploads are all made again.
But a client submits its update only once all its uploads are acknowledged, and a round counts an update only once all
of them are consumed. So the uploads of every participant of every round in the history were acknowledged, each has so
many bytes exactly, and the ledger must hold at least their sum: less means that one is missing. More is right where
work was sent again, but not more than the relays carried: that would be an upload counted twice.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLIENTS, ROUNDS = 3, 4
RELAY_SHARE, RELAY_BYTES = 1.02, 4096
"""The ledger estimates HTTP/2's own frames; the relay counts them."""


@dataclass(frozen=True)
class Disturbance:
    """What happens, when (seconds after the start), to whom, and for how long."""

    kind: str
    at_s: float
    client: int = 0
    lasts_s: float = 0.0

    def __str__(self) -> str:
        whom = f" {self.client}" if "client" in self.kind or "link" in self.kind else ""
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind}{whom} at {self.at_s:.2f} s{lasts}"


@dataclass(frozen=True)
class Plan:
    """A trial: its number, settings on top of TABLES, and its disturbances."""

    number: int
    disturbances: tuple[Disturbance, ...]
    min_clients: int = CLIENTS
    identities: bool = True
    """Do clients keep theirs over a restart?"""


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed run came to."""

    seconds: float
    sha256: str
    upload_bytes: float
    """Of all uploads of one participant in one round, without framing."""


@dataclass
class Ending:
    """How a trial ended."""

    plan: Plan
    seconds: float = 0.0
    same_bits: bool = False
    pauses: int = 0
    """How often the run waited for space on its disk."""
    summary: dict[str, Any] | None = None
    refusals: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def judge(end: Ending, run_dir: Path, carried_up: int, undisturbed: Undisturbed | None) -> None:
    """Says what is wrong with a run that has ended well; `carried_up`: bytes that its relays counted."""
    summary = json.loads((run_dir / "summary.json").read_text())
    end.summary = summary
    in_summary = [record["round"] for record in summary["history"]]
    in_log = [json.loads(line)["round"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    if not in_summary == in_log == list(range(1, ROUNDS + 1)):
        end.wrong.append(f"rounds of the summary: {in_summary}, of metrics.jsonl: {in_log}")
    left = [str(path.relative_to(run_dir)) for path in run_dir.rglob(".*")]
    if left:
        end.wrong.append(f"left behind in the run directory: {left}")
    if undisturbed is not None:
        _judge_bits(end, summary, undisturbed)
        _judge_ledger(end, summary, carried_up, undisturbed)


def _judge_bits(end: Ending, summary: dict[str, Any], undisturbed: Undisturbed) -> None:
    """A run in which every round had every client must end with the undisturbed bits; others cannot."""
    whole = all(r["participants"] == CLIENTS and r["dropped"] == 0 for r in summary["history"])
    end.same_bits = summary["model_sha256"] == undisturbed.sha256
    if whole and not end.same_bits:
        end.wrong.append(f"all took part in all rounds, and the bits differ: {summary['model_sha256']}")


def _judge_ledger(end: Ending, summary: dict[str, Any], carried_up: int, undisturbed: Undisturbed) -> None:
    ledger = summary["ledger"]
    counted = ledger["activations_up"] + ledger["labels_up"]
    least = undisturbed.upload_bytes * sum(record["participants"] for record in summary["history"])
    if counted < least:
        end.wrong.append(f"acknowledged uploads are missing: the ledger has {counted} bytes of {least:.0f}")
    if ledger["wire_up"] > carried_up * RELAY_SHARE + RELAY_BYTES:
        end.wrong.append(f"the ledger has {ledger['wire_up']} bytes up, the relays carried {carried_up}")


def shape(text: str) -> str:
    """A message without what differs from one occurrence to the next."""
    text = re.sub(r"/[\w./-]+", "PATH", text)
    text = re.sub(r"\d+(\.\d+)*(:\d+)?", "N", text)
    return text if len(text) <= 110 else text[:107] + "..."
