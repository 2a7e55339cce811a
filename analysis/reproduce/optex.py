"""The claims of OptEx, run again: speed-ups in rounds with their controls, errors of guesses, noise, and time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from simnet.analysis.plot import COLOURS, GREY
from simnet.analysis.reproduce.claims import Claim, Experiment, Result, Say, above, all_near, below, mean
from simnet.analysis.reproduce.optex_parts import HERE
from simnet.analysis.reproduce.optex_runs import CONTROLS, SEEDS, Options, errors, go, races, speedups
from simnet.analysis.reproduce.optex_time import clock, draw_clock, draw_workers, workers
from simnet.analysis.reproduce.workers import side_by_side

TITLE = "OptEx: first-order optimization with approximately parallelized iterations"
REFERENCE = (
    'Shu, Fang, He and Yu, "OptEx: Expediting First-Order Optimization with Approximately Parallelized Iterations", '
    "NeurIPS 2024, arXiv 2402.11427."
)
Runs = Sequence[Mapping[str, Any]]


# ---- rules ---------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """`4.35 to 4.55`."""
    low, high = min(values), max(values)
    return f"{low:.3g}" if high - low < 0.005 else f"{low:.3g} to {high:.3g}"


def within(claim: str, low: float, high: float, values: Sequence[float], condition: str = "") -> Claim:
    """Every value lies between two bounds."""
    holds = all(low <= value <= high for value in values)
    return Claim(claim, f"all in [{low:.4g}, {high:.4g}]", spread(values), holds, condition)


def root_to_n(what: str, n: int, runs: Runs, name: str = "", condition: str = "") -> Claim:
    """Speed-up between the square root of N and N, for every seed."""
    values = speedups(runs, name or f"N={n}")
    return within(f"{what}: speed-up of N = {n}, sqrt N to N", math.sqrt(n), n, values, condition)


def never(what: str, runs: Runs, name: str) -> Claim:
    """A method that does not reach the level, for any seed."""
    reached = sum(value > 0 for value in speedups(runs, name))
    grew = sum(name in each["diverged"] for each in runs)
    return Claim(f"{what}: {name} never gets there", f"0 of {len(runs)} runs",
                 f"{reached} of {len(runs)} ({grew} end higher than they began)", reached == 0)  # fmt: skip


def diverges(what: str, runs: Runs, name: str) -> Claim:
    """A method that ends higher than it began, for every seed."""
    grew = sum(name in each["diverged"] for each in runs)
    return Claim(f"{what}: {name} diverges", f"{len(runs)} of {len(runs)} runs", f"{grew} of {len(runs)}",
                 grew == len(runs))  # fmt: skip


def listed(what: str, runs: Runs, numbers: Mapping[str, float], rel: float = 0.1) -> Claim:
    """Mean speed-ups as they are listed."""
    pairs = {name: (number, mean(speedups(runs, name))) for name, number in numbers.items()}
    return all_near(f"{what}: mean speed-ups as listed", pairs, rel)


def told(say: Say, what: str, runs: Runs) -> None:
    """One line of progress with every method's speed-ups."""
    say(f"{what}: " + ", ".join(f"{name} {spread(speedups(runs, name))}" for name in runs[0]["speedup"]))


# ---- R1 and R2: speed-up in rounds ---------------------------------------------------------------------------------

PAIR: dict[str, Options] = {"N=2": {"N": 2}, "N=5": {"N": 5}}
TEN: dict[str, Options] = {"N=10": {"N": 10, "T0": 40}}
STIFF = {"name": f"{HERE}:Spectrum", "dim": 1000, "condition": 1000.0}


def sgd(eta: float) -> dict[str, Any]:
    """SGD as a part of a scenario."""
    return {"step": {"name": "sgd", "eta": eta}}


def adam(eta: float) -> dict[str, Any]:
    """Adam as a part of a scenario."""
    return {"step": {"name": "adam", "eta": eta}}


