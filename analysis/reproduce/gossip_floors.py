"""Least squares with unlike nodes: floors under a constant step, at equal bytes and in simulated time."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from simnet.analysis.reproduce.claims import Claim, Result, Say, above, all_near, below, exact, near, rising
from simnet.analysis.reproduce.gossip_problems import Skewed
from simnet.analysis.reproduce.gossip_runs import at, first, gap_of, go, line, mixing
from simnet.compressor import Compressor
from simnet.models.algorithms.deli_coco import DeLiCoCo
from simnet.models.algorithms.naive_gossip import NaiveGossip
from simnet.models.compressors.shipped import QSGD, Identity, TopK
from simnet.record import Record

ROUNDS = 1500
# f(mean) - f* after 1500 rounds of exact gossip, by Q
FLOORS = {
    "torus": {1: 2.9393e-2, 2: 8.6612e-3, 4: 7.0798e-4, 8: 9.8569e-6, 16: 2.711e-9},
    "ring": {1: 3.1575e-1, 2: 1.7023e-1, 4: 7.5571e-2, 8: 2.3961e-2, 16: 4.9264e-3},
}
APART = {"torus": {1: 0.3916, 2: 8.40e-2, 4: 6.957e-3, 8: 9.683e-5, 16: 2.66e-8},
         "ring": {1: 5.675, 2: 2.694, 4: 1.066, 8: 0.3131, 16: 6.22e-2}}  # fmt: skip
FOUR_BITS = QSGD(levels=7)


def deli_coco(
    data: Skewed, compressor: Compressor, gamma: float, Q: int, rounds: int, graph: str = "torus", every: int = 1,
    **more: Any,
) -> Record:  # fmt: skip
    """A run from zero with the step 1 / max L_i."""
    algorithm = DeLiCoCo(eta=data.eta, gamma=gamma, Q=Q, compressor=compressor)
    return go(data.problem, algorithm, graph, rounds, every, **more)


def fixed_points(quick: bool, say: Say) -> Result:
    """P1 to P4: what one linear solve and two eigenvalues say of a run's end."""
    data = Skewed()
    claims = [
        near("the data: max L_i", 5.533, data.L, 1e-3), near("mu", 0.0572, data.mu, 1e-3),
        near("f(0) - f*", 11.8212, data.gap(np.zeros(data.d)), 1e-5),
    ]  # fmt: skip
    floors: dict[str, tuple[float, float]] = {}
    apart: dict[str, tuple[float, float]] = {}
    solved: dict[str, float] = {}
    lines: dict[str, Any] = {}
    torus: dict[int, float] = {}
    decay = 0.0
    for graph, Q in [("torus", q) for q in FLOORS["torus"]] + [
        ("ring", q) for q in ((1, 4) if quick else FLOORS["ring"])
    ]:
        exactly = graph == "torus" and Q <= 4
        record = deli_coco(data, Identity(), 1, Q, 2500 if exactly else ROUNDS, graph, every=100)
        floor, off = at(record, "objective_gap", [ROUNDS])[0], at(record, "consensus_distance", [ROUNDS])[0]
        floors[f"{graph} Q={Q}"], apart[f"{graph} Q={Q}"] = (FLOORS[graph][Q], floor), (APART[graph][Q], off)
        lines[f"{graph}, Q = {Q}"] = line(record, "objective_gap")
        say(f"{graph}, exact gossip, Q = {Q}: floor {floor:.4e}")
        if graph == "torus":
            torus[Q] = floor
        if exactly:
            point = data.fixed_point(mixing(graph, data.n), 1.0, Q)
            solved[f"Q={Q}"] = float(np.abs(record.final["x"] - point).max() / np.abs(point).max())
        if (graph, Q) == ("torus", 16):
            early, late = at(record, "objective_gap", [300, 500])
            decay = (late / early) ** (1 / 200)
    claims += [
        exact("P1: X after 2500 rounds is one linear solve's fixed point, Q = 1, 2, 4 (relative)",
              max(solved.values()), 1e-8),
        all_near("P1: floors of exact gossip as listed", floors, 1e-3),
        all_near("P1: consensus distances as listed", apart, 2e-3),
    ]  # fmt: skip
    claims += _compressed(data, quick, say)
    per_step = (torus[16] / torus[8]) ** (1 / 8)
    expected = (1 - gap_of(mixing("torus", 16))) ** 2
    claims += [
        near("P3: the floor's factor per gossip step, Q from 8 to 16: (1 - delta)^2", expected, per_step, 0.01),
        near("P4: the gap's factor per round, rounds 300 to 500: (1 - eta mu)^2", (1 - data.eta * data.mu) ** 2, decay,
             2e-3),
    ]  # fmt: skip
    return Result(claims, {"lines": lines})


