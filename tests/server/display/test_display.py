"""Displays: what a person, a log file or a program sees of a run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from server.made_records import judged, round_record

from heron_server.display.choose import make_display
from heron_server.display.json_lines import JsonDisplay
from heron_server.display.plain import PlainDisplay
from heron_server.display.rich import RichDisplay
from heron_server.metrics.figures import Judged
from heron_server.metrics.observers import Observer
from heron_server.metrics.pace import Pace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


NAMES = ("a", "b", "c")


def drive(display: Observer, rounds: int = 2, steps: int = 50, clock: Clock | None = None) -> None:
    """A run as the coordinator tells it."""
    display.listening("127.0.0.1:50051", "run-1")
    for name in NAMES:
        display.client_present(name)
    for number in range(1, rounds + 1):
        display.round_began(number, rounds, NAMES, steps)
        for _ in range(steps):
            if clock is not None:
                clock.now += 0.1
            display.upload_consumed("a")
        display.round_done(round_record(number))
    display.close()
    display.close()


@pytest.fixture(autouse=True)
def _terminal_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    yield


def test_the_stream_and_the_format_choose_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_display("text", Terminal()), RichDisplay)
    assert isinstance(make_display("text", io.StringIO()), PlainDisplay)
    assert isinstance(make_display("json", Terminal()), JsonDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display("text", Terminal()), PlainDisplay)


def test_every_display_has_a_warning_in_its_own_way() -> None:
    plain, live, lines, said = io.StringIO(), Terminal(), io.StringIO(), "warning: it learns?[2J nothing"
    for display in (PlainDisplay(plain), RichDisplay(live), JsonDisplay(lines)):
        display.warning("it learns\x1b[2J nothing")
        display.close()
    assert plain.getvalue().splitlines() == [said] and said in live.getvalue()
    found = json.loads(lines.getvalue())
    assert (found["event"], found["text"]) == ("warning", "it learns\x1b[2J nothing")


def test_plain_display_writes_one_line_a_round_and_each_note() -> None:
    out, clock = io.StringIO(), Clock()
    display = PlainDisplay(out, clock)
    display.client_joined("a")
    drive(display, clock=clock)
    lines = out.getvalue().splitlines()
    assert lines[0] == "a joined"
    assert lines[1] == "listening on 127.0.0.1:50051, run run-1; waiting for clients"
    assert lines[2] == (
        "round 1/2  accuracy 84.12 % (majority 10.20 %)  loss 0.4123  3 clients  12.0 s  10 uploads/s  5.0 s left"
    )
    assert lines[3].startswith("round 2/2") and "left" not in lines[3]
    assert len(lines) == 4


def test_plain_line_shows_the_trained_back_beside_its_average() -> None:
    out = io.StringIO()
    PlainDisplay(out).round_done(round_record(1, trained_accuracy=0.8, trained_metrics={"accuracy": 0.8}))
    assert "accuracy 84.12 % (majority 10.20 %, trained back 80.00 %)" in out.getvalue()


def test_plain_line_without_an_evaluation_shows_the_servers_loss() -> None:
    out = io.StringIO()
    record = round_record(1, metric=judged("mse", None), loss=None, majority_accuracy=None, dropped=1)
    PlainDisplay(out).round_done(record)
    assert "server loss 0.5  not evaluated  3 clients  1 dropped" in out.getvalue()


def test_the_live_display_keeps_the_last_evaluation_and_says_of_which_round_it_is() -> None:
    live = Terminal()
    display = RichDisplay(live)
    display.round_began(1, 9, NAMES, 50)
    display.round_done(round_record(1))
    display.round_done(round_record(2, metric=judged("accuracy", None)))
    display.close()
    assert "after round 1:  accuracy 84.12 %" in live.getvalue() and "not evaluated" not in live.getvalue()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (judged("mse", 0.4717, higher=False, share=False), "MSE 0.4717 (lower is better)"),
        (judged("token_loss", 1.87, higher=False, share=False), "token loss 1.87 (lower is better)"),
        (judged("mean_iou", 0.8121), "mean IoU 81.21 % (higher is better)"),
    ],
)
def test_a_round_without_classes_is_judged_by_its_tasks_figure_and_direction(metric: Judged, said: str) -> None:
    plain, live = io.StringIO(), Terminal()
    for display in (PlainDisplay(plain), RichDisplay(live)):
        display.round_began(1, 2, NAMES, 50)
        display.round_done(round_record(1, accuracy=None, majority_accuracy=None, metric=metric))
        display.close()
    assert f"round 1/2  {said}  loss 0.4123" in plain.getvalue()
    assert said in live.getvalue() and "majority" not in plain.getvalue()


def test_a_peers_text_cannot_forge_a_line_or_steer_the_terminal() -> None:
    plain, live = io.StringIO(), Terminal()
    for display in (PlainDisplay(plain), RichDisplay(live)):
        display.note("left: \x1b[2Jbye\nround 9/9 [red]x[/red]")
    assert plain.getvalue() == "left: ?[2Jbye?round 9/9 [red]x[/red]\n"
    assert "\x1b[2J" not in live.getvalue()
    assert "[red]x[/red]" in live.getvalue()


def test_json_display_writes_strict_objects_and_presence_only_when_it_changes() -> None:
    out = io.StringIO()
    display = JsonDisplay(out)
    drive(display, rounds=1)
    display.round_done(round_record(2, loss=float("nan")))
    events = [json.loads(line, parse_constant=pytest.fail) for line in out.getvalue().splitlines()]
    assert [e["event"] for e in events] == [
        "listening", "clients", "clients", "clients", "round_began", "round_done", "round_done",
    ]  # fmt: skip
    assert events[-1]["loss"] is None
    assert events[5]["accuracy"] == 0.8412
    assert all(e["time"].endswith("+00:00") for e in events)


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    class Closed(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise BrokenPipeError

    out = Closed()
    drive(PlainDisplay(out))
    assert out.writes == 1


def test_a_stream_that_is_not_unicode_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    PlainDisplay(stream).note("Gerät 7 joined")
    assert raw.getvalue() == b"Ger\\xe4t 7 joined\n"


def test_live_display_shows_round_rate_results_clients_and_ends_with_the_last() -> None:
    out, clock = Terminal(), Clock()
    drive(RichDisplay(out, clock), clock=clock)
    shown = out.getvalue()
    assert "listening on 127.0.0.1:50051, run run-1" in shown
    for part in ("round 2/2", "100 %", "done", "84.12 %", "loss 0.4123", "10 uploads/s"):
        assert part in shown


def test_live_display_in_the_middle_of_a_round_shows_clients_and_time_left() -> None:
    out, clock = Terminal(), Clock()
    display = RichDisplay(out, clock)
    for name in NAMES:
        display.client_present(name)
    display.round_began(1, 2, NAMES, 4)
    display.upload_consumed("a")
    clock.now += 2.0
    display.upload_consumed("b")
    display.close()
    for part in ("round 1/2", "25 %", "6.0 s left", "3 clients", "1 uploads/s"):
        assert part in out.getvalue()


def test_live_display_shows_each_client_s_progress_while_a_round_runs() -> None:
    out = Terminal()
    display = RichDisplay(out)
    for name in NAMES:
        display.client_present(name)
    display.round_began(1, 2, NAMES, 12)
    display.client_progress("a", 1, 3, 4)
    display.client_lost("c")
    display.close()
    assert "a 3/4  b 0/4  c away" in out.getvalue()
    assert "2 clients" in out.getvalue()


def test_plain_display_shows_nothing_of_a_client_s_progress() -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.round_began(1, 2, NAMES, 12)
    display.client_present("a")
    display.client_progress("a", 1, 3, 4)
    display.client_lost("a")
    assert out.getvalue() == ""


def test_json_display_writes_a_client_s_progress_at_most_once_a_second() -> None:
    out, clock = io.StringIO(), Clock()
    display = JsonDisplay(out, clock)
    for step in range(1, 26):
        display.client_progress("a", 1, step, 25)
        if step > 20:
            display.client_progress("b", 1, step, 25)
        clock.now += 0.125
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(e["event"], e["client"], e["round"], e["step"], e["steps"]) for e in events] == [
        ("progress", "a", 1, 1, 25), ("progress", "a", 1, 9, 25), ("progress", "a", 1, 17, 25),
        ("progress", "b", 1, 21, 25), ("progress", "a", 1, 25, 25),
    ]  # fmt: skip


def test_live_display_does_not_write_with_every_step_and_beat() -> None:
    out = Terminal()
    display = RichDisplay(out)
    display.round_began(1, 1, NAMES, 20_000)
    for step in range(20_000):
        display.upload_consumed("a")
        display.client_progress("a", 1, step, 20_000)
    display.close()
    assert len(out.getvalue()) < 50_000


def test_live_display_says_that_it_waits() -> None:
    out = Terminal()
    display = RichDisplay(out)
    display.listening("127.0.0.1:50051", "run-1")
    for name in NAMES[:2]:
        display.client_present(name)
    display.close()
    assert "waiting for clients at 127.0.0.1:50051; 2 clients here" in out.getvalue()


def test_time_left_of_a_resumed_run_counts_only_what_was_seen() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.round_began(51, 60, 10)
    assert pace.time_left_s is None
    for _ in range(5):
        clock.now += 1.0
        pace.upload_consumed()
    assert pace.position == 50.5
    assert pace.time_left_s == pytest.approx(95.0)
    assert pace.upload_rate == pytest.approx(1.0)


def test_an_abandoned_round_starts_anew_and_extra_uploads_do_not_count() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.round_began(1, 2, 4)
    pace.upload_consumed()
    pace.round_began(1, 2, 2)
    assert pace.position == 0.0
    for _ in range(9):
        clock.now += 1.0
        pace.upload_consumed()
    assert pace.position == 1.0
    assert pace.upload_rate == pytest.approx(1.0)


def test_a_round_with_a_dropped_clients_uploads_undone_is_a_whole_round() -> None:
    pace = Pace(Clock())
    pace.round_began(3, 4, 10)
    pace.upload_consumed()
    pace.round_done()
    assert pace.position == 3.0


@pytest.mark.parametrize("kind", [PlainDisplay, JsonDisplay, RichDisplay])
def test_a_paused_run_is_said(kind: type[Observer]) -> None:
    stream = Terminal()
    display = kind(stream)  # type: ignore[call-arg]
    display.listening("127.0.0.1:50051", "run-1")
    display.round_began(1, 2, NAMES, 4)
    display.paused("/run/term cannot be written: No space left on device")
    display.close()
    assert "cannot be written: No space left on device" in stream.getvalue()
    assert "paused" in stream.getvalue()


def test_the_live_lines_say_that_the_run_is_paused_until_it_goes_on() -> None:
    display = RichDisplay(Terminal())
    display.round_began(1, 2, NAMES, 4)
    display.paused("no space")
    assert "paused: the disk is full" in display._facts()
    display.round_done(round_record(1))
    assert "paused: the disk is full" not in display._facts()
    display.close()
