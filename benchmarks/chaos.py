"""Random moments in real runs: a server and three clients, each a process, are killed, stopped, cut off or find their
disk full, and are started again; every run must end by itself, with the undisturbed bits where nobody was left out.

Every trial is drawn from --seed and its number. A run must end within 90 s of its last disturbance, and clients give
up after 10 s without a server (`disturbed_run.py`); `endings.py` says what is checked of the bits and the ledger. What
is stopped goes on after 1 to 60 s, mostly after a few. Failing writes are a small file system, mounted as the run
directory's own, that is filled and freed again; where mounting is not allowed, that kind is left out, and it says so.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from common import table
from disturbed_run import ENDS_S, DisturbedRun, mounting_is_allowed
from endings import CLIENTS, Disturbance, Ending, Plan, Undisturbed
from warm import Fresh, Starter, Warm

KINDS = (
    "kill-server", "term-server", "stop-server", "kill-client", "term-client", "stop-client", "cut-link", "full-disk",
)  # fmt: skip
SERVER_KILLS = "server-kills"
LATE = 1.3
"""Moments lie in so many times an undisturbed run's length: a disturbed one is longer."""
WITHOUT_IDENTITY, FEWER_ARE_ENOUGH = 0.25, 0.2
"""Shares of trials whose clients lose theirs when they end, and of those whose rounds go on with two clients."""


def plan(number: int, seed: int, kinds: Sequence[str], length_s: float, server_kills: bool) -> Plan:
    """The trial of this number: one to three disturbances at random moments."""
    rng = random.Random(f"{seed}/{number}")
    chosen = [rng.choice(kinds) for _ in range(rng.choice((1, 1, 2, 3)))]
    moments = sorted(rng.uniform(0, LATE * length_s) for _ in chosen)
    found = tuple(
        Disturbance(kind, at_s, rng.randrange(CLIENTS), _lasts(kind, rng))
        for kind, at_s in zip(chosen, moments, strict=True)
    )
    if server_kills:
        return Plan(number, found)
    least = CLIENTS - 1 if rng.random() < FEWER_ARE_ENOUGH else CLIENTS
    return Plan(number, found, least, rng.random() >= WITHOUT_IDENTITY)


def _lasts(kind: str, rng: random.Random) -> float:
    """Seconds: mostly around the deadlines of the run, seldom up to a minute."""
    if kind.startswith(("kill", "term")):
        return 0.0
    if kind.startswith("stop"):
        low, high = rng.choices(((1, 4), (4, 12), (12, 60)), (85, 12, 3))[0]
        return rng.uniform(low, high)
    return rng.uniform(0.1, 4.0)


def undisturbed(starter: Starter, folder: Path) -> Undisturbed:
    """A run that is left alone; the second of two, when all is warm."""
    for name in ("first", "second"):
        end = DisturbedRun(Plan(-1, ()), folder / name, starter, None).run()
        if end.wrong or end.refusals or end.summary is None:
            raise SystemExit(f"the undisturbed run went wrong: {end.wrong} {dict(end.refusals)}")
    ledger, history = end.summary["ledger"], end.summary["history"]
    uploads = ledger["activations_up"] + ledger["labels_up"]
    return Undisturbed(
        end.seconds, end.summary["model_sha256"], uploads / sum(record["participants"] for record in history)
    )


def trials(plans: Sequence[Plan], starter: Starter, folder: Path, whole: Undisturbed, parallel: int) -> list[Ending]:
    """Every plan's ending, as they come; says each that went wrong."""

    def one(each: Plan) -> Ending:
        end = DisturbedRun(each, folder / f"trial-{each.number:04d}", starter, whole).run()
        what = "; ".join(str(d) for d in each.disturbances)
        word = "WRONG" if end.wrong else "same bits" if end.same_bits else "other clients, other bits"
        print(f"trial {each.number}: {end.seconds:.1f} s, {word}: {what}", flush=True)
        for text in end.wrong:
            print(f"  {text}", flush=True)
        return end

    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(one, plans))


def report(endings: Sequence[Ending], kinds: Sequence[str], skipped: Sequence[str], whole: Undisturbed) -> bool:
    """Prints the tables; True if nothing went wrong."""
    print(f"\nundisturbed: {whole.seconds:.1f} s")
    rows = []
    for kind in kinds:
        mine = [end for end in endings if any(d.kind == kind for d in end.plan.disturbances)]
        times = sum(d.kind == kind for end in mine for d in end.plan.disturbances)
        longest = max((end.seconds for end in mine), default=0.0)
        same, wrong = sum(end.same_bits for end in mine), sum(bool(end.wrong) for end in mine)
        rows.append([kind, times, len(mine), same, wrong, longest])
    table(["disturbance", "times", "trials", "same bits", "wrong", "longest s"], rows)
    for kind in skipped:
        print(f"{kind}: left out, mounting is not allowed here")
    print(f"\nruns waited for space on their disk {sum(end.pauses for end in endings)} times")
    refusals = sum((end.refusals for end in endings), Counter[str]())
    print(f"refusals: {refusals.total()}")
    for text, count in refusals.most_common():
        print(f"  {count:4d}  {text}")
    ended = sum(not any("did not end" in text for text in end.wrong) for end in endings)
    same, wrong = sum(end.same_bits for end in endings), sum(bool(end.wrong) for end in endings)
    print(
        f"\n{ended} of {len(endings)} ended by themselves within {ENDS_S:g} s of their last disturbance, "
        f"{same} with the undisturbed bits; {wrong} went wrong"
    )
    return wrong == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=(*KINDS, SERVER_KILLS), help=f"{SERVER_KILLS}: kills of the server alone")
    parser.add_argument("--parallel", type=int, default=2, help="trials at once")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial, to see one again")
    parser.add_argument("--fresh", action="store_true", help="an interpreter of its own for each start: 2 s more each")
    parser.add_argument("--keep", type=Path, help="where the folders of trials that went wrong are kept")
    chosen = parser.parse_args()
    begin = perf_counter()
    with tempfile.TemporaryDirectory(prefix="heron-chaos-") as name:
        folder = chosen.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        server_kills = chosen.only == SERVER_KILLS
        kinds = ["kill-server"] if server_kills else [chosen.only] if chosen.only else list(KINDS)
        skipped = [] if "full-disk" not in kinds or mounting_is_allowed(folder) else ["full-disk"]
        kinds = [kind for kind in kinds if kind not in skipped]
        if not kinds:
            print(f"{skipped[0]}: left out, mounting is not allowed here")
            return 0
        starter: Starter = Fresh() if chosen.fresh else Warm()
        try:
            whole = undisturbed(starter, folder)
            numbers = range(chosen.first, chosen.first + chosen.trials)
            plans = [plan(number, chosen.seed, kinds, whole.seconds, server_kills) for number in numbers]
            endings = trials(plans, starter, folder, whole, chosen.parallel)
        finally:
            starter.close()
        good = report(endings, kinds, skipped, whole)
    print(f"{perf_counter() - begin:.0f} s in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
