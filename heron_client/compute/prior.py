"""The client's own class shares, for a loss that does not unlearn the classes which this client lacks.

Shape suffix: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from heron_client.compute.backend import Backend, PriorBackend, Vector, lacks


def log_prior(counts: Sequence[int], factor: float) -> Vector:
    """factor * log p_c, p_c = (n_c + 0.5) / (n + 0.5 K), from the samples of each class; rounded to float32 once."""
    total = sum(counts) + 0.5 * len(counts)
    return np.array([factor * log((count + 0.5) / total) for count in counts], dtype=np.float32)


def adjust_logits(backend: Backend, counts: Sequence[int], factor: float) -> None:
    """Training losses follow `log_prior` from here on. ConfigError, ModelError: this backend or its task cannot."""
    if not isinstance(backend, PriorBackend):
        raise lacks(backend, "add to the logits", "method.logit_adjustment")
    backend.set_log_prior(log_prior(counts, factor))
