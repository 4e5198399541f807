"""The reference loop of each method."""

from __future__ import annotations

from integration import reference_baselines as baselines
from integration.reference_cut_slopes import heron_on_cut_gradients
from integration.reference_estimators import heron

from heron_core.spec.run_spec import RunSpec

LOOPS = {
    "heron": heron, "cse_fsl": baselines.cse_fsl, "fsl_sage": baselines.fsl_sage, "sflv1": baselines.sflv1,
    "sflv2": baselines.sflv2, "fedavg": baselines.fedavg, "frozen": baselines.frozen,
}  # fmt: skip


def reference_run(spec: RunSpec, folder=None, shares=None) -> str:
    """Runs every round of `spec` as plainly as can be and returns the final model's SHA-256.

    `shares`: each rank's training samples, where the clients bring their own.
    """
    on_cut = spec.method.name == "heron" and spec.method.objective == "cut_gradient"
    loop = heron_on_cut_gradients if on_cut else LOOPS[spec.method.name]
    return loop(spec, folder, shares)
