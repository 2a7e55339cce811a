"""SAVIC against what is exact: identities, conditioning, fixed points, noise floors, bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simnet
from simnet.analysis.plot import BLUE, COLOURS, GREY, ORANGE, VERMILION
from simnet.analysis.reproduce.claims import Claim, Result, Say, above, all_near, below, between, exact, mean, near
from simnet.analysis.reproduce.savic_parts import HERE, OASIS, Scaled, runs, scenario
from simnet.models.scalings.shipped import Adam

DOUBLE: dict[str, Any] = {"dtype": "float64"}


# ---- identities ----------------------------------------------------------------------------------------------------


def identities(quick: bool, say: Say) -> Result:
    """D = 1 is Local SGD bit for bit; H = 1 is distributed scaled SGD; beta_k is Adam's bias correction."""
    digits = {"name": "Softmax", "data": "digits", "batch": 32}
    plain = scenario(digits, {"eta": 0.3, "H": 10}, 20, execution=DOUBLE)
    local = plain | {"algorithm": {"name": "LocalSGD", "eta": 0.3, "steps": 10}}
    x, y = (simnet.run(each).final["x"] for each in (plain, local))
    rng, adam, worst = np.random.default_rng(0), Adam(beta=0.97), 0.0
    d, v = adam.first(*_tensors(np.ones((1, 8)))), np.zeros(8)
    for k in range(200):
        h = rng.normal(size=8)
        d, v = adam.update(d, _tensors(h[None])[0], k), 0.97 * v + 0.03 * h**2
        worst = max(worst, float(np.abs(d.numpy() ** 2 / (v / (1 - 0.97 ** (k + 1))) - 1).max()))
    return Result([
        exact("D = 1 against Local SGD, 20 rounds of 10 steps, largest difference", float(np.abs(x - y).max()), 0.0),
        exact("H = 1 against distributed scaled SGD (OASIS, quadratic, 20 rounds)", _scaled_sgd(), 1e-12),
        exact("Adam's beta_k against its bias correction, 200 updates (relative)", worst, 1e-12),
    ])  # fmt: skip


def _tensors(rows: np.ndarray) -> list[Any]:
    import torch

    return list(torch.from_numpy(rows))


def _scaled_sgd() -> float:
    """Largest difference between SAVIC with H = 1 and x <- x - eta (mean gradient)/D, D constant here."""
    told = {"name": f"{HERE}:Scaled", "condition": 100, "apart": 0.5}
    record = simnet.run(scenario(told, {"eta": 0.1, "scaling": OASIS}, 20, execution=DOUBLE))
    a, b = Scaled(10, condition=100, apart=0.5).arrays
    x = np.zeros(b.shape[1])
    for _ in range(20):
        x = x - 0.1 * (a * (x - b)).mean(0) / a.mean(0)
    return float(np.abs(record.final["x"] - x).max())


# ---- R1 ------------------------------------------------------------------------------------------------------------

KAPPAS = (10, 100, 1000)


def conditioning(quick: bool, say: Say) -> Result:
    """R1: f_m with one diagonal Hessian, H = 5; rounds to 1e-6 of the first squared distance."""
    listed = {10: 11, 100: 102, 1000: 1006}
    tasks = []
    for kappa in KAPPAS:
        problem = {"name": f"{HERE}:Scaled", "condition": kappa}
        tasks.append(scenario(problem, {"eta": 1 / kappa, "H": 5}, int(1.2 * listed[kappa]) + 2, execution=DOUBLE))
        tasks.append(scenario(problem, {"eta": 0.5, "H": 5, "scaling": OASIS}, 6, execution=DOUBLE))
    found = runs(tasks)
    plain: dict[str, float] = {}
    scaled: dict[str, float] = {}
    for kappa in KAPPAS:
        goal = 1e-6 * Scaled(10, condition=kappa).size
        plain[f"{kappa}"], scaled[f"{kappa}"] = (_first_at(next(found)["distance_to_optimum"], goal) for _ in range(2))
        say(f"kappa {kappa}: Local SGD {plain[f'{kappa}']:g} rounds, SAVIC-OASIS {scaled[f'{kappa}']:g}")
    claims = [
        all_near("rounds of Local SGD, gamma = 1/kappa, kappa = 10, 100, 1000",
                 {f"kappa {k}": (listed[k], plain[f"{k}"]) for k in KAPPAS}, 0.1),
        Claim("rounds of SAVIC-OASIS, gamma = 0.5, whatever kappa", "2, 2, 2",
              ", ".join(f"{n:g}" for n in scaled.values()), all(n == 2 for n in scaled.values())),
    ]  # fmt: skip
    return Result(claims, {"plain": plain, "scaled": scaled})


