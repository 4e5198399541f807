"""Settings that contradict each other or the model: refused before any client joins, with the reason."""

from __future__ import annotations

from heron_core.errors import ConfigError
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.constraints import checkpoints, data, federation, learning, probes, reuse, seeds
from heron_server.planning.facts import ModelFacts
from heron_server.planning.memory import byte_budget_problems, pool_problems


def check_constraints(spec: RunSpec, settings: ServerSettings, receives: bool, facts: ModelFacts) -> None:
    """ConfigError for the first that is broken. `receives`: does anybody send the server uploads?"""
    is_zeroth_order = method_of(spec.method).front == "zeroth_order"
    for reason in (
        *data.task(spec.data, spec.method, settings.test_data, facts),
        *data.class_names(spec.data.class_names, facts),
        *learning.nothing_moves(spec.method, facts),
        *learning.gradient_of_the_head(spec.method, facts),
        *learning.across_batch(spec.method, facts),
        *learning.logit_adjustment(spec.method, facts),
        *learning.clients_learn(spec.method, spec.federation.server_average.name),
        *learning.upload_period(spec.method),
        *learning.schedule_ends(spec),
        *learning.averaged_back(spec),
        *(pool_problems(spec.method, settings, facts) if spec.method.mixing else ()),
        *(byte_budget_problems(spec, settings.byte_budget, facts) if receives else ()),
        *learning.cut_gradients(spec.method, facts),
        *learning.codecs(spec.codec, facts),
        *seeds.client_state(spec, facts),
        *reuse.reuse(spec, facts),
        *(probes.of_probes(spec.method, spec.model.name, facts) if is_zeroth_order else ()),
        *data.evaluation(spec.data.validation, settings),
        *data.evaluations(spec, settings),
        *(data.holdout(spec.data) if not settings.names_test_set else ()),
        *federation.hostile(spec.federation),
        *checkpoints.rare(spec, settings.checkpoint_every),
    ):
        raise ConfigError(reason)
