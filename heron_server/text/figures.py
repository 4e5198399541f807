"""A figure of an evaluation as a person reads it: its name, its value, and which way is better."""

from __future__ import annotations

from heron_server.text.units import number_text, percent_text

NAMES = {"mse": "MSE", "mae": "MAE", "f1": "F1", "mean_iou": "mean IoU"}


def name_text(metric: str) -> str:
    """`token loss` for `token_loss`."""
    return NAMES.get(metric, metric.replace("_", " "))


def value_text(value: float | None, is_share: bool) -> str:
    """A share in percent, anything else as a number."""
    return percent_text(value) if is_share else number_text(value)


def direction_text(higher_is_better: bool) -> str:
    """Which way is better, in words."""
    return "higher is better" if higher_is_better else "lower is better"
