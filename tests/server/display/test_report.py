"""The final table and the curves: what a person keeps of a run."""

from __future__ import annotations

import builtins
import errno
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from server.made_records import judged, round_record

from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.display.report import MISSING_PLOTS, final_table, how_to_load, print_final_table, write_curves
from heron_server.metrics.figures import RoundRecord, Summary
from heron_simulator.simulator import simulate

PNG = b"\x89PNG\r\n\x1a\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def summary(method: str = "heron", **changes: Any) -> Summary:
    memory = {"peak_bytes": 3 << 20, "loaded_bytes": 2 << 20, "pss_bytes": 200 << 20}
    client = {**memory, "step_seconds_median": 0.0045, "class_histogram": [3, 0, 7]}
    made: Summary = {
        "schema": 1, "run_id": f"{method}-1", "method": method, "model": "digits_cnn", "rounds": 10, "rounds_done": 9,
        "clients": 2, "accuracy": 0.9123, "loss": 0.31409, "majority_accuracy": 0.102, "auxiliary_accuracy": 0.7,
        "metric": judged("accuracy", 0.9123), "metrics": {"accuracy": 0.9123}, "auxiliary_metrics": {"accuracy": 0.7},
        "trained_accuracy": None, "trained_metrics": {},
        "wall_s": 125.0, "model_sha256": "ab" * 32,
        "ledger": {
            "activations_up": 64 << 20, "labels_up": 2048, "cut_gradients_down": 0, "client_state_up": 100,
            "client_state_down": 100, "evaluation_up": 0, "evaluation_down": 0,
            "control": 5000, "wire_up": 70 << 20, "wire_down": 1 << 20,
        },
        "ledger_paper": {
            "activations_up": 64 << 20, "cut_gradients_down": 0, "client_state_up": 50, "client_state_down": 50,
            "total": (64 << 20) + 100,
        },
        "client_step": {
            "forward_passes": 2.0, "seconds_median": 0.0045, "peak_bytes_median": 3 << 20, "macs": 39_896_000_000,
            "macs_paper": 59_844_000_000,
        },
        "per_client": {"b": client, "a": {**client, "peak_bytes": None, "loaded_bytes": None, "pss_bytes": None}},
        "history": [],
    }  # fmt: skip
    return {**made, **changes}  # type: ignore[typeddict-item]


def line(text: str, name: str) -> str:
    return next(" ".join(row.split()) for row in text.splitlines() if row.split()[: len(name.split())] == name.split())


def test_one_runs_figures_in_units_a_person_reads() -> None:
    text = final_table([summary()])
    assert text.startswith("heron-1: heron on digits_cnn, 2 clients\n")
    assert line(text, "accuracy") == "accuracy 91.23 %"
    assert line(text, "majority-class accuracy") == "majority-class accuracy 10.20 %"
    assert line(text, "auxiliary head accuracy") == "auxiliary head accuracy 70.00 %"
    assert line(text, "loss") == "loss 0.3141"
    assert line(text, "rounds") == "rounds 9 of 10"
    assert line(text, "wall time") == "wall time 2 min 05 s"
    assert line(text, "activations up") == "activations up 64.00 MiB"
    assert line(text, "forward passes") == "forward passes 2"
    assert line(text, "multiply-accumulates") == "multiply-accumulates 39.896 G"
    assert line(text, "as the paper counts") == "as the paper counts 59.844 G"
    assert line(text, "weights up") == "weights up 50 B"
    assert line(text, "peak memory (median)") == "peak memory (median) 3.00 MiB"


def test_the_averaged_back_is_the_headline_and_the_trained_one_stands_below_it() -> None:
    averaged = summary(trained_accuracy=0.9, trained_metrics={"accuracy": 0.9})
    text = final_table([averaged])
    assert line(text, "accuracy of the averaged back") == "accuracy of the averaged back 91.23 %"
    assert line(text, "accuracy of the trained back") == "accuracy of the trained back 90.00 %"
    assert line(final_table([averaged, summary("frozen")]), "accuracy of the trained back").endswith("90.00 % -")


