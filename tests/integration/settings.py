"""One short run of each method, and of heron with each kind of estimator: what every one of them must do alike."""

from __future__ import annotations

from typing import Any

from integration.references import LOOPS

Tables = dict[str, Any]
HERON: Tables = {"name": "heron"}
JOINT: Tables = {**HERON, "auxiliary_update": "zo"}
"""The paper's: front and head together."""
ALIGNMENT: Tables = {"every_rounds": 1, "buffer_samples": 64, "passes": 20, "lr": 1e-2}
METHODS: dict[str, Tables] = {
    **{name: {"name": name} for name in LOOPS},
    "fsl_sage": {"name": "fsl_sage", "alignment": ALIGNMENT},
    "heron, first-order head": {**HERON, "moments": "averaged", "logit_adjustment": 1.0, "zo": {"exact_stages": 1}},
    "heron, joint head": JOINT,
    "heron, server's head": {**HERON, "auxiliary_update": "server", "moments": "kept", "proximal": 0.01},
    "sflv2, mixed batches": {"name": "sflv2", "mixing": True},
    "heron, aligned head": {**HERON, "auxiliary_update": "aligned", "alignment": ALIGNMENT},
    "heron, micro-batches": {**JOINT, "micro_batch": 4, "zo": {"scope": "micro_batch", "normalise": True}},
    "heron, block by block": {**JOINT, "zo": {"block_wise": True}},
    "heron, cut gradients": {
        **HERON, "objective": "cut_gradient", "micro_batch": 4, "moments": "averaged", "mixing": True,
        "zo": {"scope": "micro_batch", "num_directions": 4},
    },
    "heron, sample by sample": {**HERON, "zo": {"scope": "sample"}},
}
"""Name of the setting -> its method table."""
OPTIONS_TOGETHER: dict[str, Tables] = {
    "slopes on the cut gradient": {
        "method": {
            "objective": "cut_gradient", "micro_batch": 4, "moments": "averaged", "mixing": True,
            "zo": {"mu": 1e-2, "scope": "micro_batch"}, "optimizer": {"schedule": "linear", "warm_up": 3},
        },
        "server_optimizer": {"schedule": "cosine", "final": 0.3},
        "averaged_back": {"decay": 0.9},
        "federation": {"server_average": {"name": "fedadam"}},
    },
    "a head of the client's own": {
        "method": {
            "moments": "kept", "logit_adjustment": 1.0, "proximal": 0.1, "mixing": True,
            "zo": {"mu": 1e-2, "exact_stages": 1}, "optimizer": {"schedule": "cosine"},
        },
        "data": {"partition": "dirichlet", "alpha": 0.3},
        "server_optimizer": {"schedule": "linear", "warm_up": 3},
        "averaged_back": {"decay": 0.9},
        "guard": {"clip_gradient": 0.3},
        "codec": {"uploads": "int8"},
        "federation": {"aggregation": "norm_clipping", "clip_norm": 0.05, "server_average": {"name": "fedyogi"}},
    },
}  # fmt: skip
"""Run files' tables: what skewed clients and other frameworks' users would set, as much at once as goes together."""


def tables(setting: str, **method: Any) -> Tables:
    """A run file's tables for one of METHODS, `method` on top; a perturbation that float32 does not swallow."""
    chosen = {**METHODS[setting], **method}
    if chosen["name"] == "heron":
        chosen["zo"] = {"mu": 1e-2, **chosen.get("zo", {})}
    per_sample = chosen.get("zo", {}).get("scope") == "sample"
    return {"method": chosen, "model": {"trainable": "norm" if per_sample else "all"}}
