"""Settings that contradict each other or the model: refused before any client joins, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heron_core.class_names import listed
from heron_core.errors import ConfigError
from heron_core.spec.methods import method_of, moves, schedules
from heron_core.spec.run_spec import DataSpec, FederationSpec, MethodSpec, RunSpec
from heron_server.aggregation.rules import RULES
from heron_server.config import ServerSettings
from heron_server.planning.facts import ModelFacts
from heron_server.planning.macs import probed_stages
from heron_server.planning.memory import byte_budget_problems, pool_problems


def check_constraints(spec: RunSpec, settings: ServerSettings, receives: bool, facts: ModelFacts) -> None:
    """ConfigError for the first that is broken. `receives`: does anybody send the server uploads?"""
    probes = method_of(spec.method).front == "zeroth_order"
    for reason in (
        *_task(spec.data, spec.method, settings.test_data, facts),
        *_class_names(spec.data.class_names, facts),
        *_nothing_moves(spec.method, facts),
        *_across_batch(spec.method, facts),
        *_logit_adjustment(spec.method, facts),
        *_clients_learn(spec.method, spec.federation.server_average.name),
        *_upload_period(spec.method),
        *_schedules(spec),
        *_averaged_back(spec),
        *(pool_problems(spec.method, settings, facts) if spec.method.mixing else ()),
        *(byte_budget_problems(spec, settings.byte_budget, facts) if receives else ()),
        *_cut_gradients(spec.method, facts),
        *(_probes(spec.method, spec.model.name, facts) if probes else ()),
        *_evaluation(spec.data.validation, settings),
        *(_holdout(spec.data) if not settings.names_test_set else ()),
        *_hostile(spec.federation),
    ):
        raise ConfigError(reason)


def _task(chosen: DataSpec, method: MethodSpec, test_data: str, facts: ModelFacts) -> Iterator[str]:
    """One sentence for each that is broken. `test_data`: as in the server's settings."""
    if chosen.source != "client":
        yield from _built_in(chosen, facts)
    if test_data not in ("auto", "none") and ":" not in test_data and len(facts.inputs) > 1:
        yield (
            f'server.test_data = "{test_data}" gives one input, the model takes {len(facts.inputs)} '
            f"({_names(facts)}); name a package.module:factory"
        )
    if test_data == "image_folder" and not facts.labels.classes:
        yield (
            f'server.test_data = "image_folder" gives a class for each image, the task {facts.task} wants labels '
            f"{facts.labels}; name a package.module:factory"
        )
    varying = [spec.name for spec in facts.activations if spec.variable]
    if varying and method_of(method).head == "aligned":
        asked = 'auxiliary_update = "aligned"' if method.name == "heron" else f'name = "{method.name}"'
        yield (
            f"method.{asked} aligns heads over uploads of one shape, and {', '.join(varying)} at the cut varies in "
            "length; take another method, or pad every sample to one length"
        )


def _class_names(names: Sequence[str], facts: ModelFacts) -> Iterator[str]:
    classes = facts.labels.classes
    if names and not classes:
        yield f"data.class_names is for tasks whose label is one class, {facts.task} wants {facts.labels}; remove it"
    elif names and len(names) != classes:
        yield (
            f"data.class_names must name the model's {classes} classes in the order of their labels, got {len(names)} "
            f"({listed(names)}); mend it, or model.classes"
        )


def _built_in(chosen: DataSpec, facts: ModelFacts) -> Iterator[str]:
    """Experiment data: one floating-point image a sample, with its class."""
    whose = f'data.source = "{chosen.source}"'
    own = 'bring data of your own with data.source = "client"'
    if len(facts.inputs) > 1 or facts.inputs[0].dtype != "float32":
        described = ", ".join(f"{spec.name} {spec}" for spec in facts.inputs)
        yield f"{whose} gives one float32 image a sample, the model takes {described}; {own}"
    if facts.labels.classes:
        return
    if chosen.partition != "iid":
        yield (
            f'data.partition = "{chosen.partition}" divides samples by class, and a label of the task {facts.task} is '
            f'none ({facts.labels}); take "iid"'
        )
    yield f"{whose} gives a class for each image, the task {facts.task} wants labels {facts.labels}; {own}"


def _names(facts: ModelFacts) -> str:
    return ", ".join(spec.name for spec in facts.inputs)