def test_each_client_has_a_line_with_its_own_peak_pss_and_histogram() -> None:
    text = final_table([summary()])
    assert line(text, "b") == "b 3.00 MiB 2.00 MiB 200.00 MiB 4.5 ms 3 0 7"
    assert line(text, "a") == "a - - - 4.5 ms 3 0 7"


def test_several_runs_stand_side_by_side_and_each_client_names_its_run() -> None:
    text = final_table([summary(), summary("frozen", metric=judged("accuracy", 0.5))])
    assert line(text, "accuracy") == "accuracy 91.23 % 50.00 %"
    assert line(text, "frozen b") == "frozen b 3.00 MiB 2.00 MiB 200.00 MiB 4.5 ms 3 0 7"
    same = final_table([summary(run_id="one"), summary(run_id="two")])
    assert "one       two" in same


def test_what_is_not_known_is_a_dash() -> None:
    text = final_table([summary(metric=judged("accuracy", None), loss=math.nan, majority_accuracy=None, per_client={})])
    assert line(text, "accuracy") == "accuracy -"
    assert line(text, "loss") == "loss -"


def test_a_regression_is_judged_by_its_error_and_knows_no_classes() -> None:
    figures = {**summary()["per_client"]["b"], "class_histogram": []}
    text = final_table([summary(
        accuracy=None, majority_accuracy=None, auxiliary_accuracy=None, per_client={"b": figures},
        metric=judged("mse", 0.4717, higher=False, share=False), metrics={"mse": 0.4717, "mae": 0.5652},
        auxiliary_metrics={"mse": 0.4667, "mae": 0.5606},
    )])  # fmt: skip
    assert line(text, "MSE") == "MSE (lower is better) 0.4717"
    assert line(text, "auxiliary head MSE") == "auxiliary head MSE 0.4667"
    assert line(text, "MAE") == "MAE 0.5652"
    assert line(text, "b") == "b 3.00 MiB 2.00 MiB 200.00 MiB 4.5 ms"
    assert not any(word in text for word in ("accuracy", "class", "%"))


def test_the_lines_that_load_the_model_are_shown_where_it_exists(tmp_path: Path) -> None:
    text = final_table([summary(model_path=str(tmp_path), curves_path=None, curves_hint=MISSING_PLOTS)])
    assert f'  model = load_model("{tmp_path}")\n' in text
    assert MISSING_PLOTS in text
    assert "ab" * 32 in text
    assert "load_model" not in final_table([summary(model_path=str(tmp_path / "gone"))])
    assert "allow_model_code=True" in how_to_load("m", "my.models:make")[1]


def test_the_end_of_a_run_says_what_the_model_takes_and_its_folder_too(tmp_path: Path) -> None:
    run = RunSpec.model_validate({"rounds": 1, "model": {"name": "mlp"}, "method": {"local_steps": 1}})
    result = simulate(run, clients=1, settings=ServerSettings(device="cpu"), run_dir=tmp_path).summary
    text = final_table([result])
    assert line(text, "takes") == "takes input: uint8 [B, 1, 8, 8] becomes float32 by input / 16, grey in 0..16"
    assert 'load_model("' in text and 'model", preprocess=True)\n  outputs = model(*stored)' in text
    described = json.loads((tmp_path / "model" / "model.json").read_text())
    assert described["input_contract"] == result["input_contract"] and described["input_contract"]["source"] == "digits"


def test_a_terminal_gets_the_same_figures_and_long_lines_stay_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    out = Terminal()
    print_final_table([summary(model_path=str(folder))], out)
    assert "91.23 %" in out.getvalue()
    assert f'model = load_model("{folder}")' in out.getvalue()


def history(rounds: int) -> list[RoundRecord]:
    return [
        round_record(n, 1 - 1 / n, loss=2 / n, server_loss=1 / n, client_loss=None if n == 2 else 2.0)
        for n in range(1, rounds + 1)
    ]


