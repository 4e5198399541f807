"""Settings that contradict each other or the model are refused, with the reason."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from plans import digits, facts_of
from pydantic import ValidationError

from heron_core.arrays import TensorSpec
from heron_core.errors import ConfigError
from heron_core.labels import LabelSpec
from heron_core.spec.codec import CodecSpec
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.constraints.learning import codecs
from heron_server.planning.constraints.reuse import reuse
from heron_server.planning.validate import describe

JOINT = {"auxiliary_update": "zo"}
ON_CUT = {"objective": "cut_gradient"}
MICRO = {"batch_size": 32, "micro_batch": 8}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"method": {"zo": {"scope": "sample"}, **JOINT}}, 'auxiliary_update = "zo" perturbs the head with it'),
        (
            {"method": {"zo": {"scope": "sample"}}},
            r'which front\.conv1\.conv\.weight cannot have: .* set model\.trainable = "norm"',
        ),
        ({"method": {"zo": {"scope": "micro_batch"}}}, "with one micro-batch a step"),
        ({"method": {"zo": {"scope": "micro_batch"}, "batch_size": 8, "micro_batch": 8}}, "with one micro-batch"),
        ({"method": {"zo": {"scope": "micro_batch", "block_wise": True}, **MICRO}}, "remove one of the two"),
        (
            {"method": {"zo": {"exact_stages": 1}, **JOINT}},
            'exact gradient, which auxiliary_update = "zo" does not have',
        ),
        ({"method": {**ON_CUT, "zo": {"exact_stages": 1}}}, "no head; remove the objective, or set exact_stages to 0"),
        ({"method": {"zo": {"exact_stages": 2}}}, "leaves nothing to perturb: of the front's 2 stages none below"),
        ({"method": {"zo": {"normalise": True}}}, "needs two or more, here there is 1; raise num_directions"),
        ({"method": {"name": "sflv2", "logit_adjustment": 1.0}}, "by a loss of their own, with sflv2 they do not"),
        ({"method": {"name": "frozen", "logit_adjustment": 0.5}}, "logit_adjustment = 0.5 needs clients that learn"),
        ({"method": {"name": "frozen", "proximal": 0.1}}, "proximal = 0.1 is for clients that learn, with frozen none"),
        (
            {"method": {"name": "frozen"}, "federation": {"server_average": {"name": "fedadam"}}},
            'server_average.name = "fedadam" is for clients that learn, with frozen none does; remove it',
        ),
        ({"method": {"proximal": 0.1, "local_steps": 1}}, "local_steps = 1 that is where each step is;"),
        (
            {"method": {"auxiliary_update": "aligned", "logit_adjustment": 1.0}},
            "an aligned head stands for the server's loss",
        ),
        ({"method": {"name": "fsl_sage", "logit_adjustment": 1.0}}, "an aligned head stands for the server's loss"),
        ({"method": {"name": "sflv2", **MICRO}}, "micro_batch = 8 cannot be used with sflv2"),
        ({"method": {"name": "sflv1", "upload_period": 2}}, "upload_period = 2 cannot be used with sflv1"),
        (
            {"method": {**ON_CUT, "upload_period": 2}},
            'upload_period = 2 cannot be used with objective = "cut_gradient": a step without an upload',
        ),
        ({"method": {**ON_CUT, "zo": {"block_wise": True}}}, "takes passes that begin inside it; remove one"),
        ({"method": {**ON_CUT, "zo": {"scope": "sample"}}}, r'one set of parameters .* set scope = "micro_batch"'),
        (
            {"method": {**ON_CUT, "logit_adjustment": 1.0}},
            r'a loss of their own, with objective = "cut_gradient" they do not',
        ),
        (
            {"federation": {"clients": 10, "aggregation": "bulyan", "hostile": 2}},
            'aggregation = "bulyan" with hostile = 2 needs 11 clients in a round, here there are 10; lower hostile',
        ),
        (
            {"federation": {"clients": 9, "clients_per_round": 4, "aggregation": "krum", "hostile": 1}},
            "needs 5 clients in a round, here there are 4",
        ),
        (
            {"federation": {"clients": 10, "aggregation": "median", "hostile": 3, "min_clients": 6}},
            "a round may go on with federation.min_clients = 6; set min_clients = 7, or lower hostile",
        ),
        (
            {"rounds": 1, "method": {"local_steps": 1, "optimizer": {"schedule": "linear"}}},
            r'method\.optimizer\.schedule = "linear" comes down over two local steps or more, and the run has 1, ',
        ),
        (
            {"rounds": 2, "server_optimizer": {"schedule": "cosine", "warm_up": 9}, "method": {"local_steps": 4}},
            r"two uploads a client or more, and the run has 8, of which server_optimizer\.warm_up = 9 are to rise",
        ),
        (
            {"method": {"name": "sflv1"}, "averaged_back": {"decay": 0.99}},
            r"averaged_back\.decay = 0\.99 follows the one back .* with sflv1 it trains one for each client; remove it",
        ),
        ({"method": {"name": "fedavg"}, "averaged_back": {"decay": 0.9}}, "with fedavg it trains none; remove it"),
        ({"federation": {"aggregation": "trimmed_mean"}}, 'trims nothing; .* or take aggregation = "uniform"'),
    ],
)
def test_settings_that_contradict_each_other_or_the_model_are_refused(tables: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        describe(digits(**tables), ServerSettings(device="cpu"))


KEPT = {"moments": "kept", "optimizer": {"momentum": 0.9}}


@pytest.mark.parametrize(
    ("every", "tables", "words"),
    [
        (5, {"rounds": 4}, "checkpoint_every = 5 is more than rounds = 4: no checkpoint"),
        (2, {"rounds": 4, "method": KEPT}, 'with method.moments = "kept" what each client\'s optimiser has gathered'),
    ],
)
def test_rare_checkpoints_are_refused_where_a_kill_would_cost_too_much(
    every: int, tables: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        describe(digits(**tables), ServerSettings(device="cpu", checkpoint_every=every))


OWN = {"source": "client"}


@pytest.mark.parametrize(
    ("tables", "settings", "words"),
    [
        ({"rounds": 4, "evaluate_every": 5}, {}, "evaluate_every = 5 is more than rounds = 4: no evaluation would"),
        ({"evaluate_every": 2}, {"test_data": "none"}, "evaluate_every = 2, and nobody evaluates; remove it, or set"),
        ({"evaluate_every": 2, "data": {**OWN, "holdout": 0.0}}, {}, "evaluate_every = 2, and nobody evaluates"),
        ({"data": OWN}, {"evaluate_start": True}, "server.evaluate_start evaluates on the server's own test set, and"),
    ],
)
def test_rare_evaluations_are_refused_where_there_would_be_none(
    tables: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        describe(digits(**tables), ServerSettings(device="cpu", **settings))


def test_who_evaluates_and_when_is_said() -> None:
    settings = ServerSettings(device="cpu")
    assert "samples, after every 5th round and the last\n" in describe(digits(evaluate_every=5), settings)
    by_clients = describe(digits(evaluate_every=3, data={**OWN, "holdout": 0.2}), settings)
    assert "of their own samples, held out, after every 3rd round and the last\n" in by_clients


def test_what_a_kill_costs_between_rare_checkpoints_is_said() -> None:
    assert "checkpoints" not in describe(digits(rounds=4), ServerSettings(device="cpu")).partition("Run directory")[0]
    said = describe(digits(rounds=4), ServerSettings(device="cpu", checkpoint_every=4))
    assert "every 4th round, after the last and at a stop; a kill -9 or a power cut takes back up to 3 rounds" in said
    assert "the last round, not yet saved" in said


@pytest.mark.parametrize(
    "tables",
    [
        {"method": {"zo": {"scope": "sample"}}, "model": {"trainable": "norm"}},
        {"method": {"zo": {"scope": "sample", "normalise": True}}, "model": {"trainable": "norm"}},
        {"method": {"zo": {"scope": "micro_batch", "normalise": True}, **MICRO}},
        {"method": {"zo": {"block_wise": True, "normalise": True}}},
        {"method": {"zo": {"exact_stages": 1}}},
        {"method": {"zo": {"num_directions": 2, "normalise": True, "difference": "central"}}},
        {"method": {"name": "sflv2", "batch_size": 32, "micro_batch": 32}},
        {"method": {**ON_CUT, **MICRO, "mixing": True, "zo": {"scope": "micro_batch", "normalise": True}}},
        {"method": {"name": "fedavg", "logit_adjustment": 1.0}},
        {"federation": {"clients": 7, "min_clients": 7, "aggregation": "median", "hostile": 3}},
        {"federation": {"clients": 20, "clients_per_round": 8, "min_clients": 7, "aggregation": "bulyan",
                        "hostile": 1}},
        {"federation": {"aggregation": "geometric_median"}},
    ],
)
def test_what_fits_together_is_described(tables: dict[str, Any]) -> None:
    describe(digits(**tables), ServerSettings(device="cpu"))


@pytest.mark.parametrize("zo", [{"block_wise": True}, {"exact_stages": 1}], ids=str)
def test_what_goes_stage_by_stage_wants_a_front_of_stages(
    zo: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\nfrom heron_core.models import CutModule\n"
        "def net():\n    whole = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))\n"
        "    return CutModule(whole, '2', (1, 8, 8), 10)\n"
    )
    (tmp_path / "plain_net.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    spec = digits(model={"name": "plain_net:net"}, method={"zo": zo})
    with pytest.raises(ConfigError, match=r"needs a front made of stages.*that of plain_net:net is a "):
        describe(spec, ServerSettings(device="cpu"))


REUSE = {"name": "frozen"}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"method": {"name": "sflv2"}}, "sflv2 returns cut gradients, which would be of what was sent earlier"),
        ({"method": {"objective": "cut_gradient"}}, "heron returns cut gradients"),
        ({"method": {"name": "fedavg"}}, "fedavg uploads nothing"),
        ({"model": {"norm": "batch"}}, r'with front.*norm they do in each pass; take model.norm = "group"'),
        ({"codec": {"uploads": "int4"}}, "rounds each sample at random once, .* codec.exact = false"),
        ({"method": REUSE, "model": {"norm": "batch"}}, r'norm normalises .*\.running_statistics = "keep"'),
        ({"method": REUSE, "codec": {"uploads": "int8"}}, "rounds each sample at random once, .* codec.exact = false"),
    ],
)
def test_activations_are_used_again_only_where_they_stay_the_same(tables: dict[str, Any], words: str) -> None:
    run = RunSpec.model_validate({**tables, "codec": {"reuse": True, **tables.get("codec", {})}})
    with pytest.raises(ConfigError, match=words):
        describe(run, ServerSettings())


def test_samples_that_are_used_again_have_room_and_validate_says_how_much() -> None:
    run = RunSpec.model_validate({"method": REUSE, "codec": {"reuse": True}, "data": {"train_limit": 120}})
    said = describe(run, ServerSettings())
    assert re.search(r"samples that are used again +122\.\d+ KiB +120, activations and labels", said)
    assert re.search(r"activations up +32\.00 KiB +1\.88 MiB +157\.50 KiB\n", said), "1,024 bytes once, 2 each time"
    with pytest.raises(ConfigError, match=r"keeps 120 samples of 3 clients, .* raise it"):
        describe(run, ServerSettings(reuse_budget=1000))


def test_samples_that_are_sent_again_are_kept_twice_and_validate_says_what_a_client_holds_of_them() -> None:
    run = RunSpec.model_validate({"codec": {"reuse": True}, "data": {"train_limit": 120}})
    said = describe(run, ServerSettings())
    assert re.search(r"samples that are used again +244\.\d+ KiB +120, .* of two rounds each", said)
    assert "have moved by more than 0.04 of their norm: a round is counted as if all had." in said
    assert re.search(r"holds 2\.00 KiB\s+of\s+each\s+of\s+its\s+samples,\s+80\.00\s+KiB\s+of\s+40", said)


def test_a_tolerance_is_a_share_of_a_norm() -> None:
    for tolerance in (-0.1, 0, 1, float("nan")):
        with pytest.raises(ValidationError, match="tolerance"):
            RunSpec.model_validate({"codec": {"reuse": True, "tolerance": tolerance}})


def test_how_far_integers_have_moved_nobody_can_say() -> None:
    facts = facts_of(digits())
    run = RunSpec.model_validate({"codec": {"reuse": True}})
    said = list(reuse(run, replace(facts, activations=(*facts.activations, TensorSpec("ids", (3,), "int64")))))
    assert said == [
        "codec.tolerance says how far floating-point activations may move, and the cut has ids int64; set "
        "codec.reuse = false"
    ]
    assert "with front.dropout they do in each pass" in str(list(reuse(run, replace(facts, drawing="front.dropout"))))


def test_a_codec_wants_float32_at_the_cut() -> None:
    facts = facts_of(digits())
    ids, wide, plain = TensorSpec("ids", (), "int64"), TensorSpec("z", (3,), "float64"), facts.activations

    def said(*cut: TensorSpec, **codec: str) -> str:
        return "; ".join(codecs(CodecSpec.model_validate(codec), replace(facts, activations=cut)))

    assert said(*plain, ids, uploads="int8") == said(ids, wide) == ""
    assert said(ids, evaluation="int8").startswith(
        'codec.evaluation = "int8" is for float32, and nothing at the cut is floating point (ids int64); remove it'
    )
    assert 'codec.uploads = "bf16" is for float32, and the cut has z float64' in said(*plain, wide, uploads="bf16")
    assert said(*plain, labels="packed") == ""
    facts = replace(facts, labels=LabelSpec((2,), "float32"))
    assert 'codec.labels = "packed" is for ids and classes' in said(*plain, labels="packed")


@pytest.mark.parametrize(
    ("method", "refused"),
    [
        ({"name": "sflv2"}, True),
        ({"name": "fsl_sage"}, True),
        ({"name": "heron", "auxiliary_update": "server"}, True),
        ({"name": "heron"}, False),
        ({"name": "fedavg"}, False),
        ({"name": "frozen"}, False),
    ],
)
def test_a_client_that_learns_wants_parameters_of_its_own(
    method: dict[str, Any], refused: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\nfrom heron_core.models import CutModule\n"
        "def net():\n    whole = lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))\n"
        "    return CutModule(whole, '0', (1, 8, 8), 10)\n"
    )
    (tmp_path / "pooling_net.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    spec = digits(model={"name": "pooling_net:net"}, method=method)
    if not refused:
        describe(spec, ServerSettings(device="cpu"))
        return
    with pytest.raises(ConfigError, match=r"lets the client learn, and no parameter of its front .*cut later"):
        describe(spec, ServerSettings(device="cpu"))