def quadratic(quick: bool, say: Say) -> Result:
    """R1: lambda log-spaced on [1e-3, 1], d = 1000, SGD, 100 rounds, T0 = 20 (40 for N = 10), 3 seeds."""
    methods = PAIR | TEN | CONTROLS
    widths: dict[str, Options] = {f"N={n}": {"N": n, "T0": 4 * n} for n in (2, 3, 4, 6, 8, 12)}
    tasks: list[Any] = [(STIFF, sgd(eta), methods, 100, 100) for eta in (0.5, 1.8)]
    if not quick:
        tasks += [
            (STIFF, sgd(1.0), PAIR | CONTROLS, 100, 100),
            (STIFF | {"condition": 100.0}, sgd(0.5), widths, 60, 60),
        ]
    made = list(races(tasks))
    half, steep = made[:2]
    for eta, runs in ((0.5, half), (1.8, steep)):
        told(say, f"eta {eta}", runs)
    large = "eta 1.8, near the largest stable step 2"
    claims = [
        *(root_to_n("eta 0.5", n, half) for n in (2, 5, 10)),
        listed("eta 0.5", half, {"N=2": 1.92, "N=5": 4.45, "N=10": 7.1}),
        within("eta 0.5: guessing nothing (zero) is plain SGD", 1.0, 1.0, speedups(half, "zero")),
        diverges("eta 0.5", half, "last_grad"),
        root_to_n("eta 1.8", 5, steep, condition=large),
        never("the limit of the method, eta 1.8", steep, "N=10"),
        diverges("eta 1.8", steep, "last_grad"),
    ]
    if not quick:
        full, wide = made[2:]
        told(say, "eta 1", full)
        told(say, "condition 100, T0 = 4 N", wide)
        best = {name: mean(speedups(wide, name)) for name in widths}
        claims += [
            *(root_to_n("eta 1", n, full) for n in (2, 5)),
            listed("condition 100, T0 = 4 N", wide, {"N=2": 1.88, "N=3": 2.73, "N=4": 3.53, "N=6": 5.0, "N=8": 6.0}),
            below("condition 100: it saturates, N = 12 saves fewer rounds than N = 8", best["N=8"], best["N=12"]),
        ]
    return Result(claims, {"curves": half[0]["curves"], "title": "R1: ill-conditioned quadratic, SGD 0.5"})


FUNCTIONS: dict[str, tuple[dict[str, Any], float, int, dict[str, float]]] = {  # problem, eta, T, listed speed-ups
    "Rosenbrock": ({"start": 1.0}, 0.02, 80, {"N=3": 2.86, "N=5": 4.55, "N=10": 7.65, "zero": 1.8, "last_grad": 4.1}),
    "Sphere": ({"start": 1.0}, 0.02, 60, {"N=3": 2.73, "N=5": 4.29, "N=10": 7.1, "zero": 1.76, "last_grad": 4.0}),
    "Ackley": ({"start": 0.4}, 0.01, 60, {"N=3": 2.2, "N=5": 2.61, "N=10": 3.6, "zero": 3.25}),
}


def functions(quick: bool, say: Say) -> Result:
    """R2: Adam, d = 1000, N = 5 with its controls, 3 seeds."""
    methods = {"N=3": {"N": 3}, "N=5": {"N": 5}} | TEN | CONTROLS
    tasks = [({"name": name, "dim": 1000, **problem}, adam(eta), methods, rounds, rounds)
             for name, (problem, eta, rounds, _) in FUNCTIONS.items()]  # fmt: skip
    claims: list[Claim] = []
    curves: dict[str, Any] = {}
    for (name, (*_, numbers)), runs in zip(FUNCTIONS.items(), races(tasks), strict=True):
        told(say, name, runs)
        claims += [root_to_n(name, n, runs) for n in (3, 5, 10)] + [listed(name, runs, numbers)]
        if name == "Ackley":
            claims += [
                above("Ackley: guessing NOTHING (zero) beats OptEx: Adam's momentum does the walking",
                      mean(speedups(runs, "N=5")), mean(speedups(runs, "zero"))),
                never("Ackley", runs, "last_grad"),
            ]  # fmt: skip
        else:
            claims += [above(f"{name}: OptEx beats the control {control}", mean(speedups(runs, control)),
                             mean(speedups(runs, "N=5"))) for control in CONTROLS]  # fmt: skip
        curves[name] = runs[0]["curves"]
    if not quick:
        claims += _larger(say)
    return Result(claims, {"panels": curves, "title": "R2: Adam, d = 1000"})


def _larger(say: Say) -> list[Claim]:
    """d = 10^4 and 10^5 on Rosenbrock."""
    near, far = races([
        ({"name": "Rosenbrock", "dim": 10_000}, adam(0.05), {"N=5": {}} | CONTROLS, 80, 80),
        ({"name": "Rosenbrock", "dim": 100_000}, adam(0.02), {"N=5": {"coordinates": 1000}}, 40, 40),
    ])  # fmt: skip
    told(say, "Rosenbrock, d = 1e4, eta 0.05", near)
    told(say, "Rosenbrock, d = 1e5, distances on 1000 coordinates", far)
    return [root_to_n("Rosenbrock, d = 10^4, eta 0.05", 5, near),
            root_to_n("Rosenbrock, d = 10^5, distances on 1000 coordinates", 5, far)]  # fmt: skip


