"""The sweep file: a base run, what varies, and how the results are shown."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, JsonValue

from heron_core.config import LocalPath, load_tables, placed, validate
from heron_core.spec.kinds import Flag, Positive, Settings
from heron_simulator.settings import SimulationFile

Tables = dict[str, JsonValue]
"""Settings as a file says them, not yet checked."""
CONTROL = "frozen"
"""Label of the control's rows: clients that never train."""


class Variant(Settings):
    label: str = Field(min_length=1)
    """What the table and the picture call it."""
    set: Tables = Field(default_factory=dict)
    """Settings laid over the base run, as tables or under dotted keys: {"method.name" = "cse_fsl"}."""


class SweepFile(Settings):
    title: str = ""
    """Heading of the page and the picture. Empty: the file's name."""
    question: str = ""
    """What the sweep answers, in a sentence or two."""
    finding: str = ""
    """What came out, in a sentence or two, once it has been looked at."""
    base: LocalPath | None = None
    """A run file to start from. Empty: the defaults of the run spec."""
    run: Tables = Field(default_factory=dict)
    """Tables of a run file, laid over the base; [run.simulate] and [run.server] too."""
    axes: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    """Dotted setting -> the values it takes. Several axes: every combination."""
    variants: tuple[Variant, ...] = ()
    """Named sets of settings; every axis runs for each of them. None: the base run alone."""
    seeds: Positive = 3
    """Runs of each point, with seeds 0, 1, 2 and so on."""
    first_seed: int = 0
    """The first of them; fresh seeds for a final table."""
    control: Flag | str = True
    """Beside every point: true, its own frozen control; or the variant of this label, which is the control of them all.
    false: none."""
    ceiling: str = ""
    """Label of the variant that is the ceiling: the page says what share of the way to it from the control each point
    goes. Empty: no such column."""
    target: str = ""
    """Label of the variant whose accuracy, seed by seed, the column `bytes_to_target` asks for: bytes both ways until a
    run is first as accurate. Empty: no such column."""
    x: str = ""
    """The picture's horizontal axis: a dotted setting, a column of results.csv, or, for learning curves, `round` or
    `bytes` (both ways, so far). Empty: the first axis, or else one place for each variant."""
    log_x: Flag = False
    """Logarithmic horizontal axis."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Columns of results.csv to draw, one picture each."""
    columns: tuple[str, ...] = ("auxiliary_accuracy", "bytes_per_round", "messages_per_round")
    """Columns of results.csv that stand in the page's table beside accuracy, control and majority class."""


def load_sweep_file(path: Path, overrides: list[str]) -> tuple[SweepFile, Tables]:
    """The sweep, and the base run's tables with [run] laid over them; raises ConfigError."""
    sweep = validate(SweepFile, load_tables(SweepFile, path, overrides), str(path))
    base = load_tables(SimulationFile, sweep.base) if sweep.base else {}
    return sweep, merged(base, placed(SimulationFile, expanded(sweep.run), path.parent))


def merged(below: Tables, above: Tables) -> Tables:
    """Tables laid over tables; where one of the two is no table, `above` wins."""
    out = dict(below)
    for key, value in above.items():
        held = out.get(key)
        out[key] = merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return out


def expanded(tables: Tables) -> Tables:
    """Dotted keys as tables: {"method.zo.mu": 1} is {"method": {"zo": {"mu": 1}}}."""
    out: Tables = {}
    for key, value in tables.items():
        head, _, rest = key.partition(".")
        inner = expanded({rest: value}) if rest else expanded(value) if isinstance(value, dict) else value
        out = merged(out, {head: inner})
    return out
