"""Every aggregation rule, as slowly and literally as its paper defines it: one number or one pair of clients at a time.

x: the clients' states in rank order, each a mapping of name -> float64 array or integers; f: hostile clients.
"""

from __future__ import annotations

from math import inf, sqrt
from statistics import median, median_low

import numpy as np


def aggregate(federation, states, before, sizes, buffers=(), reach=inf):
    """(the new state, each client's weight in rank order). `before`: what the clients started from; `reach`: of Adam's
    first moment, in roots of its second."""
    name, f = federation.aggregation, federation.hostile
    x = [{n: t.astype(np.float64) if t.dtype.kind == "f" else t for n, t in s.items()} for s in states]
    b = {n: t.astype(np.float64) for n, t in before.items()}
    n = len(x)
    one = [1 / n] * n
    if name in ("uniform", "samples"):
        capped = [min(s, federation.most_samples or s) for s in sizes]
        w = one if name == "uniform" else [s / sum(capped) for s in capped]
        new = weighted(x, w, max)
    elif name == "median":
        w, new = one, coordinates(x, median)
    elif name == "trimmed_mean":
        w, new = one, coordinates(x, lambda v: mean(sorted(v)[f : n - f]))
    elif name == "geometric_median":
        w = weiszfeld(x, units(x, buffers))
        new = within_reach(weighted(x, w, median_low), before, reach)
    elif name == "nearest_mixing":
        near = nearest(distances(x, buffers), n - f)
        y = [weighted([x[i] for i in of], [1 / (n - f)] * (n - f), median_low) for of in near]
        y = [{k: v.astype(before[k].dtype).astype(x[0][k].dtype) for k, v in state.items()} for state in y]
        u = weiszfeld(y, units(y, buffers))
        w = [sum([u_j / (n - f) for u_j, of in zip(u, near, strict=True) if i in of], 0.0) for i in range(n)]
        new = within_reach(weighted(y, u, median_low), before, reach)
    elif name == "norm_clipping":
        w, new = one, clipped(x, b, federation.clip_norm, buffers)
    elif name == "bulyan":
        chosen = bulyan_selection(distances(x, buffers), f)
        w = [1 / len(chosen) if i in chosen else 0.0 for i in range(n)]
        new = coordinates([x[i] for i in chosen], lambda v: nearest_to_median(v, len(chosen) - 2 * f))
    else:
        d = distances(x, buffers)
        ordered = sorted(range(n), key=lambda i: krum_score(i, range(n), d, f))
        chosen = sorted(ordered[: 1 if name == "krum" else n - f - 2])
        w = [1 / len(chosen) if i in chosen else 0.0 for i in range(n)]
        new = x[chosen[0]] if name == "krum" else weighted([x[i] for i in chosen], [i for i in w if i], median_low)
    return {k: v.astype(before[k].dtype).reshape(before[k].shape) for k, v in new.items()}, w


def mean(values):
    """In the order given."""
    return sum(values) / len(values)


def coordinates(x, of_one, of_integer=median_low):
    """`of_one` of each floating-point number over the clients, `of_integer` of the others: the (lower) median."""
    new = {}
    for name, first in x[0].items():
        columns = zip(*(state[name].reshape(-1).tolist() for state in x), strict=True)
        rule = of_one if first.dtype.kind == "f" else of_integer
        new[name] = np.array([rule(column) for column in columns], first.dtype)
    return new


def weighted(x, w, of_integers):
    """sum w_i x_i, one client after the other."""
    new = coordinates(x, mean, of_integers)
    for name, first in x[0].items():
        if first.dtype.kind == "f":
            new[name] = sum(state[name] * w_i for state, w_i in zip(x, w, strict=True)) + np.zeros(first.shape)
    return new


# -- distances -----------------------------------------------------------------------------------------------------


def kinds(names, buffers):
    """Weights are one vector; moments and buffers are measured by themselves, by the last part of their name."""
    found = {}
    for name in names:
        apart = name in buffers or name.startswith("moments.")
        found.setdefault(name.split(".")[-1] if apart else "", []).append(name)
    return found


def squared(a, b, names):
    return sum(float(((a[n].astype(np.float64) - b[n]) ** 2).sum()) for n in names)


def units(x, buffers):
    """[(names, squared unit)]: the clients' median squared distance from their coordinate-wise median."""
    found = list(kinds(x[0], buffers).values())
    if len(found) == 1 or len(x) == 1:
        return [(names, 1.0) for names in found]
    middle = middle_of(x)
    return [(names, median(squared(middle, a, names) for a in x)) for names in found]


def middle_of(x):
    """Coordinate-wise, integers too."""
    new = coordinates([{n: t.astype(np.float64) for n, t in a.items()} for a in x], median)
    return {n: t.reshape(x[0][n].shape) for n, t in new.items()}


def in_unit(value, unit):
    return value / unit if unit else (float("inf") if value else 0.0)


