"""Everything that can be refused before a run: `validate` and a server's start refuse the same."""

from __future__ import annotations

import sys

import torch

from heron_core import data
from heron_core.data.source import Source
from heron_core.device import resolve_device
from heron_core.errors import ConfigError, DataError
from heron_core.models import build_split_model
from heron_core.models.split_model import SplitModel, check_parts
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.constraints import check_constraints
from heron_server.planning.memory import check_memory_limit, server_memory


def check_run(spec: RunSpec, settings: ServerSettings) -> tuple[SplitModel, torch.device, Source | None]:
    """The model, the device and the server's test set; raises ConfigError, ModelError or DataError."""
    for folder in settings.python_path:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    model = build_split_model(spec.model, data_folder=settings.data_folder)
    check_parts(model, spec.seed)
    device = resolve_device(settings.device)
    check_constraints(spec, settings, model)
    check_memory_limit(server_memory(spec, settings, model), settings)
    test = load_test(spec, settings, model)
    if test is not None:
        data.check_source(test, model.inputs, model.task.labels)
    return model, device, test


def load_test(spec: RunSpec, settings: ServerSettings, model: SplitModel) -> Source | None:
    """The test set the settings name, or None where the clients evaluate; ConfigError for a share below one batch."""
    if settings.names_test_set:
        return data.load_own(
            settings.test_data, path=settings.test_path, options=settings.test_options, inputs=model.inputs,
            labels=model.task.labels,
        )  # fmt: skip
    if spec.data.source == "client":
        return None
    try:
        experiment = data.load_experiment(spec.data, spec.seed, settings.data_folder)
    except DataError:
        if settings.test_data == "none":
            return None  # the server needs no data: its clients have it
        raise
    _check_shares(spec, data.share_sizes(experiment, spec.data, spec.seed, spec.federation.clients))
    return None if settings.test_data == "none" else experiment.test


def _check_shares(spec: RunSpec, sizes: list[int]) -> None:
    rows = spec.method.batch_size
    small = [rank for rank, size in enumerate(sizes) if size < rows]
    if small:
        raise ConfigError(
            f"every client needs method.batch_size = {rows} samples, got {sizes[small[0]]} for rank {small[0]} "
            f"({len(small)} of {len(sizes)} clients have too few); lower method.batch_size or federation.clients, or "
            "raise data.alpha"
        )
