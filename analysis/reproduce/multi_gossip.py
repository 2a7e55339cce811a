"""Several compressed gossip steps per gradient step: the claims of DeLi-CoCo and CHOCO-Gossip, run again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from simnet.analysis.reproduce import gossip_floors as floors
from simnet.analysis.reproduce import gossip_learning as learning
from simnet.analysis.reproduce.claims import Claim, Experiment, Result, Say, above, all_near, below, exact, near
from simnet.analysis.reproduce.gossip_problems import Points, Skewed, points
from simnet.analysis.reproduce.gossip_runs import first, gap_of, go, line, mixing
from simnet.compressor import Compressor
from simnet.models.algorithms.choco_gossip import ChocoGossip
from simnet.models.algorithms.deli_coco import DeLiCoCo
from simnet.models.algorithms.naive_gossip import NaiveGossip
from simnet.models.compressors.shipped import QSGD, Identity, RandK, RandomGossip, Sign, TopK, UnbiasedQSGD
from simnet.record import Record

TITLE = "Multiple compressed gossip steps (DeLi-CoCo, CHOCO-Gossip)"
REFERENCE = (
    "Hashemi, Acharya, Das, Vikalo, Sanghavi and Dhillon, IEEE TPDS 2022 (arXiv 2011.10643); Koloskova, Stich and "
    "Jaggi, ICML 2019 (arXiv 1902.00340)."
)
GAMMAS = (1, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.014, 0.01, 0.007, 0.005, 0.003, 0.002)
# name -> compressor, then (gamma, steps, rate) listed for the torus and for the ring, None where it takes over 4000
LISTED: dict[str, tuple[Compressor, tuple[float, int, float], tuple[float, int, float] | None]] = {
    "identity": (Identity(), (1, 26, 0.5236), (1, 387, 0.9586)),
    "qsgd s=127": (QSGD(levels=127), (1, 26, 0.519), (1, 386, 0.9585)),
    "qsgd s=7": (QSGD(levels=7), (0.25, 102, 0.836), (0.7, 530, 0.969)),
    "sign": (Sign(), (1, 108, 0.861), (1, 382, 0.958)),
    "top 10%": (TopK(fraction=0.1), (0.15, 172, 0.906), (0.25, 1539, 0.989)),
    "rand 10%": (RandK(fraction=0.1), (0.07, 478, 0.955), (0.15, 2552, 0.993)),
    "random_gossip .1": (RandomGossip(p=0.1), (0.07, 410, 0.962), (0.15, 2550, 0.994)),
    "top 1%": (TopK(fraction=0.01), (0.02, 1308, 0.987), None),
    "qsgd s=1": (QSGD(levels=1), (0.03, 826, 0.979), None),
}
QUICK_RINGS = ("identity", "qsgd s=127", "qsgd s=7", "sign")
SMALL = 1e-8


# ---- what holds at every step -------------------------------------------------------------------------------------


def invariants(quick: bool, say: Say) -> Result:
    """S = W Z and the mean identity after each of the first 20 steps, for several compressors."""
    data, w_NN = Skewed(), mixing("torus", 16)
    worst_s = worst_mean = 0.0
    for name, (compressor, (gamma, _, _), _) in LISTED.items():
        say(f"{name}, 20 runs")
        before = np.zeros((data.n, data.d))
        for t in range(1, 21):
            algorithm = DeLiCoCo(eta=data.eta, gamma=gamma, compressor=compressor)
            final = go(data.problem, algorithm, "torus", t, t).final
            x, z, s = final["x"], final["z"], final["s"]
            worst_s = max(worst_s, float(np.abs(s - w_NN @ z).max() / np.abs(z).max()))
            mean = before.mean(0) - data.eta * data.gradient(before).mean(0)
            worst_mean = max(worst_mean, float(np.abs(x.mean(0) - mean).max() / np.abs(x).max()))
            before = x
    return Result([
        exact("S = W Z after each of 20 gossip steps, 9 compressors (relative)", worst_s, 1e-12),
        exact("the mean moves by gradients alone, at each of these steps (relative)", worst_mean, 1e-12),
    ])  # fmt: skip


# ---- averaging ----------------------------------------------------------------------------------------------------


def spread(problem: Points) -> float:
    """sum_i |x_i - mean|^2 at the start."""
    c = problem.arrays[1]
    return float(((c - c.mean(0)) ** 2).sum())


def average(problem: Points, compressor: Compressor, gamma: float, graph: str, most: int) -> Record:
    """CHOCO-Gossip until the distance of the nodes is 1e-8 of that at the start, or for `most` steps."""
    goal = SMALL * spread(problem) / problem.nodes
    return go(problem, ChocoGossip(gamma=gamma, compressor=compressor), graph, most,
              target={"consensus_distance": goal}, stop={"at_target": True})  # fmt: skip


def rate(record: Record) -> float:
    """By what |x_i - mean|^2 shrinks a step, over the last half of the steps."""
    e = record.rounds["consensus_distance"]
    half = len(e) // 2
    return float((e[-1] / e[half - 1]) ** (1 / (len(e) - half)))


def consensus(quick: bool, say: Say) -> Result:
    """R1: steps to 1e-8, and the rate, at the listed gamma of each compressor."""
    problem = points()
    claims: list[Claim] = []
    curves: dict[str, Any] = {}
    for graph in ("torus", "ring"):
        delta = gap_of(mixing(graph, problem.nodes))
        steps: dict[str, tuple[float, float]] = {}
        over: dict[str, float] = {}
        for name, (compressor, *both) in LISTED.items():
            listed = both[graph == "ring"]
            if listed is None or (quick and graph == "ring" and name not in QUICK_RINGS):
                continue
            gamma, expected, _ = listed
            record = average(problem, compressor, gamma, graph, 3 * expected)
            reached = first(record, "consensus_distance", SMALL * spread(problem) / problem.nodes)
            steps[name] = (expected, math.inf if reached is None else reached)
            measured = rate(record)
            over[name] = measured - (1 - delta**2 * (compressor.omega(problem.dim) or 0) / 82)
            curves[f"{graph}, {name}"] = line(record, "consensus_distance")
            say(f"{graph}, {name}, gamma {gamma}: {reached} steps, rate {measured:.4f}")
            if name == "identity":
                claims.append(near(f"{graph}: exact gossip contracts by (1 - delta)^2 a step", (1 - delta) ** 2,
                                   measured, 2e-3))  # fmt: skip
        claims.append(all_near(f"{graph}: steps to 1e-8 at the listed gamma", steps, 0.1))
        claims.append(below(f"{graph}: every rate less the bound 1 - delta^2 omega / 82", 0.0, max(over.values())))
        bits = [float(LISTED[name][0].wire_bits(problem.dim)) * steps[name][1] for name in ("identity", "qsgd s=127")]
        claims.append(near(f"{graph}: bits of 8-bit qsgd beside those of float32", 0.25, bits[1] / bits[0], 0.02))
    return Result(claims, {"curves": curves})


def draw_consensus(figure: Figure, data: dict[str, Any]) -> None:
    """Distance against steps, one panel a graph."""
    for panel, graph in zip(figure.subplots(1, 2, sharey=True), ("torus", "ring"), strict=True):
        for name, (x, y) in data["curves"].items():
            if name.startswith(graph):
                which = name.partition(", ")[2]
                panel.loglog(x, y, label=which, color=f"C{list(LISTED).index(which)}")
        panel.set(title=f"{graph} of 25", xlabel="gossip steps")
    figure.axes[0].legend(fontsize=7)
    figure.axes[0].set_ylabel("consensus distance")


def tuning(quick: bool, say: Say) -> Result:
    """R1: the listed gamma is the best of the grid, or within 10 % of it."""
    problem = points()
    ratios = {}
    for name, (compressor, (gamma, expected, _), _) in LISTED.items():
        found: dict[float, float] = {}
        for other in GAMMAS:
            record = average(problem, compressor, other, "torus", 2 * expected)
            found[other] = first(record, "consensus_distance", SMALL * spread(problem) / problem.nodes) or math.inf
        best = min(found, key=found.__getitem__)
        say(f"{name}: gamma {best} takes {found[best]} steps, {gamma} takes {found[gamma]}")
        ratios[name] = (1.0, found[gamma] / found[best])
    return Result([all_near("steps at the listed gamma beside the best of 17", ratios, 0.1)])


# ---- without memory, and with a message lost ------------------------------------------------------------------------


def naive(quick: bool, say: Say) -> Result:
    """R1: compressed gossip without public copies."""
    problem = points()
    c = problem.arrays[1]

    def after(steps: int, form: Any, compressor: Compressor) -> tuple[float, float]:
        """Error against the mean of the start, relative to that of the start; how far the mean is displaced."""
        x = go(problem, NaiveGossip(form=form, compressor=compressor), "torus", steps, steps).final["x"]
        return float(((x - c.mean(0)) ** 2).sum() / spread(problem)), float(np.linalg.norm(x.mean(0) - c.mean(0)))

    ten, _ = after(10, "replace", UnbiasedQSGD(levels=7))
    late, displaced = after(400, "replace", UnbiasedQSGD(levels=7))
    stalled, _ = after(400, "replace", TopK(fraction=0.1))
    kept, moved = after(400, "diff", TopK(fraction=0.1))
    blown, _ = after(100, "diff", UnbiasedQSGD(levels=7))
    exact_error, _ = after(100, "diff", Identity())
    return Result([
        above("`replace` with qsgd s=7: error after 10 steps, as exact gossip has none", 0.1, ten),
        above("`replace` with qsgd s=7: error after 400 steps, beside that after 10", 3.0, late / ten),
        above("`replace` with qsgd s=7: the mean is displaced (norm)", 50.0, displaced),
        near("`replace` with top 10%: it stalls at", 0.133, stalled, 0.1),
        near("`diff` with top 10%: it stalls at", 0.03, kept, 0.1),
        exact("`diff` with top 10%: how far the mean moves", moved, 1e-10),
        above("`diff` with qsgd s=7 and gamma 1: error after 100 steps", 1e9, blown),
        below("exact gossip: error after 100 steps", 1e-25, exact_error),
    ])  # fmt: skip


def loss(quick: bool, say: Say) -> Result:
    """Messages lost for good, in kind: 1 % leaves averages wrong for ever."""
    generator = np.random.default_rng(0)
    problem = Points.of(generator.normal(size=(16, 20)))
    truth = problem.arrays[1].mean(0)
    errors, curves = {}, {}
    losing = {"policy": "drop", "loss_unit": "message"}
    for part in (0.0, 0.01, 0.1):
        network = losing | {"link": {"bandwidth": "1 Mbit/s", "latency": "1 ms", "loss": part}}
        record = go(problem, ChocoGossip(gamma=0.3, compressor=TopK(k=4)), "ring", 3000, 25, network=network)
        errors[part] = float(((record.final["x"] - truth) ** 2).sum())
        curves[f"{part:.0%} lost"] = line(record, "distance_to_optimum")
        say(f"{part:.0%} lost: squared error {errors[part]:.3g}")
    claims = [
        below("CHOCO-Gossip, ring 16, top 4 of 20: squared error without loss", 1e-20, errors[0.0]),
        above("with 1 % lost for good", 1.0, errors[0.01]),
        above("with 10 % lost for good", 1.0, errors[0.1]),
    ]
    if not quick:
        data = Skewed()
        algorithm = DeLiCoCo(eta=data.eta, gamma=0.6, Q=7, compressor=QSGD(levels=7))
        network = losing | {"link": {"bandwidth": "1 Mbit/s", "latency": "1 ms", "loss": 0.01}}
        record = go(data.problem, algorithm, "torus", 1500, 50, network=network)
        gap = float(record.rounds["objective_gap"][-1])
        claims.append(above("DeLi-CoCo, Q = 7, 4-bit qsgd: f - f* with 1 % lost (5e-4 without)", 1.0, gap))
        curves["DeLi-CoCo, 1% lost"] = line(record, "distance_to_optimum")
    return Result(claims, {"curves": curves})


def draw_loss(figure: Figure, data: dict[str, Any]) -> None:
    """Error against rounds."""
    panel = figure.subplots()
    for name, (x, y) in data["curves"].items():
        panel.semilogy(x, y, label=name)
    panel.set(xlabel="rounds", ylabel="mean squared distance to the optimum")
    panel.legend()


EXPERIMENTS = [
    Experiment("S", "what holds at every step", invariants),
    Experiment("R1", "averaging with CHOCO-Gossip", consensus, draw_consensus),
    Experiment("R1-gamma", "the listed gammas against a grid", tuning, quick=False),
    Experiment("R1-naive", "compressed gossip without memory", naive),
    Experiment("P1", "floors against a linear solve", floors.fixed_points, floors.draw_fixed_points),
    Experiment("R2", "floors at equal bytes", floors.equal_bytes, floors.draw_equal_bytes),
    Experiment("R2-Q", "the floor falls with every gossip step", floors.by_steps, quick=False),
    Experiment("R3", "the latency crossover", floors.latency, floors.draw_latency),
    Experiment("R4", "equal data: the advantage vanishes when tuned", learning.synthetic_data, learning.draw_synthetic),
    Experiment("R5", "sorted digits, 4 against 9", learning.digits, learning.draw_digits),
    Experiment("L", "a message lost for good", loss, draw_loss),
]
