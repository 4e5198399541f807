"""Mutated messages over every RPC of a real server, through real gRPC, while an honest run goes on: from outside, from
a member without a part in the round, from participants. `tests/server/mutations/` sends some of them within a process.

The messages come in parts, each with a server of its own beside an undisturbed one. What is checked of each part:
every call is answered, none with "internal" or without a reason where it should have one; the server's memory is
within 10 % of the undisturbed one's after the same round; the honest clients are refused nothing; and the digest is
the undisturbed one's or, of a run with hostile participants, that of a run which is fed what was accepted alone. A
part's line is kept in --store, so that a call with the same --seed goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from attacked_server import SHAPE, GrpcLink, Server
from common import table, verdict

from heron_server.config import load_run_file
from heron_server.run.coordinator import Coordinator
from heron_server.run.prepare import prepare
from heron_server.storage.run_dir import RunDir

from accepted import Replay  # isort: skip (beside the tests, which attacked_server has put on the path)
from attack import Attack, Role  # isort: skip

IN_TURN: tuple[Role, ...] = ("participant", "outsider", "member", "participant")
"""Whose messages a part's are, part after part."""
ROUNDS_PER_MESSAGE = {"outsider": 1 / 2000, "member": 1 / 2000, "participant": 1 / 200}
"""A participant's first refused message costs it the round, so that its rounds are short."""
PART = 125_000
MOST_GROWTH = 1.10
SETTLED = 0.2
"""Share of a run's rounds after which its memory is compared."""


def run(role: Role, rounds: int, messages: int, seed: int, folder: Path) -> tuple[Server, Attack, dict[str, Any]]:
    """One run with so many messages; its server's summary is empty where that did not end well."""
    server = Server(role, rounds, folder)

    async def scenario() -> Attack:
        attack = Attack(role, lambda: GrpcLink(server.address), SHAPE, seed)
        try:
            await attack.run(rounds, messages, server.round_done)
        except (ConnectionError, AssertionError) as error:
            attack.tally.faults.append(f"the honest run went wrong: {error!r}")
        return attack

    attack = asyncio.run(scenario())
    return server, attack, server.end()


def replayed(server: Server, run_id: str, folder: Path) -> Replay:
    """A fresh run that was fed what the server has accepted, and nothing else."""
    spec, settings = load_run_file(server.folder / "run.toml")
    trainer, _ = prepare(spec, settings)
    directory = RunDir(folder)
    replay = Replay(run_id, lambda worker, clock: Coordinator(
        spec, settings, trainer, directory, worker, clock=clock
    ))  # fmt: skip
    with (server.folder / "accepted.jsonl").open() as lines:
        replay.feed(json.loads(line) for line in lines)
    directory.close()
    assert replay.coordinator.finished, replay.coordinator.story()
    return replay


