"""A sweep's page, README.md in its results folder: question, table, picture, and the command that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from heron_core.version import __version__
from heron_server.text.toml import to_toml
from heron_server.text.units import UNKNOWN, bytes_text, macs_text, number_text, seconds_text
from heron_simulator.sweep.figures import Gathered, Spread, headline
from heron_simulator.sweep.file import CONTROL
from heron_simulator.sweep.paired import lower_is_better, paired, share_text, text
from heron_simulator.sweep.plan import Sweep, shown

HEADINGS = {
    "metric": "the task's figure",
    "auxiliary_accuracy": "auxiliary head",
    "trained_accuracy": "trained back, beside its average",
    "best_accuracy": "best round",
    "bytes_per_round": "bytes a round",
    "messages_per_round": "messages a round",
    "bytes_total": "bytes in all",
    "bytes_to_target": "bytes to the target's accuracy",
    "paper_bytes": "in all, as the paper charges",
    "paper_bytes_per_round": "as the paper charges",
    "passes_per_step": "forward passes a step",
    "step_macs": "MACs a step",
    "network_s_per_round": "a round over the network",
    "network_s": "the run over the network",
    "participants": "clients a round",
}
MOST_SETTINGS = 200
"""Characters of a setting's value that the page shows."""


def page(sweep: Sweep, gathered: Sequence[Gathered], picture: str | None, command: str) -> str:
    """Markdown. Nothing in it depends on the machine that made it."""
    file = sweep.file
    parts = [f"# {file.title or sweep.name}", file.question, *([file.finding] if file.finding else [])]
    if picture:
        parts.append(f"![{file.title or sweep.name}]({picture})")
    parts += [_table(sweep, gathered), _reading(sweep, gathered), _failures(gathered), _made(sweep, command)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(sweep: Sweep, gathered: Sequence[Gathered]) -> str:
    axes, columns, (column, figure) = list(sweep.file.axes), sweep.file.columns, headline(gathered)
    controlled = any(g.point.controls for g in gathered)
    headings = [
        *([""] if sweep.file.variants else []), *(key.rpartition(".")[2] for key in axes), figure,
        *(_control_headings(sweep, _better(gathered)) if controlled else []), "majority class",
        *(HEADINGS.get(c, c) for c in columns),
    ]  # fmt: skip
    lines = [_line(headings), _line(["---"] * len(headings))]
    for g in gathered:
        lines.append(_line([
            *([g.point.label] if sweep.file.variants else []), *(shown(g.point.axes[key]) for key in axes),
            spread_text(column, g.spread(column)), *(_control(sweep, gathered, g, column) if controlled else []),
            *(_cell(g, c) for c in ("majority_accuracy", *columns)),
        ]))  # fmt: skip
    return "\n".join(lines)


def _cell(g: Gathered, column: str) -> str:
    """One column's spread; of the target's bytes also on how many seeds it was reached, where not on all."""
    spread = g.spread(column)
    if column != "bytes_to_target" or (spread and spread.seeds == len(g.rows)):
        return spread_text(column, spread)
    return f"{spread_text(column, spread)} ({spread.seeds} of {len(g.rows)} seeds)" if spread else "not reached"


def control_name(sweep: Sweep) -> str:
    """What the table and the picture call the control."""
    control = sweep.file.control
    return control if isinstance(control, str) else "frozen control"


def _better(gathered: Sequence[Gathered]) -> str:
    """Where a run lies that is better than its control."""
    return "below" if any(lower_is_better(g, headline(gathered)[0]) for g in gathered) else "above"


def _control_headings(sweep: Sweep, better: str) -> list[str]:
    return [control_name(sweep), f"{better} it", *(["of the way to the ceiling"] if sweep.file.ceiling else [])]


def _control(sweep: Sweep, gathered: Sequence[Gathered], g: Gathered, column: str) -> list[str]:
    """The control, what the point is above it, and the share of the way to the ceiling if there is one."""
    if not g.point.controls:
        return ["is one", *["-"] * (2 if sweep.file.ceiling else 1)]
    found = paired(g, column)
    cells = [spread_text(column, g.control(column)), text(found)]
    if sweep.file.ceiling:
        (top,) = (c for c in gathered if c.point.label == sweep.file.ceiling and c.point.axes == g.point.axes)
        cells.append(share_text(found, paired(top, column)))
    return cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def spread_text(column: str, spread: Spread | None) -> str:
    """`91.4 +- 0.6 %` for shares; for what does not vary over the seeds, the figure alone."""
    if spread is None:
        return UNKNOWN
    if column.endswith("accuracy"):
        return f"{100 * spread.mean:.1f}{f' ± {100 * spread.deviation:.1f}' if spread.seeds > 1 else ''} %"
    text = _number(column, spread.mean)
    return text if spread.deviation <= 1e-3 * abs(spread.mean) else f"{text} ± {_number(column, spread.deviation)}"


def _number(column: str, value: float) -> str:
    if "bytes" in column:
        return bytes_text(value)
    if "_s" in column and column.partition("_s")[2] in ("", "_per_round"):
        return seconds_text(value)
    if column.endswith("macs"):
        return macs_text(value)
    return f"{value:,.0f}" if "messages" in column else number_text(value)


def _reading(sweep: Sweep, gathered: Sequence[Gathered]) -> str:
    seeds = sweep.file.seeds
    validation = gathered[0].point.runs[0].spec.data.validation
    where = "a validation split of the training set" if validation else "the experiment's test set"
    over = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    better, (column, name) = _better(gathered), headline(gathered)
    text = f"{name.capitalize()} on {where} after the last round: {over}."
    text += " Bytes are all that would cross the wire, both ways, and messages are those of the rounds."
    if any(g.point.controls for g in gathered):
        if all(run.spec.method.name == CONTROL for g in gathered for run in g.point.controls):
            text += (
                " The frozen control is the same run with clients that never train: only what lies "
                f"{better} it shows that clients learnt."
            )
        text += (
            f" *{better.capitalize()} it*: the mean difference{' in points' if column == 'accuracy' else ''}, seed by "
            f"seed, with its 95 % interval, and on how many seeds the run was {better} its control."
        )
    if sweep.file.target:
        text += f" The target is the accuracy of *{sweep.file.target}* after its last round, seed by seed."
    missing = len(frozenset().union(*(g.missing for g in gathered)))
    return text + (f"\n\n**Not finished: {missing} runs are missing.**" if missing else "")


def _failures(gathered: Sequence[Gathered]) -> str:
    lines = [f"- {g.point.name}: {reason}" for g in gathered for reason in g.failed]
    return "\n".join(["Runs that failed, and why:", "", *lines]) if lines else ""


def _made(sweep: Sweep, command: str) -> str:
    settings = "".join(f"{key} = {value}\n" for key, value in _common(sweep).items())
    return (
        f"## How it was made\n\n```\n{command}\n```\n\nHeron {__version__}, in the simulator, which gives the same "
        "bits as gRPC. Every run is a row of [results.csv](results.csv). What all of them share:\n\n"
        f"```\n{settings}```"
    )


def _common(sweep: Sweep) -> dict[str, str]:
    """Settings that differ from the defaults and are the same in all runs but controls, as dotted TOML."""
    from heron_core.spec.run_spec import RunSpec

    defaults = dict(_flat(RunSpec().model_dump()))
    every = [dict(_flat(run.spec.model_dump(exclude={"name", "seed"}))) for p in sweep.points for run in p.runs[:1]]
    first = every[0]
    same = [key for key in first if all(other.get(key) == first[key] for other in every)]
    return {key: _text(first[key]) for key in same if first[key] != defaults.get(key)}


def _text(value: object) -> str:
    return to_toml({"v": value}).partition("=")[2].strip()[:MOST_SETTINGS]


def _flat(tables: Mapping[str, object], above: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in tables.items():
        pairs += _flat(value, f"{above}{key}.") if isinstance(value, dict) and value else [(above + key, value)]
    return pairs


def command_of(path: Path, overrides: Sequence[str]) -> str:
    """The command as anyone may repeat it from a checkout: no absolute path."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    shown_path = path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
    return " ".join(["heron-simulate --sweep", shown_path, *(f"--set {override!r}" for override in overrides)])