def _compressed(data: Skewed, quick: bool, say: Say) -> list[Claim]:
    """P2: with one compressed step the floor is that of exact gossip at the same gamma; with more, about that."""
    settings = [("torus", TopK(fraction=0.2), 0.3, 1), ("torus", FOUR_BITS, 0.6, 1), ("torus", FOUR_BITS, 0.6, 4)]
    if not quick:
        settings += [
            ("torus", TopK(fraction=0.1), 0.15, 1), ("torus", TopK(fraction=0.1), 0.15, 4),
            ("torus", TopK(fraction=0.2), 0.3, 4), ("torus", TopK(fraction=0.2), 0.3, 8), ("torus", FOUR_BITS, 0.6, 2),
            ("ring", TopK(fraction=0.2), 0.3, 1), ("ring", TopK(fraction=0.2), 0.3, 8),
        ]  # fmt: skip
    one: dict[str, tuple[float, float]] = {}
    several: dict[str, tuple[float, float]] = {}
    for graph, compressor, gamma, Q in settings:
        point = data.gap(data.fixed_point(mixing(graph, data.n), gamma, Q).mean(0))
        rounds = 2 * ROUNDS if Q == 1 else ROUNDS  # the limit itself: X - Z has vanished by then, on the ring too
        floor = float(deli_coco(data, compressor, gamma, Q, rounds, graph, every=rounds).rounds["objective_gap"][-1])
        (one if Q == 1 else several)[f"{graph}, {_name(compressor)}, gamma {gamma}, Q={Q}"] = (point, floor)
        say(f"{graph}, {_name(compressor)}, gamma {gamma}, Q = {Q}: floor {floor:.4e}, fixed point {point:.4e}")
    return [
        all_near("P2: compressed floors are the fixed point's with Q = 1", one, 1e-4, "gamma the same in both"),
        all_near("P2: with Q > 1 within 10 %", several, 0.1, "up to 40 % where compression errors are the bottleneck"),
    ]


def _name(compressor: Compressor) -> str:
    return f"top {compressor.fraction:.0%}" if isinstance(compressor, TopK) else "qsgd s=7"


def draw_fixed_points(figure: Figure, data: dict[str, Any]) -> None:
    """Gap against rounds."""
    panel = figure.subplots()
    for name, (x, y) in data["lines"].items():
        panel.semilogy(x, y, label=name, linestyle="-" if name.startswith("torus") else "--")
    panel.set(xlabel="rounds", ylabel="f(mean) - f*", title="exact gossip")
    panel.legend(fontsize=7)


# ---- R2: equal bytes ----------------------------------------------------------------------------------------------

# name -> compressor, gamma, Q, rounds, gaps at 10, 30 and 100 % of the budget; what a quick reproduction leaves out
BUDGET_BITS = 1500 * 1920
SCHEMES: dict[str, tuple[Compressor, float, int, int, tuple[float, float, float]]] = {
    "Q=1 identity": (Identity(), 1, 1, 1500, (4.60e-2, 2.95e-2, 2.94e-2)),
    "Q=7 qsgd s=7, gamma .6": (FOUR_BITS, 0.6, 7, 1512, (9.0e-3, 4.7e-4, 4.9e-4)),
    "Q=7 qsgd s=7, gamma .8": (FOUR_BITS, 0.8, 7, 1512, (8.8e-3, 2.4e-4, 2.5e-4)),
    "Q=14 qsgd s=7": (FOUR_BITS, 0.6, 14, 756, (7.5e-2, 1.6e-3, 8.9e-6)),
    "Q=4 identity": (Identity(), 1, 4, 375, (3.1e-1, 2.8e-2, 7.9e-4)),
    "Q=1 qsgd s=7": (FOUR_BITS, 0.6, 1, 10588, (8.2e-2, 8.2e-2, 8.2e-2)),
    "Q=12 qsgd s=1": (QSGD(levels=1), 0.12, 12, 1578, (3.6e-2, 2.1e-2, 2.1e-2)),
    "Q=8 top 10%": (TopK(fraction=0.1), 0.15, 8, 1578, (5.5e-2, 3.5e-2, 3.4e-2)),
}
ONLY_FULL = ("Q=12 qsgd s=1",)