def part(role: Role, messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """One part's line."""
    rounds = max(10, round(messages * ROUNDS_PER_MESSAGE[role]))
    alone, _, undisturbed = run(role, rounds, 0, seed, folder / "alone")
    if not undisturbed:
        raise SystemExit(f"the undisturbed run went wrong:\n{alone.failure}")
    began = monotonic()
    server, attack, summary = run(role, rounds, messages, seed, folder / "attacked")
    seconds, tally, wrong = monotonic() - began, attack.tally, list(attack.tally.faults)
    if not summary:
        wrong.append(f"the server did not end well:\n{server.failure}")
    elif role == "participant":
        wrong += _compared(server, summary, folder / "replayed")
    elif summary["model_sha256"] != undisturbed["model_sha256"]:
        wrong.append("the digest is not the undisturbed one's")
    settled = [number for number in server.memory if number >= SETTLED * rounds]
    return {
        "role": role, "rounds": rounds, "messages": tally.messages, "calls": tally.calls, "seconds": seconds,
        "memory": server.memory.get(rounds, 0.0), "memory_alone": alone.memory[rounds],
        "growth": max((server.memory[n] / alone.memory[n] for n in settled), default=0.0),
        "dropped": sum(each["dropped"] for each in summary.get("history", ())),
        "said_bytes": len(server.said), "answers": [[*key, count] for key, count in sorted(tally.answers.items())],
        "wrong": wrong,
    }  # fmt: skip


def _compared(server: Server, summary: dict[str, Any], folder: Path) -> Iterator[str]:
    """What of a run with hostile participants is not as in one that was fed what was accepted alone."""
    replay = replayed(server, summary["run_id"], folder)
    digest, fed, held = replay.coordinator.model_sha256(), replay.coordinator.ledger, summary["ledger"]
    if digest != summary["model_sha256"]:
        yield f"fed what was accepted, the run has the digest {digest}, not {summary['model_sha256']}"
    if replay.upload_bytes != fed.activations_up + fed.labels_up:
        yield f"uploads of {replay.upload_bytes} bytes were accepted, and the ledger of a run fed with them says {fed}"
    if held["activations_up"] + held["labels_up"] < replay.upload_bytes:
        yield f"uploads of {replay.upload_bytes} bytes were accepted, and the ledger says {held}"
    if held["client_state_up"] < replay.update_bytes:
        yield f"updates of {replay.update_bytes} bytes were accepted, and the ledger says {held}"


@contextmanager
def stored(path: Path | None) -> Iterator[tuple[dict[str, Any], Callable[[str, Any], None]]]:
    """Lines of earlier calls by key, and what keeps another."""
    found: dict[str, Any] = {}
    if path is not None and path.exists():
        found = dict(json.loads(line) for line in path.read_text().splitlines())

    def keep(key: str, line: Any) -> None:
        found[key] = line
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps([key, line]) + "\n")

    yield found, keep


def report(lines: Sequence[dict[str, Any]]) -> bool:
    """Prints the tables; True if nothing went wrong."""
    answers: Counter[tuple[str, str]] = Counter()
    for line in lines:
        for rpc, said, count in line["answers"]:
            answers[rpc, said] += count
    print()
    table(["rpc", "answer", "calls"], [[rpc, said, count] for (rpc, said), count in sorted(answers.items())])
    print()
    columns = ("messages", "calls", "rounds", "dropped", "seconds", "memory_alone", "memory", "growth")
    rows = [[line["role"], *[line[column] for column in columns], len(line["wrong"])] for line in lines]
    table(["from", *columns, "wrong"], rows)
    for line in lines:
        for text in line["wrong"][:20]:
            print(f"{line['role']}: {text[:2000]}")
    messages, seconds = sum(line["messages"] for line in lines), sum(line["seconds"] for line in lines)
    print(f"\n{messages:,} mutated messages in {seconds:.0f} s, {messages / seconds:.0f} a second")
    verdict("server's memory, at most, over the undisturbed run's", max(line["growth"] for line in lines), MOST_GROWTH)
    wrong = sum(len(line["wrong"]) for line in lines)
    print(f"{wrong} went wrong")
    return not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=PART, help="messages of one part")
    parser.add_argument("--only", choices=sorted(set(IN_TURN)), help="parts of this kind alone")
    parser.add_argument("--store", type=Path, help="file with the lines of the parts that are done")
    chosen = parser.parse_args()
    size = min(chosen.part, -(-chosen.messages // len(IN_TURN)))
    lines = []
    with stored(chosen.store) as (done, keep):
        for number in range(-(-chosen.messages // size)):
            role = chosen.only or IN_TURN[number % len(IN_TURN)]
            key = f"{role}/{chosen.seed}/{number}/{size}"
            if key not in done:
                with tempfile.TemporaryDirectory(prefix="heron-mutations-") as name:
                    keep(key, part(role, size, chosen.seed * 1000 + number, Path(name)))
            lines.append(done[key])
            line = done[key]
            rate = line["messages"] / line["seconds"]
            memory = f"{line['memory_alone']:.1f} MiB undisturbed, {line['memory']:.1f} MiB attacked"
            wrong = len(line["wrong"])
            print(f"part {number}, {role}: {line['messages']} messages, {rate:.0f} a second; {memory}; {wrong} wrong")
            sys.stdout.flush()
    return 0 if report(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
