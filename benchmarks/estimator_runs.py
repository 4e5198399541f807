"""What accuracy a run with each estimator of estimators.py reaches, and how good its gradients are.

    python benchmarks/estimator_runs.py train [--fronts F ...] [--kinds NAME ...] [--seeds N]
    python benchmarks/estimator_runs.py table       of the runs that there are
    python benchmarks/estimator_runs.py gradients

Five clients of Dirichlet-skewed digits, averaged with their moments every 4 local steps; their learning rate decays to
a tenth. The server takes its steps on mixed batches and is evaluated by its averaged back. Each kind's rate is the one
of three that is best on seed 0's 297 tuning images; then come the test seeds, with the same splits, batches and initial
values for every kind. Rows go to docs/results/estimators.csv; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from math import sqrt
from statistics import mean, stdev

import numpy as np
import torch
from common import REPO
from estimators import (
    BATCH,
    CLASSES,
    CLIENTS,
    CUT,
    FRONTS,
    FROZEN,
    HEAD,
    KINDS,
    PLAIN,
    Basis,
    Front,
    Kind,
    World,
    costs,
    directions,
    estimate,
    exact_gradient,
    forward,
)
from torch import Tensor

RESULTS = REPO / "docs" / "results" / "estimators.csv"
STEPS, AVERAGED_EVERY, SERVER_LR = 400, 4, 1e-2
RATES = (3e-3, 1e-2, 3e-2)
"""A third of these where a step's length is nearer to the rate (m^2), three times for coefficients of a basis."""
COLUMNS = ("front", "kind", "lr", "seed", "tune", "test")
Row = dict[str, str]


class Adam:
    """Rows [K, D] of parameters, the last H of which are the head's, whose second moment is always Adam's."""

    def __init__(self, shape: torch.Size, second: str = "adam") -> None:
        self.m, self.v, self.t, self.second = torch.zeros(shape), torch.zeros(shape), 0, second

    def step(self, theta: Tensor, g: Tensor, lr: float) -> None:
        """In place."""
        self.t += 1
        self.m.lerp_(g, 0.1)
        square = g * g
        if self.second == "scalar":
            square[:, :-HEAD] = square[:, :-HEAD].mean(1, keepdim=True)
        if self.second == "momentum":
            square[:, :-HEAD] = self.m[:, :-HEAD] ** 2
        self.v.lerp_(square, 0.001)
        theta -= lr / (1 - 0.9**self.t) * self.m / ((self.v / (1 - 0.999**self.t)).sqrt() + 1e-8)

    def average(self) -> None:
        """Over the clients."""
        for each in (self.m, self.v):
            each.copy_(each.mean(0, keepdim=True).expand_as(each))


class Back:
    """The server's linear classifier: mixed batches, Adam, and its average over the steps, which is evaluated."""

    def __init__(self, theta_H: Tensor, seed: int) -> None:
        self.theta_1H, self.rule, self.seed = theta_H[None].clone(), Adam(theta_H[None].shape), seed
        self.average_1H = self.theta_1H.clone()

    def serve(self, z: Tensor, y_KB: Tensor, step: int) -> None:
        """One upload [B, K 4, 2, 2] of each client: pooled, permuted, cut into as many batches."""
        pool, y = z.view(len(z), len(y_KB), CUT).transpose(0, 1).flatten(0, 1), y_KB.flatten()
        order = torch.from_numpy(np.random.default_rng([self.seed, 2, step]).permutation(len(y)))
        for rows in order.split(BATCH):
            weight, bias = self.theta_1H[0].split([CUT * CLASSES, CLASSES])
            slope = (pool[rows] @ weight.view(CUT, CLASSES) + bias).softmax(1)
            slope[torch.arange(len(rows)), y[rows]] -= 1
            slope /= len(rows)
            self.rule.step(self.theta_1H, torch.cat([(pool[rows].T @ slope).flatten(), slope.sum(0)])[None], SERVER_LR)
            n = self.rule.t
            self.average_1H.lerp_(self.theta_1H, 1 - min(0.99, (1 + n) / (10 + n)))