def draw_curves(figure: Figure, data: dict[str, Any]) -> None:
    """Objective against rounds, of the first seed: one panel, or several."""
    panels = data.get("panels") or {data["title"]: data["curves"]}
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
        for k, (name, values) in enumerate(curves.items()):
            beyond = np.flatnonzero(~(np.array(values) < 2.0 * values[0]))
            shown = values[: beyond[0]] if len(beyond) else values  # what diverges leaves the figure
            axes.plot(range(1, len(shown) + 1), shown, color=COLOURS[k % len(COLOURS)], label=name,
                      ls="--" if name in CONTROLS else "-")  # fmt: skip
        axes.axhline(curves["vanilla"][-1], color=GREY, lw=0.8)
        axes.set(yscale="log", xlabel="rounds", title=title)
    all_axes[0].set_ylabel("objective")
    all_axes[0].legend()


# ---- R3: errors of guesses -----------------------------------------------------------------------------------------

KEPT = (3, 5, 10, 50)
VALLEY = {"name": "Rosenbrock", "dim": 10_000}


def histories(quick: bool, say: Say) -> Result:
    """R3: Rosenbrock, SGD 2e-4 d, d = 10^4, N = 5, 100 rounds: |mu - g|/|g| at Z_N by history length, 3 seeds."""
    descent = sgd(2.0)
    tasks = [[VALLEY, descent | {"T0": kept}, 100, seed] for kept in KEPT for seed in range(SEEDS)]
    found = side_by_side(errors, tasks)
    runs = {kept: [next(found) for _ in range(SEEDS)] for kept in KEPT}
    medians = {kept: [float(np.median(each["error"])) for each in runs[kept]] for kept in KEPT}
    (raced,) = races([(VALLEY, descent, {f"T0={kept}": {"T0": kept} for kept in KEPT}, 100, 100)])
    for kept in KEPT:
        say(f"T0 = {kept}: error {spread(medians[kept])}, speed-up {spread(speedups(raced, f'T0={kept}'))}")
    middle = {kept: float(np.median(medians[kept])) for kept in KEPT}
    falls = middle[5] >= middle[10] >= middle[50]
    claims = [
        Claim("the error at Z_N (medians of 3 seeds) falls with the history", "T0 = 5 >= 10 >= 50",
              ", ".join(f"{middle[kept]:.3g}" for kept in KEPT[1:]), falls),
        below("50 pairs guess to a few per cent", 0.05, middle[50]),
        *(root_to_n(f"T0 = {kept}", 5, raced, f"T0={kept}") for kept in KEPT[1:]),
        below("T0 = 3, below N = 5, breaks it: speed-up below sqrt 5", math.sqrt(5), max(speedups(raced, "T0=3"))),
    ]  # fmt: skip
    return Result(claims, {"errors": {str(kept): runs[kept][0]["error"] for kept in KEPT}})


def draw_histories(figure: Figure, data: dict[str, Any]) -> None:
    """The error along the run, for each length of the history."""
    axes = figure.subplots()
    for k, (kept, values) in enumerate(data["errors"].items()):
        axes.plot(range(3, len(values) + 3), values, color=COLOURS[k], label=f"T0 = {kept}")
    axes.set(yscale="log", xlabel="rounds", ylabel="|mu - g| / |g| at the last point of a round",
             title="R3: errors of guesses, Rosenbrock, SGD, N = 5, one seed")  # fmt: skip
    axes.legend()


# ---- R4: a small network -------------------------------------------------------------------------------------------

DIGITS = {"name": "MLP", "hidden": 32, "activation": "tanh", "data": "digits", "split": "whole", "batch": 128}
FOUR: dict[str, Options] = {"N=4": {"N": 4}, "N=2": {"N": 2}} | {k: {**v, "N": 4} for k, v in CONTROLS.items()}


def network(quick: bool, say: Say) -> Result:
    """R4: digits, MLP 64-32-10 (tanh), minibatch 128, ridge 0.1; the level of 200 plain rounds within 120, 3 seeds."""
    tasks = [(DIGITS, {"ridge": 0.1, **sgd(0.5)}, FOUR, 200, 120)]
    if not quick:
        tasks += [(DIGITS, {"ridge": 0.1, **step}, FOUR, 200, 120) for step in (adam(0.003), sgd(1.0))]
    made = list(races(tasks))
    for what, runs in zip(("SGD 0.5", "Adam 0.003", "SGD 1"), made, strict=False):
        told(say, what, runs)
    claims = [
        *(root_to_n("SGD 0.5", n, made[0]) for n in (2, 4)),
        listed("SGD 0.5", made[0], {"N=4": 3.44, "N=2": 1.95}),
        *(never("SGD 0.5", made[0], name) for name in CONTROLS),
    ]
    if not quick:
        claims += [
            *(within(f"Adam 0.003: speed-up of N = {n}", math.sqrt(n), 1.05 * n, speedups(made[1], f"N={n}"))
              for n in (2, 4)),
            above("Adam 0.003: larger steps alone (last_grad) save nearly as many rounds", 3.0,
                  mean(speedups(made[1], "last_grad"))),
            never("SGD 1, a step too large to guess along", made[2], "N=4"),
        ]  # fmt: skip
    return Result(claims, {"curves": made[0][0]["curves"], "title": "R4: digits, MLP 64-32-10, SGD 0.5"})


