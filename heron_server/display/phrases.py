"""What the displays say of a round, in parts of a line."""

from __future__ import annotations

from heron_server.metrics.figures import RoundRecord
from heron_server.text.figures import direction_text, name_text, value_text
from heron_server.text.units import number_text, percent_text


def results(record: RoundRecord) -> list[str]:
    """The figures of the round's evaluation; without one, the server's training loss."""
    metric, majority = record["metric"], record["majority_accuracy"]
    if metric["value"] is None:
        return [f"server loss {number_text(record['server_loss'])}", "not evaluated"]
    beside = direction_text(metric["higher_is_better"]) if majority is None else f"majority {percent_text(majority)}"
    if record["trained_metrics"]:
        beside += f", trained back {value_text(record['trained_metrics'].get(metric['name']), metric['is_share'])}"
    figure = f"{name_text(metric['name'])} {value_text(metric['value'], metric['is_share'])}"
    return [f"{figure} ({beside})", f"loss {number_text(record['loss'])}"]


def clients_text(count: int) -> str:
    """`1 client`, `3 clients`."""
    return f"{count} client{'' if count == 1 else 's'}"


def rate_text(upload_rate: float | None) -> str:
    """`41 uploads/s`."""
    return f"{number_text(upload_rate, 3)} uploads/s"
