"""HDO against closed forms: contraction by averaging, moments of estimators, noise floors."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simnet
from simnet.analysis.plot import BLUE, GREY, ORANGE, VERMILION
from simnet.analysis.reproduce.claims import Claim, Result, Say, all_near, exact, mean, near, rising
from simnet.analysis.reproduce.hdo_parts import HERE
from simnet.analysis.reproduce.workers import side_by_side
from simnet.models.problems.quadratic import Quadratic

NO_LINKS: dict[str, Any] = {"timeline": False}


def population(fo: int, zo: int, estimator: Any) -> dict[str, Any]:
    """Sections `network` and `nodes` of so many FO and ZO nodes on a complete graph."""
    nodes: dict[str, Any] = {"step": 1.0, "estimator": estimator}
    if zo:
        nodes["groups"] = [{"count": zo, "oracle": "zo"}]
    return {"network": {"nodes": fo + zo, "graph": "complete"}, "nodes": nodes}


# ---- R1 ------------------------------------------------------------------------------------------------------------

_CONTRACTION = ((10, True, 1000), (21, True, 1000), (10, False, 200), (21, False, 200))  # nodes, pairwise, rounds
_DIM, _BLOCKS = 640, 20


def _contraction(n: int, pairwise: bool, rounds: int) -> tuple[float, float]:
    """(expected, measured) E Gamma'/Gamma of one exchange; rounds x 20 draws."""
    record = simnet.run({
        "network": {"nodes": n, "graph": "complete"}, "nodes": {"step": 1.0},
        "problem": {"name": f"{HERE}:Apart", "dim": _DIM},
        "algorithm": {"name": f"{HERE}:Mixes", "pairwise": pairwise, "blocks": _BLOCKS},
        "rounds": rounds, "evaluate_every": 1, "execution": {"dtype": "float64"}, "record": NO_LINKS,
    })  # fmt: skip
    c = np.random.default_rng(0).normal(size=(n, _DIM))
    before = ((c - c.mean(0)) ** 2).sum(1).mean()
    expected = 1 - 1 / (n - 1) if pairwise else 1 - (n // 2) / (n - 1)
    return expected, float(record.rounds["consensus_distance"].mean() / before)


def _estimates(estimator: dict[str, Any], problem: dict[str, Any], rounds: int, nodes: int = 20_000) -> simnet.Record:
    """Each node estimates at the same point, round after round."""
    told = {
        "network": {"nodes": nodes, "graph": "edgeless"},
        "nodes": {"step": 1.0, "oracle": "zo", "estimator": estimator},
        "problem": problem, "algorithm": f"{HERE}:Estimates", "rounds": rounds, "evaluate_every": 1,
        "execution": {"dtype": "float64"}, "record": NO_LINKS,
    }  # fmt: skip
    return simnet.run(told)


def _variance(estimator: dict[str, Any], d: int, noise: float = 0.0) -> tuple[float, float]:
    """(E|G - g|^2, |g|^2) on a quadratic at 0, over 200,000 estimates; differences of a quadratic are exact."""
    problem: dict[str, Any] = {"name": "Quadratic", "dim": d, "condition": 1.0, "heterogeneity": 0.0}
    problem |= {"noise": noise, "batch": 1} if noise else {}
    record = _estimates(estimator, problem, 10)
    g = np.linalg.norm(Quadratic(2, dim=d, condition=1, heterogeneity=0).arrays[1][0])
    return float(record.rounds["consensus_distance"].mean() * 20_000 / 19_999), float(g**2)


def moments(quick: bool, say: Say) -> Result:
    """R1."""
    claims: list[Claim] = []
    bars: dict[str, tuple[float, float]] = {}
    for n, pairwise, rounds in _CONTRACTION:
        expected, measured = _contraction(n, pairwise, rounds)
        kind = "a uniform pair" if pairwise else "a random matching"
        say(f"{kind} of {n}: {measured:.5f} for {expected:.5f}")
        claims.append(near(f"{kind} of {n} nodes contracts the potential by", expected, measured, 0.01))
        bars[f"{'pair' if pairwise else 'matching'}, n = {n}"] = expected, measured
    d, pairs = 40, {}
    for name, factor in (("fwd_grad", d + 1), ("fwd_grad_fast", d + 1), ("sphere_central", d - 1),
                         ("rademacher", d - 1)):  # fmt: skip
        for rv in (1, 4):
            total, g2 = _variance({"name": name, "rv": rv}, d)
            pairs[f"{name}, rv {rv}"] = factor / rv, total / g2
        say(f"{name}: {pairs[f'{name}, rv 1'][1]:.2f} and {pairs[f'{name}, rv 4'][1]:.2f}")
    total, g2 = _variance({"name": "fwd_grad_fast", "rv": 32}, d)
    pairs["fwd_grad_fast, rv 32"] = (d + 1) / 32, total / g2
    claims.append(all_near("E|G - g|^2/|g|^2 = (d + 1)/rv, Gaussian, and (d - 1)/rv, sphere and signs", pairs, 0.02))
    noise = 20.0
    total, g2 = _variance({"name": "fwd_grad", "rv": 4}, d, noise)
    claims.append(near("with gradient noise s2: ((d + 1)/rv)(|g|^2 + s2) + s2",
                       (d + 1) / 4 * (g2 + noise) + noise, total, 0.02))  # fmt: skip
    for name, bias in (("two_point_central", 0.5), ("two_point_fwd", 0.5), ("sphere_central", 1 / 24)):
        record = _estimates({"name": name, "rv": 10, "nu": 1.0}, {"name": f"{HERE}:Cubic", "dim": 10}, 1)
        measured = float(record.final["x"].mean())
        claims.append(near(f"bias of {name} on sum x^3/6 at nu = 1", bias, measured, 0.02))
        say(f"bias of {name}: {measured:.4f} for {bias:.4f}")
    return Result(claims, {"bars": bars, "variance": pairs})


def draw_moments(figure: Figure, data: dict[str, Any]) -> None:
    """Measured beside expected."""
    left, right = figure.subplots(1, 2)
    for axes, values, title in ((left, data["bars"], "potential left"),
                                (right, data["variance"], "variance, d = 40")):  # fmt: skip
        names = list(values)
        at = np.arange(len(names))
        axes.barh(at, [values[n][1] for n in names], color=BLUE, label="measured")
        axes.plot([values[n][0] for n in names], at, "o", color=VERMILION, label="closed form")
        axes.set(yticks=at, yticklabels=names, title=title)
        axes.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)


