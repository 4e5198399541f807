"""How clients and server learn: what needs a loss, a back, steps or parameters that are not there.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator

from heron_core.spec.codec import CodecSpec
from heron_core.spec.methods import method_of, moves, schedules
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.wire.labels import travelling
from heron_server.planning.facts import ModelFacts


def nothing_moves(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    """A client that learns has a parameter to move."""
    row = method_of(method)
    trainable = [p.name for part in row.client_parts for p in facts.parts[part].trainable]
    if row.client_learns and not any(moves(method, name) for name in trainable):
        yield (
            f"{method.name} lets the client learn, and no parameter of its {' and '.join(row.client_parts)} is its own "
            'to move; cut later, or take method.name = "frozen"'
        )


def gradient_of_the_head(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    """A head that learns by its own gradient has something that learns."""
    own = method_of(method).head == "detached" and not method.zo.exact_stages
    if own and not facts.parts["auxiliary"].trainable:
        yield (
            'method.auxiliary_update = "first_order" moves the auxiliary head by its own gradient, and no parameter of '
            'the head trains; take "zo", which then moves the front alone, or a head that trains (in a language model '
            "by model.language.auxiliary_rank)"
        )


def across_batch(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    """A client's part that normalises across the batch takes its batch whole, unless the run says otherwise."""
    found = [facts.across_batch[part] for part in method_of(method).client_parts if part in facts.across_batch]
    if found and method.micro_batch_rows < method.batch_size and not method.ghost_batch_norm:
        yield (
            f"method.micro_batch = {method.micro_batch}, and {found[0]} normalises across the batch, so that each "
            "micro-batch would be normalised by itself, which is another computation; take a normalisation of each "
            "sample by itself, such as nn.GroupNorm, micro_batch = 0, or say method.ghost_batch_norm = true"
        )


def logit_adjustment(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    """It needs a loss of the client's own, over classes."""
    asked, row = f"method.logit_adjustment = {method.logit_adjustment:g}", method_of(method)
    if not method.logit_adjustment:
        return
    if row.head == "aligned":
        yield f"{asked}, and an aligned head stands for the server's loss, which is never adjusted; set it to 0"
    elif not row.has_local_loss:
        instead = f'objective = "{method.objective}"' if method.name == "heron" else method.name
        yield f"{asked} needs clients that learn by a loss of their own, with {instead} they do not; set it to 0"
    if not facts.takes_prior:
        yield f"{asked} adds a client's class shares to the logits, the task {facts.task} has none; set it to 0"


def clients_learn(method: MethodSpec, average: str) -> Iterator[str]:
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


def upload_period(method: MethodSpec) -> Iterator[str]:
    """A round uploads something."""
    if method_of(method).uploads and method.upload_period > method.local_steps:
        yield (
            f"method.upload_period = {method.upload_period} is more than method.local_steps = "
            f"{method.local_steps}: no round would upload anything, and the server would never train; lower it"
        )


def cut_gradients(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    """Methods in which the gradient at the cut comes back."""
    row = method_of(method)
    if row.front == "cut_gradients" and method.micro_batch_rows < method.batch_size:
        yield (
            f"method.micro_batch = {method.micro_batch} cannot be used with {method.name}: the client waits for the "
            "gradient of the whole batch; remove it, or set 0"
        )
    asked = 'objective = "cut_gradient"' if row.front == "zeroth_order" and row.head == "none" else method.name
    if row.returns_cut_gradients and method.upload_period > 1:
        yield (
            f"method.upload_period = {method.upload_period} cannot be used with {asked}: a step without an "
            "upload gets no gradient back; remove it, or set 1"
        )
    if not facts.gradient_bytes and (row.returns_cut_gradients or row.head == "aligned"):
        yield (
            f"{asked} needs gradients at the cut, and nothing is floating point there "
            f"({', '.join(f'{s.name} {s.dtype}' for s in facts.activations)}); cut elsewhere, or take a method that "
            'returns none, such as heron with objective = "auxiliary"'
        )


def codecs(codec: CodecSpec, facts: ModelFacts) -> Iterator[str]:
    """A codec is for float32."""
    of_floats = codec.model_dump(include={"uploads", "cut_gradients", "evaluation"})
    chosen = [f'codec.{purpose} = "{name}"' for purpose, name in of_floats.items() if name != "raw"]
    others = [f"{s.name} {s.dtype}" for s in facts.activations if s.is_floating and s.dtype != "float32"]
    if chosen and others:
        yield f"{chosen[0]} is for float32, and the cut has {', '.join(others)}; remove it, or cast there"
    if chosen and not facts.gradient_bytes:
        whole = ", ".join(f"{s.name} {s.dtype}" for s in facts.activations)
        yield f"{chosen[0]} is for float32, and nothing at the cut is floating point ({whole}); remove it"
    if codec.labels == "packed" and travelling(facts.labels.tensor, True) == facts.labels.tensor:
        yield f'codec.labels = "packed" is for ids and classes, up to 65,535, and labels are {facts.labels}; remove it'


def schedule_ends(spec: RunSpec) -> Iterator[str]:
    """A schedule has steps to come down over."""
    for table, (optimizer, steps) in schedules(spec).items():
        unit = "uploads a client" if table == "server_optimizer" else "local steps"
        if optimizer.schedule != "constant" and steps - optimizer.warm_up < 2:
            yield (
                f'{table}.schedule = "{optimizer.schedule}" comes down over two {unit} or more, and the '
                f"run has {steps}, of which {table}.warm_up = {optimizer.warm_up} are to rise; take a shorter warm-up, "
                'more rounds, or schedule = "constant"'
            )


def averaged_back(spec: RunSpec) -> Iterator[str]:
    """There is one back to average."""
    backs, decay = method_of(spec.method).backs, spec.averaged_back.decay
    if decay and backs != "shared":
        instead = "trains one for each client" if backs == "per_client" else "trains none"
        yield (
            f"averaged_back.decay = {decay:g} follows the one back that the server trains, and with {spec.method.name} "
            f"it {instead}; remove it, or take another method"
        )
