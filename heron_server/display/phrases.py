"""What the displays say of a round, in parts of a line."""

from __future__ import annotations

from typing import Any

from heron_server.text.units import number_text, percent_text


def results(record: dict[str, Any]) -> list[str]:
    """The evaluation's figures; without an evaluation, the server's training loss."""
    if record["accuracy"] is None:
        return [f"server loss {number_text(record['server_loss'])}", "not evaluated"]
    majority = percent_text(record["majority_accuracy"])
    return [f"accuracy {percent_text(record['accuracy'])} (majority {majority})", f"loss {number_text(record['loss'])}"]


def clients_text(count: int) -> str:
    return f"{count} client{'' if count == 1 else 's'}"


def rate_text(step_rate: float | None) -> str:
    return f"{number_text(step_rate, 3)} steps/s"
