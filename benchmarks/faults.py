"""One exception at every await, callback, observer's method and write of the server, one at a time, each in a run of
its own: every run must end with its exit code or go on to the undisturbed bits. The points are found in the code
(`tests/server/faults/points.py`). Prints what came of each kind of point, and which points no run passes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from time import perf_counter

from common import REPO, table

sys.path.insert(0, str(REPO / "tests" / "server" / "faults"))
from injection import GOOD, Result, Survey, bad, inject


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="points whose name or text contains this")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="a line for each run")
    chosen = parser.parse_args()
    begin = perf_counter()
    survey = Survey()
    cases = [case for case in survey.cases() if chosen.only in str(case)]

    def tell(result: Result) -> None:
        if chosen.verbose or result.verdict not in GOOD:
            last = result.detail.strip().rpartition("\n")[2]
            print(f"{result.verdict} ({result.seconds:.1f} s): {result.case}: {last}", flush=True)

    results = inject(survey, cases, chosen.processes, tell)
    for text in bad(results):
        print(f"\n{text}")
    print(f"\npoints that no run passes: {len(survey.never_reached())}")
    for point in survey.never_reached():
        print(f"  {point}")
    report(results)
    print(f"{perf_counter() - begin:.0f} s in all")
    return 1 if bad(results) else 0


def report(results: list[Result]) -> None:
    verdicts = sorted({result.verdict for result in results}, key=lambda v: (v in GOOD, v))
    rows = []
    for kind in ("await", "callback", "observer", "write"):
        mine = [result for result in results if result.case.point.kind == kind]
        counts = Counter(result.verdict for result in mine)
        longest = max((result.seconds for result in mine), default=0.0)
        rows.append([kind, len(mine), *[counts[verdict] for verdict in verdicts], longest])
    print()
    table(["at", "faults", *verdicts, "longest s"], rows)


if __name__ == "__main__":
    sys.exit(main())