@pytest.mark.parametrize("rounds", [1, 3, 60])
def test_curves_are_a_picture_in_the_folder(tmp_path: Path, rounds: int) -> None:
    path, hint = write_curves(tmp_path, history(rounds), "heron on digits_cnn")
    assert path == str(tmp_path / "curves.png") and hint == ""
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_the_left_curve_is_named_after_what_judges_the_run_and_only_a_share_is_in_percent() -> None:
    from heron_server.display.curves import picture

    left = picture(history(3), "t").axes[0]
    assert (left.get_title(loc="left"), left.get_ylabel()) == ("Accuracy (higher is better)", "accuracy")
    assert left.yaxis.get_major_formatter()(0.5) == "50%" and left.get_ylim() == (0, 1.02)
    errors = [
        round_record(n, None, metric=judged("mse", 3 / n, higher=False, share=False), metrics={"mse": 3 / n},
                     auxiliary_metrics={}, majority_accuracy=None, loss=3 / n)
        for n in (1, 2)
    ]  # fmt: skip
    left = picture(errors, "t").axes[0]
    assert (left.get_title(loc="left"), left.get_ylabel()) == ("MSE (lower is better)", "MSE")
    assert "%" not in left.yaxis.get_major_formatter()(0.5)
    assert left.get_ylim()[0] == 0 and left.get_ylim()[1] > 3
    assert [line.get_label() for line in left.get_lines()] == ["whole model"]


def test_curves_of_a_run_that_nobody_evaluated(tmp_path: Path) -> None:
    blank = round_record(1, None, loss=None, majority_accuracy=None, server_loss=math.nan, client_loss=None,
                         metrics={}, auxiliary_metrics={})  # fmt: skip
    path, _ = write_curves(tmp_path, [blank], "t")
    assert path is not None


def test_without_matplotlib_there_is_a_hint_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "heron_server.display.curves", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert write_curves(tmp_path, history(2), "t") == (None, MISSING_PLOTS)


def test_a_folder_that_cannot_be_written_is_a_hint_too(tmp_path: Path) -> None:
    path, hint = write_curves(tmp_path / "missing", history(2), "t")
    assert path is None and "No such file" in hint


def test_neither_rich_nor_matplotlib_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, heron_server.display.choose, heron_server.display.report; "
        "assert not [m for m in sys.modules if m.split('.')[0] in ('rich', 'matplotlib', 'torch')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_leaves_its_curves_in_its_directory(tmp_path: Path) -> None:
    spec = RunSpec.model_validate({"rounds": 1, "federation": {"clients": 2}, "method": {"local_steps": 2}})
    kept = simulate(spec, run_dir=tmp_path, settings=ServerSettings(device="cpu")).summary
    assert kept["curves_path"] == str(tmp_path / "curves.png")
    assert f'load_model("{tmp_path / "model"}", preprocess=True)' in final_table([kept])


def test_a_simulation_that_leaves_nothing_draws_nothing() -> None:
    spec = RunSpec.model_validate({"rounds": 1, "federation": {"clients": 1}, "method": {"local_steps": 1}})
    summary_ = simulate(spec, settings=ServerSettings(device="cpu")).summary
    assert "curves_path" not in summary_
    assert "load_model" not in final_table([summary_])


@pytest.mark.parametrize("terminal", [False, True])
def test_a_table_that_nobody_can_read_is_no_failure_of_the_run(terminal: bool) -> None:
    class Gone(io.StringIO):
        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "a terminal that is gone")

    print_final_table([summary()], Gone())


def test_a_picture_that_fails_in_any_way_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from heron_server.display import curves

    def broken(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(curves, "draw", broken)
    assert write_curves(tmp_path, history(2), "t") == (None, "no curves.png: no font")


def test_a_table_that_cannot_be_made_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    torn = summary()
    del torn["client_step"]
    print_final_table([torn], io.StringIO())
    assert "no final table: KeyError('client_step')" in caplog.text