def distances(x, buffers):
    """Squared, between each two clients."""
    of_kind = units(x, buffers)
    return [[sum(in_unit(squared(a, b, names), u) for names, u in of_kind) for b in x] for a in x]


# -- Krum and Bulyan -----------------------------------------------------------------------------------------------


def krum_score(i, among, d, f):
    """Blanchard et al.: s(i) = the sum over the n - f - 2 closest of ||x_i - x_j||^2."""
    others = sorted(d[i][j] for j in among if j != i)
    return sum(others[: max(1, len(among) - f - 2)])


def nearest(d, count):
    """Allouah et al.: of each client the `count` that are closest to it, itself among them."""
    return [sorted(sorted(range(len(d)), key=lambda j: row[j])[:count]) for row in d]


def bulyan_selection(d, f):
    """El Mhamdi et al.: theta = n - 2 f choices of Krum, each among those that are left."""
    left, chosen = list(range(len(d))), []
    while len(chosen) < len(d) - 2 * f:
        best = min(left, key=lambda i: (krum_score(i, left, d, f), i))
        left.remove(best)
        chosen.append(best)
    return sorted(chosen)


def nearest_to_median(values, beta):
    """The mean of the beta values closest to the median."""
    middle = median(values)
    return mean(sorted(sorted(values), key=lambda v: abs(v - middle))[:beta])


# -- geometric median and norm clipping ----------------------------------------------------------------------------


def weiszfeld(x, of_kind):
    """Pillutla et al., Algorithm 2: w_i = 1 / max(nu, ||v - x_i||), v = sum w_i x_i / sum w_i, until it stands."""
    v, w, least = middle_of(x), None, float("inf")
    for _ in range(100):
        total = [sqrt(sum(in_unit(squared(v, a, names), u) for names, u in of_kind)) for a in x]
        if w and sum(total) >= least * (1 - 1e-6):
            return w
        raw = [1 / max(1e-6, t) for t in total]
        w, least = [r / sum(raw) for r in raw], sum(total)
        v = {n: sum(a[n] * w_i for a, w_i in zip(x, w, strict=True)) for n in x[0]}
    return w


def reach_of(adam, most_steps=20_000):
    """The largest |m| / sqrt(v), by Cauchy and Schwarz the root of sum (b1^k)^2 / b2^k with its factors, and 1 %."""
    if adam.beta1**2 >= adam.beta2:
        return inf
    series = sum((adam.beta1**2 / adam.beta2) ** k for k in range(most_steps))
    return 1.01 * (1 - adam.beta1) * sqrt(series) / sqrt(1 - adam.beta2)


def within_reach(new, before, reach):
    """No |m| above reach * sqrt(v), of the numbers as they are sent."""
    if "moments.second" in new and reach < inf:
        m, v = (new[f"moments.{n}"].astype(before[f"moments.{n}"].dtype).tolist() for n in ("first", "second"))
        bounds = [reach * sqrt(v_i) for v_i in v]
        new["moments.first"] = np.array([min(max(m_i, -b), b) for m_i, b in zip(m, bounds, strict=True)])
    return new


def clipped(x, before, bound, buffers):
    """Sun et al.: the mean of before + (x_i - before) * min(1, M / ||x_i - before||), M the clients' median norm."""
    new = coordinates(x, median_low)
    for kind, names in kinds(before, buffers).items():
        norms = [sqrt(squared(a, before, names)) for a in x]
        m = bound if bound and not kind else median(norms)
        s = [min(1.0, m / norm) if norm else 1.0 for norm in norms]
        for name in names:
            if x[0][name].dtype.kind == "f":
                new[name] = mean([a[name] * s_i + before[name] * (1.0 - s_i) for a, s_i in zip(x, s, strict=True)])
    return new


# -- the server's own step -------------------------------------------------------------------------------------------


def optimised(rule, averaged, start, moments):
    """By the averaged change: FedAvgM; FedAdam and FedYogi as in Reddi et al., 2021, Algorithm 2. Keeps `moments`."""
    stepped = {}
    for name, mean_ in averaged.items():
        x = start[name].astype(np.float64)
        change, zero = mean_.astype(np.float64) - x, np.zeros(x.shape, np.float32)
        m, v = (t.astype(np.float64) for t in moments.get(name, (zero, zero + np.float32(rule.tau**2))))
        if rule.name == "fedavgm":
            m = rule.momentum * m + change
            new = x + (rule.lr or 1) * m
        else:
            m = rule.beta1 * m + (1 - rule.beta1) * change
            yogi = v - (1 - rule.beta2) * change**2 * np.sign(v - change**2)
            v = yogi if rule.name == "fedyogi" else rule.beta2 * v + (1 - rule.beta2) * change**2
            new = x + (rule.lr or 0.01) * m / (np.sqrt(v) + rule.tau)
        moments[name] = m.astype(np.float32), v.astype(np.float32)
        stepped[name] = new.astype(np.float32)
    return stepped