def equal_bytes(quick: bool, say: Say) -> Result:
    """R2: the gap that each scheme has left when the same exact bits have gone over each link."""
    data = Skewed()
    ends: dict[str, float] = {}
    listed: dict[str, tuple[float, float]] = {}
    stalled: dict[str, tuple[float, float]] = {}
    bits: dict[str, tuple[float, float]] = {}
    lines: dict[str, Any] = {}
    for name, (compressor, gamma, Q, rounds, gaps) in SCHEMES.items():
        if quick and name in ONLY_FULL:
            continue
        every = max(1, rounds // 200)
        record = deli_coco(data, compressor, gamma, Q, rounds, every=every)
        tenth, third, _ = at(record, "objective_gap", [rounds // 10, 3 * rounds // 10, rounds])
        late = record.rounds["objective_gap"][-20:]
        ends[name] = float(np.exp(np.log(late).mean()))  # of the last tenth: what is random wavers
        listed[name] = (gaps[0], tenth)
        if gaps[2] > gaps[1] * 0.9:  # it has stalled at 30 %
            stalled[name] = (gaps[2], ends[name])
        per_link = record.summary["wire_bytes"] * 8 / 64
        bits[name] = (BUDGET_BITS, per_link)
        lines[name] = [(record.rounds["wire_bytes"] * 8e-6 / 64).tolist(), record.rounds["objective_gap"].tolist()]
        say(f"{name}: {per_link / 1e6:.3f} Mbit a link, gap {tenth:.3g}, {third:.3g}, {ends[name]:.3g}")
    best = min(ends["Q=7 qsgd s=7, gamma .6"], ends["Q=7 qsgd s=7, gamma .8"])
    claims = [
        all_near("exact bits on each link, beside 1500 float32 messages", bits, 0.02),
        above("Q = 7 with 4-bit qsgd ends below Q = 1 with float32 by a factor", 50.0, ends["Q=1 identity"] / best),
        above("Q = 14 with 4-bit qsgd, by a factor", 1000.0, ends["Q=1 identity"] / ends["Q=14 qsgd s=7"]),
        all_near("gaps at 10 % of the budget as listed", listed, 0.15),
        all_near("floors of what has stalled as listed", stalled, 0.2),
        above("not every compressor wins: Q = 8 with top 10 % beside Q = 1 with float32", 1.0,
              ends["Q=8 top 10%"] / ends["Q=1 identity"]),
    ]  # fmt: skip
    if not quick:
        algorithm = NaiveGossip(form="diff", eta=data.eta, gamma=0.6, Q=7, compressor=FOUR_BITS)
        record = go(data.problem, algorithm, "torus", 1512, 8)
        forgetful = float(np.exp(np.log(record.rounds["objective_gap"][-20:]).mean()))
        claims.append(above("without memory the same messages end higher by a factor", 10.0,
                            forgetful / ends["Q=7 qsgd s=7, gamma .6"]))  # fmt: skip
    return Result(claims, {"lines": lines})


def draw_equal_bytes(figure: Figure, data: dict[str, Any]) -> None:
    """Gap against bits on a link."""
    panel = figure.subplots()
    for name, (x, y) in data["lines"].items():
        panel.semilogy(x, y, label=name, linewidth=1)
    panel.set(xlabel="exact Mbit on each link", ylabel="f(mean) - f*", title="torus of 16")
    panel.legend(fontsize=7)


def by_steps(quick: bool, say: Say) -> Result:
    """R2: log-linear in Q, qsgd s = 7, gamma .8, 900 rounds."""
    data = Skewed()
    listed = {1: 4.8e-2, 2: 1.2e-2, 4: 3.0e-3, 8: 2.5e-4, 10: 6.4e-5, 14: 3.6e-6}
    ends = {}
    for Q in listed:
        record = deli_coco(data, FOUR_BITS, 0.8, Q, 900, every=10)
        ends[Q] = float(np.exp(np.log(record.rounds["objective_gap"][-10:]).mean()))
        say(f"Q = {Q}: {ends[Q]:.3g}")
    falling = {f"Q = {Q}": ends[Q] for Q in sorted(ends, reverse=True)}
    return Result([
        rising("the floor falls with every gossip step", falling),
        all_near("floors as listed, Q = 1, 2, 4", {f"Q={Q}": (listed[Q], ends[Q]) for Q in (1, 2, 4)}, 0.25),
        near("log10 of the floor per gossip step, Q from 1 to 14", float(np.log10(3.6e-6 / 4.8e-2) / 13),
             float(np.log10(ends[14] / ends[1]) / 13), 0.15),
    ])  # fmt: skip


# ---- R3: the latency crossover ------------------------------------------------------------------------------------

RIVALS: dict[str, tuple[Compressor, float, int]] = {
    "Q=1 float32": (Identity(), 1, 1),
    "Q=7 4-bit qsgd": (FOUR_BITS, 0.8, 7),
    "Q=14 4-bit qsgd": (FOUR_BITS, 0.6, 14),
}
NEEDED = {"Q=1 float32": (19, 90, 203), "Q=7 4-bit qsgd": (17, 66, 100), "Q=14 4-bit qsgd": (17, 67, 101)}
NETWORKS = (("1 ms", 1e-3, 0.1), ("1 ms", 1e-3, 1.0), ("50 ms", 50e-3, 1.0))  # latency, the same in s, Mbit/s
SECONDS = ((4.30, 2.70), (0.80, 0.99), (10.7, 35.3))  # to a gap of .035, Q = 1 and Q = 7


def latency(quick: bool, say: Say) -> Result:
    """R3: rounds to a gap, and the seconds that they take on three networks."""
    data = Skewed()
    rounds: dict[str, tuple[float, float]] = {}
    off, never = 0.0, 0.0
    to_small: dict[str, float] = {}
    seconds: list[dict[str, float]] = []
    for k, (words, latency_s, mbit) in enumerate(NETWORKS):
        seconds.append({})
        for name, (compressor, gamma, Q) in RIVALS.items():
            if k and name.startswith("Q=14"):
                continue
            link = {"bandwidth": f"{mbit} Mbit/s", "latency": words}
            record = deli_coco(data, compressor, gamma, Q, 300 if k == 0 else 210, network={"link": link})
            wire = -(-int(compressor.wire_bits(data.d)) // 8) * 8
            each = 1e-3 + Q * (latency_s + wire / (mbit * 1e6))
            off = max(off, float(np.abs(record.rounds["sim_time_s"] / (each * record.rounds["round"]) - 1).max()))
            reached = first(record, "objective_gap", 0.035)
            assert reached is not None, name
            seconds[k][name] = at(record, "sim_time_s", [reached])[0]
            if k == 0:
                for goal, needed in zip((1.0, 0.1, 0.035), NEEDED[name], strict=True):
                    rounds[f"{name} to {goal:g}"] = (needed, first(record, "objective_gap", goal) or np.inf)
                small = first(record, "objective_gap", 1e-3)
                if small is None:
                    never = record.rounds["objective_gap"].min()
                else:
                    to_small[name] = small
            say(f"{words}, {mbit} Mbit/s, {name}: {seconds[k][name]:.3g} s to .035")
    pairs = {f"{words}, {mbit} Mbit/s, {name}": (listed, seconds[k][name])
             for k, (words, _, mbit) in enumerate(NETWORKS)
             for name, listed in zip(RIVALS, SECONDS[k], strict=False)}  # fmt: skip
    one, seven = "Q=1 float32", "Q=7 4-bit qsgd"
    return Result([
        exact("seconds of a round: 1 ms + Q (latency + bits / bandwidth) (relative)", off, 1e-9),
        all_near("rounds to a gap of 1, .1 and .035", rounds, 0.07),
        all_near("seconds to .035", pairs, 0.05),
        above("1 ms, 0.1 Mbit/s: Q = 7 is first by a factor", 1.0, seconds[0][one] / seconds[0][seven]),
        above("1 ms, 1 Mbit/s: Q = 1 is first by a factor", 1.0, seconds[1][seven] / seconds[1][one]),
        above("50 ms, 1 Mbit/s: Q = 1 is first by a factor", 3.0, seconds[2][seven] / seconds[2][one]),
        above("Q = 1 never comes to .001: least gap", 1e-3, float(never)),
        below("rounds of Q = 7 and 14 to .001", 270, max(to_small.values())),
    ], {"seconds": seconds})  # fmt: skip


def draw_latency(figure: Figure, data: dict[str, Any]) -> None:
    """Seconds to the gap, by network."""
    panel = figure.subplots()
    for i, name in enumerate(("Q=1 float32", "Q=7 4-bit qsgd")):
        panel.bar(np.arange(3) + 0.4 * i - 0.2, [row[name] for row in data["seconds"]], 0.4, label=name)
    panel.set_xticks(range(3), [f"{words}, {mbit:g} Mbit/s" for words, _, mbit in NETWORKS])
    panel.set(yscale="log", ylabel="simulated seconds to a gap of .035")
    panel.legend()
