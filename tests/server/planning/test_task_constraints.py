"""A setting that makes no sense for the model's task is refused by its name, before any client joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from integration.five_tasks import need_data, run_of
from tiny_language import SPEC, write_decoder

from heron_core.errors import ConfigError
from heron_core.labels import LabelSpec
from heron_core.models.tasks.next_token import NextToken
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.validate import describe


def refused(spec: RunSpec, settings: ServerSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        describe(spec, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mlp(task: str, **tables: Any) -> RunSpec:
    return RunSpec.model_validate({"model": {"name": "mlp", "input_shape": [1, 8, 8], "task": task}, **tables})


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_the_digits_have_classes_and_nothing_else(task: str) -> None:
    message = refused(mlp(task), ServerSettings(test_data="none"))
    assert message.startswith(f'data.source = "digits" gives a class for each image, the task {task} wants labels ')
    assert message.endswith('bring data of your own with data.source = "client"')


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_logits_are_adjusted_by_class_shares_and_nothing_else(task: str) -> None:
    spec = mlp(task, data={"source": "client"}, method={"logit_adjustment": 1.0})
    message = refused(spec, ServerSettings(test_data="none"))
    assert message.startswith("method.logit_adjustment = 1 adds a client's class shares to the logits")
    assert message.endswith(f"the task {task} has none; set it to 0")


@pytest.mark.parametrize("partition", ["dirichlet", "shards"])
def test_only_classes_can_be_divided_by_class(partition: str) -> None:
    message = refused(mlp("regression", data={"partition": partition}), ServerSettings())
    assert message.startswith(f'data.partition = "{partition}" divides samples by class')


def test_an_image_folder_has_classes_and_nothing_else() -> None:
    spec = mlp("regression", data={"source": "client"})
    message = refused(spec, ServerSettings(test_data="image_folder", test_path=Path("images")))
    assert message.startswith('server.test_data = "image_folder" gives a class for each image, the task regression')


def test_tokens_do_not_come_from_images(monkeypatch: pytest.MonkeyPatch) -> None:
    need_data("next_token", monkeypatch)
    spec, settings = run_of("next_token", "data.source=digits", "server.test_data=none")
    message = refused(spec, settings)
    assert message.startswith('data.source = "digits" gives one float32 image a sample, the model takes tokens int64')


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("method.name=fsl_sage",), 'method.name = "fsl_sage" aligns heads'),
        (("method.auxiliary_update=aligned",), 'method.auxiliary_update = "aligned" aligns heads'),
    ],
)
def test_heads_are_aligned_over_uploads_of_one_shape(
    overrides: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_data("next_token", monkeypatch)
    message = refused(*run_of("next_token", *overrides))
    assert message.startswith(named) and "hidden, mask at the cut varies in length" in message


def test_a_head_that_learns_by_its_own_gradient_has_something_that_trains(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    write_decoder(tmp_path / "tiny")
    language = {"length": 12, "auxiliary_rank": 0}
    tables: dict[str, Any] = {"model": {**SPEC, "language": language}, "data": {"source": "client"}}
    message = refused(RunSpec.model_validate(tables), ServerSettings(data_folder=tmp_path, test_data="none"))
    assert message.startswith('method.auxiliary_update = "first_order" moves the auxiliary head by its own gradient')
    assert "model.language.auxiliary_rank" in message


def test_rows_that_vary_in_length_are_mixed_only_where_a_label_can_say_that_padding_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_data("next_token", monkeypatch)
    mixed = run_of("next_token", "method.mixing=true")
    describe(*mixed)
    all_count = LabelSpec((80,), variable=True, count=49)
    monkeypatch.setattr(NextToken, "labels", property(lambda task: all_count))
    message = refused(*mixed)
    assert message.startswith("method.mixing takes rows of several clients") and "does not count" in message


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("classification", ("task classification, judged by accuracy, higher is better",
                            "label of a sample one int64 class in 0..1")),
        ("regression", ("task regression, judged by MSE, lower is better", "label of a sample float32 [1]")),
        ("multi_label", ("task multi label, judged by F1, higher is better",
                         "label of a sample int64 [4] in 0..1")),
        ("per_pixel", ("task per pixel, judged by mean IoU, higher is better",
                       "label of a sample int64 [8, 8] in 0..1, or -100 where none counts")),
        ("next_token", ("task next token, judged by token loss, lower is better",
                        "input int64 [16, up to 80]", "crosses the cut hidden float32 [16, up to 80, 48]")),
    ],
)  # fmt: skip
def test_validate_says_what_the_task_is_and_knows_a_majority_only_of_classes(
    kind: str, lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    need_data(kind, monkeypatch)
    text = describe(*run_of(kind))
    assert set(lines) <= {" ".join(line.split()) for line in text.splitlines()}
    assert "majority" not in text