# ---- R2 ------------------------------------------------------------------------------------------------------------

ROWS = ((4, 0, 4), (0, 16, 4), (4, 16, 4), (2, 0, 4), (0, 30, 4), (2, 30, 4), (0, 16, 25), (4, 16, 25))  # FO, ZO, rv
D, S2, ETA, SEEDS = 50, 1.0, 0.05, 3


def predicted(fo: int, zo: int, rv: int) -> tuple[float, float]:
    """The stationary a = E|mu - x*|^2 and Gamma: a = r a + (eta^2/n) V, Gamma = c [r Gamma + eta^2 (1 - 1/n) V] with
    V = s2 + h (a + Gamma + s2), h = (n0/n)(d + 1)/rv, c = 1 - floor(n/2)/(n - 1), r = (1 - eta)^2.
    """
    n = fo + zo
    h, c, r = zo / n * (D + 1) / rv, 1 - (n // 2) / (n - 1), (1 - ETA) ** 2
    per_v = np.array([ETA**2 / n / (1 - r), c * ETA**2 * (1 - 1 / n) / (1 - c * r)])  # a and Gamma for V = 1
    v = S2 * (1 + h) / (1 - h * per_v.sum())
    return float(per_v[0] * v), float(per_v[1] * v)


def _floor(fo: int, zo: int, rv: int, seed: int) -> tuple[float, float]:
    """The measured pair, over rounds 1000 to 3000."""
    told = population(fo, zo, {"name": "fwd_grad_fast", "rv": rv}) | {
        "seed": seed,
        "problem": {"name": "Quadratic", "dim": D, "condition": 1.0, "heterogeneity": 0.0, "noise": S2, "batch": 1},
        "algorithm": {"name": "HDO", "eta": ETA}, "rounds": 3000, "evaluate_every": 10,
        "execution": {"dtype": "float64"}, "record": NO_LINKS,
    }  # fmt: skip
    record = simnet.run(told)
    late = record.rounds["round"] > 1000
    return (float(2 * record.rounds["objective_gap"][late].mean()),
            float(record.rounds["consensus_distance"][late].mean()))  # fmt: skip


def floors(quick: bool, say: Say) -> Result:
    """R2."""
    found: dict[str, dict[str, float]] = {}
    tasks = [(*row, seed) for row in ROWS for seed in range(SEEDS)]
    measured = side_by_side(_floor, tasks)
    for fo, zo, rv in ROWS:
        made = [next(measured) for _ in range(SEEDS)]
        a, gamma = predicted(fo, zo, rv)
        name = f"{fo} FO, {zo} ZO, rv {rv}" if zo else f"{fo} FO"
        found[name] = {"a": mean([m[0] for m in made]), "Gamma": mean([m[1] for m in made]), "a0": a, "Gamma0": gamma}
        say(f"{name}: a {found[name]['a']:.3e} for {a:.3e}, Gamma {found[name]['Gamma']:.3e} for {gamma:.3e}")
    error = {name: row["a"] for name, row in found.items()}
    claims = [
        all_near("error of the mean a = E|mu - x*|^2", {n: (r["a0"], r["a"]) for n, r in found.items()}, 0.04),
        all_near("potential Gamma", {n: (r["Gamma0"], r["Gamma"]) for n, r in found.items() if n != "2 FO"}, 0.04),
        exact("potential of two nodes that always meet", found["2 FO"]["Gamma"], 1e-20),
        _ordered("kappa 13.75, above its threshold 6: 16 ZO nodes harm 4 FO nodes", error,
                 ("4 FO", "4 FO, 16 ZO, rv 4", "0 FO, 16 ZO, rv 4")),
        _ordered("kappa 13.75, below its threshold 17: 30 ZO nodes help 2 FO nodes", error,
                 ("2 FO, 30 ZO, rv 4", "0 FO, 30 ZO, rv 4", "2 FO")),
        _ordered("kappa 3.04, below its threshold 6: the hybrid beats both its parts", error,
                 ("4 FO, 16 ZO, rv 25", "0 FO, 16 ZO, rv 25", "4 FO")),
        near("and its error is about half that of 4 FO nodes", found["4 FO, 16 ZO, rv 25"]["a0"] / found["4 FO"]["a0"],
             error["4 FO, 16 ZO, rv 25"] / error["4 FO"], 0.04),
    ]  # fmt: skip
    return Result(claims, {"rows": found})


def _ordered(claim: str, values: dict[str, float], names: tuple[str, ...]) -> Claim:
    return rising(claim, {name: values[name] for name in names}, "where noise limits the error (E3)")


def draw_floors(figure: Figure, data: dict[str, Any]) -> None:
    """Measured a and Gamma of each population, with their closed forms."""
    axes = figure.subplots()
    rows = data["rows"]
    at = np.arange(len(rows))
    for shift, name, colour in ((-0.2, "a", BLUE), (0.2, "Gamma", ORANGE)):
        label = "error of the mean" if name == "a" else "potential"
        axes.bar(at + shift, [row[name] for row in rows.values()], 0.38, color=colour, label=f"{label}, measured")
        axes.plot(at + shift, [row[f"{name}0"] for row in rows.values()], "_", color="black", ms=16)
    axes.plot([], [], "_", color="black", ms=12, label="closed form")
    axes.set_xticks(at, [name.replace(", rv", "\nrv") for name in rows], fontsize=8)
    axes.set(title=f"noise floor: d = {D}, eta = {ETA}, rounds 1000 to 3000, {SEEDS} seeds")
    axes.grid(axis="x", visible=False)
    axes.axhline(0, color=GREY, lw=0.8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