@torch.no_grad()
def train(name: str, front: Front, world: World, lr: float) -> tuple[Tensor, Tensor, dict[str, float]]:
    """theta [D] and the head [H] after the run, and accuracies of the averaged front and back."""
    kind, rng = KINDS[name], np.random.default_rng([world.seed, 3])
    theta_D, head_H, back_H = world.start(front)
    basis, back = Basis(front, kind, theta_D, world.sample()), Back(back_H, world.seed)
    theta = torch.cat([basis.start(), head_H]).repeat(CLIENTS, 1)
    rule = Adam(theta.shape, kind.second)
    for step in range(STEPS):
        x, y_KB = world.batch(step)
        if name == FROZEN:
            z = forward(front, theta[:, :-HEAD], x)[-1]
        else:
            gradient, z = estimate(front, kind, basis, theta[:, :-HEAD], theta[:, -HEAD:], x, y_KB, rng)
            rule.step(theta, gradient, lr * (1 - 0.9 * step / STEPS))
        back.serve(z, y_KB, step)
        if (step + 1) % AVERAGED_EVERY == 0:
            theta.copy_(theta.mean(0, keepdim=True).expand_as(theta))
            rule.average()
    full_1D, found = basis.full(theta[:1, :-HEAD]), {}
    for part, rows in world.parts.items():
        logits = (
            forward(front, full_1D, world.x[rows][:, None])[-1].flatten(1)
            @ back.average_1H[0, :-CLASSES].view(CUT, CLASSES)
            + back.average_1H[0, -CLASSES:]
        )
        found[part] = 100 * float((logits.argmax(1) == world.y[rows]).float().mean())
    return full_1D[0], theta[0, -HEAD:], found


# -- all runs, and their table -----------------------------------------------------------------------------------------


def rows() -> list[Row]:
    """Those that have been run."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def run(name: str, kind: str, lr: float, seed: int) -> Row:
    """One run's row; from the file where it is there, else made and added to it."""
    key = {"front": name, "kind": kind, "lr": f"{lr:g}", "seed": f"{seed}"}
    for row in rows():
        if key.items() <= row.items():
            return row
    *_, found = train(kind, FRONTS[name], World(seed), lr)
    row = key | {part: f"{accuracy:.2f}" for part, accuracy in found.items()}
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)
    return row


def tuned(name: str, kind: str) -> float:
    """The learning rate that is best on the tuning seed."""
    factor = {"momentum": 1 / 3}.get(KINDS[kind].second, 3 if KINDS[kind].span else 1)
    rates = RATES[-1:] if kind == FROZEN else [float(f"{factor * lr:.1g}") for lr in RATES]
    return max(rates, key=lambda lr: float(run(name, kind, lr, 0)["tune"]))


def price(front: Front, kind: str, basis: Basis | None = None) -> float:
    """Multiply-accumulates of a local step over those of a plain one; of a frozen client's, a forward pass."""
    if kind == FROZEN:
        return sum(block.macs for block in front) * BATCH / price_of(front, KINDS[PLAIN], None)
    return price_of(front, KINDS[kind], basis) / price_of(front, KINDS[PLAIN], None)


def price_of(front: Front, kind: Kind, basis: Basis | None) -> int:
    """Multiply-accumulates of a local step."""
    if basis is None:
        basis = Basis(front, kind, World(0).start(front)[0], World(0).sample())
    base, probe = costs(front, kind, basis)
    return base + probe * directions(front, kind, basis)


