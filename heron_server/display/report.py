"""What a finished run leaves for a person: the final table, and curves.png in the run directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TextIO

from heron_core.data.contract import InputContract
from heron_core.process.console import printable
from heron_server.metrics.figures import ClientRecord, RoundRecord, Summary
from heron_server.text.figures import direction_text, name_text, value_text
from heron_server.text.tables import Section, plain_text, print_sections
from heron_server.text.units import (
    bytes_text,
    histogram_text,
    macs_text,
    number_text,
    percent_text,
    seconds_text,
)

log = logging.getLogger("heron.server")

Row = tuple[str, ...]
Figure = tuple[str, Callable[[Summary], str]]
"""A line of a table: its name, and what it shows of a run."""
MISSING_PLOTS = 'no curves.png: matplotlib is missing; pip install "heron-sfl[plots]"'

PAPER_LEDGER = (
    ("activations up", "activations_up"),
    ("cut gradients down", "cut_gradients_down"),
    ("weights up", "client_state_up"),
    ("weights down", "client_state_down"),
    ("all", "total"),
)
LEDGER = (
    ("activations up", "activations_up"),
    ("labels up", "labels_up"),
    ("cut gradients down", "cut_gradients_down"),
    ("client state up", "client_state_up"),
    ("client state down", "client_state_down"),
    ("evaluation up", "evaluation_up"),
    ("evaluation down", "evaluation_down"),
    ("control", "control"),
    ("all up", "wire_up"),
    ("all down", "wire_down"),
)


def final_table(summaries: Sequence[Summary]) -> str:
    """The final table as plain text."""
    return plain_text(final_sections(summaries))


def print_final_table(summaries: Sequence[Summary], file: TextIO) -> None:
    """One run, or several side by side, as suits the file. A finished run never fails for its table: summary.json has
    it all."""
    try:
        print_sections(final_sections(summaries), file)
    except (Exception, SystemExit) as error:  # rich leaves the program where a pipe is broken
        log.warning("no final table: %r", error)


def write_curves(folder: Path, history: Sequence[RoundRecord], title: str) -> tuple[str | None, str]:
    """Draws folder/curves.png; returns its path, or None and why there is none. A run never fails for its picture."""
    try:
        from heron_server.display.curves import draw
    except ImportError:
        return None, MISSING_PLOTS
    if not history:
        return None, "no curves.png: no round was done"
    try:
        return str(draw(folder / "curves.png", history, title)), ""
    except Exception as error:
        return None, f"no curves.png: {error}"


def final_sections(summaries: Sequence[Summary]) -> list[Section]:
    """Results, bytes, client steps; then each client; then each model and how to load it."""
    columns = ("", *(heading for heading, _ in _headed(summaries))) if len(summaries) > 1 else ()

    def table(title: str, rows: Sequence[Figure]) -> Section:
        return Section(title, [(name, *(show(s) for s in summaries)) for name, show in rows], columns)

    return [
        table(_title(summaries), _results(summaries)),
        table("Bytes on the wire", [(name, _wire_bytes(kind)) for name, kind in LEDGER]),
        table("Bytes as the paper charges", [(name, _paper_bytes(kind)) for name, kind in PAPER_LEDGER]),
        table("Client step", _CLIENT_STEP),
        _clients(summaries),
        *(section for heading, s in _headed(summaries) for section in _written(heading if columns else "", s)),
        *(_saved(f"Model ({heading})" if columns else "Model", s) for heading, s in _headed(summaries)),
    ]


def _results(summaries: Sequence[Summary]) -> list[Figure]:
    """The figure that judges the runs, the trained back's where that is not it, the majority class where there are
    classes, the task's other figures, losses."""
    metric, others = summaries[0]["metric"], summaries[0]["metrics"]
    name, share = metric["name"], metric["is_share"]
    direction = "" if name == "accuracy" else f" ({direction_text(metric['higher_is_better'])})"
    averaged = [bool(s["trained_metrics"]) for s in summaries]
    of = " of the averaged back" if all(averaged) else ""
    rows: list[Figure] = [(name_text(name) + of + direction, lambda s: value_text(s["metric"]["value"], share))]
    if any(averaged):
        rows.append(
            (f"{name_text(name)} of the trained back", lambda s: value_text(s["trained_metrics"].get(name), share))
        )
    if any(s["majority_accuracy"] is not None for s in summaries):
        rows.append(("majority-class accuracy", lambda s: percent_text(s["majority_accuracy"])))
    rows.append((f"auxiliary head {name_text(name)}", lambda s: value_text(s["auxiliary_metrics"].get(name), share)))
    rows += [(name_text(other), _other_metric(other)) for other in others if other != name]
    if any("start" in s for s in summaries):
        rows += [(f"{name_text(each)} before training", _at_the_start(each)) for each in others]
    return [*rows, *_LOSSES]


def _other_metric(name: str) -> Callable[[Summary], str]:
    return lambda s: number_text(s["metrics"].get(name))


def _at_the_start(name: str) -> Callable[[Summary], str]:
    return lambda s: number_text(s["start"]["metrics"].get(name)) if "start" in s else ""