# ---- R5: noise -----------------------------------------------------------------------------------------------------

NOISY = {"name": f"{HERE}:Spectrum", "dim": 200, "condition": 100.0, "start": "ones", "noise": 0.09 * 200, "batch": 1}
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
SIX = 6  # seeds


def late_gradient(options: Options, eta: float, seed: int) -> float:
    """|grad F|^2, mean over the last 5 of 40 rounds; infinite where the run ended before."""
    rounds = go(NOISY, {**options, **sgd(eta)}, 40, seed).rounds
    return float(np.mean(rounds["stationarity_gap"][-5:])) if len(rounds["round"]) == 40 else math.inf


def noise(quick: bool, say: Say) -> Result:
    """R5: lambda log-spaced on [0.01, 1], d = 200, noise N(0, 0.09 I), 40 rounds, 6 seeds; each method at its best of 6
    step sizes, OptEx with c = 10, ridge 1, T0 = 8 N.
    """
    numbers = (2, 5) if quick else (2, 3, 5, 8)
    methods: dict[str, Options] = {"vanilla": {"N": 1, "mode": "vanilla"}}
    for n in numbers:
        methods |= {
            f"N={n}": {"N": n, "T0": 8 * n, "ridge": 1.0, "c": 10.0},
            f"target, N={n}": {"N": n, "mode": "target"},
        }
    methods["exact"] = {"N": 5, "T0": 40}  # ridge and length scale for gradients without noise
    made = side_by_side(
        late_gradient, [[o, eta, seed] for o in methods.values() for eta in RATES for seed in range(SIX)]
    )
    best = {}
    for name in methods:
        scores = {eta: mean([next(made) for _ in range(SIX)]) for eta in RATES}
        best[name] = min(scores.values())
        say(f"{name}: {best[name]:.4g} at eta {min(scores, key=scores.__getitem__):g}")
    ratio = {name: best["vanilla"] / score for name, score in best.items()}
    claims = [
        within(f"noise, N = {n}: |grad F|^2 falls by 0.85 sqrt N to as much as true gradients give",
               0.85 * math.sqrt(n), ratio[f"target, N={n}"], [ratio[f"N={n}"]])
        for n in numbers
    ]  # fmt: skip
    quoted = {2: 1.36, 3: 1.80, 5: 2.42, 8: 3.49}
    claims += [
        all_near("the same ratios as listed", {f"N={n}": (quoted[n], ratio[f"N={n}"]) for n in numbers}, 0.1),
        below("noise needs a ridge: with 1e-3 and c = 3 the gain of N = 5 is below 0.85 sqrt 5", 0.85 * math.sqrt(5),
              ratio["exact"]),
    ]  # fmt: skip
    shown = {str(n): [ratio[f"N={n}"], ratio[f"target, N={n}"]] for n in numbers}
    return Result(claims, {"ratios": shown, "exact": ratio["exact"]})


def draw_noise(figure: Figure, data: dict[str, Any]) -> None:
    """Ratios to the plain method, beside sqrt N and what true gradients give."""
    axes = figure.subplots()
    n = [int(key) for key in data["ratios"]]
    ours, ideal = np.array(list(data["ratios"].values())).T
    axes.plot(n, ideal, "s--", color=COLOURS[1], label="true gradients (target)")
    axes.plot(n, ours, "o-", color=COLOURS[0], label="OptEx, ridge 1, c = 10")
    axes.plot([5], [data["exact"]], "v", color=COLOURS[3], label="OptEx, ridge 0.001, c = 3")
    axes.plot(n, np.sqrt(n), color=GREY, label="sqrt N")
    axes.axhline(1.0, color=GREY, lw=0.8, ls=":")
    axes.set_xticks(n)
    axes.set(xlabel="N, points a round", ylabel="|grad F|^2 of the plain method over the method's",
             title="R5: under noise, at equal rounds, each at its best step")  # fmt: skip
    axes.legend()


EXPERIMENTS = [
    Experiment("R1", "an ill-conditioned quadratic, SGD", quadratic, draw_curves),
    Experiment("R2", "Rosenbrock, Sphere and Ackley, Adam", functions, draw_curves),
    Experiment("R3", "errors of guesses and the length of the history", histories, draw_histories),
    Experiment("R4", "a small network on digits", network, draw_curves),
    Experiment("R5", "the square root of N, under noise", noise, draw_noise),
    Experiment("R6", "simulated time against closed forms", clock, draw_clock),
    Experiment("R7", "time against the number of workers, for three ports", workers, draw_workers),
]