def _nothing_moves(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    row = method_of(method)
    trainable = [p.name for part in row.client_parts for p in facts.parts[part].trainable]
    if row.client_learns and not any(moves(method, name) for name in trainable):
        yield (
            f"{method.name} lets the client learn, and no parameter of its {' and '.join(row.client_parts)} is its own "
            'to move; cut later, or take method.name = "frozen"'
        )


def _across_batch(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    """A client's part that normalises across the batch takes its batch whole, unless the run says otherwise."""
    found = [facts.across_batch[part] for part in method_of(method).client_parts if part in facts.across_batch]
    if found and method.micro_batch_rows < method.batch_size and not method.ghost_batch_norm:
        yield (
            f"method.micro_batch = {method.micro_batch}, and {found[0]} normalises across the batch, so that each "
            "micro-batch would be normalised by itself, which is another computation; take a normalisation of each "
            "sample by itself, such as nn.GroupNorm, micro_batch = 0, or say method.ghost_batch_norm = true"
        )


def _logit_adjustment(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    asked, row = f"method.logit_adjustment = {method.logit_adjustment:g}", method_of(method)
    if not method.logit_adjustment:
        return
    if row.head == "aligned":
        yield f"{asked}, and an aligned head stands for the server's loss, which is never adjusted; set it to 0"
    elif not row.has_local_loss:
        yield f"{asked} needs clients that learn by a loss of their own, with {method.name} they do not; set it to 0"
    if not facts.takes_prior:
        yield f"{asked} adds a client's class shares to the logits, the task {facts.task} has none; set it to 0"


def _clients_learn(method: MethodSpec, average: str) -> Iterator[str]:
    """Of what acts on clients that learn. `average`: the name of federation.server_average."""
    asked = [f"method.proximal = {method.proximal:g}"] if method.proximal else []
    asked += [f'federation.server_average.name = "{average}"'] if average != "plain" else []
    if asked and not method_of(method).client_learns:
        yield f"{asked[0]} is for clients that learn, with {method.name} none does; remove it"
    elif method.proximal and method.local_steps == 1:
        yield (
            f"{asked[0]} draws a step to where the round began, and with method.local_steps = 1 that is where each "
            "step is; set it to 0, or take more local steps"
        )


def _upload_period(method: MethodSpec) -> Iterator[str]:
    if method_of(method).uploads and method.upload_period > method.local_steps:
        yield (
            f"method.upload_period = {method.upload_period} is more than method.local_steps = "
            f"{method.local_steps}: no round would upload anything, and the server would never train; lower it"
        )


def _schedules(spec: RunSpec) -> Iterator[str]:
    for table, (optimizer, steps) in schedules(spec).items():
        unit = "uploads a client" if table == "server_optimizer" else "local steps"
        if optimizer.schedule != "constant" and steps - optimizer.warm_up < 2:
            yield (
                f'{table}.schedule = "{optimizer.schedule}" comes down over two {unit} or more, and the '
                f"run has {steps}, of which {table}.warm_up = {optimizer.warm_up} are to rise; take a shorter warm-up, "
                'more rounds, or schedule = "constant"'
            )


def _averaged_back(spec: RunSpec) -> Iterator[str]:
    backs, decay = method_of(spec.method).backs, spec.averaged_back.decay
    if decay and backs != "shared":
        instead = "trains one for each client" if backs == "per_client" else "trains none"
        yield (
            f"averaged_back.decay = {decay:g} follows the one back that the server trains, and with {spec.method.name} "
            f"it {instead}; remove it, or take another method"
        )


def _cut_gradients(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    row = method_of(method)
    if row.returns_cut_gradients and method.micro_batch_rows < method.batch_size:
        yield (
            f"method.micro_batch = {method.micro_batch} cannot be used with {method.name}: the client waits for the "
            "gradient of the whole batch; remove it, or set 0"
        )
    if row.returns_cut_gradients and method.upload_period > 1:
        yield (
            f"method.upload_period = {method.upload_period} cannot be used with {method.name}: a step without an "
            "upload gets no gradient back; remove it, or set 1"
        )
    if not facts.gradient_bytes and (row.returns_cut_gradients or row.head == "aligned"):
        yield (
            f"{method.name} needs gradients at the cut, and nothing is floating point there "
            f"({', '.join(f'{s.name} {s.dtype}' for s in facts.activations)}); cut elsewhere, or take a method that "
            "returns none, such as heron"
        )


def _probes(method: MethodSpec, model_name: str, facts: ModelFacts) -> Iterator[str]:
    zo, micro_batches = method.zo, method.batch_size // method.micro_batch_rows
    if zo.block_wise:
        yield from _block_wise(method, model_name, facts)
    if zo.scope == "micro_batch" and micro_batches == 1:
        yield (
            'method.zo.scope = "micro_batch" with one micro-batch a step is scope = "batch"; set method.micro_batch '
            f"to a smaller divisor of batch_size = {method.batch_size}, or remove the scope"
        )
    if zo.scope == "sample":
        yield from _per_sample(method, facts)
    slopes = _slopes(method, facts)
    if zo.normalise and slopes < 2:
        yield (
            f"method.zo.normalise divides by the spread of a step's slopes and needs two or more, here there is "
            f'{slopes}; raise num_directions, take scope = "micro_batch" or "sample", or remove it'
        )


def _block_wise(method: MethodSpec, model_name: str, facts: ModelFacts) -> Iterator[str]:
    if method.zo.scope != "batch":
        yield (
            f'method.zo.block_wise takes one direction for the whole batch, not scope = "{method.zo.scope}"; '
            "remove one of the two"
        )
    front = facts.parts["front"]
    if not front.stages:
        yield (
            f"method.zo.block_wise needs a front made of stages, as the built-in families have, that of "
            f"{model_name} is a {front.kind}; remove it"
        )


def _per_sample(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    if method_of(method).head == "joint":
        yield (
            'method.zo.scope = "sample" perturbs the front alone, but auxiliary_update = "zo" perturbs the head with '
            'it; set auxiliary_update = "first_order", "server" or "aligned"'
        )
    if facts.per_sample_obstacle is not None:
        yield (
            f'method.zo.scope = "sample" gives each sample its own parameters, which {facts.per_sample_obstacle} '
            "cannot have: only scale and shift of a normalisation and biases of convolutions and linear layers act on "
            'each sample by itself; set model.trainable = "norm", or scope = "micro_batch" or "batch"'
        )


def _slopes(method: MethodSpec, facts: ModelFacts) -> int:
    """Loss differences of one local step."""
    if method.zo.block_wise:
        return method.zo.num_directions * len(probed_stages(method, facts))
    rows = method.batch_size
    return method.zo.num_directions * {"batch": 1, "micro_batch": rows // method.micro_batch_rows, "sample": rows}[
        method.zo.scope
    ]


def _evaluation(validation: float, settings: ServerSettings) -> Iterator[str]:
    if validation and settings.names_test_set:
        yield (
            f"data.validation = {validation:g} sets training samples apart for evaluation, but "
            f'server.test_data = "{settings.test_data}" names another test set; remove one of the two'
        )


def _holdout(chosen: DataSpec) -> Iterator[str]:
    """Of clients that evaluate on what they hold out."""
    table, by_sample = chosen.table, chosen.holdout_by == "sample"
    if chosen.holdout and table.overlaps and by_sample:
        yield (
            f"with data.table.step = {table.step} windows of {table.window} rows share some, and what a client holds "
            'out would share them with what it learns from; set data.holdout_by = "group" with data.table.group, or '
            f"data.table.step = {table.window}"
        )
    if chosen.holdout and table.columns and not by_sample and not table.group:
        yield (
            'data.holdout_by = "group" holds out whole groups, and no column says whose a row is; set '
            "data.table.group, or hold out by sample"
        )


def _hostile(federation: FederationSpec) -> Iterator[str]:
    """A rule's promise holds for so many clients in every round, also in one that goes on with the fewest."""
    rule, hostile = federation.aggregation, federation.hostile
    needed, chosen = RULES[rule].fewest(hostile), f'federation.aggregation = "{rule}" with hostile = {hostile}'
    if federation.participants < needed:
        yield (
            f"{chosen} needs {needed} clients in a round, here there are {federation.participants}; "
            "lower hostile, add clients or take another rule"
        )
    if federation.min_clients < needed:
        yield (
            f"{chosen} needs {needed} clients in every round, and a round may go on with federation.min_clients = "
            f"{federation.min_clients}; set min_clients = {needed}, or lower hostile"
        )
    if rule == "trimmed_mean" and not hostile:
        yield f'{chosen} trims nothing; say how many clients may be hostile, or take aggregation = "uniform"'