_LOSSES: Sequence[Figure] = (
    ("loss", lambda s: number_text(s["loss"])),
    ("client loss, first step", lambda s: _only(s["history"][:1], "client_loss_first")),
    ("client loss, last step", lambda s: _only(s["history"][-1:], "client_loss_last")),
    ("rounds", lambda s: f"{s['rounds_done']} of {s['rounds']}"),
    ("wall time", lambda s: seconds_text(s["wall_s"])),
)

_CLIENT_STEP: Sequence[Figure] = (
    ("time (median)", lambda s: seconds_text(s["client_step"]["seconds_median"])),
    ("forward passes", lambda s: number_text(s["client_step"]["forward_passes"])),
    ("multiply-accumulates", lambda s: macs_text(s["client_step"]["macs"])),
    ("as the paper counts", lambda s: macs_text(s["client_step"]["macs_paper"])),
    ("peak memory (median)", lambda s: bytes_text(s["client_step"]["peak_bytes_median"])),
)


def _only(rounds: Sequence[RoundRecord], key: Literal["client_loss_first", "client_loss_last"]) -> str:
    """A figure of one round, if there was one."""
    return number_text(rounds[0][key] if rounds else None)


def _wire_bytes(kind: str) -> Callable[[Summary], str]:
    return lambda s: bytes_text(s["ledger"][kind])


def _paper_bytes(kind: str) -> Callable[[Summary], str]:
    return lambda s: bytes_text(s["ledger_paper"][kind])


def _title(summaries: Sequence[Summary]) -> str:
    if len(summaries) > 1:
        return "Results"
    only = summaries[0]
    return printable(f"{only['run_id']}: {only['method']} on {only['model']}, {only['clients']} clients")


def _headed(summaries: Sequence[Summary]) -> list[tuple[str, Summary]]:
    """Each run under its method, or its run id where the methods do not tell the runs apart."""
    by_method = len({s["method"] for s in summaries}) == len(summaries)
    return [(s["method"] if by_method else s["run_id"], s) for s in summaries]


def _clients(summaries: Sequence[Summary]) -> Section:
    """One line a client and run."""
    several = len(summaries) > 1
    found = [
        (heading, name, figures)
        for heading, summary in _headed(summaries)
        for name, figures in sorted(summary["per_client"].items())
    ]
    classes = any(figures["class_histogram"] for _, _, figures in found)
    names = summaries[0].get("class_names", [])
    rows = [
        ((heading,) if several else ()) + _client_row(name, figures, classes, names) for heading, name, figures in found
    ]
    columns = (*(["run"] if several else []), "client", "peak memory", "before", "PSS", "step",
               *(["samples of each class"] if classes else []))  # fmt: skip
    return Section("Clients", rows, columns if rows else ())


def _client_row(name: str, figures: ClientRecord, classes: bool, names: Sequence[str]) -> Row:
    return (
        name,
        bytes_text(figures["peak_bytes"]),
        bytes_text(figures["loaded_bytes"]),
        bytes_text(figures["pss_bytes"]),
        seconds_text(figures["step_seconds_median"]),
        *([histogram_text(figures["class_histogram"], names)] if classes else []),
    )


def _written(heading: str, summary: Summary) -> list[Section]:
    """What a language model writes: before it was trained, where that is known, and after."""
    samples, before = summary.get("samples", []), summary["start"]["samples"] if "start" in summary else []
    rows: list[Row] = []
    for number, sample in enumerate(samples):
        rows += [("prompt", sample["prompt"]), ("reference", sample["reference"])]
        rows += [("before training", before[number]["written"])] if number < len(before) else []
        rows.append(("written", sample["written"]))
    return [Section(f"Written ({heading})" if heading else "Written", rows)] if rows else []


def _saved(title: str, summary: Summary) -> Section:
    """SHA-256, where the model is, and the lines that load it."""
    rows: list[Row] = [("SHA-256", summary["model_sha256"])]
    path = summary.get("model_path")
    if path is None or not Path(path).exists():  # a simulation without a run directory leaves nothing
        return Section(title, rows)
    rows.append(("saved in", path))
    if summary.get("averaged_back"):
        rows.append(("back", "the averaged one; load_model(..., averaged=False) loads the trained one"))
    curves = summary.get("curves_path")
    rows.append(("curves", curves or summary.get("curves_hint") or "none"))
    contract = InputContract.model_validate(summary["input_contract"]) if "input_contract" in summary else None
    rows += [("takes" if n == 0 else "", str(given)) for n, given in enumerate(contract.inputs if contract else ())]
    return Section(title, rows, text=["", *how_to_load(path, summary["model"], contract is not None)])


def how_to_load(path: str, model: str, contract: bool = False) -> list[str]:
    """Three lines of Python; the user's own code has to be allowed. `contract`: is it known what stored values are?"""
    allow, preprocess, called = ", allow_model_code=True" if ":" in model else "", "", "*inputs"
    what = "the inputs [B, ...] that model.json names"
    if contract:
        preprocess, called, what = ", preprocess=True", "*stored", "values as they are stored, one argument an input"
    return [
        "from heron_core import load_model",
        f'model = load_model("{path}"{preprocess}{allow})',
        f"outputs = model({called})  # {what}",
    ]