def _first_at(values: list[float], goal: float) -> float:
    """The first round whose value is at most `goal`."""
    return next((k + 1.0 for k, value in enumerate(values) if value <= goal), math.inf)


def draw_conditioning(figure: Figure, data: dict[str, Any]) -> None:
    """Rounds against the condition number."""
    axes = figure.subplots()
    for name, label, colour in (("plain", "Local SGD", ORANGE), ("scaled", "SAVIC-OASIS", BLUE)):
        axes.loglog([float(k) for k in data[name]], list(data[name].values()), "o-", color=colour, label=label)
    axes.set(xlabel="condition number", ylabel="rounds to 1e-6", title="R1: a scaling undoes the condition number")
    axes.legend()


# ---- R2 ------------------------------------------------------------------------------------------------------------


def fixed_points(quick: bool, say: Say) -> Result:
    """R2: Hessians of each node's own; relative squared distance to the optimum in steady state."""
    problem = {"name": f"{HERE}:Scaled", "condition": 100, "apart": 0.5}
    size = Scaled(10, condition=100, apart=0.5).size
    largest = float(Scaled(10, condition=100, apart=0.5).arrays[0].max())
    kinds: dict[str, dict[str, Any]] = {
        "global, gamma .1": {"eta": 0.1, "scaling": OASIS},
        "global, gamma .05": {"eta": 0.05, "scaling": OASIS},
        "local_sync, gamma .1": {"eta": 0.1, "scaling": OASIS, "scope": "local_sync"},
        "local_sync, gamma .05": {"eta": 0.05, "scaling": OASIS, "scope": "local_sync"},
        "Local SGD": {"eta": 0.5 / largest},
    }
    if quick:
        del kinds["Local SGD"]
    found = runs([scenario(problem, kind | {"H": H}, (8000 if name == "Local SGD" else 600) // H + 100,
                           execution=DOUBLE, evaluate_every=100_000) for name, kind in kinds.items()
                  for H in (1, 5, 10)])  # fmt: skip
    bias: dict[str, dict[str, float]] = {}
    for name in kinds:
        bias[name] = {f"{H}": next(found)["distance_to_optimum"][-1] / size for H in (1, 5, 10)}
        say(f"{name}: " + ", ".join(f"H={H} {value:.2g}" for H, value in bias[name].items()))
    coarse, fine = bias["global, gamma .1"], bias["global, gamma .05"]
    local = [value for name in kinds if name.startswith("local_sync") for value in bias[name].values()]
    smallest = min(*coarse.values(), *fine.values())
    claims = [
        below("global scaling, H = 1: relative squared distance", 1e-12, coarse["1"]),
        *(between(f"global, H = {H}: halving gamma divides it by", 3.0, 4.5, coarse[H] / fine[H])
          for H in ("5", "10")),
        below("local scaling: largest over smallest of six (gamma .1, .05; H 1, 5, 10)", 1.01, max(local) / min(local)),
        above("local scaling beside the smallest of the global ones", 100, min(local) / smallest),
    ]  # fmt: skip
    if not quick:
        claims.append(below("Local SGD, H = 1", 1e-12, bias["Local SGD"]["1"]))
    return Result(claims, {"bias": bias})


def draw_fixed_points(figure: Figure, data: dict[str, Any]) -> None:
    """Bias against local steps."""
    axes = figure.subplots()
    for k, (name, values) in enumerate(data["bias"].items()):
        axes.semilogy([int(H) for H in values], [max(v, 1e-32) for v in values.values()], marker="o",
                      color=COLOURS[k], ls="--" if name.startswith("local") else "-", label=name)  # fmt: skip
    axes.set(xlabel="local steps H", ylabel="|x - x*|² / |x*|²", xticks=(1, 5, 10),
             title="R2: scalings of the nodes' own stop at another point")  # fmt: skip
    axes.legend()


# ---- R3 ------------------------------------------------------------------------------------------------------------

STEPS, REPEATS = 1600, 20