def table(name: str) -> None:
    """Markdown: accuracy, the paired difference to plain and to frozen, each with its standard error."""
    print(f"\n| front {name} | MACs | lr | test accuracy % | seeds | against plain | against frozen |")
    print("|---|---|---|---|---|---|---|")
    tests: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    rates = {}
    for row in rows():
        if row["front"] == name and row["seed"] != "0":
            tests[row["kind"]][row["seed"]], rates[row["kind"]] = float(row["test"]), row["lr"]
    for kind, mine in tests.items():
        if len(mine) < 2:
            continue
        cells = [gain(mine, tests[other]) if kind != other else "" for other in (PLAIN, FROZEN)]
        accuracy = f"{mean(mine.values()):.1f} ± {stdev(mine.values()):.1f}"
        rate = rates[kind] if kind != FROZEN else ""
        print(f"| {kind} | {price(FRONTS[name], kind):.2f} | {rate} | {accuracy} | {len(mine)} | {' | '.join(cells)} |")


def gain(mine: dict[str, float], others: dict[str, float]) -> str:
    """Mean paired difference, its standard error, and on how many seeds it is above 0."""
    each = [mine[seed] - others[seed] for seed in mine if seed in others]
    if len(each) < 2:
        return ""
    above = sum(difference > 0 for difference in each)
    return f"{mean(each):+.1f} ± {stdev(each) / sqrt(len(each)):.1f}, {above} of {len(each)}"


# -- how good is a gradient --------------------------------------------------------------------------------------------


def gradients(name: str, draws: int = 40) -> None:
    """Markdown: of `draws` batches of seed 1's clients, at the initial values and after a plain run."""
    front, world = FRONTS[name], World(1)
    start, head, _ = world.start(front)
    trained = train(PLAIN, front, world, tuned(name, PLAIN))[:2]
    print(f"\n| front {name} | MACs | d | at | cosine | error | error x MACs | along |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, (when, (theta_D, head_H)) in product(KINDS, (("start", (start, head)), ("end", trained))):
        if kind == FROZEN or KINDS[kind].second != "adam":
            continue
        basis = Basis(front, KINDS[kind], theta_D, world.sample())
        cosine, error, along, deviation = quality(front, KINDS[kind], basis, head_H, world, draws)
        cost = price(front, kind, basis)
        size = sum(basis.parts[: len(front) - KINDS[kind].exact]) * (not KINDS[kind].fixed)
        print(f"| {kind} | {cost:.2f} | {size} | {when} | {cosine:.3f} | {error:.4g} | {error * cost:.4g} | "
              f"{along:.3f} ± {deviation:.3f} |", flush=True)  # fmt: skip


def quality(
    front: Front, kind: Kind, basis: Basis, head_H: Tensor, world: World, draws: int
) -> tuple[float, float, float, float]:
    """Of the front's estimate against the batch's exact gradient: mean cosine, mean squared error over the squared
    norm, and <estimate, exact> / |exact|^2, which is 1 without bias, with its standard error."""
    rng, found = np.random.default_rng(7), []
    theta_KP, head_KH = basis.start().repeat(CLIENTS, 1), head_H.repeat(CLIENTS, 1)
    for step in range(draws):
        x, y_KB = world.batch(step)
        g = basis.across(estimate(front, kind, basis, theta_KP, head_KH, x, y_KB, rng)[0][:, :-HEAD])
        true = exact_gradient(front, basis.origin_D.repeat(CLIENTS, 1), head_KH, x, y_KB)[:, :-HEAD]
        along, norm2 = (g * true).sum(1), (true * true).sum(1)
        cosine = along / (g.norm(dim=1) * norm2.sqrt())
        found.append(torch.stack([cosine, ((g - true) ** 2).sum(1) / norm2, along / norm2]))
    all_3N = torch.cat(found, 1).double()
    cosine, error, along = all_3N.mean(1).tolist()
    return cosine, error, along, float(all_3N[2].std()) / sqrt(all_3N.shape[1])


def main() -> None:
    """Runs, or prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("train", "table", "gradients"))
    parser.add_argument("--fronts", nargs="+", default=list(FRONTS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.what == "train":
        for name, kind in product(asked.fronts, asked.kinds):
            lr = tuned(name, kind)
            for seed in range(1, asked.seeds + 1):
                run(name, kind, lr, seed)
    for name in asked.fronts:
        (gradients if asked.what == "gradients" else table)(name)


if __name__ == "__main__":
    main()
