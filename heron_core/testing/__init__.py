"""The contracts of what users write, as plain functions: run them before a model or a dataset takes part in a run.

Nothing here needs pytest, a server or a client; Heron's own suites call the same functions. (A transport's contract is
`heron_client.testing.check_transport`, because core imports neither side.) `check_dataset` works without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heron_core.testing.report import Report

if TYPE_CHECKING:
    from heron_core.testing.datasets import check_dataset
    from heron_core.testing.split_models.check import check_split_model

__all__ = ["Report", "check_dataset", "check_split_model"]


def __getattr__(name: str) -> object:
    if name == "check_dataset":
        from heron_core.testing.datasets import check_dataset

        return check_dataset
    if name == "check_split_model":  # imports torch, so only when asked for
        from heron_core.testing.split_models.check import check_split_model

        return check_split_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