def noise_floors(quick: bool, say: Say) -> Result:
    """R3: one f for all, gradient noise N(0, I); mean squared distance over the second half of the rounds.

    Each curvature stands for 20 coordinates, so that the mean is over 20 times as many draws. Closed form: e = x - x*
    follows e <- (1 - gamma) e - gamma noise/(a M), so that the floor is sum_j a_j^-2 gamma/(2 - gamma)/M, whatever H.
    """
    settings = [(M, 0.1, 1) for M in (1, 4, 16, 8)] + [(8, 0.05, 1), (8, 0.2, 1), (8, 0.1, 5), (8, 0.1, 20)]
    noisy = {"noise": 100.0 * REPEATS, "batch": 1}  # N(0, I)
    problem = {"name": f"{HERE}:Scaled", "condition": 100, "common": True, "repeats": REPEATS} | noisy
    found = runs([scenario(problem, {"eta": gamma, "H": H, "scaling": OASIS}, max(STEPS // H, 200), M, execution=DOUBLE,
                           evaluate_every=max(1, 5 // H)) for M, gamma, H in settings])  # fmt: skip
    a = Scaled(1, condition=100, common=True).arrays[0][0]
    floor: dict[tuple[int, float, int], float] = {}
    pairs: dict[str, tuple[float, float]] = {}
    for M, gamma, H in settings:
        values = next(found)["distance_to_optimum"]
        floor[M, gamma, H] = mean(values[len(values) // 2 :]) / REPEATS
        pairs[f"M={M}, gamma={gamma:g}, H={H}"] = float((a**-2).sum() * gamma / (2 - gamma) / M), floor[M, gamma, H]
        say(f"M={M}, gamma={gamma:g}, H={H}: {floor[M, gamma, H]:.4f}")
    claims = [
        near("4 nodes beside 1: the floor is divided by 4", 4, floor[1, 0.1, 1] / floor[4, 0.1, 1], 0.05),
        near("16 nodes beside 4", 4, floor[4, 0.1, 1] / floor[16, 0.1, 1], 0.05),
        near("gamma .1 beside .05: times 2.05", 39 / 19, floor[8, 0.1, 1] / floor[8, 0.05, 1], 0.05),
        near("gamma .2 beside .1: times 2.11", 19 / 9, floor[8, 0.2, 1] / floor[8, 0.1, 1], 0.05),
        near("H = 5 beside 1: local steps cost nothing here", 1, floor[8, 0.1, 5] / floor[8, 0.1, 1], 0.05),
        near("H = 20 beside 1", 1, floor[8, 0.1, 20] / floor[8, 0.1, 1], 0.05),
        all_near("all floors against the closed form", pairs, 0.05),
    ]
    return Result(claims, {"pairs": {name: list(pair) for name, pair in pairs.items()}})


def draw_noise_floors(figure: Figure, data: dict[str, Any]) -> None:
    """Measured floors beside the closed form."""
    axes = figure.subplots()
    names = list(data["pairs"])
    for k, name in enumerate(names):
        expected, measured = data["pairs"][name]
        axes.plot([k - 0.3, k + 0.3], [expected] * 2, color=GREY, lw=3, label="closed form" if not k else None)
        axes.plot(k, measured, "o", color=VERMILION, label="measured" if not k else None)
    axes.set(yscale="log", ylabel="mean |x - x*|²", title="R3: noise floors")
    axes.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], fontsize=8)
    axes.legend()


# ---- bytes ---------------------------------------------------------------------------------------------------------


def bytes_of_a_round(quick: bool, say: Say) -> Result:
    """Bytes of a round after the first, and of the warm-up, in vectors up and down for each of 9 nodes."""
    adam, oasis = {"scaling": "adam"}, {"scaling": "oasis"}
    kinds: dict[str, tuple[dict[str, Any], int, int]] = {  # vectors of a round, and of the warm-up
        "Local SGD": ({}, 1, 0), "FedAdam": ({"name": "FedOpt"}, 1, 0),
        "Adam local_sync": (adam | {"scope": "local_sync"}, 1, 0),
        "Adam local_step": (adam | {"scope": "local_step"}, 1, 0), "Adam global": (adam, 2, 10),
        "OASIS global": (oasis, 2, 1), "Adam global, momentum": (adam | {"beta1": 0.9}, 3, 10),
        "momentum kept": (adam | {"beta1": 0.9, "momentum": "keep"}, 2, 10),
    }  # fmt: skip
    problem = {"name": "Softmax", "data": "digits", "batch": 4}
    vector = 2 * 9 * 4 * 650
    off, first = 0.0, 0.0
    for name, (kind, vectors, warm) in kinds.items():
        one, two = (simnet.run(scenario(problem, kind, rounds)).summary["wire_bytes"] for rounds in (1, 2))
        say(f"{name}: {(two - one) / vector:g} vectors a round, {(2 * one - two) / vector:g} before the first")
        off, first = max(off, abs(two - one - vectors * vector)), max(first, abs(2 * one - two - warm * vector))
    ring = scenario(problem, adam, 2, collective={"pattern": "ring"})
    one, two = (simnet.run(ring | {"rounds": rounds}).summary["wire_bytes"] for rounds in (1, 2))
    claims = [
        exact(f"bytes of a round of {len(kinds)} methods against the table, largest difference", off, 0.0),
        exact("bytes before the first round: the warm-up's statistics", first, 0.0),
        exact("round a ring: 2 (M - 1)/M vectors sent by each node", abs(two - one - 2 * vector), 0.0),
    ]
    return Result(claims)
